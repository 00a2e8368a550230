//! The whole log of a job: a page of it, with search and follow. A log may have a million lines: a page is read, never more,
//! and a search goes on bit by bit while keys are still heard.

use rusqlite::Connection;

use super::input::Input;
use super::keys::Key;
use crate::base::Result;
use crate::base::names::JobId;
use crate::db::logs::{self, Found, Line, Way};
use crate::domain::job::JobState;

/// So many lines are searched before keys are looked at again.
const SEARCH_PAGE: u32 = 20_000;
/// Columns that the arrows go sideways.
const SIDEWAYS: u16 = 8;
/// No line is longer: columns, at most two for each of a line's 4096 characters.
const WIDEST: u16 = 8192;

/// A step through the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Down(u32),
    Up(u32),
    First,
    Last,
}

/// What a key means for whoever shows the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The log wants to be read again.
    Read,
    /// It is left.
    Leave,
    /// It means nothing here.
    Other,
}

/// How a search fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Search {
    /// There is none.
    #[default]
    None,
    /// It is under way: from this line on.
    Going(Way, i64),
    /// This line has the words.
    At(i64),
    /// No line that way has them.
    Nowhere(Way),
}

/// A job's log.
#[derive(Clone, Debug)]
pub struct Log {
    /// The job,
    pub job: JobId,
    /// and what it does.
    pub operation: String,
    /// Its state.
    pub state: JobState,
    /// The lines that are shown.
    pub lines: Vec<Line>,
    /// The log's last line.
    pub last: i64,
    /// Whether new lines are shown as they come.
    pub follow: bool,
    /// Columns that are left out on the left.
    pub left: u16,
    /// The words that are typed after `/`.
    pub typing: Option<Input>,
    /// The words that are looked for.
    pub words: String,
    /// How that fares.
    pub search: Search,
    top: i64,
    page: u32,
    wanted: Option<Move>,
}

impl Log {
    /// At the log's end, where new lines come.
    #[must_use]
    pub fn open(job: JobId, operation: &str, state: JobState) -> Self {
        Self {
            job,
            operation: operation.to_owned(),
            state,
            lines: Vec::new(),
            last: 0,
            follow: true,
            left: 0,
            typing: None,
            words: String::new(),
            search: Search::None,
            top: 1,
            page: 1,
            wanted: None,
        }
    }

    /// Takes a key.
    pub fn key(&mut self, key: &Key) -> Reply {
        if self.typing.is_some() {
            self.type_words(key);
            return Reply::Read;
        }
        let page = self.page.saturating_sub(1).max(1);
        match key {
            Key::Escape if matches!(self.search, Search::Going(..)) => self.search = Search::None,
            Key::Escape | Key::Char('l' | 'L') => return Reply::Leave,
            Key::Char('j' | 'J') | Key::Down | Key::Enter => self.wanted = Some(Move::Down(1)),
            Key::Char('k' | 'K') | Key::Up => self.wanted = Some(Move::Up(1)),
            Key::PageDown | Key::Char(' ') => self.wanted = Some(Move::Down(page)),
            Key::PageUp | Key::Char('b') => self.wanted = Some(Move::Up(page)),
            Key::Home | Key::Char('g') => self.wanted = Some(Move::First),
            Key::End | Key::Char('G') => self.wanted = Some(Move::Last),
            Key::Char('f' | 'F') if self.follow => self.follow = false,
            Key::Char('f' | 'F') => self.wanted = Some(Move::Last),
            Key::Left => self.left = self.left.saturating_sub(SIDEWAYS),
            Key::Right => self.left = (self.left + SIDEWAYS).min(WIDEST),
            Key::Char('/') => self.typing = Some(Input::default()),
            Key::Char('n') => self.look_on(Way::Down),
            Key::Char('N') => self.look_on(Way::Up),
            _ => return Reply::Other,
        }
        Reply::Read
    }

    fn type_words(&mut self, key: &Key) {
        match (key, &mut self.typing) {
            (Key::Escape, typing) => *typing = None,
            (Key::Enter, typing) => {
                let typed = typing.take().unwrap_or_default();
                if !typed.text().is_empty() {
                    typed.text().clone_into(&mut self.words);
                }
                // The first line that is shown may be the one.
                self.search = Search::None;
                self.look(Way::Down, self.top - 1);
            }
            (key, Some(typing)) => typing.key(key),
            (_, None) => {}
        }
    }

