//! The console of one server's game: an input line, and the replies. Pure; the caller sends the
//! commands and passes on what became of them.

use super::input::Input;
use super::keys::Key;
use crate::base::names::ServerId;
use crate::base::{Error, Result};
use crate::domain::completions;
use crate::queue::game::Reply;

/// So many commands are remembered.
const PAST: usize = 100;
/// So many lines are kept.
const KEPT: usize = 2000;
/// Lines that a page key scrolls.
const PAGE: usize = 10;

/// A line above the input line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A command, as it was sent.
    Command(String),
    Reply(String),
    /// Why a command was not sent, or got no reply.
    Failure(String),
    /// A remark that is not the game's.
    Remark(String),
}

/// What the monitor has to do after a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    Draw,
    Close,
    /// Send this command.
    Send(String),
}

#[derive(Clone, Debug)]
pub struct Console {
    pub server: ServerId,
    pub name: String,
    pub input: Input,
    pub lines: Vec<Line>,
    /// Whether a command waits for its reply.
    pub is_waiting: bool,
    /// What Tab found, or why Enter did nothing; until the next key.
    pub hint: String,
    /// Lines scrolled out of view below.
    pub up: usize,
    past: Vec<String>,
    /// The place in the past commands; their number for the line being written,
    place: usize,
    /// which is kept here meanwhile.
    draft: Input,
}

impl Console {
    pub fn new(server: ServerId, name: &str) -> Self {
        Self {
            server,
            name: name.to_owned(),
            input: Input::default(),
            lines: Vec::new(),
            is_waiting: false,
            hint: String::new(),
            up: 0,
            past: Vec::new(),
            place: 0,
            draft: Input::default(),
        }
    }

    pub fn key(&mut self, key: &Key) -> Typed {
        self.hint.clear();
        match key {
            Key::Escape => return Typed::Close,
            Key::Enter => return self.enter(),
            Key::Up | Key::Ctrl('p') => self.recall(self.place.checked_sub(1)),
            Key::Down | Key::Ctrl('n') => self.recall(self.place.checked_add(1)),
            Key::Tab => self.complete(),
            Key::PageUp => self.up = (self.up + PAGE).min(KEPT),
            Key::PageDown => self.up = self.up.saturating_sub(PAGE),
            key => self.input.key(key),
        }
        Typed::Draw
    }

