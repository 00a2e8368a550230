//! Logging. If standard error is the journal, each event goes there with its fields
//! (`journalctl LEFT4ME_JOB_ID=7`). If the journal's socket is out of reach, as in the runner's
//! sandbox, an event is a line on standard error with a level prefix, which journald reads.
//! Elsewhere it is a readable line.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use log::Log as _;
use systemd_journal_logger::{JournalLog, connected_to_journal};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Result;
use super::output::printable;
use super::visible::visible;

/// Logs an event: a warning if something is wrong, info otherwise.
macro_rules! info_or_warn {
    ($is_wrong:expr, $($event:tt)+) => {
        if $is_wrong {
            tracing::warn!($($event)+);
        } else {
            tracing::info!($($event)+);
        }
    };
}

pub(crate) use info_or_warn;

/// Starts logging for this process, at `level` and above. A second call does nothing.
pub fn start(level: LevelFilter) {
    let registry = tracing_subscriber::registry().with(level);
    let is_journal = connected_to_journal();
    let journal = if is_journal {
        JournalLog::new().ok()
    } else {
        None
    };

    let started = match journal {
        Some(journal) => registry
            .with(Journald {
                journal: Some(journal),
            })
            .try_init(),
        None if is_journal => registry.with(Journald { journal: None }).try_init(),
        None => {
            let lines = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_target(false)
                .with_ansi(
                    std::env::var_os("NO_COLOR").is_none()
                        && std::io::IsTerminal::is_terminal(&std::io::stderr()),
                )
                .without_time();

            registry.with(lines).try_init()
        }
    };

    drop(started);
}

/// The exit code of a service; a failure is logged as an error.
pub fn exit_code(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit.code())
        }
    }
}

/// Sends each event to the journal, with its own fields and those of its spans. A field `job_id`
/// becomes `LEFT4ME_JOB_ID`.
struct Journald {
    /// None if the journal can be reached only through standard error.
    journal: Option<JournalLog>,
}

/// The fields of an event, or of a span for the events inside it.
#[derive(Default)]
struct Fields {
    message: String,
    pairs: Vec<(String, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.pairs.push((
                format!("LEFT4ME_{}", field.name().to_ascii_uppercase()),
                format!("{value:?}"),
            ));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.pairs.push((
                format!("LEFT4ME_{}", field.name().to_ascii_uppercase()),
                value.to_owned(),
            ));
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Journald {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.pairs.extend(outer.pairs.iter().cloned());
            }
        }

        // `journalctl -u` shows only the message, not the fields, so the error is added to it.
        let error = fields
            .pairs
            .iter()
            .find(|(key, _)| key == "LEFT4ME_ERROR")
            .map(|(_, text)| text.clone());
        let message = match error {
            Some(text) => format!("{}: {text}", fields.message),
            None => std::mem::take(&mut fields.message),
        };

        // journalctl prints deceptive characters unchanged. The fields keep the original text for
        // programs.
        let message = visible(&message);
        let metadata = event.metadata();
        let Some(journal) = &self.journal else {
            // A failure here cannot be reported anywhere.
            std::io::stderr()
                .lock()
                .write_all(prefixed(*metadata.level(), &message, &fields.pairs).as_bytes())
                .ok();
            return;
        };

        journal.log(
            &log::Record::builder()
                .level(level(*metadata.level()))
                .target(metadata.target())
                .module_path(metadata.module_path())
                .file(metadata.file())
                .line(metadata.line())
                .key_values(&fields.pairs)
                .args(format_args!("{message}"))
                .build(),
        );
    }
}

/// One line for journald: the level prefix of sd-daemon(3), the message, and the fields that are
/// not in the message.
fn prefixed(level: Level, message: &str, pairs: &[(String, String)]) -> String {
    let number = match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    };

    let mut line = format!("<{number}>{}", printable(message));
    let fields: Vec<String> = pairs
        .iter()
        .filter(|(key, _)| key != "LEFT4ME_ERROR")
        .map(|(key, value)| format!("{key}={}", printable(value)))
        .collect();

    if !fields.is_empty() {
        line.push_str(&format!(" ({})", fields.join(" ")));
    }

    line.push('\n');
    line
}

fn level(level: Level) -> log::Level {
    match level {
        Level::ERROR => log::Level::Error,
        Level::WARN => log::Level::Warn,
        Level::INFO => log::Level::Info,
        Level::DEBUG => log::Level::Debug,
        Level::TRACE => log::Level::Trace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_for_journald_is_one_line_with_a_level() {
        let pairs = [
            ("LEFT4ME_PEER_UID".to_owned(), "997".to_owned()),
            ("LEFT4ME_ERROR".to_owned(), "x".to_owned()),
        ];

        assert_eq!(
            prefixed(Level::WARN, "refused", &pairs),
            "<4>refused (LEFT4ME_PEER_UID=997)\n"
        );

        assert_eq!(prefixed(Level::INFO, "a\n<0>b", &[]), "<6>a\u{fffd}<0>b\n");
    }
}
