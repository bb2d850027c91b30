//! The boundary's init, process 1 of its pid namespace. Init opens the sockets, builds the file view, runs the probes
//! when the supervisor requests this, starts the command, and reaps processes until the command ends.
//!
//! Claims: abstract-sockets, table-ipc, terminal-apart
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use egress_common::names::{ADDRCONFIG_V4, ADDRCONFIG_V6, DNS_PORT, TRANSPARENT_PORT};
use egress_sys::channel::Channel;
use egress_sys::dir::hold;
use egress_sys::{handover, netdev, process, terminal};
use egress_workspace::overlay::{mount_overlay, mount_overlay_inside};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::fstat;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::exec::Staged;
use super::protocol::{FromInit, Sockets, StagePlan, ToInit};
use crate::layers::Layer;
use crate::probe::scene::{Scene, Side, Target};
use crate::probe::{self, PrivilegedPrograms};
use crate::view::{COMMAND_FILES, LeftOut, SCRATCH, View};
use crate::{mountinfo, sockets};

/// Init's end of its control socket.
type Control = Channel<FromInit, ToInit>;

/// The name of a failed step and its error.
struct StepError {
    step: &'static str,
    source: io::Error,
}

fn step<T>(step: &'static str, done: io::Result<T>) -> Result<T, StepError> {
    done.map_err(|source| StepError { step, source })
}

/// Entry point of init: `egress __init PLAN_FD CONTROL_FD`. Returns the exit status of the process.
pub fn main(plan_fd: RawFd, control_fd: RawFd) -> u8 {
    let Ok(control) = Control::inherited(control_fd) else {
        return 125;
    };
    match run(plan_fd, &control) {
        Ok(()) => 0,
        Err(StepError { step, source }) => {
            let failed = FromInit::Failed {
                step: step.into(),
                error: source.to_string(),
            };
            // If sending fails, the supervisor has ended. The kernel then kills init, so no message is needed.
            drop(control.send(&failed));
            125
        }
    }
}

fn run(plan_fd: RawFd, control: &Control) -> Result<(), StepError> {
    step("arm the death signal", die_with_supervisor(control))?;
    let plan: StagePlan = step("read the plan", handover::read_plan(plan_fd))?;
    step("join the cgroups of the limits", join(&plan.join))?;
    step(
        "set the host name",
        nix::unistd::sethostname(&plan.hostname).map_err(io::Error::from),
    )?;
    // In an audit, the network belongs to the caller and must not be changed.
    let sockets = if plan.audit {
        None
    } else {
        Some(step("open the loopback sockets", open_sockets(&plan))?)
    };
    let Entered {
        left_out,
        held,
        directories,
    } = step("build the file view", enter_view(&plan))?;
    let made = plan.stdio.is_none().then(|| terminal::make(plan.agent));
    let (master, terminal) = step("create the command's terminal", made.transpose())?.unzip();
    let entered = FromInit::Entered {
        ipv6: sockets
            .as_ref()
            .is_some_and(|sockets| sockets.transparent_v6.is_some()),
        dns: sockets
            .as_ref()
            .is_some_and(|sockets| sockets.dns.is_some()),
        left_out,
        held,
        terminal: master.is_some(),
    };
    let fds: Vec<BorrowedFd<'_>> = sockets
        .iter()
        .flat_map(Sockets::order)
        .chain(&directories)
        .chain(&master)
        .map(AsFd::as_fd)
        .collect();
    step(
        "pass the sockets to the supervisor",
        control.send_with(&entered, &fds),
    )?;
    drop((sockets, directories, master));
    let scene = wait_for(control, |message| match message {
        ToInit::Probe { scene } => Some(scene),
        ToInit::Go | ToInit::Signal { .. } => None,
    });
    let scene = step("wait for the supervisor", scene)?;
    step("run the probes", run_probes(&plan, scene, control))?;
    let go = wait_for(control, |message| (message == ToInit::Go).then_some(()));
    step("wait for the supervisor", go)?;
    let agent = step("start the command", start_agent(&plan, terminal, control))?;
    match agent {
        Some(agent) => step("wait for the command", reap(agent, control)),
        None => Ok(()),
    }
}

