//! One secret of each kind, for the tests of this crate and for the end-to-end tests. Each secret is assembled from its
//! parts, because scanners of repositories search for whole tokens.

/// Characters that look random, so that no check digit and no other kind of secret fits by accident.
const SOME: &str = "7Qz2mX8kP5r9T3vB6wY4nJ1hD6sL";

/// Returns a text of this length without a pattern.
pub(crate) fn some(length: usize) -> String {
    SOME.chars().cycle().take(length).collect()
}

fn hex(length: usize) -> String {
    "3f9a07c5e1b84d26".chars().cycle().take(length).collect()
}

/// Prefixes of tokens with letters and digits, and the length of the rest.
const TOKENS: [(&str, usize); 79] = [
    ("ghp_", 36),
    ("gho_", 36),
    ("ghu_", 36),
    ("ghs_", 36),
    ("ghr_", 36),
    ("github_pat_", 40),
    ("glpat-", 20),
    ("gldt-", 20),
    ("glrt-", 20),
    ("glrtr-", 20),
    ("glcbt-", 20),
    ("glptt-", 20),
    ("gloas-", 20),
    ("glsoat-", 20),
    ("glft-", 20),
    ("glimt-", 20),
    ("glagent-", 20),
    ("glwt-", 20),
    ("glffct-", 20),
    ("sk-ant-", 24),
    ("sk-proj-", 24),
    ("sk-svcacct-", 24),
    ("fw_", 22),
    ("pplx-", 20),
    ("tvly-", 20),
    ("AIza", 35),
    ("GOCSPX-", 28),
    ("ya29.", 20),
    ("sk_live_", 20),
    ("sk_test_", 20),
    ("rk_live_", 20),
    ("rk_test_", 20),
    ("sk-live-", 20),
    ("sk-test-", 20),
    ("rk-live-", 20),
    ("rk-test-", 20),
    ("sk-", 24),
    ("whsec_", 20),
    ("hf_", 34),
    ("tok_", 40),
    ("pcsk_", 36),
    ("gsk_", 48),
    ("xai-", 80),
    ("AKIA", 16),
    ("A3T", 16),
    ("AGPA", 16),
    ("AIDA", 16),
    ("AROA", 16),
    ("AIPA", 16),
    ("ANPA", 16),
    ("ANVA", 16),
    ("ASIA", 16),
    ("xoxb-", 15),
    ("xoxp-", 15),
    ("xoxr-", 15),
    ("xoxa-", 15),
    ("xoxs-", 15),
    ("NRAK-", 27),
    ("key-", 32),
    ("hvs.", 24),
    ("vercel_", 24),
    ("vcp_", 24),
    ("vci_", 24),
    ("vca_", 24),
    ("vcr_", 24),
    ("vck_", 24),
    ("npm_", 36),
    ("pypi-", 24),
    ("pypi-AgE", 90),
    ("lin_api_", 40),
    ("ntn_", 40),
    ("sntrys_", 40),
    ("xprv", 107),
    ("yprv", 107),
    ("zprv", 107),
    ("tprv", 107),
    ("mfa.", 84),
    ("DB_PASSWORD=", 12),
    ("bot123456:", 35),
];

/// Returns one secret of each kind.
pub(crate) fn secrets() -> Vec<String> {
    let mut all = Vec::new();
    for (prefix, length) in TOKENS {
        all.push(format!("{prefix}{}", some(length)));
    }
    for (prefix, length) in [
        ("sk-or-v1-", 64),
        ("r8_", 40),
        ("dapi", 32),
        ("SK", 32),
        ("dop_v1_", 64),
        ("0x", 40),
        ("0x", 64),
        ("xapp-1-A0B-2-", 64),
    ] {
        all.push(format!("{prefix}{}", hex(length)));
    }
    all.push(format!("eyJ{}", some(20)));
    all.push(format!("sb_secret_{}_{}", some(22), some(8)));
    all.push(format!("AccountKey={}==", some(86)));
    all.push(format!("sig={}%3d", some(43)));
    all.push(format!("SG.{}.{}", some(22), some(43)));
    all.push(format!("M{}.{}.{}", some(23), some(6), some(27)));
    all.push(format!("eyJ{}.eyJ{}.{}", some(20), some(20), some(43)));
    all.push(format!("xewo{}.e30.{}", some(20), some(43)));
    all.push(format!("123456-{}.apps.googleusercontent.com", some(32)));
    all.push(format!("aws_secret_access_key={}", some(40)));
    all.push(format!("-----BEGIN RSA {}-----", "PRIVATE KEY"));
    all.push(format!("{{\"type\": \"service_{}\"}}", "account"));
    all.push(format!("{{\"private_key_id\": \"{}\"}}", hex(40)));
    // Numbers that their registries publish as examples.
    all.extend([
        ["078-05", "-1120"].concat(),
        ["4111-1111-", "1111-1111"].concat(),
    ]);
    all.extend([
        ["GB29NWBK", "60161331926819"].concat(),
        ["3714496353", "98431"].concat(),
    ]);
    // The example of the import format in the Bitcoin wiki.
    all.push(["5HueCGU8rMjxEXxiPuD5BDku", "4MkFqeZyd4dZ1jvhTVqvbTLvyTJ"].concat());
    all
}
