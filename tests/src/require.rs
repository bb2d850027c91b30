//! Programs that not every machine has.
use std::env;
use std::path::PathBuf;

/// Where agents find programs. What lies below a home directory does not count: the agent, with an account of its
/// own, cannot reach it.
const DIRECTORIES: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/go/bin"];

/// Says how to treat a program that is missing: `all` fails the test.
const REQUIRE_VARIABLE: &str = "EGRESS_TEST_REQUIRE";

/// Where `program` is; none, said aloud, if it is nowhere and need not be.
///
/// # Panics
/// If it is nowhere and the tests were told to require everything.
pub fn installed(program: &str) -> Option<PathBuf> {
    let found = DIRECTORIES
        .iter()
        .map(|dir| PathBuf::from(dir).join(program))
        .find(|path| path.is_file());
    if found.is_none() {
        let required = env::var(REQUIRE_VARIABLE).is_ok_and(|value| value == "all");
        assert!(!required, "{program} is not installed");
        #[expect(clippy::print_stderr, reason = "a test that is left out must say so")]
        {
            eprintln!("left out: {program} is not installed");
        }
    }
    found
}
