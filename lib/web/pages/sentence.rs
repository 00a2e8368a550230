//! Events as English sentences. An unknown kind is shown by its name. Pure.

use super::sentences::SENTENCES;
use crate::base::names::{JobId, ServerId};
use crate::db::events::{Event, OUTSIDE};

/// A fragment of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    pub text: String,
    /// The target of its link.
    pub href: Option<String>,
}

/// All kinds with a sentence, for the filter's suggestions.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    SENTENCES.iter().map(|(kind, _)| *kind)
}

/// The event as a sentence without its full stop.
pub fn sentence(event: &Event, server_name: Option<&str>) -> Vec<Fragment> {
    let known = SENTENCES.iter().find(|(kind, _)| *kind == event.kind);
    let pattern = known.map_or("{who}: {kind}{on}{of}{: detail}", |(_, pattern)| *pattern);

    let mut parts: Vec<Fragment> = Vec::new();
    for piece in pattern.split('{') {
        let (name, rest) = piece.split_once('}').unwrap_or(("", piece));
        let is_first = parts.iter().all(|part| part.text.is_empty());
        parts.extend(filled(name, event, server_name, is_first));
        parts.push(plain(rest));
    }

    parts.retain(|part| !part.text.is_empty());
    parts
}

fn filled(name: &str, event: &Event, server_name: Option<&str>, is_first: bool) -> Vec<Fragment> {
    let first = |text: &str| {
        if is_first {
            capital(text)
        } else {
            text.to_owned()
        }
    };

    // The sentence already says who cancelled it, and the reason why.
    let repeats = event.kind == "task.cancelled" && event.detail.starts_with("cancelled ");

    let detail = if repeats { "" } else { event.detail.as_str() };
    match name {
        "who" => vec![plain(&match actor_name(&event.actor) {
            ActorName::Named(name) => name.to_owned(),
            ActorName::Words(words) => first(words),
        })],
        "kind" => vec![plain(&event.kind)],
        "job" => vec![
            event
                .job_id
                .map_or_else(|| plain(&first("a job")), |id| job(id, is_first)),
        ],
        "task" => vec![plain(&first(
            &event
                .task_id
                .map_or_else(|| "a task".to_owned(), |id| format!("task {id}")),
        ))],
        "server" => vec![match event.server_id {
            Some(id) => server(id, server_name, is_first),
            None => plain(&first("a unit that belongs to no server")),
        }],
        "on" => event.server_id.map_or_else(Vec::new, |id| {
            vec![plain(" on "), server(id, server_name, false)]
        }),
        "of" => event
            .job_id
            .map_or_else(Vec::new, |id| vec![plain(", "), job(id, false)]),
        "by" => match event.job_id {
            Some(id) => vec![
                job(id, false),
                plain(&format!(" of {}", name_of(&event.actor))),
            ],
            None if event.actor == OUTSIDE => vec![plain("itself or from outside")],
            None => vec![plain(name_of(&event.actor))],
        },
        "detail" => vec![plain(if detail.is_empty() { "?" } else { detail })],
        ": detail" if !detail.is_empty() => vec![plain(&format!(": {detail}"))],
        "(detail)" if !detail.is_empty() => vec![plain(&format!(" ({detail})"))],
        _ => Vec::new(),
    }
}

fn plain(text: &str) -> Fragment {
    Fragment {
        text: text.to_owned(),
        href: None,
    }
}

fn job(id: JobId, is_first: bool) -> Fragment {
    Fragment {
        text: format!("{} {id}", if is_first { "Job" } else { "job" }),
        href: Some(format!("/jobs/{id}")),
    }
}

/// The name with a link, or the id if the server no longer exists.
fn server(id: ServerId, name: Option<&str>, is_first: bool) -> Fragment {
    match name {
        Some(name) => Fragment {
            text: name.to_owned(),
            href: Some(format!("/servers/{id}")),
        },
        None => plain(&format!(
            "{} {id}",
            if is_first { "Server" } else { "server" }
        )),
    }
}

enum ActorName<'a> {
    Named(&'a str),
    Words(&'static str),
}

fn actor_name(actor: &str) -> ActorName<'_> {
    match actor {
        OUTSIDE => ActorName::Words("someone outside left4me"),
        "" => ActorName::Words("someone"),
        "left4me-worker" => ActorName::Words("the worker"),
        "left4me-poller" => ActorName::Words("the poller"),
        named => ActorName::Named(account(named)),
    }
}

fn name_of(actor: &str) -> &str {
    match actor_name(actor) {
        ActorName::Named(name) => name,
        ActorName::Words(words) => words,
    }
}

/// The account's name, without the prefix.
fn account(actor: &str) -> &str {
    actor
        .strip_prefix("web:")
        .or_else(|| actor.strip_prefix("api:"))
        .unwrap_or(actor)
}

/// Where an actor's request came from.
pub fn way(actor: &str) -> &'static str {
    match actor {
        OUTSIDE => "",
        _ if actor.starts_with("web:") => "web",
        _ if actor.starts_with("api:") => "API",
        _ if actor.starts_with("left4me-") => "",
        _ => "host",
    }
}

