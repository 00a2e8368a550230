//! The settings file as systemd's EnvironmentFile= reads it (`parse_env_file_internal` in systemd's
//! src/basic/env-file.c), so that a service and a command never see different settings; and what
//! systemd skips without a message.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Its name, as it stands there.
    pub name: String,
    /// Its value, without quotes.
    pub value: String,
    /// The line on which it begins, from 1.
    pub line: usize,
    /// The line on which it ends: a later one when quotes or a backslash continue it.
    pub last: usize,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no `=`.
    NoAssignment,
    /// What stands before the `=` is no name of a variable.
    NoName,
    /// A quote is opened and not closed on its line: the lines up to the next quote are part of the
    /// value.
    OpenQuote,
    /// A backslash at the end of a comment: systemd 252 and 253 take the next line for a part of
    /// it.
    CommentContinues,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvFile {
    /// Its assignments with a good name, in their order. The last one of a name counts.
    pub assignments: Vec<Assignment>,
    /// What is wrong, with the first and the last line.
    pub faults: Vec<(Fault, usize, usize)>,
    /// Whether the file begins with a byte order mark, which makes systemd skip the first line.
    pub has_mark: bool,
}

impl EnvFile {
    /// The value of `name` that counts.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.last(name).map(|assignment| assignment.value.as_str())
    }

    /// The assignment of `name` that counts.
    pub fn last(&self, name: &str) -> Option<&Assignment> {
        self.assignments
            .iter()
            .rev()
            .find(|assignment| assignment.name == name)
    }

    pub fn parse(text: &str) -> Self {
        let bare = text.strip_prefix('\u{feff}');
        let mut reader = EnvFileReader {
            file: Self {
                has_mark: bare.is_some(),
                ..Self::default()
            },
            ..EnvFileReader::default()
        };

        // A carriage return ends a line as well: files from Windows are read as they are meant.
        for c in bare.unwrap_or(text).replace("\r\n", "\n").chars() {
            reader.take(c);
        }
        reader.end();
        reader.file
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum ParserState {
    #[default]
    BeforeName,
    Name,
    BeforeValue,
    Value,
    ValueEscape,
    Single,
    Double,
    DoubleEscape,
    Comment,
    CommentEscape,
}

#[derive(Default)]
struct EnvFileReader {
    file: EnvFile,
    state: ParserState,
    /// The line that is read, and the one on which this assignment began; from 0.
    line: usize,
    began: usize,
    /// The line on which the last quote was opened.
    quoted: usize,
    name: String,
    value: String,
    /// How much of the value stays when blanks at its end are dropped.
    kept: usize,
}

impl EnvFileReader {
    fn take(&mut self, c: char) {
        let is_end = matches!(c, '\n' | '\r');
        let is_blank = is_end || matches!(c, ' ' | '\t');
        match self.state {
            ParserState::BeforeName if matches!(c, '#' | ';') => self.state = ParserState::Comment,
            ParserState::BeforeName if !is_blank => {
                self.began = self.line;
                self.name.push(c);
                self.state = ParserState::Name;
            }
            ParserState::Name if is_end => self.fault(Fault::NoAssignment),
            ParserState::Name if c == '=' => self.state = ParserState::BeforeValue,
            ParserState::Name => self.name.push(c),
            ParserState::BeforeValue | ParserState::Value if is_end => self.assign(),
            ParserState::BeforeValue if matches!(c, '\'' | '"') => {
                self.quoted = self.line;
                self.state = if c == '"' {
                    ParserState::Double
                } else {
                    ParserState::Single
                };
            }
            ParserState::BeforeValue | ParserState::Value if c == '\\' => {
                self.state = ParserState::ValueEscape
            }
            ParserState::BeforeValue if !is_blank => {
                self.state = ParserState::Value;
                self.keep(c);
            }
            ParserState::Value if is_blank => self.value.push(c),
            ParserState::Value => self.keep(c),
            ParserState::ValueEscape => {
                self.state = ParserState::Value;
                if !is_end {
                    self.keep(c);
                }
            }
            ParserState::Single if c == '\'' => self.state = ParserState::BeforeValue,
            ParserState::Double if c == '"' => self.state = ParserState::BeforeValue,
            ParserState::Double if c == '\\' => self.state = ParserState::DoubleEscape,
            ParserState::Single | ParserState::Double => self.keep(c),
            ParserState::DoubleEscape => {
                self.state = ParserState::Double;
                if !matches!(c, '"' | '\\' | '`' | '$' | '\n') {
                    self.keep('\\');
                }
                if c != '\n' {
                    self.keep(c);
                }
            }
            ParserState::Comment if c == '\\' => self.state = ParserState::CommentEscape,
            ParserState::Comment if is_end => self.state = ParserState::BeforeName,
            ParserState::CommentEscape => {
                if is_end {
                    self.file
                        .faults
                        .push((Fault::CommentContinues, self.line + 1, self.line + 1));
                }

                self.state = if is_end {
                    ParserState::BeforeName
                } else {
                    ParserState::Comment
                };
            }
            ParserState::BeforeName | ParserState::BeforeValue | ParserState::Comment => {}
        }

        self.line += usize::from(c == '\n');
    }

    fn end(&mut self) {
        match self.state {
            ParserState::Name => self.fault(Fault::NoAssignment),
            ParserState::BeforeName | ParserState::Comment | ParserState::CommentEscape => {}
            _ => self.assign(),
        }
    }

    /// A character that is no blank at the end of a value.
    fn keep(&mut self, c: char) {
        self.value.push(c);
        self.kept = self.value.len();
    }

    fn fault(&mut self, fault: Fault) {
        self.file
            .faults
            .push((fault, self.began + 1, self.line + 1));
        self.clear();
    }

    fn assign(&mut self) {
        let (line, last) = (self.began + 1, self.line + 1);
        let is_open = matches!(
            self.state,
            ParserState::Single | ParserState::Double | ParserState::DoubleEscape
        );

        // systemd takes a value over several lines; no setting has one.
        if is_open || self.value.contains('\n') {
            self.file
                .faults
                .push((Fault::OpenQuote, self.quoted + 1, last));
        }

        self.value.truncate(self.kept);
        let name = self.name.trim_end().to_owned();
        if is_name(&name) {
            let value = std::mem::take(&mut self.value);
            self.file.assignments.push(Assignment {
                name,
                value,
                line,
                last,
            });
        } else {
            self.file.faults.push((Fault::NoName, line, last));
        }

        self.clear();
    }

    fn clear(&mut self) {
        self.name.clear();
        self.value.clear();
        self.kept = 0;
        self.state = ParserState::BeforeName;
    }
}

/// As `env_name_is_valid` of systemd.
fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        EnvFile::parse(text)
            .assignments
            .into_iter()
            .map(|one| (one.name, one.value))
            .collect()
    }

    fn faults(text: &str) -> Vec<(Fault, usize, usize)> {
        EnvFile::parse(text).faults
    }

    /// Each was tried with `systemd-run -p EnvironmentFile=FILE env`, 252 and 257.
    #[test]
    fn values_are_what_systemd_makes_of_them() {
        for (line, value) in [
            ("A=b", "b"),
            ("  A = b c ", "b c"),
            ("A=\"b c\"", "b c"),
            ("A='b \"c'", "b \"c"),
            ("A=\"b\\\"c\\x\"", "b\"c\\x"),
            ("A=b\\ c\\d", "b cd"),
            ("A=b\"c\"", "b\"c\""),
            ("A=\"b\" c", "bc"),
            ("A=b # c", "b # c"),
            ("A=b\r\n", "b"),
            ("A=", ""),
            ("A=b\\\nc", "bc"),
        ] {
            assert_eq!(
                pairs(line),
                [("A".to_owned(), value.to_owned())],
                "{line:?}"
            );

            assert_eq!(faults(line), [], "{line:?}");
        }

        assert_eq!(pairs("# A=1\n;B=2\n\nC=3\r\nD=4").len(), 2);
        assert_eq!(
            EnvFile::parse("A=1\nA=2\n").get("A"),
            Some("2"),
            "the last one counts"
        );
    }

    #[test]
    fn what_systemd_skips_or_takes_otherwise_has_its_line() {
        assert_eq!(
            faults("# x\nLEFT4ME_LOG\nA=1"),
            [(Fault::NoAssignment, 2, 2)]
        );

        assert_eq!(faults("A=1\nexport B=2\n"), [(Fault::NoName, 2, 2)]);
        assert_eq!(
            faults("A=\"1\nB=2\nC=\"3\"\nD=4\n"),
            [(Fault::OpenQuote, 1, 3)]
        );

        assert_eq!(faults("A=1\nB='2\n"), [(Fault::OpenQuote, 2, 3)]);
        assert_eq!(
            faults("# C:\\dir\\\nA=1\n"),
            [(Fault::CommentContinues, 1, 1)]
        );

        let marked = EnvFile::parse("\u{feff}A=1\n");
        assert!(marked.has_mark && marked.get("A") == Some("1"));
        assert_eq!(
            EnvFile::parse("A=1\nB=2")
                .last("B")
                .map(|one| (one.line, one.last)),
            Some((2, 2))
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_and_lines_are_within_it(text in "[A=\"'\\\\ #\n\r]{0,40}") {
            let file = EnvFile::parse(&text);
            let lines = text.matches('\n').count() + 1;
            for (_, first, last) in file.faults {
                proptest::prop_assert!(first >= 1 && first <= last && last <= lines);
            }
        }
    }
}
