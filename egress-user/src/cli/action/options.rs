//! Inputs of the action that have the name of an option of `egress run` and are passed to it.
//!
//! The command line of `egress run` checks their values here, before anything starts as root.
use anyhow::bail;
use clap::Args;

use super::words::one_of;
use crate::cli::run::RunArgs;

/// The form of an input.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// One value for each line.
    Lines,
    /// One value, or nothing for the default.
    Value,
    /// `true` or `false`.
    Switch,
}

/// The inputs. The option for each input is its name after two dashes.
const INPUTS: [(&str, Form); 19] = [
    ("accept-risk", Form::Lines),
    ("allow-change", Form::Lines),
    ("allow-port", Form::Lines),
    ("allow-unix", Form::Lines),
    ("bind", Form::Lines),
    ("cache", Form::Value),
    ("env-drop", Form::Lines),
    ("env-pass", Form::Lines),
    ("max-evidence", Form::Value),
    ("max-memory", Form::Value),
    ("max-open-files", Form::Value),
    ("max-processes", Form::Value),
    ("max-scratch", Form::Value),
    ("no-home-tools", Form::Switch),
    ("nonce", Form::Value),
    ("plain-http", Form::Value),
    ("protect", Form::Lines),
    ("require-strict", Form::Switch),
    ("show-credential", Form::Lines),
];

/// Words of the command line of `egress run`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Passed(Vec<String>);

impl Passed {
    /// Returns the words, each with its value after `=`.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether the switch `option` is one of the words.
    pub(super) fn has(&self, option: &str) -> bool {
        self.words().any(|word| word == option)
    }
}

/// Reads and checks the inputs. `get` returns the value of an input, which is empty if it is not set.
///
/// # Errors
/// Fails if `egress run` does not accept a value. The text names the input.
pub(super) fn read(get: impl Fn(&str) -> String) -> anyhow::Result<Passed> {
    let mut words = Vec::new();
    for (name, form) in INPUTS {
        let value = get(name);
        match form {
            Form::Switch => {
                // An older action.yml does not pass the input.
                if !value.is_empty() && one_of(&get, name, &["true", "false"])? == "true" {
                    words.push(format!("--{name}"));
                }
            }
            Form::Lines | Form::Value => {
                let values = match form {
                    Form::Lines => value.lines().collect(),
                    Form::Value | Form::Switch => vec![value.as_str()],
                };
                let values = values.into_iter().map(str::trim);
                for value in values.filter(|value| !value.is_empty()) {
                    let word = format!("--{name}={value}");
                    check(name, value, &word)?;
                    words.push(word);
                }
            }
        }
    }
    Ok(Passed(words))
}

fn check(name: &str, value: &str, word: &str) -> anyhow::Result<()> {
    let command = RunArgs::augment_args(clap::Command::new("egress run"));
    let Err(error) = command.try_get_matches_from(["egress run", word, "--", "true"]) else {
        return Ok(());
    };
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.split_whitespace().skip(1).collect();
    bail!("input {name} is {value:?}: {}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(name: &str, value: &str) -> Result<Vec<String>, String> {
        let get = |asked: &str| match asked {
            _ if asked == name => value.to_owned(),
            _ => String::new(),
        };
        let passed = read(get).map_err(|error| error.to_string())?;
        Ok(passed.0)
    }

    #[test]
    fn inputs_become_options_with_the_same_name() {
        assert_eq!(read_one("cache", ""), Ok(vec![]));
        assert_eq!(
            read_one("cache", "a dir\n"),
            Ok(vec!["--cache=a dir".into()])
        );
        assert_eq!(
            read_one("no-home-tools", "true"),
            Ok(vec!["--no-home-tools".into()])
        );
        let ports = ["--allow-port=8443", "--allow-port=9443"].map(String::from);
        assert_eq!(
            read_one("allow-port", " 8443\n\n9443\n"),
            Ok(ports.to_vec())
        );
        // A value is never parsed as an option.
        assert_eq!(
            read_one("protect", "--json"),
            Ok(vec!["--protect=--json".into()])
        );
        let refused = read_one("max-processes", "many").unwrap_err();
        assert!(
            refused.starts_with("input max-processes is \"many\": invalid value"),
            "{refused}"
        );
    }
}
