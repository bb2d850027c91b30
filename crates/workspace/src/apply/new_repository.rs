//! Reduces the configuration of a repository that the command created to settings that cannot run a program.
//!
//! The configuration is written anew from an allow-list, with one spelling for each setting. No byte of the command's
//! file is copied, so git cannot read the new file differently from this module.
//!
//! Claims: new-repository
use crate::git_config::{Kind, Section, elements};

/// The maximum length of a configuration, in bytes.
pub const MOST_BYTES: u64 = 1 << 20;

/// The protocols of URLs that are kept.
const SCHEMES: [&str; 4] = ["git://", "http://", "https://", "ssh://"];

/// A reduced configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Reduced {
    /// The text of the configuration.
    pub text: String,
    /// Length of an object id in this repository, in bytes.
    pub hash_length: usize,
}

impl Reduced {
    /// Reduces `config`. Settings whose value could name a program, a file, or a repository of this machine are left
    /// out, and so is everything after an error in the file.
    pub fn of(config: &[u8]) -> Self {
        let mut kept = String::new();
        let mut is_sha256 = false;
        // The section of the next variable, and the heading that was written last.
        let (mut section, mut written) = (Section::default(), None);
        for element in elements(config) {
            let (name, value) = match element.kind {
                Kind::Space | Kind::Comment => continue,
                Kind::Unreadable => break,
                Kind::Section(next) => {
                    section = next;
                    continue;
                }
                // A variable without a value is a switch that is on.
                Kind::Variable(name, value) => (name, value.unwrap_or_else(|| b"true".to_vec())),
            };
            let (Some(value), Some(heading)) = (text(&value), heading(&section)) else {
                continue;
            };
            let is_plain = section.subsection.is_none();
            if is_plain && section.name == "extensions" && name == "objectformat" {
                is_sha256 = value == "sha256";
            }
            if is_kept(&section, &name, value) {
                if written.as_ref() != Some(&heading) {
                    kept.push_str(&heading);
                    written = Some(heading);
                }
                kept.extend(["\t", &name, " = ", &quoted(value), "\n"]);
            }
        }
        let (head, hash_length) = if is_sha256 { (SHA256, 32) } else { (SHA1, 20) };
        Self {
            text: format!("{head}{kept}"),
            hash_length,
        }
    }
}

/// The first lines of a configuration, by the length of object ids. Only in version 1, every git
/// obeys the extension or rejects the repository.
const SHA1: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n";
const SHA256: &str = "[core]\n\trepositoryformatversion = 1\n\tbare = false\n[extensions]\n\tobjectformat = sha256\n";

/// Whether a setting is kept with this value.
fn is_kept(section: &Section, name: &str, value: &str) -> bool {
    let is_switch = || matches!(value, "true" | "false");
    match (section.name.as_str(), section.subsection.is_some(), name) {
        (
            "core",
            false,
            "filemode" | "ignorecase" | "logallrefupdates" | "precomposeunicode" | "symlinks",
        )
        | ("branch", true, "rebase") => is_switch(),
        ("remote", true, "url" | "pushurl") => is_remote(value),
        ("remote", true, "fetch") => is_refspec(value),
        ("remote", true, "tagopt") => matches!(value, "--tags" | "--no-tags"),
        // git also accepts a URL or a path in place of the name of a remote.
        ("branch", true, "remote") => value == "." || is_name(value),
        ("branch", true, "merge") => value.starts_with("refs/") && is_ref(value),
        _ => false,
    }
}

/// Whether a URL names another machine by a protocol that cannot start an arbitrary program. URLs with `ext::` or
/// another remote helper, local paths, and options of `ssh` do not count.
fn is_remote(url: &str) -> bool {
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(rest) = SCHEMES.iter().find_map(|scheme| url.strip_prefix(scheme)) {
        return is_plain(rest) && rest.starts_with(|first: char| first.is_ascii_alphanumeric());
    }
    // The form of scp: `user@host:path`.
    let Some((host, path)) = url.split_once(':') else {
        return false;
    };
    let Some((user, host)) = host.split_once('@') else {
        return false;
    };
    is_name(user) && is_name(host) && is_plain(path) && !path.starts_with([':', '-'])
}

/// Whether a refspec consists of refs only.
fn is_refspec(value: &str) -> bool {
    let value = value.strip_prefix('+').unwrap_or(value);
    value.split(':').count() <= 2 && value.split(':').all(is_ref)
}

fn is_ref(name: &str) -> bool {
    name.starts_with("refs/") && !name.contains("..") && !name.contains(char::is_whitespace)
}

