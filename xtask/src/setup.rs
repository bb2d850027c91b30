//! `setup`: installs missing tools for building and testing with the usual package clients, and prints each
//! installation.
use std::env;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::compiler::Compiler;
use crate::layout::Layout;
use crate::program::{
    cargo, effective_uid, in_directories, on_path, on_path_or_installed, output, program, run,
    succeeds,
};

/// The version of the linker. The linker must support the LLVM of the compiler that `rust-toolchain.toml` names.
const BPF_LINKER: &str = "0.10.1";
const CARGO_DENY: &str = "0.20.2";
const CARGO_CYCLONEDX: &str = "0.5.9";
const CARGO_MACHETE: &str = "0.9.2";
/// The version of mdBook.
const MDBOOK: &str = "0.5.4";
/// The versions of the published verifiers, with which the tests compare the verifier of this project.
const VERIFIER_RS: &str = "0.6.5";
const VERIFIER_PY: &str = "0.4.1";
/// The Python package that the second verifier of this project needs.
const CRYPTOGRAPHY: &str = "cryptography==50.0.2";

/// Tools that run and check workflows: name, Go package, and version.
const GO_TOOLS: [(&str, &str, &str); 2] = [
    ("act", "github.com/nektos/act", "v0.2.82"),
    (
        "actionlint",
        "github.com/rhysd/actionlint/cmd/actionlint",
        "v1.7.8",
    ),
];
/// Clients that the end-to-end tests start, from pip and npm.
const PYTHON_CLIENTS: [&str; 4] = [
    "aiohttp==3.14.5",
    "grpcio==1.85.3",
    "httpx==0.28.1",
    "requests==2.32.5",
];
const NODE_CLIENTS: [&str; 1] = ["ws@8.23.0"];

const ZIZMOR: &str = "1.32.0";