/// Makes the kernel send SIGKILL to this process when the supervisor dies. The supervisor's pid is
/// not visible in this namespace, so the control socket shows whether the supervisor died before
/// this call.
fn die_with_supervisor(control: &Control) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let mut fds = [PollFd::new(control.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO)?;
    let gone = fds
        .iter()
        .any(|f| f.revents().is_some_and(|r| r.contains(PollFlags::POLLHUP)));
    if gone {
        Err(io::Error::other("the supervisor has ended"))
    } else {
        Ok(())
    }
}

fn join(files: &[PathBuf]) -> io::Result<()> {
    files.iter().try_for_each(|file| std::fs::write(file, "0"))
}

fn open_sockets(plan: &StagePlan) -> io::Result<Sockets<OwnedFd>> {
    netdev::loopback_up()?;
    netdev::add_to_loopback(Ipv4Addr::from(ADDRCONFIG_V4).into())?;
    // The command must not be able to bind ports below 1024, such as the relay's port 1001.
    std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "1024")?;
    let tcp = |address: std::net::SocketAddr| -> io::Result<OwnedFd> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&SockAddr::from(address))?;
        socket.listen(4096)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    // Without IPv6, `::1` does not exist. The relay then answers AAAA queries without an address, and the kernel
    // programs deny connections over IPv6.
    let v6 = netdev::add_to_loopback(Ipv6Addr::from(ADDRCONFIG_V6).into())
        .and_then(|()| tcp((Ipv6Addr::LOCALHOST, TRANSPARENT_PORT).into()));
    let dns = if plan.dns {
        let udp = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        let stub = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT));
        udp.bind(&SockAddr::from(stub))?;
        udp.set_nonblocking(true)?;
        Some((udp.into(), tcp(stub)?))
    } else {
        None
    };
    Ok(Sockets {
        transparent_v4: tcp((Ipv4Addr::LOCALHOST, TRANSPARENT_PORT).into())?,
        proxy_v4: tcp((Ipv4Addr::LOCALHOST, plan.proxy_port).into())?,
        transparent_v6: v6.ok(),
        dns,
    })
}

/// The result of entering the file view.
struct Entered {
    left_out: Vec<LeftOut>,
    /// Directories of the file view, in the order of their descriptors in `directories`.
    held: Vec<PathBuf>,
    directories: Vec<OwnedFd>,
}

fn enter_view(plan: &StagePlan) -> io::Result<Entered> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let (workspace, tree) = &plan.workspace;
    let tree = handover::inherited(*tree)?;
    // The workspace's tree is a single mount, without the mounts inside the workspace. Files that such a mount hides
    // would become visible, so these places are masked below.
    let hiding: Vec<_> = mountinfo::read()?
        .into_iter()
        .map(|mount| mount.target)
        .filter(|target| target.starts_with(workspace) && target != workspace)
        .collect();
    let mut view = View::begin(&plan.stage_dir)?;
    if !plan.layers.has(Layer::PrivateRun) {
        return show_host(view, &tree, plan);
    }
    let mut left_out = view.overlay_host(&plan.files, std::slice::from_ref(&plan.home))?;
    view.private_mounts(plan.limits, &plan.home, plan.agent)?;
    view.show(&plan.tools)?;
    if let Some(tree) = plan.cache {
        view.cache(&plan.home, &handover::inherited(tree)?)?;
    }
    let mut held: Vec<PathBuf> = SCRATCH.iter().map(PathBuf::from).collect();
    held.push(plan.home.clone());
    if !plan.command_files.is_empty() {
        view.command_files(&plan.command_files, plan.agent)?;
        held.push(COMMAND_FILES.into());
    }
    let directories = view.hold(&held)?;
    // The workspace stays visible even if it lies in a masked directory.
    let (above, others): (Vec<_>, Vec<_>) = plan
        .masked
        .iter()
        .partition(|masked| workspace.starts_with(masked) && *masked != workspace);
    view.mask(above, &plan.shown)?;
    let at = view.skeleton(workspace)?;
    match &plan.store {
        None => egress_sys::mount::move_mount(&tree, &at)?,
        Some(store) => overlay(&view, &tree, workspace, store)?,
    }
    view.mask(&hiding, &[])?;
    left_out.extend(hiding.into_iter().map(|path| LeftOut {
        path,
        why: String::from("a mount inside the workspace"),
    }));
    view.mask(others, &plan.shown)?;
    view.cover(&plan.covered)?;
    if let Some(policy) = &plan.policy {
        view.make_read_only(policy)?;
    }
    for (path, tree) in &plan.sockets {
        sockets::place(&view, path, &handover::inherited(*tree)?)?;
    }
    view.enter()?;
    Ok(Entered {
        left_out,
        held,
        directories,
    })
}

