//! The files in which widely used tools keep credentials.
//!
//! `docs/credentials.md` has the same table for people; a test compares the two.
//!
//! Claims: credential-files
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Which content of a known file is a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Any content.
    Any,
    /// Values that look like a secret. The file also has ordinary settings.
    Secrets,
    /// A private key. The directory also has other files.
    PrivateKey,
}

use Content::{Any, PrivateKey, Secrets};

/// Paths below a home, or below any directory of the workspace. A `*` stands for any part of a name.
pub const KNOWN: [(&str, Content); 93] = [
    (".aws/cli/cache/*", Any),
    (".aws/config", Secrets),
    (".aws/credentials", Any),
    (".aws/sso/cache/*", Any),
    (".azure/accessTokens.json", Any),
    (".azure/msal_token_cache.*", Any),
    (".azure/service_principal_entries.*", Any),
    (".boto", Any),
    (".bundle/config", Secrets),
    (".bunfig.toml", Secrets),
    (".cache/huggingface/token", Any),
    (".cargo/config", Secrets),
    (".cargo/config.toml", Secrets),
    (".cargo/credentials", Any),
    (".cargo/credentials.toml", Any),
    (".claude/.credentials.json", Any),
    (".codex/auth.json", Any),
    (".composer/auth.json", Any),
    (".config/composer/auth.json", Any),
    (".config/configstore/firebase-tools.json", Any),
    (".config/containers/auth.json", Any),
    (".config/doctl/config.yaml", Any),
    (".config/egress/*", PrivateKey),
    (".config/gcloud/access_tokens.db", Any),
    (".config/gcloud/application_default_credentials.json", Any),
    (".config/gcloud/credentials.db", Any),
    (".config/gcloud/legacy_credentials/*/*", Any),
    (".config/gh/hosts.yml", Any),
    (".config/git/credentials", Any),
    (".config/github-copilot/apps.json", Any),
    (".config/github-copilot/hosts.json", Any),
    (".config/glab-cli/config.yml", Secrets),
    (".config/hcloud/cli.toml", Any),
    (".config/helm/registry/config.json", Any),
    (".config/hub", Any),
    (".config/netlify/config.json", Any),
    (".config/NuGet/NuGet.Config", Secrets),
    (".config/pip/pip.conf", Secrets),
    (".config/pnpm/rc", Secrets),
    (".config/pypoetry/auth.toml", Any),
    (".config/rclone/rclone.conf", Any),
    (".config/sops/age/keys.txt", Any),
    (".databrickscfg", Any),
    (".docker/config.json", Any),
    (".dockercfg", Any),
    (".fly/config.yml", Any),
    (".gem/credentials", Any),
    (".gemini/oauth_creds.json", Any),
    (".git-credentials", Any),
    (".gnupg/private-keys-v1.d/*", Any),
    (".gnupg/secring.gpg", Any),
    (".gradle/gradle.properties", Secrets),
    (".huggingface/token", Any),
    (".kaggle/kaggle.json", Any),
    (".kube/config", Any),
    (".local/share/com.vercel.cli/auth.json", Any),
    (".local/share/gem/credentials", Any),
    (".local/share/uv/credentials/*", Any),
    (".m2/settings-security.xml", Any),
    (".m2/settings.xml", Secrets),
    (".my.cnf", Secrets),
    (".mylogin.cnf", Any),
    (".netrc", Any),
    (".npmrc", Secrets),
    (".nuget/NuGet/NuGet.Config", Secrets),
    (".oci/*", PrivateKey),
    (".pgpass", Any),
    (".pip/pip.conf", Secrets),
    (".pulumi/credentials.json", Any),
    (".pypirc", Secrets),
    (".s3cfg", Any),
    (".snowflake/connections.toml", Any),
    (".ssh/*", PrivateKey),
    (".terraform.d/credentials.tfrc.json", Any),
    (".terraformrc", Secrets),
    (".vault-token", Any),
    (".wrangler/config/default.toml", Any),
    (".yarnrc", Secrets),
    (".yarnrc.yml", Secrets),
    ("_netrc", Any),
    ("bunfig.toml", Secrets),
    ("gha-creds-*.json", Any),
    ("gradle.properties", Secrets),
    ("id_dsa", PrivateKey),
    ("id_ecdsa", PrivateKey),
    ("id_ecdsa_sk", PrivateKey),
    ("id_ed25519", PrivateKey),
    ("id_ed25519_sk", PrivateKey),
    ("id_rsa", PrivateKey),
    ("kubeconfig", Secrets),
    ("NuGet.Config", Secrets),
    ("pip.conf", Secrets),
    ("settings.xml", Secrets),
];

/// Returns what follows a first component that matches `name`, for each known path that begins with such a component.
pub fn begin_with(name: &OsStr) -> impl Iterator<Item = (&'static str, Content)> + '_ {
    let first = name.as_bytes().first().map(u8::to_ascii_lowercase);
    // The first letter rules out most names.
    let known = KNOWN.iter().filter(move |(path, _)| {
        path.bytes().next().map(|byte| byte.to_ascii_lowercase()) == first
    });
    known.filter_map(move |(path, content)| {
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        matches(first, name).then_some((rest, *content))
    })
}

/// Whether `name` matches `pattern`, which has at most one `*`. Case is ignored, because some of the tools find their
/// file in any case.
pub fn matches(pattern: &str, name: &OsStr) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let Some(star) = pattern.iter().position(|byte| *byte == b'*') else {
        return pattern.eq_ignore_ascii_case(name);
    };
    let (before, after) = (pattern.get(..star), pattern.get(star + 1..));
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    let Some(middle) = name.len().checked_sub(after.len()) else {
        return false;
    };
    before.len() <= middle
        && name
            .get(..before.len())
            .is_some_and(|part| part.eq_ignore_ascii_case(before))
        && name
            .get(middle..)
            .is_some_and(|part| part.eq_ignore_ascii_case(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_any_case_and_around_a_star() {
        let found = |name: &str| begin_with(OsStr::new(name)).collect::<Vec<_>>();
        assert_eq!(found(".netrc"), [("", Any)]);
        assert_eq!(found("nuget.config"), [("", Secrets)]);
        assert_eq!(found("gha-creds-1a2b.json"), [("", Any)]);
        assert_eq!(found(".ssh"), [("*", PrivateKey)]);
        assert_eq!(found(".aws").len(), 4);
        for name in [
            "gha-creds-.jso",
            "gha-creds-json",
            "netrc",
            ".netrc2",
            "",
            "xid_rsa",
        ] {
            assert_eq!(found(name), [], "{name}");
        }
        assert!(matches("*", OsStr::new("x")) && !matches("aba*aba", OsStr::new("aba")));
    }

    /// Claims: credential-files
    #[test]
    fn table_of_the_documentation_is_the_table_of_the_code() {
        let page = include_str!("../../../docs/credentials.md");
        let mut rows = Vec::new();
        for line in page.lines() {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let ["", _, paths, content, ""] = cells[..] else {
                continue;
            };
            let content = match content {
                "any" => Any,
                "secrets" => Secrets,
                "private keys" => PrivateKey,
                _ => continue,
            };
            let names = paths.split('`').skip(1).step_by(2);
            rows.extend(names.map(|name| (name, content)));
        }
        let by_path = |row: &(&str, Content)| row.0.to_lowercase();
        rows.sort_by_key(by_path);
        let mut known = KNOWN.to_vec();
        known.sort_by_key(by_path);
        assert_eq!(rows, known);
    }
}
