//! Hidden options with which `egress action` controls `egress run` through `sudo`. `sudo` passes on only the standard
//! streams.
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::Value;

/// Size limit of the environment on standard input.
const ENVIRONMENT_BYTES: u64 = 16 << 20;

/// Options that only `egress action` uses.
#[derive(Debug, Args)]
pub struct DrivenArgs {
    /// Read the command's environment from standard input, and end the run when standard input ends. Each entry ends
    /// with NUL, and an empty entry ends the environment
    #[arg(long, hide = true)]
    pub driven: bool,
    /// Also write the result, or the failure, to this empty file
    #[arg(long, hide = true, value_name = "FILE")]
    result: Option<PathBuf>,
    /// Owner of the packet
    #[arg(long, hide = true, value_name = "UID:GID")]
    pub packet_owner: Option<Owner>,
}

/// A user and a group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl FromStr for Owner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split_once(':').and_then(|(uid, gid)| {
            let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
            Some(Self { uid, gid })
        });
        numbers.ok_or_else(|| String::from("not a UID:GID"))
    }
}

/// The file of `--result`, opened before the run.
#[derive(Debug)]
pub struct ResultFile(Option<File>);

impl DrivenArgs {
    /// Opens the file for the result.
    ///
    /// # Errors
    /// Fails if the file is not an empty regular file with a single link. Root writes to a path that a user chose, so
    /// it must not be another name of an existing file.
    pub fn result_file(&self) -> anyhow::Result<ResultFile> {
        let Some(path) = &self.result else {
            return Ok(ResultFile(None));
        };
        let shown = path.display();
        let file = File::options()
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .with_context(|| format!("cannot open --result {shown}"))?;
        let meta = file.metadata()?;
        ensure!(
            meta.is_file() && meta.nlink() == 1 && meta.len() == 0,
            "--result {shown}: not an empty regular file with a single link"
        );
        Ok(ResultFile(Some(file)))
    }

    /// Returns the environment of this process, or with `--driven` the environment on standard input.
    ///
    /// # Errors
    /// Fails if the environment on standard input is incomplete, malformed, or too long.
    pub fn environment(&self) -> anyhow::Result<Vec<(OsString, OsString)>> {
        if !self.driven {
            return Ok(std::env::vars_os().collect());
        }
        // The process has a single buffer of standard input, so bytes after the environment stay readable.
        entries(std::io::stdin().lock())
    }
}

fn entries(mut from: impl BufRead) -> anyhow::Result<Vec<(OsString, OsString)>> {
    let mut entries = Vec::new();
    let mut left = ENVIRONMENT_BYTES;
    loop {
        let mut entry = Vec::new();
        let length = (&mut from).take(left).read_until(0, &mut entry)?;
        left = left.saturating_sub(u64::try_from(length)?);
        ensure!(
            entry.pop() == Some(0),
            "standard input ended inside the command's environment, or the environment exceeds \
             {ENVIRONMENT_BYTES} bytes"
        );
        if entry.is_empty() {
            return Ok(entries);
        }
        // A variable name may begin with `=`, so the name ends at the first `=` after that position.
        let sign = entry.iter().skip(1).position(|byte| *byte == b'=');
        let sign = sign.context("an entry of the command's environment has no value")?;
        let value = entry.split_off(sign.saturating_add(2));
        entry.pop();
        entries.push((OsString::from_vec(entry), OsString::from_vec(value)));
    }
}

impl ResultFile {
    /// Writes the result. A write error is ignored, because `egress action` treats an empty file as a failure.
    pub fn write(&self, value: &Value) {
        if let Some(mut file) = self.0.as_ref() {
            drop(file.write_all(value.to_string().as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: action-environment
    #[test]
    fn environment_is_read_to_its_end_and_no_further() {
        let mut text: &[u8] = b"A=1\0B=x=y\nz\0C=\0\0rest";
        let read = entries(&mut text).unwrap();
        let wanted = [("A", "1"), ("B", "x=y\nz"), ("C", "")];
        let wanted = wanted.map(|(name, value)| (name.into(), value.into()));
        assert_eq!(read, wanted);
        assert_eq!(text, b"rest");
        for torn in [&b"A=1"[..], b"A=1\0", b"A\0\0", b""] {
            assert!(entries(torn).is_err());
        }
    }

    /// Claims: action-result
    #[test]
    fn result_goes_to_an_empty_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result");
        let open = |path: &std::path::Path| {
            let result = Some(path.to_path_buf());
            DrivenArgs {
                driven: true,
                result,
                packet_owner: None,
            }
            .result_file()
        };
        assert!(open(&path).is_err());
        std::fs::write(&path, "").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(open(&link).is_err());
        open(&path).unwrap().write(&Value::Bool(true));
        assert_eq!(std::fs::read(&path).unwrap(), b"true");
        assert!(open(&path).is_err());
    }
}
