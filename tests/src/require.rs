//! Finds programs that not every machine has.
use std::env;
use std::path::PathBuf;

/// Directories with programs that the command can run. The command has its own account, so it cannot reach programs
/// below a home directory.
const DIRECTORIES: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/go/bin"];

/// Variable that states how to treat a missing program. With `all`, the test fails.
const REQUIRE_VARIABLE: &str = "EGRESS_TEST_REQUIRE";

/// Finds `program`. If the program is missing and not required, prints a note and returns `None`.
///
/// # Panics
/// Panics if `program` is missing and required.
pub fn installed(program: &str) -> Option<PathBuf> {
    let found = DIRECTORIES
        .iter()
        .map(|dir| PathBuf::from(dir).join(program))
        .find(|path| path.is_file());
    if found.is_none() {
        let required = env::var(REQUIRE_VARIABLE).is_ok_and(|value| value == "all");
        assert!(!required, "{program} is not installed");
        #[expect(
            clippy::print_stderr,
            reason = "a test that is left out must be reported"
        )]
        {
            eprintln!("left out: {program} is not installed");
        }
    }
    found
}
