//! A tmux terminal on the runner. A test types into the terminal and reads its screen.
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::world::World;

/// Time limit for anything that should appear at once, even on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// The prompt that the shell prints when it is ready for a command.
const PROMPT: &str = "caller> ";

/// A terminal with the caller's shell. Dropping the value ends the processes of the terminal.
#[derive(Debug)]
pub struct Screen<'a> {
    world: &'a World,
    socket: PathBuf,
}

impl<'a> Screen<'a> {
    /// Opens a terminal with 100 columns and 30 lines, whose shell runs in `dir`.
    ///
    /// # Panics
    /// Panics if tmux cannot start.
    pub fn open(world: &'a World, dir: &Path) -> Self {
        static OPENED: AtomicU32 = AtomicU32::new(0);
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        let socket = world.dir().join(format!("tmux-{number}"));
        let screen = Self { world, socket };
        let shell = format!("PS1='{PROMPT}' exec bash --norc --noprofile");
        let dir = dir.to_str().expect("a directory in UTF-8");
        let args = ["-d", "-x", "100", "-y", "30", "-c", dir, &shell];
        screen.tmux(&[&["-f", "/dev/null", "new-session"], args.as_slice()].concat());
        screen.expect_prompt();
        screen
    }

    fn tmux(&self, args: &[&str]) -> String {
        let socket = self.socket.to_str().expect("a path in UTF-8");
        let output = self.world.runner([&["tmux", "-S", socket], args].concat());
        assert!(output.success(), "tmux {}: {output}", args.join(" "));
        output.stdout
    }

    /// Presses keys: a text, or a key by its name in tmux, such as `C-c` and `Enter`.
    pub fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a line.
    pub fn enter(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.press(&["Enter"]);
    }

    /// Changes the size of the terminal.
    pub fn resize(&self, columns: u16, lines: u16) {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &lines]);
    }

    /// Returns the present text of the screen.
    pub fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Returns a tmux variable, such as `alternate_on`.
    pub fn variable(&self, name: &str) -> String {
        let format = format!("#{{{name}}}");
        self.tmux(&["display-message", "-p", &format]).trim().into()
    }

    /// Waits until the screen contains `text`.
    ///
    /// # Panics
    /// Panics if the text does not appear in time.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        self.expect_that(text, |screen| screen.contains(text));
    }

    /// Waits until the last line is the shell's empty prompt.
    ///
    /// # Panics
    /// Panics if the prompt does not appear in time.
    #[track_caller]
    pub fn expect_prompt(&self) {
        self.expect_that("the prompt", |screen| {
            screen.trim_end().ends_with(PROMPT.trim_end())
        });
    }

    /// Waits until the screen is as wanted.
    ///
    /// # Panics
    /// Panics if the screen is not as wanted in time.
    #[track_caller]
    pub fn expect_that(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + SOON;
        loop {
            let text = self.text();
            if holds(&text) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "no {what} on the screen:\n{text}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        // If the shell has ended, the tmux server has ended too.
        self.world.runner([
            "tmux".as_ref(),
            "-S".as_ref(),
            self.socket.as_os_str(),
            "kill-server".as_ref(),
        ]);
    }
}