/// Programs that the end-to-end tests start, and their Debian packages.
const TEST_PROGRAMS: [(&str, &str); 27] = [
    ("bash", "bash"),
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("git", "git"),
    ("go", "golang-go"),
    ("htop", "htop"),
    ("ip", "iproute2"),
    ("java", "default-jdk-headless"),
    ("javac", "default-jdk-headless"),
    ("jq", "jq"),
    ("mvn", "maven"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("openssl", "openssl"),
    ("pgrep", "procps"),
    // Debian puts the server itself into a directory of its version.
    ("pg_ctlcluster", "postgresql"),
    ("psql", "postgresql-client"),
    ("python3", "python3"),
    ("redis-cli", "redis-tools"),
    ("redis-server", "redis-server"),
    ("setpriv", "util-linux"),
    ("sudo", "sudo"),
    ("systemd-analyze", "systemd"),
    ("tmux", "tmux"),
    ("top", "procps"),
    ("vim", "vim"),
    ("wget", "wget"),
];

/// The oldest version of cargo with support for sparse registries, which the tests use. Debian 12 also has an older
/// cargo.
const OLDEST_CARGO: [u32; 2] = [1, 68];

/// Debian's packages with cargo, the newest first. Some Debian releases have only one of these packages.
const CARGO_PACKAGES: [&[&str]; 2] = [&["cargo-web", "rustc-web"], &["cargo", "rustc"]];

/// User id of an account other than root.
const NOBODY: &str = "65534";

/// Directories with programs that the command of a test can run. The command has its own account, so it cannot reach
/// programs below a home directory. The installers of the Go project put Go into the last directory.
const SYSTEM_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin";

/// Programs that the demo and its agent start. All are in [`TEST_PROGRAMS`].
const DEMO_PROGRAMS: [&str; 4] = ["bash", "curl", "ip", "python3"];

/// Installs everything that building and testing need.
///
/// # Errors
/// Fails if a package client fails.
pub(crate) fn everything(layout: &Layout) -> Result<()> {
    for_ebpf(layout)?;
    test_programs()?;
    cargo_for_everyone()?;
    verifiers(layout)?;
    clients(layout)?;
    for_workflows(layout)
}

/// Installs the programs that the demo starts.
///
/// # Errors
/// Fails if a package client fails.
pub(crate) fn for_demo() -> Result<()> {
    let missing = missing_programs(|name| DEMO_PROGRAMS.contains(&name));
    if !missing.is_empty() {
        apt(&missing)?;
    }
    Ok(())
}

/// Installs the library sources and the linker for the kernel programs.
///
/// # Errors
/// Fails if a package client fails.
pub(crate) fn for_ebpf(layout: &Layout) -> Result<()> {
    library_sources()?;
    let there = on_path_or_installed("bpf-linker").is_some_and(|linker| {
        output(program(linker).arg("--version"))
            .is_ok_and(|text| text.split_whitespace().any(|word| word == BPF_LINKER))
    });
    if !there {
        // Optimizing the linker would triple the build time without a benefit, because LLVM does the work in a shared
        // library.
        run(cargo_install(layout, "bpf-linker", BPF_LINKER)
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0"))?;
    }
    Ok(())
}

/// Installs the tools that only `lint` uses.
///
/// # Errors
/// Fails if a package client fails.
pub(crate) fn for_lint(layout: &Layout) -> Result<()> {
    for (name, version) in [("cargo-deny", CARGO_DENY), ("cargo-machete", CARGO_MACHETE)] {
        if on_path_or_installed(name).is_none() {
            run(&mut cargo_install(layout, name, version))?;
        }
    }
    if on_path_or_installed("mdbook").is_none() {
        // Without optimizations, mdBook is fast enough for a small book.
        run(cargo_install(layout, "mdbook", MDBOOK)
            .arg("--no-default-features")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"))?;
    }
    Ok(())
}

/// Installs the tools that only a release needs.
///
/// # Errors
/// Fails if a package client fails.
pub(crate) fn for_dist(layout: &Layout, target: &str) -> Result<()> {
    library_of(layout, target)?;
    if in_directories(SYSTEM_PATH.as_ref(), "musl-gcc").is_none() {
        apt(&["musl-tools"])?;
    }
    bill_of_materials(layout)
}

/// Installs the tools that a release for another system needs.
///
/// # Errors
/// Fails if a tool cannot be installed, or only another system can link for `target`.
pub(crate) fn for_verifier(layout: &Layout, target: &str) -> Result<()> {
    const MINGW: &str = "x86_64-w64-mingw32-gcc";
    if target.ends_with("-apple-darwin") && !cfg!(target_os = "macos") {
        bail!(
            "a release for {target} needs Apple's linker; run this command on macOS. Here, `cargo check --package \
             egress-user --bin egress --target {target}` shows that it compiles"
        );
    }
    library_of(layout, target)?;
    if target.ends_with("-windows-gnu") && on_path(MINGW).is_none() {
        apt(&["gcc-mingw-w64-x86-64"])?;
    }
    bill_of_materials(layout)
}

/// Installs the standard library for `target`, if rustup manages the compiler.
fn library_of(layout: &Layout, target: &str) -> Result<()> {
    if on_path("rustup").is_some() {
        // rustup runs in the project's directory, so that it installs the library for the project's toolchain.
        run(program("rustup")
            .current_dir(&layout.root)
            .args(["target", "add", target]))?;
    }
    Ok(())
}

fn bill_of_materials(layout: &Layout) -> Result<()> {
    if on_path_or_installed("cargo-cyclonedx").is_none() {
        run(&mut cargo_install(
            layout,
            "cargo-cyclonedx",
            CARGO_CYCLONEDX,
        ))?;
    }
    Ok(())
}

/// Makes sure that a compiler has its library sources.
fn library_sources() -> Result<()> {
    if Compiler::find().is_some() {
        return Ok(());
    }
    if !Compiler::debian_wanted() && on_path("rustup").is_some() {
        say("library sources of the active compiler, by rustup");
        if succeeds(program("rustup").args(["component", "add", "rust-src"]))
            && Compiler::find().is_some()
        {
            return Ok(());
        }
        println!("setup: rustup cannot install the library sources on this machine");
    }
    apt(&["rustc-web", "cargo-web", "rust-web-src"])?;
    if Compiler::find().is_none() {
        bail!(
            "no compiler on this machine has its library sources; run `rustup component add rust-src`"
        );
    }
    Ok(())
}

fn test_programs() -> Result<()> {
    let missing = missing_programs(|_| true);
    if !missing.is_empty() {
        apt(&missing)?;
    }
    Ok(())
}

/// Installs a Rust compiler that the command of a test can run. The command has its own account. The compiler that
/// builds this project is usually in a home directory that only its owner can enter.
fn cargo_for_everyone() -> Result<()> {
    if is_for_everyone()? {
        return Ok(());
    }
    apt_any(&CARGO_PACKAGES)?;
    if !is_for_everyone()? {
        let [major, minor] = OLDEST_CARGO;
        bail!(
            "the tests need cargo {major}.{minor} or newer and its rustc in {SYSTEM_PATH}, which every account \
             can run with PATH as the only variable; check with: \
             setpriv --reuid {NOBODY} --clear-groups env -i PATH={SYSTEM_PATH} cargo --version"
        );
    }
    Ok(())
}

/// Returns whether every account can run a cargo and a rustc that are new enough.
fn is_for_everyone() -> Result<bool> {
    let is_root = effective_uid()? == 0;
    let version = |name: &str| {
        let mut command = if is_root {
            let mut command = program("/usr/bin/setpriv");
            command
                .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
                .arg(name);
            command
        } else {
            // Only root can start the program as another account. The tests need root, too.
            program(name)
        };
        command
            .current_dir("/")
            .env_clear()
            .env("PATH", SYSTEM_PATH)
            .arg("--version");
        output(&mut command)
            .ok()
            .and_then(|text| major_and_minor(&text))
    };
    Ok(["cargo", "rustc"]
        .into_iter()
        .all(|name| version(name).is_some_and(|version| version >= OLDEST_CARGO)))
}

/// Returns the first two numbers in the output of `cargo --version` or `rustc --version`.
fn major_and_minor(text: &str) -> Option<[u32; 2]> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.');
    let mut next = || numbers.next()?.parse().ok();
    Some([next()?, next()?])
}

/// Returns the packages of the `wanted` programs of [`TEST_PROGRAMS`] that this machine lacks.
fn missing_programs(wanted: impl Fn(&str) -> bool) -> Vec<&'static str> {
    TEST_PROGRAMS
        .iter()
        .filter(|(name, _)| wanted(name))
        .filter(|(name, _)| in_directories(SYSTEM_PATH.as_ref(), name).is_none())
        .map(|(_, package)| *package)
        .collect()
}

/// Installs the published verifiers and the dependencies of this project's second verifier, for this project only.
///
/// # Errors
/// Fails if a package client fails.
pub(crate) fn verifiers(layout: &Layout) -> Result<()> {
    if !layout.verifier_rs().exists() {
        run(cargo_install(layout, "pipelock-verifier-rs", VERIFIER_RS)
            .arg("--root")
            .arg(layout.tools()))?;
    }
    let wanted = format!("pipelock-verify=={VERIFIER_PY}");
    let python = layout.tools().join("venv/bin/python");
    let there = succeeds(program(layout.verifier_py()).arg("--version"))
        && succeeds(program(python).args(["-c", "import cryptography"]));
    if !there {
        // Debian's python3 cannot create virtual environments without this package.
        if !succeeds(program("python3").args(["-c", "import ensurepip, venv"])) {
            apt(&["python3-venv"])?;
        }
        say(&format!("{wanted} and {CRYPTOGRAPHY}, by pip"));
        let venv = layout.tools().join("venv");
        run(program("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&venv))?;
        run(program(venv.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args([&wanted, CRYPTOGRAPHY]))?;
    }
    Ok(())
}

/// Installs the clients for the tests, for this project only.
fn clients(layout: &Layout) -> Result<()> {
    let dir = layout.tools().join("clients");
    let wanted = [&PYTHON_CLIENTS[..], &NODE_CLIENTS[..]].concat().join("\n");
    let mark = dir.join("installed");
    if fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    say(&format!("{}, by pip and npm", wanted.replace('\n', ", ")));
    run(program(layout.tools().join("venv/bin/pip"))
        .args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--upgrade",
        ])
        .arg("--target")
        .arg(dir.join("python"))
        .args(PYTHON_CLIENTS))?;
    run(program("npm")
        .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
        .arg(dir.join("node"))
        .args(NODE_CLIENTS))?;
    fs::write(mark, wanted)?;
    Ok(())
}

/// Installs the runner and the checkers of workflows, for this project only.
fn for_workflows(layout: &Layout) -> Result<()> {
    let bin = layout.tools().join("bin");
    for (name, module, version) in GO_TOOLS {
        let path = bin.join(name);
        let is_it = |text: String| text.contains(version.trim_start_matches('v'));
        if output(program(&path).arg("--version")).is_ok_and(is_it) {
            continue;
        }
        say(&format!("{name} {version}, by go install"));
        let go = in_directories(SYSTEM_PATH.as_ref(), "go").context("go is not installed")?;
        run(program(go)
            .env("GOBIN", &bin)
            .args(["install", &format!("{module}@{version}")]))?;
    }
    let zizmor = bin.join("zizmor");
    let wanted = format!("zizmor {ZIZMOR}");
    if output(program(&zizmor).arg("--version")).is_ok_and(|text| text.trim() == wanted) {
        return Ok(());
    }
    say(&format!("{wanted}, by pip"));
    let venv = layout.tools().join("zizmor");
    run(program("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&venv))?;
    run(program(venv.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .arg(format!("zizmor=={ZIZMOR}")))?;
    fs::create_dir_all(&bin)?;
    fs::copy(venv.join("bin/zizmor"), &zizmor)?;
    Ok(())
}

/// Returns a command that installs the programs of a crate with the project's compiler.
fn cargo_install(layout: &Layout, name: &str, version: &str) -> Command {
    say(&format!("{name} {version}, by cargo install"));
    let mut install = cargo();
    install
        .current_dir(&layout.root)
        .args(["install", "--locked", "--quiet", name, "--version", version])
        // All these builds share one directory, so that common dependencies are built once.
        .env("CARGO_TARGET_DIR", layout.target.join("tools-build"))
        .env_remove("RUSTFLAGS");
    install
}

/// Installs Debian packages. Updates the package lists first if the lists are old or missing.
fn apt(packages: &[&str]) -> Result<()> {
    apt_any(&[packages])
}

/// Installs the first of several sets of Debian packages that is available.
fn apt_any(lists: &[&[&str]]) -> Result<()> {
    let names: Vec<String> = lists.iter().map(|packages| packages.join(" ")).collect();
    let names = names.join(", or ");
    say(&format!("{names}, by apt-get"));
    if on_path("apt-get").is_none() {
        bail!("this machine has no apt-get; install {names} yourself");
    }
    let apt_get = || {
        let mut command = program("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .arg("--yes")
            .arg("--quiet");
        command
    };
    let install = |packages: &[&str]| {
        let mut command = apt_get();
        command
            .args(["install", "--no-install-recommends"])
            .args(packages);
        command
    };
    let Some((last, others)) = lists.split_last() else {
        return Ok(());
    };
    // Before an update of the package lists, only the best set is tried, because old lists may not contain it.
    if lists
        .first()
        .is_some_and(|packages| succeeds(&mut install(packages)))
    {
        return Ok(());
    }
    run(apt_get().arg("update"))?;
    if others
        .iter()
        .any(|packages| succeeds(&mut install(packages)))
    {
        return Ok(());
    }
    run(&mut install(last)).with_context(|| {
        let user = env::var("USER").unwrap_or_else(|_| "this user".to_owned());
        format!("{user} cannot install {names}, because apt-get needs root")
    })
}

fn say(what: &str) {
    println!("setup: installing {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let version = |text| major_and_minor(text).unwrap();
        assert!(version("cargo 1.65.0") < OLDEST_CARGO);
        assert!(version("rustc 1.68.2 (9eb3afe9e 2023-03-27)") >= OLDEST_CARGO);
        assert!(version("rustc 1.100.0-nightly") >= OLDEST_CARGO);
        assert_eq!(major_and_minor("error: no override"), None);
    }
}
