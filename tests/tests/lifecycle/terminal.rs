//! The command's terminal (`--tty`), and keys of the caller's terminal without it.
#![expect(
    clippy::expect_used,
    reason = "a test whose files cannot be written has failed"
)]

use std::fs;
use std::path::PathBuf;

use egress_tests::screen::Screen;
use egress_tests::{World, binary};

/// A working directory with keys, and the words that start a run there.
struct Caller<'a> {
    world: &'a World,
    workdir: PathBuf,
    egress: String,
}

impl<'a> Caller<'a> {
    fn new(world: &'a World) -> Self {
        let workdir = world.dir().join("work");
        fs::create_dir(&workdir).expect("make a working directory");
        let (key, boundary) = (world.key("signer.key"), world.key("boundary.key"));
        let egress = format!(
            "{} run --packet-dir {} --signer-private-key {} --boundary-key {}",
            binary().display(),
            world.dir().join("packet").display(),
            key.display(),
            boundary.display()
        );
        Self {
            world,
            workdir,
            egress,
        }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.workdir.join(name), text).expect("write a file of the workspace");
    }

    /// Fails unless the packet is valid and has the highest grade.
    #[track_caller]
    fn assert_best(&self) {
        let path = |name: &str| self.world.dir().join(name).display().to_string();
        let verified = self.world.tool([
            "verify",
            &path("packet"),
            "--key",
            &path("signer.key.pub"),
            "--boundary-key",
            &path("boundary.key.pub"),
            "--require-grade",
            "kernel_enforced",
        ]);
        assert!(verified.success(), "{verified}");
    }
}

/// Returns the modes of a terminal while a program runs in it. At the prompt, the shell sets other modes.
fn modes_of_a_program(world: &World, screen: &Screen<'_>) -> String {
    screen.enter("clear; echo wait''ing; cat");
    screen.expect_that("program", |text| text.trim_end() == "waiting");
    let modes = modes(world, screen);
    screen.press(&["C-c"]);
    screen.expect_prompt();
    modes
}

fn modes(world: &World, screen: &Screen<'_>) -> String {
    let stty = world.runner(["stty", "-g", "-F", &screen.variable("pane_tty")]);
    assert!(stty.success(), "{stty}");
    stty.stdout
}

/// Claims: terminal-keys
#[test]
fn interrupt_of_the_callers_terminal_ends_the_command_alone() {
    let world = World::new();
    let caller = Caller::new(&world);
    let screen = Screen::open(&world, &caller.workdir);
    screen.enter(&format!(
        "{} --tty=never bash -c 'tty; echo wait''ing; sleep 100'; echo status=$?",
        caller.egress
    ));
    screen.expect("waiting");
    assert!(screen.text().contains("not a tty"), "{}", screen.text());
    // Ctrl-Z does not stop any process, because a stopped supervisor could not record what the command does.
    screen.press(&["C-z"]);
    screen.press(&["C-c"]);
    screen.expect("status=130");
    let text = screen.text();
    let line = "egress: ended     the command";
    assert!(text.lines().any(|one| one.trim_end() == line), "{text}");
    caller.assert_best();
    // A command that handles the signal chooses its own exit status.
    caller.write(
        "trap.sh",
        "trap 'echo caught; exit 8' INT; echo trapped; while :; do sleep 0.1; done",
    );
    screen.enter(&format!(
        "{} --tty=never bash trap.sh; echo status=$?",
        caller.egress
    ));
    screen.expect("trapped");
    screen.press(&["C-c"]);
    screen.expect("status=8");
    assert!(screen.text().contains("caught"), "{}", screen.text());
    caller.assert_best();
}