fn overlay(
    view: &View,
    tree: &OwnedFd,
    workspace: &Path,
    (path, inode): &(PathBuf, u64),
) -> io::Result<()> {
    // Only a directory that was opened in this mount namespace can be mounted. The owner of the
    // parent directory may have replaced this directory, so its inode is compared with the plan.
    let store = hold(path)?;
    if fstat(&store)?.st_ino != *inode {
        return Err(io::Error::other(
            "the directory for the workspace's changes was replaced by another directory",
        ));
    }
    let (lower, at) = (view.scratch("lower")?, view.inside(workspace));
    if path.parent() != Some(workspace) {
        return mount_overlay(tree, &lower, &store, &at);
    }
    let (hides, joined) = (view.scratch("hides")?, view.scratch("joined")?);
    let name = path.file_name().unwrap_or_default();
    mount_overlay_inside(tree, [&lower, &hides, &joined], name, &store, &at)
}

/// Shows the host's files unchanged, for tests that leave out the file view. Mounts only the
/// workspace and a /proc of this pid namespace over the host's files.
fn show_host(view: View, tree: &OwnedFd, plan: &StagePlan) -> io::Result<Entered> {
    let none: Option<&str> = None;
    let root = view.inside(Path::new("/"));
    let all = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some("/"), &root, none, all, none)?;
    let proc = view.inside(Path::new("/proc"));
    mount(none, &proc, Some("proc"), MsFlags::empty(), none)?;
    let (workspace, _) = &plan.workspace;
    let at = view.inside(workspace);
    match &plan.store {
        None => egress_sys::mount::move_mount(tree, &at)?,
        Some(store) => overlay(&view, tree, workspace, store)?,
    }
    view.enter()?;
    Ok(Entered {
        left_out: Vec::new(),
        held: Vec::new(),
        directories: Vec::new(),
    })
}

/// Waits for a message that `wanted` accepts.
fn wait_for<T>(control: &Control, wanted: impl Fn(ToInit) -> Option<T>) -> io::Result<T> {
    loop {
        // A signal that arrives before the command exists has no recipient and is dropped. The
        // supervisor does not send the signal again.
        let received = control.receive().map_err(io::Error::other)?;
        if let Some(found) = wanted(received.message) {
            return Ok(found);
        }
    }
}

