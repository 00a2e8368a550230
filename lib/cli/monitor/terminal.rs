//! The terminal: taken over for the screen, and given back however the program ends: by its end, an error, a panic, a
//! signal that can be caught.

use std::io::{BufWriter, IsTerminal as _, Stdout, Write as _};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal, raise};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui::crossterm::queue;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::{Frame, Terminal};

use crate::base::{Error, Result};

/// Whether the terminal is ours at the moment.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether there is a terminal that can be drawn on.
///
/// # Errors
/// 2 when there is none.
pub fn must_be_there() -> Result<()> {
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(Error::usage(
            "monitor needs a terminal for input and output (`ssh -t` makes one); `left4me-job list` does without",
        ));
    }
    if std::env::var_os("TERM").is_none_or(|kind| kind.is_empty() || kind == "dumb") {
        return Err(Error::usage(
            "monitor needs a terminal that can move its cursor, and TERM says that this one cannot; `left4me-job list` does without",
        ));
    }
    Ok(())
}

/// The terminal while it is ours.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// 1 when it does not let itself be.
    pub fn enter() -> Result<Self> {
        give_back_on_panic();
        take()?;
        match Terminal::new(CrosstermBackend::new(BufWriter::new(std::io::stdout()))) {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                give_back();
                Err(lost(error))
            }
        }
    }

    /// Shows a picture: only what differs from the last one is written. A size that has changed is seen here.
    ///
    /// # Errors
    /// 1 when the terminal is gone.
    pub fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> Result<()> {
        self.terminal.draw(picture).map(|_| ()).map_err(lost)
    }

    /// Makes the next picture a whole one: others may have written on the screen.
    ///
    /// # Errors
    /// 1 when the terminal is gone.
    pub fn repaint(&mut self) -> Result<()> {
        self.terminal.clear().map_err(lost)
    }

    /// Rows of the screen.
    pub fn rows(&self) -> u16 {
        self.terminal.size().map_or(24, |size| size.height)
    }

    /// Gives the terminal back, and stops, as Ctrl-Z does elsewhere; comes back when somebody lets us go on. `blocked` are
    /// the signals that are blocked otherwise.
    ///
    /// # Errors
    /// 1 when the terminal is gone by then.
    pub fn suspend(&mut self, blocked: &SigSet) -> Result<()> {
        give_back();
        // The kernel does not stop us when no shell is there to let us go on: SIGSTOP would.
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTSTP);
        let stopped = stop.thread_unblock().and_then(|()| raise(Signal::SIGTSTP));
        let again = blocked.thread_block();
        stopped.and(again).map_err(|errno| Error::from(std::io::Error::from(errno)))?;
        self.resume()
    }

    /// Takes the terminal over once more, after somebody stopped us and let us go on.
    ///
    /// # Errors
    /// 1 when the terminal is gone by then.
    pub fn resume(&mut self) -> Result<()> {
        // What a shell made of it meanwhile is not what raw mode was begun from.
        give_back();
        take()?;
        self.repaint()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> Result<()> {
    TAKEN.store(true, Ordering::SeqCst);
    let mut out = std::io::stdout();
    let taken = enable_raw_mode()
        .and_then(|()| queue!(out, EnterAlternateScreen, EnableBracketedPaste))
        .and_then(|()| out.flush());
    taken.map_err(|error| {
        give_back();
        lost(error)
    })
}

/// Gives the terminal back, if it is ours. Nothing can be done about a terminal that is gone.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let mut out = std::io::stdout();
        queue!(out, DisableBracketedPaste, LeaveAlternateScreen, Show).and_then(|()| out.flush()).ok();
        disable_raw_mode().ok();
    }
}

/// A panic's words shall be read: on the screen that stays, in whole lines.
fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
    });
}

fn lost(error: std::io::Error) -> Error {
    Error::from(error).within("the terminal")
}