/// Whether the text is one word that is not a path, a URL, or an option.
fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Returns the header line of a section, unless its subsection contains a control character.
fn heading(section: &Section) -> Option<String> {
    match &section.subsection {
        None => Some(format!("[{}]\n", section.name)),
        Some(subsection) => Some(format!(
            "[{} {}]\n",
            section.name,
            quoted(text(subsection)?)
        )),
    }
}

/// Returns the text of a value, unless it contains a control character.
fn text(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.contains(char::is_control)).then_some(text)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: new-repository
    #[test]
    fn settings_of_a_clone_are_kept() {
        let config = b"[core]\n repositoryformatversion = 0\n filemode = true\n bare = false\n logallrefupdates\n\
            [remote \"origin\"] url = https://h.test/a.git ; x\n fetch = +refs/heads/*:refs/remotes/origin/*\n\
            [branch \"a\\\"b\"]\n remote = origin\n merge = refs/heads/main\n";
        let wanted = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n[core]\n\tfilemode = \"true\"\n\
            \tlogallrefupdates = \"true\"\n[remote \"origin\"]\n\turl = \"https://h.test/a.git\"\n\
            \tfetch = \"+refs/heads/*:refs/remotes/origin/*\"\n[branch \"a\\\"b\"]\n\tremote = \"origin\"\n\
            \tmerge = \"refs/heads/main\"\n";
        let reduced = Reduced::of(config);
        assert_eq!(reduced.text, wanted);
        assert_eq!(reduced.hash_length, 20);
        // Reducing the text again changes only the repeated header.
        assert!(
            Reduced::of(wanted.as_bytes())
                .text
                .ends_with(wanted.split_at(SHA1.len()).1)
        );
    }

    /// Claims: new-repository
    #[test]
    fn settings_that_run_or_follow_something_are_left_out() {
        let nothing = Reduced::of(b"");
        for config in [
            "[core]\nfsmonitor = touch x\n",
            "[core]\nhooksPath = ../hooks\nsshCommand = x\neditor = x\npager = x\nworktree = ..\n",
            "[core]\nbare = true\nrepositoryformatversion = 7\nattributesFile = x\n",
            "[CORE]\nFsMonitor = true\n",
            "[core \"x\"]\nfilemode = true\n",
            "[core]\nfilemode = \"touch x\"\n",
            "[filter \"x\"]\nclean = x\nprocess = x\n[diff \"x\"]\ncommand = x\n",
            "[include]\npath = x\n[includeIf \"gitdir:/\"]\npath = x\n[alias]\nstatus = !x\n",
            "[credential]\nhelper = !x\n[gpg]\nprogram = x\n[extensions]\nworktreeConfig = true\n",
            "[url \"ext::x\"]\ninsteadOf = https://\n[http]\nproxy = x\n[protocol \"ext\"]\nallow = always\n",
            "[remote \"o\"]\nurl = ext::sh -c x\npushurl = ../x\n",
            "[remote \"o\"]\nurl = /x\nurl = file:///x\nurl = fd::7\nurl = u@h::x\nurl = u@-o:x\nurl = ssh://-o\n",
            "[remote \"o\"]\nuploadpack = x\nreceivepack = x\nvcs = x\nproxy = x\nfetch = x:y\n",
            "[branch \"m\"]\nremote = ext::x\nremote = ../x\nremote = ..\nmerge = refs/../x\nrebase = interactive\n",
            "[submodule \"s\"]\nupdate = !x\nurl = https://h/s\n",
            "[user]\nname = x\n[trailer \"x\"]\ncommand = x\n",
            "[remote \"o\"]\nurl = \"https://h/\\t\"\n",
            "[core\nfilemode = true\n",
        ] {
            assert_eq!(Reduced::of(config.as_bytes()), nothing, "{config}");
        }
    }

    /// Claims: new-repository
    #[test]
    fn object_ids_have_the_length_that_git_reads() {
        for (config, length) in [
            ("[extensions]\nobjectFormat = sha256\n", 32),
            (
                "[extensions]\nobjectFormat = sha256\nobjectFormat = sha1\n",
                20,
            ),
            (
                "[extensions \"x\"]\nobjectFormat = sha1\n[branch \"sha256\"]\nremote = o\n",
                20,
            ),
        ] {
            let reduced = Reduced::of(config.as_bytes());
            assert_eq!(reduced.hash_length, length, "{config}");
            assert_eq!(reduced.text.starts_with(SHA256), length == 32, "{config}");
        }
    }
}
