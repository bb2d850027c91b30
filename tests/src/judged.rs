//! Runs `egress verify` on a packet with both keys pinned.
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::evidence::{public_key_hex, verify};

/// The result of `egress verify --json`.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Exit status.
    pub status: Option<i32>,
    /// The JSON output.
    pub json: Value,
}

impl Judged {
    /// Verifies a packet. `key` and `boundary` are private keys with their public halves beside them.
    ///
    /// # Panics
    /// Panics if the output is not JSON.
    pub fn new(packet: &Path, key: &Path, boundary: &Path) -> Self {
        let [key, boundary] = [key, boundary].map(public_key_hex);
        let args = [
            packet.as_os_str(),
            OsStr::new("--json"),
            OsStr::new("--key"),
            OsStr::new(&key),
            OsStr::new("--boundary-key"),
            OsStr::new(&boundary),
        ];
        let output = verify(&args);
        let json = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output}"));
        Self {
            status: output.status,
            json,
        }
    }

    /// Returns the grade of the boundary.
    pub fn grade(&self) -> &str {
        self.text("/boundary/grade")
    }

    /// Returns the verdict on the receipts.
    pub fn verdict(&self) -> &str {
        self.text("/verdict")
    }

    fn text(&self, pointer: &str) -> &str {
        let text = self.json.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_default()
    }

    /// Returns the reasons why the grade is not higher, and every finding that is an error.
    pub fn reasons(&self) -> Vec<String> {
        let list = |pointer: &str| {
            let list = self.json.pointer(pointer).and_then(Value::as_array);
            list.cloned().unwrap_or_default()
        };
        let caps = list("/boundary/not_higher").into_iter();
        let caps = caps.filter_map(|reason| reason.as_str().map(str::to_owned));
        let findings = list("/findings").into_iter().filter_map(|finding| {
            let text = |name: &str| finding.get(name).and_then(Value::as_str);
            (text("severity")? == "error").then(|| {
                let [rule, expected, found] = ["rule", "expected", "found"].map(text);
                let words = [rule, expected, found].map(Option::unwrap_or_default);
                format!("[{}] expected {}, found {}", words[0], words[1], words[2])
            })
        });
        caps.chain(findings).collect()
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "exit status {:?}, {}", self.status, self.grade())?;
        for reason in self.reasons() {
            writeln!(f, "  {reason}")?;
        }
        write!(f, "{:#}", self.json)
    }
}
