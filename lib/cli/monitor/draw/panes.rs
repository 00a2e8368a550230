//! Draws the lists and the tail of the selected job's log.

use std::borrow::Cow;

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, HighlightSpacing, Paragraph, Row, Table, TableState};

use super::{Theme, clean};
use crate::base::clock;
use crate::base::table::Tone;
use crate::cli::monitor::snapshot::Snapshot;
use crate::cli::monitor::state::{MonitorState, Pane};
use crate::db::monitor::ServerRow;
use crate::domain::game::Responding;
use crate::domain::job::JobState;
use crate::domain::server::{ActualState, DesiredState};
use crate::wire::Stream;

/// What all lists have in common.
pub struct ListStyle<'a> {
    pub theme: &'a Theme,
    pub headings: bool,
    /// Unix ms.
    pub now: i64,
    /// The date of `now`.
    pub today: &'a str,
    /// The name of the time zone at that time.
    pub zone: &'a str,
}

impl ListStyle<'_> {
    /// The zone for a list's title, if there are no headings.
    pub(super) fn zone_in_title(&self) -> String {
        if self.headings {
            String::new()
        } else {
            format!(", times in {}", self.zone)
        }
    }

    /// The width of a column of times with the zone in its heading.
    pub(super) fn time_width(&self, heading: &str) -> u16 {
        u16::try_from(heading.len() + 1 + self.zone.len())
            .unwrap_or(0)
            .max(10)
    }
}

/// The headings, with the zone after the one named `times`.
pub(super) fn headings(
    headings: &[&'static str],
    times: &str,
    style: &ListStyle<'_>,
) -> Vec<Cow<'static, str>> {
    let heading = |&heading: &&'static str| match heading == times {
        true => Cow::Owned(format!("{heading} {}", style.zone)),
        false => Cow::Borrowed(heading),
    };
    headings.iter().map(heading).collect()
}

pub(super) struct List<'a> {
    pub(super) title: String,
    pub(super) headings: Vec<Cow<'static, str>>,
    pub(super) widths: Vec<Constraint>,
    pub(super) rows: Vec<Row<'a>>,
    /// Shown in place of the rows if there are none.
    pub(super) empty: &'static str,
    pub(super) has_focus: bool,
}

impl List<'_> {
    /// Draws the list with the selected row visible; returns the first visible row.
    pub(super) fn draw(
        self,
        frame: &mut Frame<'_>,
        area: Rect,
        style: &ListStyle<'_>,
        selected: Option<usize>,
        offset: usize,
    ) -> usize {
        let block = titled(style.theme, &self.title, self.has_focus);
        if self.rows.is_empty() {
            frame.render_widget(
                Paragraph::new(format!("  {}", self.empty)).block(block),
                area,
            );

            return 0;
        }

        let highlight = if self.has_focus {
            Modifier::REVERSED
        } else {
            Modifier::BOLD
        };

        let mut table = Table::new(self.rows, self.widths)
            .block(block)
            .row_highlight_style(Style::new().add_modifier(highlight))
            .highlight_symbol("> ")
            .highlight_spacing(HighlightSpacing::Always);

        if style.headings {
            table = table
                .header(Row::new(self.headings).style(Style::new().add_modifier(Modifier::BOLD)));
        }

        let mut position = TableState::new()
            .with_offset(offset)
            .with_selected(selected);
        frame.render_stateful_widget(table, area, &mut position);
        position.offset()
    }
}

fn titled<'a>(theme: &Theme, title: &str, has_focus: bool) -> Block<'a> {
    let style = if has_focus {
        theme.strong(Tone::Plain).add_modifier(Modifier::REVERSED)
    } else {
        theme.strong(Tone::Plain)
    };

    Block::new()
        .borders(Borders::TOP)
        .border_set(theme.border())
        .title(Span::styled(format!(" {title} "), style))
}

/// Draws the servers with desired state, actual state, players and drift.
pub fn servers(
    frame: &mut Frame<'_>,
    area: Rect,
    snapshot: &Snapshot,
    state: &mut MonitorState,
    style: &ListStyle<'_>,
) {
    // Until a game has answered, notes need the room more.
    let has_players = snapshot
        .servers
        .iter()
        .any(|server| !players(server).is_empty());
    let mut columns = vec![
        ("ID", Constraint::Length(4)),
        ("NAME", Constraint::Length((area.width / 6).clamp(12, 30))),
        ("DESIRED", Constraint::Length(7)),
        ("ACTUAL", Constraint::Length(8)),
    ];
    columns.extend(has_players.then_some(("PLAYERS", Constraint::Length(7))));
    columns.extend([
        ("SINCE", Constraint::Length(style.time_width("SINCE"))),
        ("DRIFT", Constraint::Length(8)),
        ("NOTE", Constraint::Fill(1)),
    ]);
    let (names, widths): (Vec<_>, Vec<_>) = columns.into_iter().unzip();

    let drifted = snapshot.drifted();
    let list = List {
        title: match drifted {
            0 => format!(
                "Servers: {}{}",
                snapshot.servers.len(),
                style.zone_in_title()
            ),
            drifted => format!(
                "Servers: {}, {drifted} drifted{}",
                snapshot.servers.len(),
                style.zone_in_title()
            ),
        },
        headings: headings(&names, "SINCE", style),
        widths,
        rows: snapshot
            .servers
            .iter()
            .map(|server| server_row(server, has_players, snapshot, style))
            .collect(),
        empty: "none; create one with `left4me server create`",
        has_focus: state.pane == Pane::Servers,
    };

    let selected = state.servers.index(&snapshot.server_ids());
    state.servers.offset = list.draw(frame, area, style, selected, state.servers.offset);
}

