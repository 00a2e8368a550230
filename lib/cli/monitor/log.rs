//! The log view of a job, with search and follow. A log may have a million lines, so only the
//! visible page is loaded, and a search runs in batches between which keys are handled.

use rusqlite::Connection;

use super::input::Input;
use super::keys::Key;
use crate::base::Result;
use crate::base::names::JobId;
use crate::db::logs::{self, Found, Line, Way};
use crate::domain::job::JobState;

/// Lines searched per batch; keys are handled between batches.
const SEARCH_BATCH: u32 = 20_000;
/// Columns that an arrow key scrolls sideways.
const SCROLL_COLUMNS: u16 = 8;
/// The widest line in columns: 4096 characters of at most two columns.
const MAX_COLUMNS: u16 = 8192;

/// A movement through the log; lines where it has a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Down(u32),
    Up(u32),
    First,
    Last,
}

/// What the monitor has to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Load,
    Close,
    /// The log does not use the key.
    Unhandled,
}

/// The state of a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Search {
    /// No search.
    #[default]
    None,
    /// In progress, at this line.
    Running(Way, i64),
    /// This line matches.
    At(i64),
    /// No line in that direction matches.
    NotFound(Way),
}

/// The log view of one job.
#[derive(Clone, Debug)]
pub struct Log {
    pub job: JobId,
    pub operation: String,
    pub state: JobState,
    pub lines: Vec<Line>,
    /// The number of the log's last line.
    pub last: i64,
    /// Whether new lines are shown as they arrive.
    pub follow: bool,
    /// Columns scrolled out of view on the left.
    pub left: u16,
    /// The search term while it is typed.
    pub typing: Option<Input>,
    pub words: String,
    /// The state of the search.
    pub search: Search,
    top: i64,
    page: u32,
    pending_move: Option<Move>,
}

