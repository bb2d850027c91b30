//! Tokens that are recognized by their prefix.
use std::sync::LazyLock;

/// A kind of token.
struct Kind {
    prefix: &'static str,
    /// The minimum number of characters after the prefix.
    tail: usize,
    is_tail: fn(u8) -> bool,
    /// Whether one of these characters must be a digit or a capital letter, because ordinary words
    /// start with the same prefix.
    is_mixed: bool,
    /// Whether the word ends after `tail` characters.
    is_exact: bool,
}

/// Maximum number of bytes after a prefix that are checked, unless the kind requires more. If all bytes were checked,
/// the time would grow with the square of the length for texts such as `sk-sk-sk-…`.
const LONGEST_TAIL: usize = 64;

const fn kind(prefix: &'static str, tail: usize, is_tail: fn(u8) -> bool) -> Kind {
    Kind {
        prefix,
        tail,
        is_tail,
        is_mixed: false,
        is_exact: false,
    }
}

const fn mixed(prefix: &'static str, tail: usize, is_tail: fn(u8) -> bool) -> Kind {
    Kind {
        is_mixed: true,
        ..kind(prefix, tail, is_tail)
    }
}

const fn exact(prefix: &'static str, tail: usize, is_tail: fn(u8) -> bool) -> Kind {
    Kind {
        is_exact: true,
        ..kind(prefix, tail, is_tail)
    }
}

/// Tokens that are recognized only at the start of a word, and only in the case of the prefix, because the prefix or
/// the tail is short.
static AT_START: [Kind; 15] = [
    kind("ghp_", 16, is_alphanumeric),
    kind("gho_", 16, is_alphanumeric),
    kind("ghu_", 16, is_alphanumeric),
    kind("ghs_", 16, is_word),
    kind("ghr_", 16, is_alphanumeric),
    kind("github_pat_", 16, is_word),
    kind("glpat-", 16, is_word),
    mixed("sk-", 16, is_word),
    kind("sk_live_", 16, is_word),
    kind("AKIA", 16, is_upper),
    kind("ASIA", 16, is_upper),
    kind("npm_", 20, is_alphanumeric),
    mixed("pypi-", 16, is_word),
    // A JSON Web Token starts with `{"` in base64, and dots separate its parts.
    mixed("eyJ", 10, is_jwt),
    kind("hf_", 30, is_alphanumeric),
];

