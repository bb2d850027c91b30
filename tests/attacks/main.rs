//! Runs the attack suite. Each technique is a test, and a row of the table that `cargo xtask attacks` prints.
//!
//! `EGRESS_TEST_WITHOUT` names the layer that the binary leaves out. `EGRESS_ATTACKS_ROWS` names the file for the rows.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a suite that cannot run fails"
)]
use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::ExitCode;

use egress_tests::attack::{self, Layer, Technique};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let without = env::var("EGRESS_TEST_WITHOUT").ok().map(|name| {
        Layer::named(&name).unwrap_or_else(|| panic!("EGRESS_TEST_WITHOUT: no layer {name}"))
    });
    let trials = attack::all()
        .into_iter()
        .map(|technique| Trial::test(technique.name.clone(), move || attempt(&technique, without)))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn attempt(technique: &Technique, without: Option<Layer>) -> Result<(), Failed> {
    let result = attack::run(technique, without);
    if let Some(path) = env::var_os("EGRESS_ATTACKS_ROWS") {
        let mut rows = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .expect("open the file for the rows");
        // Each row is one write, because several threads share the file.
        rows.write_all(format!("{}\n", result.row(technique)).as_bytes())
            .expect("write a row");
    }
    if result.verdict == result.expected {
        Ok(())
    } else {
        Err(Failed::from(format!(
            "{}: {}, expected {}\n{}",
            technique.name,
            result.verdict.word(),
            result.expected.word(),
            result.account
        )))
    }
}
