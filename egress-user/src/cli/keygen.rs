//! `egress keygen`: generates signing keys in Pipelock's format.
use std::error::Error;
use std::path::{Path, PathBuf};

use pipelock_receipts::keys::{self, KeyError, Replace};
use serde_json::json;

use super::exit;
use super::failure::{self, Form};
use super::output;
use place::{KeyDir, PlaceError};

mod place;

/// Names of the keys that are generated without `--out`.
const NAMES: [&str; 2] = ["signer.key", "boundary.key"];

/// Exit statuses, for `--help`.
const HELP: &str = "\
Examples:
  egress keygen                           # signer.key and boundary.key in ~/.config/egress
  egress keygen --out /etc/egress/signer.key

Exit status:
  0   the files were written
  2   a file cannot be written
  64  an argument is wrong, a file exists and --force is not given, or the place is in a git work tree";

/// Arguments of `egress keygen`.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = HELP)]
pub struct KeygenArgs {
    /// Create one key, and write the private half to this file (mode 0600) and the public half to FILE.pub. Without
    /// this option, keys for the receipts and for the boundary are created in ~/.config/egress
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace existing files
    #[arg(long)]
    pub force: bool,
    /// Allow a place in a git work tree
    #[arg(long, requires = "out")]
    pub in_workspace: bool,
    /// Print JSON, one object per key
    #[arg(long)]
    pub json: bool,
}

/// A key that was written.
struct Written {
    private: PathBuf,
    public: PathBuf,
    key: String,
}

/// An error, its hint, and its exit status.
struct Failure(Box<dyn Error>, Option<&'static str>, u8);

/// Generates the keys, prints their public halves, and returns the exit status.
pub fn run(args: &KeygenArgs) -> u8 {
    match make(args) {
        Ok((written, warning)) => print(args, &written, warning.as_deref()),
        Err(Failure(error, hint, status)) => {
            failure::report(Form::of(args.json), error.as_ref(), hint, status)
        }
    }
}

fn make(args: &KeygenArgs) -> Result<(Vec<Written>, Option<String>), Failure> {
    let replace = if args.force {
        Replace::Yes
    } else {
        Replace::No
    };
    let Some(out) = &args.out else {
        let made = KeyDir::find()?.with(|dir| pairs(dir, replace))?;
        return Ok((made?, None));
    };
    let warning = place::check(out, args.in_workspace)?;
    Ok((vec![pair(out, replace)?], warning))
}

/// Generates all keys of a directory, or none of them.
fn pairs(dir: &Path, replace: Replace) -> Result<Vec<Written>, KeyError> {
    let paths = NAMES.map(|name| dir.join(name));
    let exists = |path: &&PathBuf| path.symlink_metadata().is_ok();
    if let (Replace::No, Some(path)) = (replace, paths.iter().find(exists)) {
        return Err(KeyError::Exists { path: path.clone() });
    }
    paths.iter().map(|path| pair(path, replace)).collect()
}

fn pair(out: &Path, replace: Replace) -> Result<Written, KeyError> {
    let key = keys::generate()?;
    Ok(Written {
        public: keys::write_pair(out, &key, replace)?,
        private: out.to_path_buf(),
        key: hex::encode(key.verifying_key().to_bytes()),
    })
}

fn print(args: &KeygenArgs, written: &[Written], warning: Option<&str>) -> u8 {
    let mut texts = Vec::new();
    for one in written {
        let (private, public) = (one.private.to_string_lossy(), one.public.to_string_lossy());
        let value = json!({
            "schema_version": "egress.keygen.v1",
            "private_key_file": private,
            "public_key_file": public,
            "public_key": one.key,
            "warning": warning,
        });
        texts.push(if args.json {
            value.to_string()
        } else {
            format!(
                "private key: {private}\npublic key:  {public}\nkey:         {}",
                one.key
            )
        });
    }
    if let (Some(warning), false) = (warning, args.json) {
        failure::warning(warning);
    }
    output::line(&texts.join("\n")).map_or(exit::CANNOT_READ, |()| exit::SUCCESS)
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        let (status, hint) = match error {
            KeyError::Exists { .. } => (
                exit::USAGE,
                Some(
                    "choose another path with --out; --force destroys the existing key, and nothing can be signed with it \
                     again",
                ),
            ),
            KeyError::Format(_)
            | KeyError::Content { .. }
            | KeyError::Io { .. }
            | KeyError::Mode { .. }
            | KeyError::Random(_) => (exit::CANNOT_READ, None),
        };
        Self(error.into(), hint, status)
    }
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        let (status, hint) = match error {
            PlaceError::NoHome => (exit::USAGE, Some("set HOME, or name a file with --out")),
            PlaceError::Create { .. } => (exit::CANNOT_READ, Some("name a file with --out")),
            PlaceError::WorkTree { .. } => (
                exit::USAGE,
                Some(
                    "leave out --out to create the keys in ~/.config/egress, or allow this place with --in-workspace",
                ),
            ),
        };
        Self(error.into(), hint, status)
    }
}
