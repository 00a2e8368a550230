//! A line editor: for a reason, a search term, or a command.

use super::keys::Key;

/// Maximum length in characters, the same as a reason's.
const LIMIT: usize = 1000;

/// A line without control characters, and the cursor in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    text: String,
    /// In bytes, on the boundary of a character.
    at: usize,
}

impl Input {
    /// A line with the cursor at its end.
    pub fn with_text(text: &str) -> Self {
        let mut input = Self::default();
        text.chars().for_each(|c| input.add(c));
        input
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text before and after the cursor.
    pub fn parts(&self) -> (&str, &str) {
        self.text.split_at(self.at)
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// Edits the line; other keys do nothing.
    pub fn key(&mut self, key: &Key) {
        match key {
            Key::Char(c) => self.add(*c),
            Key::Paste(text) => text
                .chars()
                .for_each(|c| self.add(if c.is_control() { ' ' } else { c })),
            Key::Backspace => self.remove(self.before(), self.at),
            Key::Delete | Key::Ctrl('d') => self.remove(self.at, self.after()),
            Key::Left | Key::Ctrl('b') => self.at = self.before(),
            Key::Right | Key::Ctrl('f') => self.at = self.after(),
            Key::Home | Key::Ctrl('a') => self.at = 0,
            Key::End | Key::Ctrl('e') => self.at = self.text.len(),
            Key::Ctrl('u') => self.remove(0, self.at),
            Key::Ctrl('k') => self.remove(self.at, self.text.len()),
            Key::Ctrl('w') => {
                let before = self.text[..self.at].trim_end();
                let from = before.rfind(' ').map_or(0, |space| space + 1);
                self.remove(from, self.at);
            }
            _ => {}
        }
    }

    fn add(&mut self, c: char) {
        if !c.is_control() && self.text.chars().count() < LIMIT {
            self.text.insert(self.at, c);
            self.at += c.len_utf8();
        }
    }

    /// Removes the text between two places; the cursor is there then.
    fn remove(&mut self, from: usize, to: usize) {
        self.text.replace_range(from..to, "");
        self.at = from;
    }

    /// The place of the character before the cursor.
    fn before(&self) -> usize {
        let last = self.text[..self.at].chars().next_back();
        self.at - last.map_or(0, char::len_utf8)
    }

    /// The place behind the character at the cursor.
    fn after(&self) -> usize {
        let next = self.text[self.at..].chars().next();
        self.at + next.map_or(0, char::len_utf8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[Key]) -> String {
        let mut input = Input::default();
        keys.iter().for_each(|key| input.key(key));
        input.text
    }

    #[test]
    fn a_line_is_typed_and_edited() {
        let text = |text: &str| text.chars().map(Key::Char).collect::<Vec<_>>();
        assert_eq!(
            typed(&[text("qäx"), vec![Key::Backspace, Key::Up, Key::Tab]].concat()),
            "qä"
        );

        assert_eq!(
            typed(&[text("one two "), vec![Key::Ctrl('w')]].concat()),
            "one "
        );

        assert_eq!(typed(&[text("one two"), vec![Key::Ctrl('u')]].concat()), "");
    }

    #[test]
    fn the_cursor_moves_by_whole_characters_and_edits_where_it_is() {
        let text = |text: &str| text.chars().map(Key::Char).collect::<Vec<_>>();
        let then = |line: &str, keys: &[Key]| typed(&[&text(line)[..], keys].concat());
        let (left, right) = (Key::Left, Key::Right);

        assert_eq!(then("sä", &[left.clone(), Key::Char('x')]), "sxä");
        assert_eq!(then("äb", &[left.clone(), Key::Backspace]), "b");
        assert_eq!(
            then("äb", &[Key::Home, Key::Delete, right.clone(), right]),
            "b"
        );
        assert_eq!(then("äb", &[Key::Home, Key::Backspace, Key::Left]), "äb");
        assert_eq!(
            then(
                "äb",
                &[Key::Ctrl('a'), Key::Char('1'), Key::End, Key::Char('2')]
            ),
            "1äb2"
        );
        assert_eq!(then("say äb", &[left.clone(), Key::Ctrl('k')]), "say ä");
        assert_eq!(then("say äb", &[left.clone(), Key::Ctrl('u')]), "b");
        assert_eq!(then("one two", &[left, Key::Ctrl('w')]), "one o");

        let mut input = Input::with_text("äb");
        input.key(&Key::Left);
        assert_eq!((input.parts(), input.is_at_end()), (("ä", "b"), false));
    }

    #[test]
    fn it_stays_one_line_of_at_most_a_thousand_characters() {
        let mut input = Input::default();
        input.key(&Key::Paste("a\nb\u{1b}[31m".to_owned()));
        assert_eq!(input.text(), "a b [31m");
        input.key(&Key::Paste("ü".repeat(2000)));
        assert_eq!(input.text().chars().count(), 1000);
    }
}