/// Claims: terminal-bytes
#[test]
fn shell_of_the_command_controls_its_jobs() {
    let world = World::new();
    let caller = Caller::new(&world);
    let screen = Screen::open(&world, &caller.workdir);
    screen.enter(&format!(
        "{} env PS1='in''side> ' bash --norc --noprofile; echo status=$?",
        caller.egress
    ));
    screen.expect("inside>");
    screen.enter(
        "stty size; test -t 0 && test -t 1 && test -t 2 && echo ter''minal; echo term=$TERM",
    );
    screen.expect_that("terminal", |text| {
        ["tmux", "screen"]
            .iter()
            .any(|term| text.contains(&format!("30 100\nterminal\nterm={term}")))
    });
    screen.enter("clear; echo sleep''ing; sleep 100");
    screen.expect("sleeping");
    screen.press(&["C-z"]);
    screen.expect("[1]+  Stopped                 sleep 100");
    screen.enter("clear; bg; jobs");
    screen.expect("[1]+  Running                 sleep 100 &");
    screen.enter("clear; fg");
    screen.expect_that("job", |text| text.starts_with("sleep 100\n"));
    screen.press(&["C-c"]);
    screen.enter("echo job=$?");
    screen.expect("job=130");
    screen.resize(120, 40);
    screen.enter("clear; stty size");
    screen.expect("40 120");
    screen.enter("exit 7");
    screen.expect("status=7");
    caller.assert_best();
}

#[test]
fn programs_that_use_the_whole_screen() {
    let world = World::new();
    let caller = Caller::new(&world);
    let screen = Screen::open(&world, &caller.workdir);
    let before = modes_of_a_program(&world, &screen);
    screen.enter(&format!("{} vim -u NONE -N new.txt", caller.egress));
    screen.expect("\"new.txt\" [New");
    assert_eq!(screen.variable("alternate_on"), "1");
    assert_ne!(modes(&world, &screen), before);
    screen.press(&["i"]);
    screen.expect("-- INSERT --");
    screen.enter("written in vim");
    screen.resize(90, 20);
    screen.press(&["Escape"]);
    screen.enter(":set lines? columns?");
    screen.expect_that("size", |text| {
        text.contains("lines=20") && text.contains("columns=90")
    });
    screen.press(&["Enter"]);
    screen.enter(":wq");
    screen.expect("egress: packet");
    screen.expect_prompt();
    assert_eq!(
        fs::read_to_string(caller.workdir.join("new.txt")).expect("the file of vim"),
        "written in vim\n\n"
    );
    assert_eq!(screen.variable("alternate_on"), "0");
    assert_eq!(modes_of_a_program(&world, &screen), before);
    for (program, shown) in [("top", "load average:"), ("htop", "Load average:")] {
        screen.enter(&format!(
            "clear; {} {program}; echo status=$?",
            caller.egress
        ));
        screen.expect(shown);
        screen.press(&["q"]);
        screen.expect("status=0");
        screen.expect_prompt();
        assert_eq!(modes_of_a_program(&world, &screen), before);
    }
    caller.assert_best();
}

/// Prints the file systems of all terminals that the process can reach through its own descriptors, through the
/// descriptors of every visible process, and through `/dev/tty`.
const REACHED: &str = "
import os, stat, sys
found = set()
def add(path):
    try:
        at = os.stat(path)
    except OSError:
        return
    if stat.S_ISCHR(at.st_mode) and 136 <= os.major(at.st_rdev) < 144:
        found.add(at.st_dev)
for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        for fd in os.listdir(f'/proc/{pid}/fd'):
            add(f'/proc/{pid}/fd/{fd}')
    except OSError:
        pass
for name in os.listdir('/dev/pts'):
    add('/dev/pts/' + name)
try:
    add(os.ttyname(os.open('/dev/tty', os.O_RDWR)))
except OSError as error:
    print('no /dev/tty:', error.strerror)
print('reached', sorted(found), sys.argv[1], 'end')
";