fn capital(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(rest).collect()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::base::names::TaskId;
    use crate::domain::fleet::event as fleet;
    use crate::domain::fleet::rollout::RolloutState;
    use crate::domain::job::JobState;
    use crate::domain::task::TaskState;

    fn event(kind: &str, actor: &str, detail: &str) -> Event {
        Event {
            id: 1,
            at: 1,
            kind: kind.to_owned(),
            actor: actor.to_owned(),
            job_id: Some(JobId(7)),
            task_id: Some(TaskId(9)),
            server_id: Some(ServerId(3)),
            detail: detail.to_owned(),
            reason: String::new(),
        }
    }

    fn said(event: &Event, name: Option<&str>) -> String {
        sentence(event, name)
            .into_iter()
            .map(|part| part.text)
            .collect()
    }

    #[test]
    fn sentences_name_actor_and_objects_and_lead_to_them() {
        let queued = event("job.queued", "web:anna", "start");
        assert_eq!(
            said(&queued, Some("Friday")),
            "anna requested job 7: start on Friday"
        );

        let links: Vec<String> = sentence(&queued, Some("Friday"))
            .into_iter()
            .filter_map(|part| part.href)
            .collect();
        assert_eq!(links, ["/jobs/7", "/servers/3"]);
        assert_eq!(
            said(&event("job.failed", "left4me-worker", ""), None),
            "Job 7 on server 3, requested by the worker, failed"
        );

        assert_eq!(
            said(&event("job.cancelling", "bert", "forced"), None),
            "bert requested to cancel job 7 (forced)"
        );

        assert_eq!(
            said(&event("task.skipped", "x", "start: no"), Some("F")),
            "Task 9 of job 7 on F was skipped: start: no"
        );

        let queued = event("task.cancelled", "bert", "cancelled by bert: why");
        assert_eq!(
            said(&queued, None),
            "Task 9 of job 7 on server 3 was cancelled by bert"
        );

        let alone = Event {
            job_id: None,
            ..event("server.stopped", OUTSIDE, "clean")
        };

        assert_eq!(
            said(&alone, Some("Friday")),
            "Friday stopped, by itself or from outside: clean"
        );

        assert_eq!(
            said(&event("server.started", "web:anna", "it runs"), None),
            "Server 3 started, by job 7 of anna: it runs"
        );

        let orphan = Event {
            job_id: None,
            server_id: None,
            ..event("server.drifted", OUTSIDE, "x.service is up")
        };

        assert_eq!(
            said(&orphan, None),
            "A unit that belongs to no server needs attention: x.service is up"
        );
    }

    #[test]
    fn an_unknown_kind_is_shown_with_all_that_is_known() {
        assert_eq!(
            said(&event("moon.landed", OUTSIDE, "softly"), None),
            "Someone outside left4me: moon.landed on server 3, job 7: softly"
        );
    }

    #[test]
    fn braces_in_an_events_text_are_not_placeholders() {
        assert_eq!(
            said(&event("queue.paused", "{job}", "{who} {"), None),
            "{job} paused the queue: {who} {"
        );
    }

    /// The kinds in the code: string literals `family.what` in files that write events, and all
    /// values of `family.{state}`.
    fn written_kinds() -> BTreeSet<String> {
        let mut kinds = BTreeSet::new();
        let mut waiting = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("lib")];
        while let Some(path) = waiting.pop() {
            if path.is_dir() {
                waiting.extend(
                    std::fs::read_dir(&path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            } else if path.extension().is_some_and(|end| end == "rs")
                && !path.ends_with("pages/sentence.rs")
                && !path.ends_with("tests.rs")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                if text.contains("NewEvent")
                    || text.contains("events::add(")
                    || text.contains("schedules::event(")
                    || text.contains("fn kind(&self)")
                {
                    let text = text
                        .lines()
                        .filter(|line| !line.contains("failpoint::hit"))
                        .collect::<Vec<_>>()
                        .join("\n");
                    text.split('"')
                        .for_each(|literal| kinds.extend(expanded(literal)));
                }
            }
        }

        kinds
    }

    fn expanded(literal: &str) -> Vec<String> {
        let word = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'-'))
        };

        // Shorter ones are table names in SQL.
        let is_family = |family: &str| family.len() > 2 && word(family);
        let Some((family, what)) = literal
            .split_once('.')
            .filter(|(family, _)| is_family(family))
        else {
            return Vec::new();
        };

        match (family, what.starts_with('{') && what.ends_with('}')) {
            ("job", true) => JobState::ALL
                .iter()
                .filter(|s| s.is_terminal())
                .map(|s| format!("job.{s}"))
                .collect(),
            ("task", true) => TaskState::ALL
                .iter()
                .filter(|s| s.is_terminal())
                .map(|s| format!("task.{s}"))
                .collect(),
            ("rollout", true) => RolloutState::ALL
                .iter()
                .filter(|s| s.has_ended())
                .map(|s| format!("rollout.{s}"))
                .collect(),
            (_, true) => vec![literal.to_owned()],
            _ if word(what) && !["html", "cfg", "env", "sock", "db"].contains(&what) => {
                vec![literal.to_owned()]
            }
            _ => Vec::new(),
        }
    }

    #[test]
    fn every_kind_that_the_code_writes_has_a_sentence() {
        let mut written = written_kinds();
        // The receipts of orders are constants.
        let receipts = [fleet::ACCEPTED, fleet::REFUSED, fleet::ENDED];
        written.extend(receipts.map(str::to_owned));
        assert!(
            written.len() > 25
                && written.contains("task.skipped")
                && written.contains("server.crashed"),
            "{written:?}"
        );

        let known: BTreeSet<String> = kinds().map(str::to_owned).collect();
        let missing: Vec<&String> = written.difference(&known).collect();
        assert!(
            missing.is_empty(),
            "no sentence for {missing:?}: give each one in sentences.rs"
        );

        let stale: Vec<&String> = known.difference(&written).collect();
        assert!(stale.is_empty(), "nothing writes {stale:?}");
        for kind in written {
            assert!(
                !said(&event(&kind, "anna", "x"), Some("Friday")).contains(&kind),
                "{kind}"
            );
        }
    }
}
