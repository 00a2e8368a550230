//! A line editor: for a reason, or for a search term.

use super::keys::Key;

/// Maximum length in characters, the same as a reason's.
const LIMIT: usize = 1000;

/// A line without control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    text: String,
}

impl Input {
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Edits the line; other keys do nothing.
    pub fn key(&mut self, key: &Key) {
        match key {
            Key::Char(c) => self.add(*c),
            Key::Paste(text) => text
                .chars()
                .for_each(|c| self.add(if c.is_control() { ' ' } else { c })),
            Key::Backspace => {
                self.text.pop();
            }
            Key::Ctrl('u') => self.text.clear(),
            Key::Ctrl('w') => {
                let kept = self.text.trim_end().rfind(' ').map_or(0, |space| space + 1);
                self.text.truncate(kept);
            }
            _ => {}
        }
    }

    fn add(&mut self, c: char) {
        if !c.is_control() && self.text.chars().count() < LIMIT {
            self.text.push(c);
        }
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
    fn it_stays_one_line_of_at_most_a_thousand_characters() {
        let mut input = Input::default();
        input.key(&Key::Paste("a\nb\u{1b}[31m".to_owned()));
        assert_eq!(input.text(), "a b [31m");
        input.key(&Key::Paste("ü".repeat(2000)));
        assert_eq!(input.text().chars().count(), 1000);
    }
}
