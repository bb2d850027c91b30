//! Recognizes secrets in the settings files of package managers and similar tools: `name = value` and `name: value` of
//! any format, elements of XML, and URLs with a password.
use egress_policy::redact;

/// Ends of the names of settings whose value is a secret, in lower case.
const ENDS: [&str; 16] = [
    "_auth",
    "accesskey",
    "access_key",
    "api-key",
    "api_key",
    "apikey",
    "authident",
    "key-data",
    "passphrase",
    "passwd",
    "password",
    "private_key",
    "privatekey",
    "secret",
    "secretkey",
    "token",
];
/// Values that are not secret, whatever the name of the setting is.
const HARMLESS: [&str; 6] = ["true", "false", "null", "none", "yes", "no"];
/// First lines of files with a private key.
const KEYS: [&str; 2] = ["PRIVATE KEY", "PuTTY-User-Key-File-"];
/// Quotes around names and values.
const QUOTES: [char; 2] = ['"', '\''];
/// The maximum length of a value. A longer value counts as a secret.
const LONGEST: usize = 4 << 10;

/// Whether the text has a value that looks like a secret. References to variables, such as `${TOKEN}`, are not secrets.
pub fn holds_secret(text: &str) -> bool {
    text.contains("<apikeys>")
        || text.split_whitespace().any(redact::is_credential)
        || text
            .match_indices("://")
            .any(|(at, mark)| has_password(after(text, at, mark)))
        || text.match_indices(['=', ':', '>']).any(|(at, mark)| {
            is_secret(
                text.get(..at).unwrap_or_default(),
                mark,
                after(text, at, mark),
            )
        })
}

/// Whether the text is a private key in any format except egress's own.
pub fn is_private_key(text: &str) -> bool {
    let text = text.trim_start();
    let first = text.lines().next().unwrap_or_default();
    KEYS.iter().any(|mark| first.contains(mark))
}

fn after<'t>(text: &'t str, at: usize, mark: &str) -> &'t str {
    text.get(at + mark.len()..).unwrap_or_default()
}

/// Whether a URL whose scheme was removed has a user with a password, or a token in place of a user.
fn has_password(rest: &str) -> bool {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '/');
    let authority = rest.split(ends).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else {
        return false;
    };
    let secret = user.split_once(':').map_or(user, |(_, password)| password);
    secret != "git" && is_value(secret)
}

/// Whether the setting that `before` ends with is a secret with the value that `rest` begins with.
fn is_secret(before: &str, separator: &str, rest: &str) -> bool {
    let is_element = separator == ">";
    let named = if is_element {
        before
    } else {
        before.trim_end().trim_end_matches(QUOTES)
    };
    let start =
        named.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let name = named
        .get(start.len()..)
        .unwrap_or_default()
        .to_ascii_lowercase();
    // In `${NAME:-value}`, the name is that of a variable.
    if start.ends_with("${") || (is_element && !start.ends_with('<')) {
        return false;
    }
    if name == "key" {
        return is_nuget(rest.trim_start());
    }
    if name.starts_with("bundle_") && name.contains("__") {
        let is_pair = |value: &str| value.contains(':') && !value.contains("://");
        return value(rest, false).is_none_or(is_pair);
    }
    names_secret(&name) && value(rest, is_element).is_none_or(is_value)
}

fn names_secret(name: &str) -> bool {
    ["auth", "pass"].contains(&name) || ENDS.iter().any(|end| name.ends_with(end))
}

/// Returns the first word of the value that `rest` begins with, or `None` if the word is too long. The value may begin
/// on the next line, if that line is indented or the value is that of an element.
fn value(rest: &str, is_element: bool) -> Option<&str> {
    let line = rest.trim_start_matches([' ', '\t']);
    let text = match line
        .strip_prefix('\n')
        .or_else(|| line.strip_prefix("\r\n"))
    {
        Some(next) if is_element || next.starts_with([' ', '\t']) => next.trim_start(),
        _ => line,
    };
    let text = text.trim_start_matches(QUOTES);
    let ends = |c: char| c.is_whitespace() || c == '<' || QUOTES.contains(&c);
    let end = text.char_indices().take(LONGEST).find(|(_, c)| ends(*c));
    match end {
        Some((at, _)) => text.get(..at),
        None => (text.len() < LONGEST).then_some(text),
    }
}

/// Whether an attribute `key` of `NuGet`, whose value `rest` begins with, and the attribute after it are a secret:
/// `<add key="Password" value="x" />`.
fn is_nuget(rest: &str) -> bool {
    let Some((name, next)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) else {
        return false;
    };
    let found = next.trim_start().strip_prefix("value=");
    names_secret(&name.to_ascii_lowercase())
        && found.is_some_and(|found| value(found, false).is_none_or(is_value))
}

