//! `egress completions` and `egress man`: print completions for a shell, and manual pages.
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use super::exit;
use super::failure::{self, Form};
use super::output;

/// Examples with the directories in which shells search for the file, and exit statuses, for `--help`.
const COMPLETIONS_HELP: &str = "\
Examples:
  egress completions bash > /usr/share/bash-completion/completions/egress
  egress completions zsh > /usr/local/share/zsh/site-functions/_egress
  egress completions fish > /usr/share/fish/vendor_completions.d/egress.fish

Exit status:
  0   printed
  2   standard output cannot be written
  64  an argument is wrong";

/// Examples and exit statuses, for `--help`. One example writes to a directory in which `man` searches for pages.
const MAN_HELP: &str = "\
Examples:
  egress man | man -l -
  egress man --out /usr/local/share/man/man1

Exit status:
  0   written
  2   a file or standard output cannot be written
  64  an argument is wrong";

/// Arguments of `egress completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS_HELP)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `egress man`.
#[derive(Debug, clap::Args)]
#[command(after_help = MAN_HELP)]
pub(super) struct ManArgs {
    /// Write the page of egress and one page for each of its commands to this directory. Without this option, the page
    /// of egress is printed
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints the completions, and returns the exit status.
pub(super) fn completions(args: &CompletionsArgs, mut command: Command) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "egress", &mut script);
    print(&script)
}

/// Writes the manual pages, and returns the exit status.
pub(super) fn man(args: &ManArgs, command: Command) -> u8 {
    let Some(out) = &args.out else {
        let mut page = Vec::new();
        // A vector can always be written to.
        drop(Man::new(command).render(&mut page));
        return print(&page);
    };
    match fs::create_dir_all(out)
        .with_context(|| format!("cannot create directory {}", out.display()))
        .and_then(|()| pages(out, command))
    {
        Ok(()) => exit::SUCCESS,
        Err(error) => failure::report(Form::Text, error.as_ref(), None, exit::CANNOT_READ),
    }
}

/// Writes the page of `command` and the pages of the commands below it.
fn pages(out: &Path, mut command: Command) -> anyhow::Result<()> {
    command.build();
    let mut open = vec![command];
    while let Some(command) = open.pop() {
        open.extend(
            command
                .get_subcommands()
                .filter(|below| !below.is_hide_set() && below.get_name() != "help")
                .cloned(),
        );
        let page = Man::new(command);
        let path = out.join(page.get_filename());
        File::create(&path)
            .and_then(|mut file| page.render(&mut file))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn print(text: &[u8]) -> u8 {
    output::write(text).map_or(exit::CANNOT_READ, |()| exit::SUCCESS)
}
