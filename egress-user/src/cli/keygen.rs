//! `egress keygen`: makes a signing key in Pipelock's formats.
use std::io::{self, Write};
use std::path::PathBuf;

use pipelock_receipts::keys::{self, KeyError, Replace};
use serde_json::json;

use super::exit;
use super::failure::{self, Form};

/// Arguments of `egress keygen`.
#[derive(Debug, clap::Args)]
pub struct KeygenArgs {
    /// File for the private key (mode 0600); the public key goes to FILE.pub
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Replace existing files
    #[arg(long)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Makes the key, prints the public half, and gives the exit status.
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
            match writeln!(io::stdout(), "{text}") {
                Ok(()) => exit::SUCCESS,
                Err(_) => exit::CANNOT_READ,
            }
        }
        Err(error) => {
            let (status, hint) = match error {
                KeyError::Exists { .. } => (exit::USAGE, Some("--force replaces it")),
                KeyError::Format(_)
                | KeyError::Io { .. }
                | KeyError::Mode { .. }
                | KeyError::Random(_) => (exit::CANNOT_READ, None),
            };
            failure::tell(Form::of(args.json), &error, hint, status)
        }
    }
}
