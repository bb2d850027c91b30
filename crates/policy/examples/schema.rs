//! Writes the JSON Schema of the policy to `schema/policy.schema.json` in the directory of the first argument. With
//! `--check`, only compares the file with the schema.
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let mut words = env::args_os().skip(1);
    let docs = words.next().unwrap_or_default();
    let checks = words.next().is_some_and(|word| word == "--check");
    let path = Path::new(&docs).join("schema/policy.schema.json");
    let text = format!("{:#}\n", egress_policy::schema::schema());
    if !checks {
        return fs::write(path, text);
    }
    if fs::read_to_string(&path)? == text {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "out of date with crates/policy/src/schema.rs: {}; run cargo xtask schemas",
        path.display()
    )))
}
