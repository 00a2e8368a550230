//! Prints aligned text tables on a terminal. Control characters become visible. There is colour
//! only on a terminal, and not with NO_COLOR.

use std::io::IsTerminal as _;

use super::Result;
use super::output::{line, printable};

/// The colour of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    /// Healthy.
    Good,
    /// Needs attention.
    Warning,
    /// Broken.
    Bad,
}

impl Tone {
    /// The SGR sequence that starts the colour.
    fn code(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Good => "\u{1b}[32m",
            Tone::Warning => "\u{1b}[33m",
            Tone::Bad => "\u{1b}[31m",
        }
    }

    /// `text` in this colour, if `colours` is set.
    pub fn paint(self, text: &str, colours: bool) -> String {
        match self.code() {
            code if colours && !code.is_empty() => format!("{code}{text}\u{1b}[0m"),
            _ => text.to_owned(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<(String, Tone)>>,
}

/// Whether standard output takes colour.
pub fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::stdout().is_terminal()
}

impl Table {
    pub fn new<const N: usize>(headings: [&'static str; N]) -> Self {
        Self {
            headings: headings.map(str::to_owned).to_vec(),
            rows: Vec::new(),
        }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows
            .push(cells.into_iter().map(|cell| (cell, Tone::Plain)).collect());
    }

    /// Adds a row with colours.
    pub fn toned<const N: usize>(&mut self, cells: [(String, Tone); N]) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Moves the time zone of columns formatted by [`clock::local`] into the heading if all rows
    /// have the same one. Call it after the last row is added.
    ///
    /// [`clock::local`]: super::clock::local
    pub fn times(&mut self, columns: &[&str]) {
        for (column, heading) in self.headings.iter_mut().enumerate() {
            if !columns.contains(&heading.as_str()) {
                continue;
            }

            let times = self
                .rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|(time, _)| time.as_str());
            let times = times.filter(|time| !time.is_empty());
            let mut zones = times.map(|time| time.splitn(3, ' ').nth(2));
            let Some(Some(zone)) = zones.next() else {
                continue;
            };
            if !zones.all(|other| other == Some(zone)) {
                continue;
            }

            let ending = format!(" {zone}");
            *heading = format!("{heading} ({zone})");
            for (time, _) in self.rows.iter_mut().filter_map(|row| row.get_mut(column)) {
                time.truncate(time.trim_end_matches(&ending).len());
            }
        }
    }

    /// The lines of the table. Every column but the last is padded to its widest cell.
    pub fn lines(&self, colours: bool) -> Vec<String> {
        let headings = self
            .headings
            .iter()
            .map(|heading| (heading.clone(), Tone::Plain))
            .collect();
        let shown: Vec<Vec<(String, Tone)>> = std::iter::once(headings)
            .chain(self.rows.iter().map(|row| {
                row.iter()
                    .map(|(cell, tone)| (one_line(cell), *tone))
                    .collect()
            }))
            .collect();
        let width = |column: usize| {
            shown
                .iter()
                .filter_map(|row| row.get(column))
                .map(|(cell, _)| cells(cell))
                .max()
        };

        let widths: Vec<usize> = (0..self.headings.len())
            .map(|column| width(column).unwrap_or(0))
            .collect();
        shown
            .iter()
            .map(|row| aligned(row, &widths, colours))
            .collect()
    }

    /// Prints the table on standard output.
    pub fn print(&self) -> Result<()> {
        self.lines(colours()).iter().try_for_each(|text| line(text))
    }
}

fn aligned(row: &[(String, Tone)], widths: &[usize], colours: bool) -> String {
    let mut text = String::new();
    for (column, ((cell, tone), &width)) in row.iter().zip(widths).enumerate() {
        text.push_str(&tone.paint(cell, colours));
        if column + 1 < row.len() {
            text.extend(std::iter::repeat_n(
                ' ',
                width.saturating_sub(cells(cell)) + 2,
            ));
        }
    }

    text.truncate(text.trim_end_matches(' ').len());
    text
}

fn one_line(cell: &str) -> String {
    if cell.is_empty() {
        "-".to_owned()
    } else {
        printable(cell).replace('\t', " ")
    }
}

/// The width on a terminal, counted as one column per character, which is close enough for names.
fn cells(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_are_replaced() {
        let mut table = Table::new(["ID", "NAME"]);
        table.row(["1".to_owned(), "one".to_owned()]);
        table.row(["1000".to_owned(), "t\u{1b}[31mw\no".to_owned()]);
        table.row([String::new(), String::new()]);
        assert_eq!(
            table.lines(false),
            [
                "ID    NAME",
                "1     one",
                "1000  t\u{fffd}[31mw\u{fffd}o",
                "-     -"
            ]
        );
    }

    #[test]
    fn a_common_time_zone_moves_to_the_heading() {
        let table = |times: [&str; 3]| {
            let mut table = Table::new(["ID", "AT", "LEFT"]);
            times
                .iter()
                .for_each(|time| table.row(["1".to_owned(), (*time).to_owned(), String::new()]));
            table.times(&["AT", "LEFT"]);
            table.lines(false)
        };

        let (first, second) = ("2026-10-25 02:30:00 CEST", "2026-10-25 02:30:00 CET");
        assert_eq!(
            table([first, "", first])[..3],
            [
                "ID  AT (CEST)            LEFT",
                "1   2026-10-25 02:30:00  -",
                "1   -                    -"
            ]
        );

        assert_eq!(
            table([first, second, ""])[..2],
            [
                "ID  AT                        LEFT",
                "1   2026-10-25 02:30:00 CEST  -"
            ]
        );
    }

    #[test]
    fn colour_does_not_change_the_alignment() {
        let mut table = Table::new(["A", "B"]);
        table.toned([("ok".to_owned(), Tone::Good), ("x".to_owned(), Tone::Plain)]);
        assert_eq!(table.lines(true)[1], "\u{1b}[32mok\u{1b}[0m  x");
    }
}