/// Runs the probes in a process with the command's user, filters, and file view.
fn run_probes(plan: &StagePlan, scene: Option<Box<Scene>>, control: &Control) -> io::Result<()> {
    let Some(mut scene) = scene else {
        let found = Vec::new();
        return control.send(&FromInit::Probed { found });
    };
    scene.side = Side::Inside;
    scene.targets.init = Target::of(1)?;
    let name = |entry: &Vec<u8>| {
        let name = entry.split(|byte| *byte == b'=').next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    };
    scene.environment = plan.environment.iter().map(name).collect();
    let privileged = PrivilegedPrograms::place();
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let Some(child) = process::fork()? else {
        drop(reader);
        let dropped = Staged::probe().drop_privileges(plan);
        let found = dropped.and_then(|_| probe::inside(&scene));
        let text = found.and_then(|found| Ok(serde_json::to_vec(&found)?));
        let is_sent = text
            .and_then(|text| File::from(writer).write_all(&text))
            .is_ok();
        process::exit_now(i32::from(!is_sent));
    };
    drop(writer);
    let mut text = Vec::new();
    File::from(reader).read_to_end(&mut text)?;
    let status = waitpid(child, None)?;
    drop(privileged);
    if status != WaitStatus::Exited(child, 0) {
        let end = process::describe_end(status);
        return Err(io::Error::other(format!(
            "the process that ran the probes ended with {end}"
        )));
    }
    let found = serde_json::from_slice(&text)?;
    control.send(&FromInit::Probed { found })
}

/// Starts the command. Returns `None` if the command could not be executed. The child has then already reported the
/// reason.
fn start_agent(
    plan: &StagePlan,
    terminal: Option<OwnedFd>,
    control: &Control,
) -> io::Result<Option<Pid>> {
    let mut watched = SigSet::empty();
    watched.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&watched), None)?;
    // `execve` closes this pipe. If the child cannot become the command, it sends a message and then
    // a byte.
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let Some(agent) = process::fork()? else {
        drop(reader);
        become_agent(plan, terminal.as_ref(), control, &writer);
    };
    drop((writer, terminal));
    for end in plan.stdio.into_iter().flatten() {
        drop(handover::inherited(end)?);
    }
    if nix::unistd::read(&reader, &mut [0])? == 0 {
        control.send(&FromInit::Started)?;
        return Ok(Some(agent));
    }
    waitpid(agent, None)?;
    Ok(None)
}

fn become_agent(
    plan: &StagePlan,
    terminal: Option<&OwnedFd>,
    control: &Control,
    status: &OwnedFd,
) -> ! {
    let outcome = Staged::begin(plan, terminal)
        .and_then(|staged| staged.drop_privileges(plan))
        .and_then(|dropped| {
            control.send(&FromInit::Dropped(dropped.enforced().clone()))?;
            Ok(dropped)
        });
    let failed = match outcome {
        Ok(dropped) => match dropped.exec(plan) {
            Err(why) => FromInit::NotExecuted(why),
        },
        Err(error) => FromInit::Failed {
            step: String::from("drop the command's privileges"),
            error: error.to_string(),
        },
    };
    // If sending fails, the supervisor has ended.
    drop(control.send(&failed));
    let is_sent = nix::unistd::write(status, b"x").is_ok();
    process::exit_now(if is_sent { 127 } else { 126 })
}

/// Reaps every orphan and delivers signals until the command has ended. When this process ends, the
/// kernel kills the rest of the namespace.
fn reap(agent: Pid, control: &Control) -> io::Result<()> {
    let mut watched = SigSet::empty();
    watched.add(Signal::SIGCHLD);
    let signals = SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    loop {
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) if pid == agent => {
                    return ended(control, status);
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == agent => {
                    return ended(control, 128 + signal as i32);
                }
                Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => break,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(control.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let from_supervisor = fds
            .last()
            .and_then(PollFd::revents)
            .is_some_and(|r| !r.is_empty());
        while signals.read_signal()?.is_some() {}
        if from_supervisor {
            deliver(agent, control)?;
        }
    }
}

fn ended(control: &Control, status: i32) -> io::Result<()> {
    control.send(&FromInit::Exited { status })
}

fn deliver(agent: Pid, control: &Control) -> io::Result<()> {
    let received = control.try_receive().map_err(io::Error::other)?;
    if let Some(ToInit::Signal { number }) = received.map(|received| received.message) {
        let signal = Signal::try_from(number)?;
        match killpg(agent, signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
