//! Hints about Unix sockets of the host.
use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

/// Probes that try sockets of well-known services, each with the paths of these sockets without links. If a run opens
/// one of these sockets, its probe finds the boundary open.
pub const SERVICES: [(&str, &[&str]); 10] = [
    ("docker_socket", &["/run/docker.sock"]),
    (
        "podman_socket",
        &["/run/podman/podman.sock", "/run/user/0/podman/podman.sock"],
    ),
    (
        "containerd_socket",
        &[
            "/run/containerd/containerd.sock",
            "/run/docker/containerd/containerd.sock",
            "/run/crio/crio.sock",
        ],
    ),
    ("buildkit_socket", &["/run/buildkit/buildkitd.sock"]),
    ("dbus_socket", &["/run/dbus/system_bus_socket"]),
    (
        "systemd_socket",
        &["/run/systemd/private", "/run/systemd/notify"],
    ),
    (
        "resolved_socket",
        &["/run/systemd/resolve/io.systemd.Resolve"],
    ),
    (
        "journal_socket",
        &[
            "/run/systemd/journal/stdout",
            "/run/systemd/journal/socket",
            "/run/systemd/journal/dev-log",
            "/dev/log",
        ],
    ),
    ("nscd_socket", &["/run/nscd/socket"]),
    (
        "snapd_socket",
        &["/run/snapd.socket", "/run/snapd-snap.socket"],
    ),
];

/// Returns the path for `--allow-unix`, if there is one, and a note, for a socket that the command cannot
/// reach.
pub(super) fn advice(path: &str) -> (Option<String>, Cow<'static, str>) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    let without_links = without_links(path)
        .filter(|_| path.bytes().all(is_plain))
        .and_then(|path| path.into_os_string().into_string().ok());
    let Some(path) = without_links else {
        return (
            None,
            Cow::Borrowed("the command cannot reach a socket with this path"),
        );
    };
    if let Some((probe, socket)) = probe_of(&path) {
        let note = format!(
            "if the host has this socket, its service may give the command control of the host; a run with it needs \
             --allow-unix {socket} --accept-risk {probe}"
        );
        return (None, Cow::Owned(note));
    }
    (Some(path), Cow::Borrowed("if the host has this socket"))
}

/// Returns an absolute path without `..` and without the link `/var/run`, because `--allow-unix` rejects a path that
/// goes through a link. On Linux distributions, `/var/run` is a link to `/run` (Filesystem Hierarchy Standard 3.0,
/// section 5.13).
fn without_links(path: &str) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
        if plain == Path::new("/var/run") {
            plain = PathBuf::from("/run");
        }
    }
    plain.is_absolute().then_some(plain)
}

/// Returns the probe that finds the boundary open if a run opens this socket, and the path for `--allow-unix`. The path
/// of an agent's socket is only a placeholder, because a note contains no text that the command chose.
fn probe_of(path: &str) -> Option<(&'static str, &'static str)> {
    for (probe, paths) in SERVICES {
        if let Some(known) = paths.iter().find(|known| **known == path) {
            return Some((probe, known));
        }
    }
    let path = Path::new(path);
    let name = path.file_name()?.to_str()?;
    let parent = path.parent()?.file_name()?.to_str()?;
    // The variables GNUPGHOME and SSH_AUTH_SOCK of the caller name the sockets of these probes.
    if name == "S.gpg-agent" {
        return Some(("gpg_agent_socket", "PATH"));
    }
    (parent.starts_with("ssh-") && name.starts_with("agent."))
        .then_some(("ssh_agent_socket", "PATH"))
}
