//! The monitor's panes of jobs and of the queue.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::Span;
use ratatui::widgets::{Cell, Row};

use super::clean;
use super::panes::{List, ListStyle, headings, moment};
use crate::base::clock;
use crate::base::table::Tone;
use crate::cli::monitor::snapshot::{JobProgress, Snapshot};
use crate::cli::monitor::state::{MonitorState, Pane};
use crate::db::job_rows::JobRow;
use crate::domain::job::JobState;

/// Draws the running jobs with their progress, and the finished ones below.
pub fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    snapshot: &Snapshot,
    state: &mut MonitorState,
    style: &ListStyle<'_>,
) {
    let bar = usize::from(area.width / 10).clamp(8, 30);
    let list = List {
        title: format!("Jobs: {} running", snapshot.live),
        headings: headings(
            &[
                "ID",
                "OPERATION",
                "STATE",
                "SERVERS",
                "DURATION",
                "PROGRESS",
            ],
            "",
            style,
        ),
        widths: vec![
            Constraint::Length(6),
            Constraint::Length(10),
            Constraint::Length(10),
            Constraint::Length((area.width / 6).clamp(10, 30)),
            Constraint::Length(12),
            Constraint::Fill(1),
        ],
        rows: snapshot
            .jobs
            .iter()
            .map(|job| job_row(job, snapshot.progress.get(&job.id), bar, style))
            .collect(),
        empty: "none yet; start with `left4me-job enqueue install`",
        has_focus: state.pane == Pane::Jobs,
    };

    let selected = state.jobs.index(&snapshot.job_ids());
    state.jobs.offset = list.draw(frame, area, style, selected, state.jobs.offset);
}

fn job_row(
    job: &JobRow,
    progress: Option<&JobProgress>,
    bar: usize,
    style: &ListStyle<'_>,
) -> Row<'static> {
    let text = progress.map_or_else(
        || job.error.clone().unwrap_or_default(),
        |progress| progress_text(progress, bar),
    );
    let text = match &job.detail {
        Some(detail) => format!("{detail} {text}"),
        None => text,
    };

    Row::new([
        Cell::new(job.id.to_string()),
        Cell::new(clean(&job.operation)),
        Cell::new(Span::styled(
            job.state.as_str(),
            style.theme.tone(tone_of(job.state)),
        )),
        Cell::new(servers_of(job)),
        Cell::new(duration(job, style.now)),
        Cell::new(clean(&text)),
    ])
}

fn tone_of(state: JobState) -> Tone {
    match state {
        JobState::Running | JobState::Succeeded => Tone::Good,
        JobState::Cancelling | JobState::Cancelled => Tone::Warning,
        JobState::Failed => Tone::Bad,
        JobState::Queued => Tone::Plain,
    }
}

/// `[====>     ]  45 % downloading` or `[=====>    ] 1/2 start`, after who cancels the job.
fn progress_text(progress: &JobProgress, bar: usize) -> String {
    let tasks = &progress.tasks;
    let doing = tasks.doing.join(", ");
    let installs = tasks.doing.iter().any(|kind| kind == "install-runtime");
    let mut text = match &progress.steam {
        Some((percent, phase)) if installs => {
            format!(
                "{} {percent:3.0} % {phase}",
                drawn_bar(percent / 100.0, bar)
            )
        }
        _ => {
            let share = if tasks.all > 0 {
                tasks.done as f64 / tasks.all as f64
            } else {
                0.0
            };

            format!(
                "{} {}/{} {doing}",
                drawn_bar(share, bar),
                tasks.done,
                tasks.all
            )
        }
    };

    if let Some(who) = &progress.cancelled {
        text = format!("by {who} {text}");
    }

    text
}

fn drawn_bar(share: f64, width: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * width as f64) as usize;
    let tip = usize::from(full < width);
    format!(
        "[{}{}{}]",
        "=".repeat(full),
        ">".repeat(tip),
        " ".repeat(width - full - tip)
    )
}

/// Its servers, and what it does besides.
fn queued_for(job: &JobRow) -> String {
    match &job.detail {
        Some(detail) => format!("{} ({detail})", servers_of(job)),
        None => servers_of(job),
    }
}