    /// Shows what became of the command that was sent.
    pub fn replied(&mut self, reply: Result<Reply>) {
        self.is_waiting = false;
        match reply {
            Ok(Reply { text, cut }) => {
                if text.is_empty() {
                    self.add(Line::Remark("sent; the game replied nothing".to_owned()));
                }
                for line in text.lines() {
                    self.add(Line::Reply(line.to_owned()));
                }
                if cut {
                    let remark = "the reply was longer: this is its beginning";
                    self.add(Line::Remark(remark.to_owned()));
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Shows why a command was not sent. It can be corrected: it is in the input line again, unless
    /// something else is there.
    pub fn refused(&mut self, error: &Error) {
        self.is_waiting = false;
        self.failed(error);
        if self.input.text().is_empty()
            && let Some(last) = self.past.last()
        {
            self.input = Input::with_text(last);
        }
    }

    fn failed(&mut self, error: &Error) {
        self.add(Line::Failure(error.to_string()));
    }

    fn enter(&mut self) -> Typed {
        let command = self.input.text().trim().to_owned();
        if command.is_empty() {
            return Typed::Draw;
        }
        if self.is_waiting {
            "the reply to the last command has not come yet".clone_into(&mut self.hint);
            return Typed::Draw;
        }

        if self.past.last() != Some(&command) {
            self.past.push(command.clone());
        }
        if self.past.len() > PAST {
            self.past.remove(0);
        }
        self.place = self.past.len();
        (self.input, self.draft) = (Input::default(), Input::default());

        self.is_waiting = true;
        self.add(Line::Command(command.clone()));
        Typed::Send(command)
    }

    /// Goes to another of the past commands, or back to the line being written.
    fn recall(&mut self, place: Option<usize>) {
        let Some(place) = place.filter(|place| *place <= self.past.len()) else {
            return;
        };
        if self.place == self.past.len() {
            self.draft = self.input.clone();
        }
        self.place = place;
        self.input = match self.past.get(place) {
            Some(command) => Input::with_text(command),
            None => std::mem::take(&mut self.draft),
        };
    }

    fn complete(&mut self) {
        if !self.input.is_at_end() {
            return;
        }
        if let Some(done) = completions::complete(self.input.text(), &self.past) {
            self.input = Input::with_text(&done.line);
            self.hint = done.choices.join("  ");
        }
    }

    /// Adds a line, and shows the end again.
    fn add(&mut self, line: Line) {
        self.lines.push(line);
        let more = self.lines.len().saturating_sub(KEPT);
        self.lines.drain(..more);
        self.up = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console() -> Console {
        Console::new(ServerId(1), "Friday")
    }

    fn write(console: &mut Console, text: &str) {
        for letter in text.chars() {
            console.key(&Key::Char(letter));
        }
    }

    /// Sends a command and gets this reply.
    fn send(console: &mut Console, text: &str, reply: &str) {
        write(console, text);
        assert_eq!(console.key(&Key::Enter), Typed::Send(text.to_owned()));
        let reply = Reply {
            text: reply.to_owned(),
            cut: false,
        };
        console.replied(Ok(reply));
    }

    #[test]
    fn a_command_is_sent_once_and_its_reply_stands_below_it() {
        let mut console = console();
        write(&mut console, "  status ");
        assert_eq!(console.key(&Key::Enter), Typed::Send("status".to_owned()));
        assert_eq!(console.input.text(), "");

        write(&mut console, "next");
        assert_eq!(console.key(&Key::Enter), Typed::Draw);
        assert!(console.hint.contains("not come yet"), "{}", console.hint);
        assert_eq!(console.input.text(), "next", "nothing is lost");

        console.replied(Ok(Reply {
            text: "hostname: Friday\nmap\n".to_owned(),
            cut: true,
        }));
        let lines = [
            Line::Command("status".to_owned()),
            Line::Reply("hostname: Friday".to_owned()),
            Line::Reply("map".to_owned()),
            Line::Remark("the reply was longer: this is its beginning".to_owned()),
        ];
        assert_eq!(console.lines, lines);
        assert_eq!(console.key(&Key::Enter), Typed::Send("next".to_owned()));
        assert_eq!(console.key(&Key::Escape), Typed::Close);
    }

    #[test]
    fn a_refused_command_can_be_corrected() {
        let mut console = console();
        write(&mut console, "quit");
        console.key(&Key::Enter);
        console.refused(&Error::usage("the command is refused: use stop or restart"));
        assert_eq!(console.input.text(), "quit");
        assert!(matches!(console.lines.last(), Some(Line::Failure(why)) if why.contains("stop")));

        console.key(&Key::Ctrl('u'));
        write(&mut console, "say hi");
        assert_eq!(console.key(&Key::Enter), Typed::Send("say hi".to_owned()));
        write(&mut console, "x");
        console.refused(&Error::usage("no"));
        assert_eq!(console.input.text(), "x", "what is being written stays");
    }

    #[test]
    fn arrows_go_through_the_commands_and_back_to_the_line_being_written() {
        let mut console = console();
        for command in ["status", "users", "users"] {
            send(&mut console, command, "");
        }

        write(&mut console, "sa");
        let mut shown = |key| {
            console.key(&key);
            console.input.text().to_owned()
        };
        let up = [Key::Up, Key::Up, Key::Up].map(&mut shown);
        assert_eq!(up, ["users", "status", "status"], "none twice, none beyond");
        let down = [Key::Down, Key::Down, Key::Down].map(&mut shown);
        assert_eq!(down, ["users", "sa", "sa"]);
    }

    #[test]
    fn tab_completes_at_the_end_of_the_line() {
        let mut console = console();
        send(&mut console, "say good evening", "");
        write(&mut console, "say g");
        console.key(&Key::Tab);
        assert_eq!(console.input.text(), "say good evening");

        console.key(&Key::Ctrl('u'));
        write(&mut console, "map c2");
        console.key(&Key::Tab);
        assert_eq!(console.input.text(), "map c2m");
        assert!(
            console.hint.contains("c2m1_highway  c2m2"),
            "{}",
            console.hint
        );
        console.key(&Key::Left);
        assert_eq!(console.hint, "");
        console.key(&Key::Tab);
        assert_eq!(console.input.parts().1, "m", "not in the middle");
    }

    #[test]
    fn only_so_many_lines_and_commands_are_kept() {
        let mut console = console();
        for number in 0..150 {
            send(&mut console, &format!("say {number}"), &"x\n".repeat(100));
        }
        assert_eq!((console.lines.len(), console.past.len()), (KEPT, PAST));

        console.key(&Key::PageUp);
        assert_eq!(console.up, PAGE);
        send(&mut console, "say x", "y");
        assert_eq!(console.up, 0, "a reply is seen");
    }
}