/// Claims: terminal-apart
#[test]
fn command_reaches_no_terminal_of_the_host() {
    let world = World::new();
    let caller = Caller::new(&world);
    caller.write("reached.py", REACHED);
    let screen = Screen::open(&world, &caller.workdir);
    let terminal = screen.variable("pane_tty");
    let device = world.runner(["stat", "-c", "%d", &terminal]);
    let device = device.stdout.trim().to_owned();
    let devices = |command: &str, word: &str| {
        screen.enter(&format!("clear; {command} python3 reached.py {word}"));
        screen.expect(&format!("{word} end"));
        // Keys that are pressed earlier belong to the command.
        screen.expect_prompt();
        let text = screen.text();
        let (_, list) = text.split_once("reached [").expect("the list");
        let (list, _) = list.split_once(']').expect("the end of the list");
        let devices = list.split(", ").map(str::to_owned);
        (devices.collect::<Vec<String>>(), text)
    };
    // Without the boundary, the same program reaches the terminal.
    let (reached, _) = devices("", "outside");
    assert!(reached.contains(&device), "{device}: {reached:?}");
    let (reached, text) = devices(&caller.egress, "inside");
    assert_eq!(reached.len(), 1, "{text}");
    assert!(!reached.contains(&device), "{text}");
    let never = format!("{} --tty=never", caller.egress);
    let (reached, text) = devices(&never, "never");
    assert_eq!(reached, [""], "{text}");
    assert!(text.contains("no /dev/tty"), "{text}");
}

/// Changes modes of the terminal, and requests the terminal's identification.
const RUDE: &str = r"printf '\033[?1049h\033[?1000h\033[?25l\033[4h\033[c'";

/// Claims: terminal-restored*
#[test]
fn terminal_is_restored_whatever_the_command_left() {
    const FLAGS: [&str; 4] = [
        "alternate_on",
        "mouse_any_flag",
        "cursor_flag",
        "insert_flag",
    ];
    let world = World::new();
    let caller = Caller::new(&world);
    caller.write("rude.sh", RUDE);
    // Without egress, the changed modes remain, and the shell reads the answer as typed text.
    let control = Screen::open(&world, &caller.workdir);
    assert_eq!(
        FLAGS.map(|name| control.variable(name)),
        ["0", "0", "1", "0"]
    );
    control.enter("bash rude.sh");
    control.expect("1;2c");
    assert_eq!(
        FLAGS.map(|name| control.variable(name)),
        ["1", "1", "0", "1"]
    );
    drop(control);
    let screen = Screen::open(&world, &caller.workdir);
    let before = modes_of_a_program(&world, &screen);
    screen.enter(&format!("clear; {} bash rude.sh", caller.egress));
    screen.expect("egress: packet");
    screen.expect_prompt();
    assert!(!screen.text().contains("2c"), "{}", screen.text());
    assert_eq!(
        FLAGS.map(|name| screen.variable(name)),
        ["0", "0", "1", "0"]
    );
    // The next line is the caller's, without the rest of an answer.
    screen.enter("clear; echo done");
    screen.expect_that("line", |text| text.trim_end() == "done\ncaller>");
    assert_eq!(modes_of_a_program(&world, &screen), before);
}

/// Claims: terminal-restored
#[test]
fn terminal_is_restored_if_the_supervisor_is_killed() {
    let world = World::builder().own_state().build();
    let caller = Caller::new(&world);
    let screen = Screen::open(&world, &caller.workdir);
    let before = modes_of_a_program(&world, &screen);
    // This shell does not restore modes itself.
    screen.enter(&format!(
        "sh -c '{} vim -u NONE -N new.txt; cat'",
        caller.egress
    ));
    screen.expect("\"new.txt\" [New");
    assert_ne!(modes(&world, &screen), before);
    let child = |parent: &str| {
        let found = world.runner(["pgrep", "-o", "-P", parent]);
        found.stdout.trim().to_owned()
    };
    let supervisor = child(&child(&screen.variable("pane_pid")));
    let killed = world.runner(["kill", "-KILL", &supervisor]);
    assert!(killed.success(), "{killed}");
    screen.expect_that("end of the screen of vim", |_| {
        screen.variable("alternate_on") == "0" && modes(&world, &screen) == before
    });
}