    fn look_on(&mut self, way: Way) {
        let bottom = self.lines.last().map_or(i64::MAX, |line| line.seq + 1);
        let from = match (self.search, way) {
            (Search::At(seq), _) => seq,
            (_, Way::Down) => self.top - 1,
            (_, Way::Up) => bottom,
        };
        self.look(way, from);
    }

    fn look(&mut self, way: Way, from: i64) {
        if !self.words.is_empty() {
            self.search = Search::Going(way, from);
        }
    }

    /// Whether a search is under way, and [`Log::read`] wants to be called again.
    #[must_use]
    pub fn is_searching(&self) -> bool {
        matches!(self.search, Search::Going(..))
    }

    /// Goes on with a search, goes where the last key wants to, and reads the page.
    ///
    /// # Errors
    /// 69 when the database cannot be read.
    pub fn read(&mut self, connection: &Connection, height: u16) -> Result<()> {
        self.page = height.max(1).into();
        self.last = logs::last_seq(connection, self.job)?;
        self.search_on(connection)?;
        match self.wanted.take() {
            Some(Move::Down(by)) => {
                if let Some(line) = logs::after(connection, self.job, self.top - 1, by + 1)?.last() {
                    self.go_to(line.seq);
                }
            }
            Some(Move::Up(by)) => {
                self.go_to(logs::before(connection, self.job, self.top, by)?.first().map_or(self.top, |line| line.seq));
            }
            Some(Move::First) => self.go_to(1),
            Some(Move::Last) => self.follow = true,
            None => {}
        }
        if !self.follow {
            self.lines = logs::after(connection, self.job, self.top - 1, self.page)?;
        }
        // The last page is a whole one.
        if self.follow || self.lines.len() < self.page as usize {
            self.lines = logs::before(connection, self.job, i64::MAX, self.page)?;
            self.top = self.lines.first().map_or(1, |line| line.seq);
        }
        Ok(())
    }

    fn go_to(&mut self, seq: i64) {
        self.top = seq;
        self.follow = false;
    }