impl Log {
    /// Opens the log at its end, following.
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
            pending_move: None,
        }
    }

    pub fn key(&mut self, key: &Key) -> Reply {
        if self.typing.is_some() {
            self.edit_term(key);
            return Reply::Load;
        }

        let page = self.page.saturating_sub(1).max(1);
        match key {
            Key::Escape if matches!(self.search, Search::Running(..)) => self.search = Search::None,
            Key::Escape | Key::Char('l' | 'L') => return Reply::Close,
            Key::Char('j' | 'J') | Key::Down | Key::Enter => {
                self.pending_move = Some(Move::Down(1))
            }
            Key::Char('k' | 'K') | Key::Up => self.pending_move = Some(Move::Up(1)),
            Key::PageDown | Key::Char(' ') => self.pending_move = Some(Move::Down(page)),
            Key::PageUp | Key::Char('b') => self.pending_move = Some(Move::Up(page)),
            Key::Home | Key::Char('g') => self.pending_move = Some(Move::First),
            Key::End | Key::Char('G') => self.pending_move = Some(Move::Last),
            Key::Char('f' | 'F') if self.follow => self.follow = false,
            Key::Char('f' | 'F') => self.pending_move = Some(Move::Last),
            Key::Left => self.left = self.left.saturating_sub(SCROLL_COLUMNS),
            Key::Right => self.left = (self.left + SCROLL_COLUMNS).min(MAX_COLUMNS),
            Key::Char('/') => self.typing = Some(Input::default()),
            Key::Char('n') => self.search_next(Way::Down),
            Key::Char('N') => self.search_next(Way::Up),
            _ => return Reply::Unhandled,
        }

        Reply::Load
    }

    fn edit_term(&mut self, key: &Key) {
        match (key, &mut self.typing) {
            (Key::Escape, typing) => *typing = None,
            (Key::Enter, typing) => {
                let typed = typing.take().unwrap_or_default();
                if !typed.text().is_empty() {
                    typed.text().clone_into(&mut self.words);
                }
                // The first visible line may match.
                self.search = Search::None;
                self.start_search(Way::Down, self.top - 1);
            }
            (key, Some(typing)) => typing.key(key),
            (_, None) => {}
        }
    }

    fn search_next(&mut self, way: Way) {
        let bottom = self.lines.last().map_or(i64::MAX, |line| line.seq + 1);
        let from = match (self.search, way) {
            (Search::At(seq), _) => seq,
            (_, Way::Down) => self.top - 1,
            (_, Way::Up) => bottom,
        };
        self.start_search(way, from);
    }

    fn start_search(&mut self, way: Way, from: i64) {
        if !self.words.is_empty() {
            self.search = Search::Running(way, from);
        }
    }

    /// Whether a search is in progress: [`Log::read`] has to be called again.
    pub fn is_searching(&self) -> bool {
        matches!(self.search, Search::Running(..))
    }

    /// Runs a batch of the search, carries out the pending move, and loads the page.
    pub fn read(&mut self, connection: &Connection, height: u16) -> Result<()> {
        self.page = height.max(1).into();
        self.last = logs::last_seq(connection, self.job)?;

        self.continue_search(connection)?;
        match self.pending_move.take() {
            Some(Move::Down(by)) => {
                if let Some(line) = logs::after(connection, self.job, self.top - 1, by + 1)?.last()
                {
                    self.go_to(line.seq);
                }
            }
            Some(Move::Up(by)) => {
                self.go_to(
                    logs::before(connection, self.job, self.top, by)?
                        .first()
                        .map_or(self.top, |line| line.seq),
                );
            }
            Some(Move::First) => self.go_to(1),
            Some(Move::Last) => self.follow = true,
            None => {}
        }

        if !self.follow {
            self.lines = logs::after(connection, self.job, self.top - 1, self.page)?;
        }

        // The last page is always full.
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

    fn continue_search(&mut self, connection: &Connection) -> Result<()> {
        let Search::Running(way, from) = self.search else {
            return Ok(());
        };
        self.search = match logs::find(connection, self.job, from, way, &self.words, SEARCH_BATCH)?
        {
            Found::At(seq) => {
                self.follow = false;
                if !self.lines.iter().any(|line| line.seq == seq) {
                    // Show some lines before the match for context.
                    let before = logs::before(connection, self.job, seq, self.page / 3)?;
                    self.go_to(before.first().map_or(seq, |line| line.seq));
                }

                Search::At(seq)
            }
            Found::NotYet(seq) => Search::Running(way, seq),
            Found::Nowhere => Search::NotFound(way),
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
        /// A log of `lines` lines (`line 1` and so on), on a screen of ten rows.
        fn new(lines: i64) -> Self {
            let db = with_servers(0);
            let job = "INSERT INTO jobs (operation, requested_by, created_at, updated_at)
                       VALUES ('install', 'x', 1, 1)";
            db.execute(job, []).unwrap();

            let mut reader = Self {
                db,
                log: Log::open(JobId(1), "install", JobState::Running),
            };

            (0..lines).for_each(|_| reader.grow());
            reader.read();
            reader
        }

        fn grow(&mut self) {
            let next = logs::last_seq(&self.db, JobId(1)).unwrap() + 1;
            logs::insert(
                &self.db,
                JobId(1),
                next,
                1,
                Stream::Stdout,
                None,
                &format!("line {next}"),
            )
            .unwrap();
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
            (
                self.log.lines.first().map_or(0, |line| line.seq),
                self.log.lines.last().map_or(0, |line| line.seq),
            )
        }

        fn search(&mut self, words: &str) -> (i64, i64) {
            let mut keys = vec![Key::Char('/')];
            keys.extend(words.chars().map(Key::Char));
            keys.push(Key::Enter);
            self.press(&keys)
        }
    }

    #[test]
    fn it_opens_at_the_end_and_follows_until_the_user_scrolls_up() {
        let mut reader = Reader::new(50);
        assert_eq!(reader.shown(), (41, 50));

        reader.grow();
        reader.read();
        assert_eq!(reader.shown(), (42, 51));
        assert_eq!(reader.press(&[Key::Up]), (41, 50));

        reader.grow();
        reader.read();
        assert_eq!(
            reader.shown(),
            (41, 50),
            "it does not move while not following"
        );

        assert_eq!(reader.press(&[Key::Char('F')]), (43, 52));

        reader.grow();
        reader.read();
        assert_eq!(reader.shown(), (44, 53));
    }

    #[test]
    fn paging_and_scrolling_stop_at_both_ends() {
        let mut reader = Reader::new(50);
        assert_eq!(reader.press(&[Key::Home]), (1, 10));
        assert_eq!(
            reader.press(&[Key::PageDown]),
            (10, 19),
            "pages overlap by one line"
        );

        assert_eq!(
            reader.press(&[Key::Char('j'), Key::Char('j'), Key::Char('k')]),
            (11, 20)
        );

        assert_eq!(
            reader.press(&[Key::PageUp, Key::PageUp, Key::PageUp]),
            (1, 10)
        );

        assert_eq!(reader.press(&[Key::End]), (41, 50));
        assert_eq!(
            reader.press(&[Key::Char('j'), Key::PageDown]),
            (41, 50),
            "stops at the end"
        );

        assert_eq!(Reader::new(3).press(&[Key::PageDown, Key::Home]), (1, 3));

        assert_eq!(
            Reader::new(0).press(&[Key::PageDown, Key::Home, Key::Up]),
            (0, 0)
        );
    }

    #[test]
    fn a_search_finds_next_and_previous_matches() {
        let mut reader = Reader::new(50);
        reader.press(&[Key::Home]);
        assert_eq!(reader.search("LINE 2"), (1, 10));
        assert_eq!(reader.log.search, Search::At(2));
        assert_eq!(
            reader.press(&[Key::Char('n')]),
            (17, 26),
            "line 20, with some lines before it"
        );

        assert_eq!(reader.log.search, Search::At(20));

        reader.press(&[Key::Char('n')]);
        assert_eq!(reader.log.search, Search::At(21));

        reader.press(&[Key::Char('N'), Key::Char('N')]);
        assert_eq!(reader.log.search, Search::At(2));

        reader.press(&[Key::Char('N')]);
        assert_eq!(reader.log.search, Search::NotFound(Way::Up));

        let before = reader.shown();
        assert_eq!(reader.search("nothing of the kind"), before);
        assert_eq!(reader.log.search, Search::NotFound(Way::Down));
    }

    #[test]
    fn letters_are_text_while_a_search_term_is_typed() {
        let mut reader = Reader::new(5);
        reader.press(&[
            Key::Char('/'),
            Key::Char('q'),
            Key::Char('n'),
            Key::Backspace,
        ]);

        assert_eq!(reader.log.typing.as_ref().map(Input::text), Some("q"));
        reader.press(&[Key::Escape]);
        assert_eq!(
            (reader.log.typing.is_none(), reader.log.words.as_str()),
            (true, "")
        );

        assert_eq!(reader.log.key(&Key::Escape), Reply::Close);
    }

    #[test]
    fn a_long_search_runs_in_batches_and_escape_ends_it() {
        let mut reader = Reader::new(1);
        let more = "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n
             WHERE i < 50000) INSERT INTO job_logs (job_id, seq, at, stream, line) SELECT 1, i, 1,
             'stdout', 'x' FROM n";
        reader.db.execute(more, []).unwrap();
        reader.press(&[Key::Home, Key::Char('/'), Key::Char('y')]);
        reader.log.key(&Key::Enter);
        reader.log.read(&reader.db, 10).unwrap();

        assert_eq!(reader.log.search, Search::Running(Way::Down, 20_000));
        assert_eq!(reader.log.key(&Key::Escape), Reply::Load);
        assert!(!reader.log.is_searching());
    }
}