/// Tokens that are recognized anywhere and in any case.
static ANYWHERE: [Kind; 77] = [
    // Language models and search.
    kind("sk-ant-", 20, is_word),
    kind("sk-proj-", 20, is_word),
    kind("sk-svcacct-", 20, is_word),
    kind("sk-or-v1-", 20, is_hex),
    kind("pplx-", 20, is_alphanumeric),
    kind("tvly-", 20, is_alphanumeric),
    exact("fw_", 22, is_alphanumeric),
    kind("gsk_", 48, is_alphanumeric),
    kind("xai-", 80, is_word),
    kind("hf_", 34, is_alphanumeric),
    kind("r8_", 40, is_hex),
    kind("tok_", 40, is_alphanumeric),
    kind("pcsk_", 36, is_alphanumeric),
    kind("dapi", 32, is_hex),
    // Google.
    kind("AIza", 35, is_word),
    kind("GOCSPX-", 28, is_word),
    kind("ya29.", 20, is_word),
    // Stripe.
    kind("sk_live_", 20, is_alphanumeric),
    kind("sk_test_", 20, is_alphanumeric),
    kind("rk_live_", 20, is_alphanumeric),
    kind("rk_test_", 20, is_alphanumeric),
    kind("sk-live-", 20, is_alphanumeric),
    kind("sk-test-", 20, is_alphanumeric),
    kind("rk-live-", 20, is_alphanumeric),
    kind("rk-test-", 20, is_alphanumeric),
    kind("whsec_", 20, is_word),
    // GitHub and GitLab.
    kind("ghp_", 36, is_word),
    kind("gho_", 36, is_word),
    kind("ghu_", 36, is_word),
    kind("ghs_", 36, is_word),
    kind("ghr_", 36, is_word),
    kind("github_pat_", 36, is_word),
    kind("glpat-", 20, is_word),
    kind("gldt-", 20, is_word),
    kind("glrt-", 20, is_word),
    kind("glrtr-", 20, is_word),
    kind("glcbt-", 20, is_word),
    kind("glptt-", 20, is_word),
    kind("gloas-", 20, is_word),
    kind("glsoat-", 20, is_word),
    kind("glft-", 20, is_word),
    kind("glimt-", 20, is_word),
    kind("glagent-", 20, is_word),
    kind("glwt-", 20, is_word),
    kind("glffct-", 20, is_word),
    // Identifiers of Amazon Web Services: keys, roles, users, and others.
    kind("AKIA", 16, is_alphanumeric),
    kind("A3T", 16, is_alphanumeric),
    kind("AGPA", 16, is_alphanumeric),
    kind("AIDA", 16, is_alphanumeric),
    kind("AROA", 16, is_alphanumeric),
    kind("AIPA", 16, is_alphanumeric),
    kind("ANPA", 16, is_alphanumeric),
    kind("ANVA", 16, is_alphanumeric),
    kind("ASIA", 16, is_alphanumeric),
    // Azure: 64 bytes in base64, and a signature of 32 bytes, whose escapes may not be decoded yet.
    kind("AccountKey=", 86, is_base64),
    kind("sig=", 43, is_escaped_base64),
    // Messaging services.
    exact("SK", 32, is_hex),
    exact("key-", 32, is_alphanumeric),
    kind("xoxb-", 15, is_word),
    kind("xoxp-", 15, is_word),
    kind("xoxr-", 15, is_word),
    kind("xoxa-", 15, is_word),
    kind("xoxs-", 15, is_word),
    // Infrastructure, and platforms for developers.
    kind("NRAK-", 27, is_alphanumeric),
    kind("dop_v1_", 64, is_hex),
    kind("hvs.", 24, is_alphanumeric),
    kind("vercel_", 24, is_alphanumeric),
    kind("sb_secret_", 31, is_word),
    kind("npm_", 36, is_alphanumeric),
    kind("pypi-AgE", 90, is_word),
    kind("lin_api_", 40, is_alphanumeric),
    kind("ntn_", 40, is_alphanumeric),
    kind("sntrys_", 40, is_alphanumeric),
    // Keys and addresses of cryptographic currencies.
    kind("0x", 40, is_hex),
    kind("xprv", 107, is_alphanumeric),
    kind("yprv", 107, is_alphanumeric),
    kind("zprv", 107, is_alphanumeric),
];

pub(super) fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

pub(super) fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn is_upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

pub(super) fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/' || byte == b'='
}

fn is_escaped_base64(byte: u8) -> bool {
    is_base64(byte) || byte == b'%'
}

fn is_jwt(byte: u8) -> bool {
    is_word(byte) || byte == b'.' || byte == b'='
}

/// Whether a byte belongs to a word. A hyphen does not.
pub(super) fn is_inside_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Returns the prefix of each kind.
#[cfg(test)]
pub(super) fn prefixes() -> impl Iterator<Item = &'static str> {
    AT_START.iter().chain(&ANYWHERE).map(|kind| kind.prefix)
}

/// Whether a text contains a token at the start of a word.
pub(super) fn starts_a_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    // A token must start at the beginning of a word, so `risk-…` does not match `sk-`.
    let starts = (0..bytes.len()).filter(|at| {
        at.checked_sub(1)
            .and_then(|before| bytes.get(before))
            .is_none_or(|byte| !byte.is_ascii_alphanumeric())
    });
    for at in starts {
        let rest = bytes.get(at..).unwrap_or_default();
        let mut kinds = KINDS.of(rest).iter();
        if kinds.any(|kind| kind.is_at(rest, Case::AsWritten)) || is_slack(rest) || is_bot(rest) {
            return true;
        }
    }
    false
}