    fn search_on(&mut self, connection: &Connection) -> Result<()> {
        let Search::Going(way, from) = self.search else { return Ok(()) };
        self.search = match logs::find(connection, self.job, from, way, &self.words, SEARCH_PAGE)? {
            Found::At(seq) => {
                self.follow = false;
                if !self.lines.iter().any(|line| line.seq == seq) {
                    // With some lines before it, so that one sees where it stands.
                    let before = logs::before(connection, self.job, seq, self.page / 3)?;
                    self.go_to(before.first().map_or(seq, |line| line.seq));
                }
                Search::At(seq)
            }
            Found::NotYet(seq) => Search::Going(way, seq),
            Found::Nowhere => Search::Nowhere(way),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::with_servers;
    use crate::wire::Stream;

    struct Reader {
        db: Connection,
        log: Log,
    }

    impl Reader {
        /// On a log of so many lines `line 1` …, on a screen of ten.
        fn new(lines: i64) -> Self {
            let db = with_servers(0);
            let job =
                "INSERT INTO jobs (operation, requested_by, created_at, updated_at) VALUES ('install', 'x', 1, 1)";
            db.execute(job, []).unwrap();
            let mut reader = Self { db, log: Log::open(JobId(1), "install", JobState::Running) };
            (0..lines).for_each(|_| reader.grow());
            reader.read();
            reader
        }

        fn grow(&mut self) {
            let next = logs::last_seq(&self.db, JobId(1)).unwrap() + 1;
            logs::insert(&self.db, JobId(1), next, 1, Stream::Stdout, None, &format!("line {next}")).unwrap();
        }

        fn read(&mut self) {
            self.log.read(&self.db, 10).unwrap();
            while self.log.is_searching() {
                self.log.read(&self.db, 10).unwrap();
            }
        }

        fn press(&mut self, keys: &[Key]) -> (i64, i64) {
            for key in keys {
                self.log.key(key);
                self.read();
            }
            self.shown()
        }

        fn shown(&self) -> (i64, i64) {
            (self.log.lines.first().map_or(0, |line| line.seq), self.log.lines.last().map_or(0, |line| line.seq))
        }

        fn search(&mut self, words: &str) -> (i64, i64) {
            let mut keys = vec![Key::Char('/')];
            keys.extend(words.chars().map(Key::Char));
            keys.push(Key::Enter);
            self.press(&keys)
        }
    }

    #[test]
    fn it_opens_at_the_end_and_follows_until_somebody_goes_up() {
        let mut reader = Reader::new(50);
        assert_eq!(reader.shown(), (41, 50));
        reader.grow();
        reader.read();
        assert_eq!(reader.shown(), (42, 51));
        assert_eq!(reader.press(&[Key::Up]), (41, 50));
        reader.grow();
        reader.read();
        assert_eq!(reader.shown(), (41, 50), "it stays where somebody reads");
        assert_eq!(reader.press(&[Key::Char('F')]), (43, 52));
        reader.grow();
        reader.read();
        assert_eq!(reader.shown(), (44, 53));
    }

    #[test]
    fn pages_lines_beginning_and_end() {
        let mut reader = Reader::new(50);
        assert_eq!(reader.press(&[Key::Home]), (1, 10));
        assert_eq!(reader.press(&[Key::PageDown]), (10, 19), "with a line of the page before");
        assert_eq!(reader.press(&[Key::Char('j'), Key::Char('j'), Key::Char('k')]), (11, 20));
        assert_eq!(reader.press(&[Key::PageUp, Key::PageUp, Key::PageUp]), (1, 10));
        assert_eq!(reader.press(&[Key::End]), (41, 50));
        assert_eq!(reader.press(&[Key::Char('j'), Key::PageDown]), (41, 50), "no further than the end");
        assert_eq!(Reader::new(3).press(&[Key::PageDown, Key::Home]), (1, 3));
        assert_eq!(Reader::new(0).press(&[Key::PageDown, Key::Home, Key::Up]), (0, 0));
    }

    #[test]
    fn a_search_goes_to_the_line_and_on_and_back() {
        let mut reader = Reader::new(50);
        reader.press(&[Key::Home]);
        assert_eq!(reader.search("LINE 2"), (1, 10));
        assert_eq!(reader.log.search, Search::At(2));
        assert_eq!(reader.press(&[Key::Char('n')]), (17, 26), "line 20, with some before it");
        assert_eq!(reader.log.search, Search::At(20));
        reader.press(&[Key::Char('n')]);
        assert_eq!(reader.log.search, Search::At(21));
        reader.press(&[Key::Char('N'), Key::Char('N')]);
        assert_eq!(reader.log.search, Search::At(2));
        reader.press(&[Key::Char('N')]);
        assert_eq!(reader.log.search, Search::Nowhere(Way::Up));
        let before = reader.shown();
        assert_eq!(reader.search("nothing of the kind"), before);
        assert_eq!(reader.log.search, Search::Nowhere(Way::Down));
    }

    #[test]
    fn letters_are_words_while_somebody_types() {
        let mut reader = Reader::new(5);
        reader.press(&[Key::Char('/'), Key::Char('q'), Key::Char('n'), Key::Backspace]);
        assert_eq!(reader.log.typing.as_ref().map(Input::text), Some("q"));
        reader.press(&[Key::Escape]);
        assert_eq!((reader.log.typing.is_none(), reader.log.words.as_str()), (true, ""));
        assert_eq!(reader.log.key(&Key::Escape), Reply::Leave);
    }

    #[test]
    fn a_long_search_is_done_in_pieces_that_escape_ends() {
        let mut reader = Reader::new(1);
        let more = "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
                    INSERT INTO job_logs (job_id, seq, at, stream, line) SELECT 1, i, 1, 'stdout', 'x' FROM n";
        reader.db.execute(more, []).unwrap();
        reader.press(&[Key::Home, Key::Char('/'), Key::Char('y')]);
        reader.log.key(&Key::Enter);
        reader.log.read(&reader.db, 10).unwrap();
        assert_eq!(reader.log.search, Search::Going(Way::Down, 20_000));
        assert_eq!(reader.log.key(&Key::Escape), Reply::Read);
        assert!(!reader.log.is_searching());
    }
}