fn server_row(
    server: &ServerRow,
    has_players: bool,
    snapshot: &Snapshot,
    style: &ListStyle<'_>,
) -> Row<'static> {
    let tone = match (server.desired, server.actual) {
        (DesiredState::Running, ActualState::Running) => Tone::Good,
        (_, ActualState::Failed) => Tone::Bad,
        (_, ActualState::Starting | ActualState::Stopping | ActualState::Unknown) => Tone::Warning,
        _ if server.drift.is_some() => Tone::Warning,
        _ => Tone::Plain,
    };

    let drift = server
        .drift
        .as_ref()
        .map_or_else(|| "-".to_owned(), |drift| drift.kind.to_string());
    let drift_style = if server.drift.is_some() {
        style.theme.strong(Tone::Bad)
    } else {
        Style::new()
    };

    let mut cells = vec![
        Cell::new(server.id.to_string()),
        Cell::new(clean(&server.name)),
        Cell::new(server.desired.as_str()),
        Cell::new(Span::styled(server.actual.as_str(), style.theme.tone(tone))),
    ];
    cells.extend(has_players.then(|| Cell::new(players(server))));
    cells.extend([
        Cell::new(
            server
                .since
                .map_or_else(|| "-".to_owned(), |since| moment(since, style)),
        ),
        Cell::new(Span::styled(drift, drift_style)),
        Cell::new(clean(&note(server, snapshot, style))),
    ]);
    Row::new(cells)
}

/// `3/8`, or `silent` if the game does not answer; empty while nothing is known.
pub(super) fn players(server: &ServerRow) -> String {
    match (server.players, server.max_players, server.responding) {
        (Some(players), Some(places), _) => format!("{players}/{places}"),
        (_, _, Some(Responding::No)) => "silent".to_owned(),
        _ => String::new(),
    }
}

/// The server's job, and the reason for its drift or its last error.
fn note(server: &ServerRow, snapshot: &Snapshot, style: &ListStyle<'_>) -> String {
    let mut notes = Vec::new();
    if let Some(busy) = snapshot.busy.get(&server.id) {
        notes.push(format!(
            "job {} {} {}",
            busy.job, busy.operation, busy.state
        ));
    }

    match (&server.drift, &server.last_error) {
        (Some(drift), _) => notes.push(format!(
            "since {}: {}",
            moment(drift.since, style),
            drift.why
        )),
        (None, Some(error)) => notes.push(error.clone()),
        (None, None) => {}
    }

    notes.join("; ")
}

/// Draws the end of the selected job's log.
pub fn tail(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, theme: &Theme) {
    let Some(job) = &snapshot.selected else {
        frame.render_widget(titled(theme, "Log", false), area);
        return;
    };

    let block = titled(
        theme,
        &format!(
            "Log of job {} ({}, {})",
            job.id,
            clean(&job.what()),
            job.state
        ),
        false,
    );

    let rows = usize::from(block.inner(area).height);
    let first = snapshot.tail.len().saturating_sub(rows);
    let mut lines: Vec<Line<'_>> = snapshot.tail[first..]
        .iter()
        .map(|line| log_line(line, theme))
        .collect();

    if lines.is_empty() {
        let text = match &job.waiting {
            Some(waiting) => clean(&format!("the job waits: {waiting}")),
            None if job.state == JobState::Queued => "the job is queued".to_owned(),
            None => "no output yet".to_owned(),
        };

        lines.push(Line::raw(format!("  {text}")));
    }

    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// A line of a log; standard error has its own colour.
pub fn log_line(line: &crate::db::logs::Line, theme: &Theme) -> Line<'static> {
    let tone = if line.stream == Stream::Stderr {
        Tone::Warning
    } else {
        Tone::Plain
    };
    Line::styled(clean(&line.line), theme.tone(tone))
}

/// The time of day if it is today, else the date. Unlike "5 minutes ago", it does not go stale. A
/// time from before the clocks changed today names its own zone.
pub(super) fn moment(at: i64, style: &ListStyle<'_>) -> String {
    let day = clock::day(at);
    if day != style.today {
        return day;
    }

    let (time, zone) = (clock::time_of_day(at), clock::zone_name(at));
    if zone == style.zone {
        time
    } else {
        format!("{} {zone}", &time[..5.min(time.len())])
    }
}