/// Whether a value is more than a placeholder.
fn is_value(value: &str) -> bool {
    let value = value.trim_end_matches([',', ';']);
    let is_variable = |name: &str| {
        let name = name.trim_end_matches(['-', ':', '?']);
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
    };
    let pairs = [("${", "}"), ("$", ""), ("%", "%"), ("{{", "}}")];
    let is_reference = pairs.iter().any(|(open, close)| {
        let inner = value
            .strip_prefix(open)
            .and_then(|rest| rest.strip_suffix(close));
        inner.is_some_and(is_variable)
    });
    !value.is_empty()
        && !is_reference
        && !value.starts_with("{{")
        && !HARMLESS
            .iter()
            .any(|harmless| harmless.eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: credential-files, other-credentials
    #[test]
    fn secrets_of_every_format_are_found() {
        for text in [
            "//registry.example.org/:_authToken=abc",
            "registry=https://r.test/\n_auth = \"YTpi\"\n",
            "# _password=abc",
            "npmAuthToken: \"abc\"",
            "npmRegistries:\n  \"//r.test\":\n    npmAuthIdent: u:p\n",
            "signing.password=abc",
            "mavenCentralPassword = correct horse",
            "RELEASE_STORE_PASSWORD=\\\nabc",
            "<server><password>abc</password></server>",
            "<password>\n  abc\n</password>",
            "<add key=\"ClearTextPassword\" value=\"abc\" />",
            "<apikeys>\n",
            "[pypi]\npassword =\n    abc\n",
            "index-url = https://u:abc@r.test/simple",
            "index-url = https://abcdef@r.test/simple",
            "aws_secret_access_key=abc",
            "aws_session_token = abc",
            "registry = { url = \"https://r.test\", token = \"abc\" }",
            "    client-key-data: LS0t",
            "BUNDLE_GEMS__EXAMPLE__COM: \"u:p\"",
            "BUNDLE_GEMS__EXAMPLE__COM: ghp_0123456789012345678901234567890123aB",
            "token: >-\n  abc",
            "//r.test/:_authToken=${TOKEN:-abc}",
            "//r.test/:_authToken=$TOKEN-abc",
        ] {
            assert!(holds_secret(text), "{text}");
        }
    }

    /// Claims: credential-files, other-credentials
    #[test]
    fn settings_and_references_are_no_secrets() {
        for text in [
            "",
            "registry=https://r.test/\nalways-auth=true\nemail=a@b.test\n",
            "//r.test/:_authToken=${NPM_TOKEN}\n//s.test/:_authToken=${NPM_TOKEN-}",
            "_authToken=$NPM_TOKEN",
            "# put the token into the environment: see the docs",
            "npmAuthToken: ${NPM_TOKEN:-}",
            "org.gradle.jvmargs=-Xmx2g -XX:MaxMetaspaceSize=512m\nandroid.useAndroidX=true",
            "signing.password=\nsigning.keyId=1",
            "<server><id>a</id><password>${env.TOKEN}</password></server>",
            "<password></password>",
            "<string name=\"password\">Password</string>",
            "<EditText android:key=\"password\" android:inputType=\"textPassword\" />",
            "<add key=\"ClearTextPassword\" value=\"%TOKEN%\" />\n<add key=\"a\" value=\"https://r.test\" />",
            "index-url = https://${USER}:${PASSWORD}@r.test/simple",
            "url = https://r.test/~me@home",
            "url = ssh://git@r.test/x",
            "BUNDLE_PATH: \"vendor/bundle\"\nBUNDLE_BUILD__NOKOGIRI: \"--use-system-libraries\"",
            "aws_access_key_id=AKIA\nregion = eu-north-1",
            "credential-provider = \"cargo:token\"",
            "token = \"$npm_token\"",
        ] {
            assert!(!holds_secret(text), "{text}");
        }
    }

    #[test]
    fn hostile_texts_take_little_time() {
        let started = std::time::Instant::now();
        for part in [
            "token={{",
            "key=\"key\" value=",
            "=",
            "://",
            "token:\n ",
            "bundle__=",
            "<key>",
            "a.",
            "${token:",
        ] {
            let text = part.repeat((1 << 18) / part.len());
            holds_secret(&text);
        }
        assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
    }

    #[test]
    fn private_keys_are_recognized_by_their_first_line() {
        for text in [
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl",
            "\n-----BEGIN RSA PRIVATE KEY-----",
            "PuTTY-User-Key-File-3: ssh-ed25519",
        ] {
            assert!(is_private_key(text), "{text}");
        }
        for text in ["", "ssh-ed25519 AAAA me", "Host x\n# PRIVATE KEY"] {
            assert!(!is_private_key(text), "{text}");
        }
    }
}
