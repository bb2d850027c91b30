//! `egress keygen`: makes a signing key in Pipelock's format.
use std::path::PathBuf;

use pipelock_receipts::keys::{self, KeyError, Replace};
use serde_json::json;

use super::exit;
use super::failure::{self, Form};
use super::output;

/// Exit statuses, for `--help`.
const HELP: &str = "\
Example:
  egress keygen --out signer.key

Exit status:
  0   both files were written
  2   a file cannot be written
  64  an argument is wrong, or a file exists and --force is not given";

/// Arguments of `egress keygen`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct KeygenArgs {
    /// File for the private key (mode 0600). The public key is written to FILE.pub
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Replace existing files
    #[arg(long)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Makes the key, prints its public half, and returns the exit status.
pub fn run(args: &KeygenArgs) -> u8 {
    let replace = if args.force {
        Replace::Yes
    } else {
        Replace::No
    };
    let made = keys::generate().and_then(|key| {
        Ok((
            keys::write_pair(&args.out, &key, replace)?,
            key.verifying_key(),
        ))
    });
    match made {
        Ok((public, key)) => {
            let key = hex::encode(key.to_bytes());
            let text = if args.json {
                json!({
                    "private_key_file": args.out.to_string_lossy(),
                    "public_key_file": public.to_string_lossy(),
                    "public_key": key,
                })
                .to_string()
            } else {
                format!(
                    "private key: {}\npublic key:  {}\nkey:         {key}",
                    args.out.display(),
                    public.display()
                )
            };
            output::line(&text).map_or(exit::CANNOT_READ, |()| exit::SUCCESS)
        }
        Err(error) => {
            let (status, hint) = match error {
                KeyError::Exists { .. } => (
                    exit::USAGE,
                    Some(
                        "choose another path for --out; --force destroys the existing key, and nothing can be signed \
                         with it again",
                    ),
                ),
                KeyError::Format(_)
                | KeyError::Content { .. }
                | KeyError::Io { .. }
                | KeyError::Mode { .. }
                | KeyError::Random(_) => (exit::CANNOT_READ, None),
            };
            failure::report(Form::of(args.json), &error, hint, status)
        }
    }
}