/// Whether a text contains a token of one of the kinds that are recognized anywhere.
pub(super) fn are_anywhere(text: &str) -> bool {
    let bytes = text.as_bytes();
    (0..bytes.len()).any(|at| {
        let rest = bytes.get(at..).unwrap_or_default();
        let mut kinds = KINDS_ANYWHERE.of(rest).iter();
        kinds.any(|kind| kind.is_at(rest, Case::Any)) || is_vercel_or_xprv(rest)
    })
}

/// Kinds by the first byte of their prefix in lower case, because most bytes of a path do not start a token.
struct ByFirst([Vec<&'static Kind>; 128]);

static KINDS: LazyLock<ByFirst> = LazyLock::new(|| ByFirst::new(AT_START.iter().chain(&ANYWHERE)));
static KINDS_ANYWHERE: LazyLock<ByFirst> = LazyLock::new(|| ByFirst::new(&ANYWHERE));

impl ByFirst {
    fn new(kinds: impl IntoIterator<Item = &'static Kind>) -> Self {
        let mut all = [const { Vec::new() }; 128];
        for kind in kinds {
            let first = kind.prefix.bytes().next().unwrap_or_default();
            if let Some(row) = all.get_mut(usize::from(first.to_ascii_lowercase())) {
                row.push(kind);
            }
        }
        Self(all)
    }

    /// Returns the kinds that may start a text.
    fn of(&self, bytes: &[u8]) -> &[&'static Kind] {
        let first = bytes.first().map_or(0, u8::to_ascii_lowercase);
        self.0.get(usize::from(first)).map_or(&[], Vec::as_slice)
    }
}

/// Matches the short prefixes of Vercel, such as `vcp_`, and the extended private keys of test networks.
fn is_vercel_or_xprv(bytes: &[u8]) -> bool {
    let Some(([a, b, c, d], tail)) = bytes.split_first_chunk() else {
        return false;
    };
    let length = |most: usize| {
        let tail = tail.iter().take(most);
        tail.take_while(|byte| byte.is_ascii_alphanumeric()).count()
    };
    match [a, b, c, d].map(u8::to_ascii_lowercase) {
        [b'v', b'c', b'p' | b'i' | b'a' | b'r' | b'k', b'_'] => length(24) == 24,
        [b't', b'p', b'r', b'v'] => length(107) == 107,
        _ => false,
    }
}

/// Whether the case of a prefix matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    AsWritten,
    Any,
}

impl Kind {
    fn is_at(&self, bytes: &[u8], case: Case) -> bool {
        let prefix = self.prefix.as_bytes();
        let Some((start, rest)) = bytes.split_at_checked(prefix.len()) else {
            return false;
        };
        if !(start == prefix || case == Case::Any && start.eq_ignore_ascii_case(prefix)) {
            return false;
        }
        let tail = rest
            .iter()
            .take(LONGEST_TAIL.max(self.tail))
            .take_while(|byte| (self.is_tail)(**byte));
        let (mut length, mut is_mixed) = (0, false);
        for byte in tail {
            length += 1;
            is_mixed |= byte.is_ascii_digit() || byte.is_ascii_uppercase();
        }
        if self.is_exact {
            let next = rest.get(self.tail);
            return length == self.tail && next.is_none_or(|byte| !is_inside_word(*byte));
        }
        length >= self.tail && (is_mixed || !self.is_mixed)
    }
}

/// Matches Slack tokens: `xoxb-…`, `xoxp-…` and similar.
fn is_slack(bytes: &[u8]) -> bool {
    match bytes.strip_prefix(b"xox") {
        Some([letter, b'-', tail @ ..]) => {
            letter.is_ascii_alphanumeric()
                && tail.iter().take_while(|byte| is_word(**byte)).count() >= 10
        }
        _ => false,
    }
}

/// Matches `bot<digits>:<35 characters>`, the form of a Telegram bot's token in a path.
fn is_bot(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(b"bot") else {
        return false;
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match rest.get(digits..) {
        Some([b':', tail @ ..]) if digits > 0 => {
            tail.iter().take_while(|byte| is_word(**byte)).count() >= 35
        }
        _ => false,
    }
}
