use super::*;

fn compiled(texts: &[&str]) -> Result<Patterns, (Option<usize>, &'static str)> {
    Patterns::compile(texts.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn an_expression_matches_what_go_matches() {
    for (pattern, matching, other) in [
        (
            r"EMP-\d{6}",
            ["EMP-123456", "xemp-1234567"],
            ["EMP-12345", "EMP-١٢٣٤٥٦"],
        ),
        (
            r"(?i)acme_[a-z]+",
            ["ACME_x", "acme_yz"],
            ["acme-x", "acme_1"],
        ),
        (r"\bid\b", ["id", "éid."], ["idx", "aid"]),
        (r"^\w+$", ["a_1", "Z"], ["é", "a-b"]),
        (r"x\Sy", ["xéy", "x-y"], ["x y", "x\ty"]),
        (r"[[a]{2}", ["[a", "a["], ["b[", "a"]),
        (r"^[]a]$", ["]", "a"], ["[", "b"]),
        (r"^[a&&b]$", ["&", "b"], ["c", ""]),
        (r"^[!--]$", ["-", "!"], [".", "a"]),
        (r"^[\w-]+$", ["a-b", "_"], ["a.b", " "]),
        (r"^[^\d[:^alpha:]]$", ["a", "Z"], ["1", "-"]),
        (r"^[\Wx]$", ["é", "X"], ["y", "_"]),
        (r"\<a\>", ["<a>", "<A>"], ["a", " a "]),
        (r"^a{x$", ["a{x", "A{X"], ["ax", "a"]),
        (r"^a{,2}$", ["a{,2}", "A{,2}"], ["aa", "a"]),
        (r"^a{01}$", ["a{01}", "A{01}"], ["a", "a01"]),
        (r"^a{1,2}$", ["a", "aa"], ["aaa", "a{1,2}"]),
        (r"^\Qa.b{2}\E+$", ["a.b{2}", "a.b{2}}"], ["axb", "a.bb"]),
        (r"^\101\x42\x{43}\-\_$", ["ABC-_", "abc-_"], ["AB", ""]),
        (r"^(?P<1a>a)(?<b>b)(?:c)$", ["abc", "ABC"], ["ab", "ac"]),
        (r"^(?-i:A)b$", ["Ab", "AB"], ["ab", "aB"]),
        (r"^\p{^Greek}\pL\PN$", ["abc", "1éx"], ["αbc", "ab1"]),
        (r"a.b", ["a-b", "aéb"], ["a\nb", "ab"]),
        (r"\Aa # b\z", ["a # b", "A # B"], ["a", "xa # b"]),
        (r"k", ["k", "\u{212a}"], ["c", ""]),
    ] {
        let patterns = compiled(&[pattern]).unwrap_or_else(|error| panic!("{pattern}: {error:?}"));
        for text in matching {
            assert!(patterns.is_match(text), "{pattern} {text:?}");
        }
        for text in other {
            assert!(!patterns.is_match(text), "{pattern} {text:?}");
        }
    }
}

#[test]
fn an_expression_that_cannot_be_compiled_is_named() {
    let long = "a".repeat(MAX_TEXT);
    for (pattern, words) in [
        ("(?=a)", "group"),
        ("(?<=a)", "group"),
        ("(?x) a", "group"),
        ("(a", "syntax"),
        ("[a", "middle"),
        ("a\\", "middle"),
        ("\\1", "escape"),
        ("\\K", "escape"),
        ("\\p{Nothing}", "syntax"),
        ("\\p{x=y}", "class"),
        ("[[:A:]]", "class"),
        ("[b-a]", "syntax"),
        ("\\x{D800}", "character"),
        ("a{1001}", "1,000"),
        ("(?:\\pL{1000}){1000}", "too large"),
    ] {
        let (index, reason) = compiled(&["a", pattern]).unwrap_err();
        assert_eq!(index, Some(1), "{pattern}");
        assert!(reason.contains(words), "{pattern}: {reason}");
    }
    let (index, reason) = compiled(&["a", &long]).unwrap_err();
    assert_eq!(index, None);
    assert!(reason.contains("64 KiB"), "{reason}");
    let many: Vec<String> = (0..20).map(|at| format!("{at}[a-z0-9]{{900}}")).collect();
    let (index, reason) = Patterns::compile(many).unwrap_err();
    assert_eq!(index, None);
    assert!(reason.contains("together"), "{reason}");
}

#[test]
fn patterns_pass_through_the_plan_of_the_relay() {
    let patterns = compiled(&["a+", "(?i)b"]).unwrap();
    let text = serde_json::to_string(&patterns).unwrap();
    assert_eq!(text, r#"["a+","(?i)b"]"#);
    let read: Patterns = serde_json::from_str(&text).unwrap();
    assert_eq!(read, patterns);
    assert!(read.is_match("xB") && !read.is_match("c") && !read.is_empty());
    assert!(serde_json::from_str::<Patterns>(r#"["("]"#).is_err());
    let none = Patterns::default();
    assert!(none.is_empty() && !none.is_match("a"));
}

/// Claims: crate-policy
#[cfg(feature = "yaml")]
#[test]
fn patterns_of_a_policy_are_read_or_named() {
    let of = |yaml: &str| Patterns::of(&crate::document::read(yaml).unwrap());
    let yaml = "dlp:\n  patterns:\n    - {name: a, regex: 'A-\\d+'}\n    - {name: b}\n";
    assert!(of(yaml).unwrap().is_match("a-7"));
    for yaml in [
        "mode: strict\n",
        "dlp: {}\n",
        "dlp: {patterns: []}\n",
        "dlp: {patterns: }\n",
    ] {
        assert!(of(yaml).unwrap().is_empty(), "{yaml}");
    }
    for (yaml, text) in [
        (
            "dlp:\n  patterns:\n    - {name: secret-name, regex: '('}\n",
            "policy line 3: `dlp.patterns[0].regex` is not a regular expression that egress can use; write it in the syntax \
             of RE2",
        ),
        (
            "dlp: {patterns: [{regex: a}, {regex: 12}]}\n",
            "policy line 1: `dlp.patterns[1].regex` must be text; put it in quotation marks",
        ),
    ] {
        assert_eq!(of(yaml).unwrap_err().to_string(), text);
        assert!(crate::check::pipelock(yaml).is_err(), "{yaml}");
    }
}
