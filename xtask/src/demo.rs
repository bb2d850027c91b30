//! `demo`: runs an example agent behind the boundary. The demo works on a new machine and ends with a verified packet.
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::build;
use crate::layout::Layout;
use crate::program::{effective_uid, on_path, program, run as run_program};
use crate::setup;

/// Builds `egress` and runs the example agent.
///
/// # Errors
/// Fails before the build if this user cannot become root. Fails if `egress` cannot be built, or if the demo fails.
pub(crate) fn run(layout: &Layout) -> Result<()> {
    let is_root = effective_uid()? == 0;
    let sudo = on_path("sudo").filter(|_| !is_root);
    let mut demo = command(layout, is_root, sudo.as_deref())?;
    if let Some(sudo) = sudo {
        println!(
            "demo: egress is built as this user; the demo itself needs root, and sudo starts it"
        );
        // This asks for the password now instead of after the build.
        if run_program(program(sudo).arg("--validate")).is_err() {
            bail!("{}", needs_root(layout));
        }
    }
    setup::for_demo()?;
    build::quick(layout)?;
    run_program(&mut demo)
}

/// Returns the script and its arguments.
fn words(layout: &Layout) -> [PathBuf; 3] {
    [
        layout.root.join("examples/demo/demo.sh"),
        build::quickly_built(layout),
        layout.target.join("demo"),
    ]
}

/// Returns the command that runs the example agent as root.
///
/// # Errors
/// Fails if this user is not root and there is no `sudo`.
fn command(layout: &Layout, is_root: bool, sudo: Option<&Path>) -> Result<Command> {
    let [script, egress, directory] = words(layout);
    let mut demo = match sudo {
        _ if is_root => program(script),
        Some(sudo) => {
            let mut demo = program(sudo);
            demo.arg(script);
            demo
        }
        None => bail!("{}", needs_root(layout)),
    };
    demo.arg(egress).arg(directory);
    Ok(demo)
}

/// Returns the error for a user who cannot become root, with the commands that work without `sudo`.
fn needs_root(layout: &Layout) -> String {
    let [script, egress, directory] = words(layout).map(|path| path.display().to_string());
    format!(
        "the demo needs root, because it creates network namespaces, and this user cannot run commands with sudo; \
         run `cargo xtask build` as this user, and then as root: {script} {egress} {directory}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout {
            root: PathBuf::from("/clone"),
            target: PathBuf::from("/clone/target"),
        }
    }

    #[test]
    fn only_the_demo_itself_runs_as_root() {
        let line = |is_root, sudo: Option<&str>| {
            let command = command(&layout(), is_root, sudo.map(Path::new)).unwrap();
            let words = [command.get_program()]
                .into_iter()
                .chain(command.get_args());
            let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
            words.join(" ")
        };
        let demo = "/clone/examples/demo/demo.sh /clone/target/debug/egress /clone/target/demo";
        assert_eq!(line(true, None), demo);
        assert_eq!(line(false, Some("/bin/sudo")), format!("/bin/sudo {demo}"));
        let error = command(&layout(), false, None).unwrap_err().to_string();
        assert!(error.contains("needs root"), "{error}");
        assert!(error.ends_with(demo), "{error}");
    }
}