/// Draws the head of the queue.
pub fn draw_queue(
    frame: &mut Frame<'_>,
    area: Rect,
    snapshot: &Snapshot,
    state: &mut MonitorState,
    style: &ListStyle<'_>,
) {
    let shown = if snapshot.queued > snapshot.queue.len() as i64 {
        format!(", the first {}", snapshot.queue.len())
    } else {
        String::new()
    };

    let paused = if snapshot.pause.is_some() {
        ", paused"
    } else {
        ""
    };

    let rows = (1..)
        .zip(&snapshot.queue)
        .map(|(position, job): (usize, _)| {
            // A job that waits for a condition has no place in the queue.
            let (place, servers) = match &job.waiting {
                Some(waiting) => ("-".to_owned(), clean(&format!("waiting: {waiting}"))),
                None => (format!("#{position}"), clean(&queued_for(job))),
            };
            Row::new([
                Cell::new(place),
                Cell::new(job.id.to_string()),
                Cell::new(clean(&job.operation)),
                Cell::new(servers),
                Cell::new(clean(&job.requested_by)),
                Cell::new(moment(job.created_at, style)),
            ])
        });

    let list = List {
        title: format!(
            "Queue: {}{shown}{paused}{}",
            snapshot.waiting(),
            style.zone_in_title()
        ),
        headings: headings(
            &["POS", "ID", "OPERATION", "SERVERS", "BY", "QUEUED"],
            "QUEUED",
            style,
        ),
        widths: vec![
            Constraint::Length(5),
            Constraint::Length(6),
            Constraint::Length(10),
            Constraint::Fill(1),
            Constraint::Length((area.width / 6).clamp(10, 20)),
            Constraint::Length(style.time_width("QUEUED")),
        ],
        rows: rows.collect(),
        empty: "empty",
        has_focus: state.pane == Pane::Queue,
    };

    let selected = state.queue.index(&snapshot.queue_ids());
    state.queue.offset = list.draw(frame, area, style, selected, state.queue.offset);
}

/// The servers' names, shortened to fit the column.
fn servers_of(job: &JobRow) -> String {
    let names: Vec<String> = job
        .servers
        .iter()
        .map(|server| {
            server
                .name
                .clone()
                .unwrap_or_else(|| format!("#{}", server.id))
        })
        .collect();
    let shown = clean(&names.join(", "));

    match job.more {
        0 if shown.is_empty() => "-".to_owned(),
        0 => shown,
        more => format!(
            "{} servers: {shown} and {more} more",
            names.len() as i64 + more
        ),
    }
}

/// How long the job ran, or has been running.
fn duration(job: &JobRow, now: i64) -> String {
    match (job.started_at, job.finished_at) {
        (Some(started), Some(finished)) => clock::span(finished - started),
        // In whole seconds, so that it changes only with the tick.
        (Some(started), None) => clock::span((now - started).max(0) / 1000 * 1000),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::monitor::Tasks;

    #[test]
    fn an_installation_shows_a_percentage_and_other_jobs_their_tasks() {
        let doing = |kind: &str| Tasks {
            done: 1,
            all: 4,
            doing: vec![kind.to_owned()],
        };

        let steam = Some((45.32, "downloading".to_owned()));
        let progress = |kind, cancelled| JobProgress {
            tasks: doing(kind),
            steam: steam.clone(),
            cancelled,
        };

        assert_eq!(
            progress_text(&progress("install-runtime", None), 10),
            "[====>     ]  45 % downloading"
        );

        assert_eq!(
            progress_text(&progress("start-if-ran", None), 10),
            "[==>       ] 1/4 start-if-ran"
        );

        let by = Some("anna: match".to_owned());
        assert_eq!(
            progress_text(&progress("stop", by), 10),
            "by anna: match [==>       ] 1/4 stop"
        );

        assert_eq!(
            [drawn_bar(0.0, 3), drawn_bar(0.99, 3), drawn_bar(1.0, 3)],
            ["[>  ]", "[==>]", "[===]"]
        );
    }
}
