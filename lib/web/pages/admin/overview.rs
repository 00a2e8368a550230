//! The admin's start page: the state of everything, and the switches for it.

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::super::extract::FormFields;
use super::super::frame::{Frame, page};
use super::super::job;
use super::super::parts::JobLine;
use super::steam;
use crate::base::visible::visible;
use crate::base::{clock, secret};
use crate::db::builds::Available;
use crate::db::overview::{self, Servers, Shared};
use crate::db::poll::{self, Orphan, Poll};
use crate::db::queue::{self, Pause};
use crate::db::{builds, job_rows, jobs};
use crate::domain::job::JobState;
use crate::web::disk;
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;

const DAY: i64 = 86_400_000;
/// The number of recent jobs.
const RECENT: u32 = 10;
/// The longest reason, characters.
const REASON: usize = 500;

#[derive(Template)]
#[template(path = "admin/overview.html")]
struct OverviewPage {
    frame: Frame,
    tab: &'static str,
    key: String,
    found: Overview,
    build: Result<u64, String>,
    /// Whether the build that Steam publishes is another one.
    is_new: bool,
    install: steam::InstallOptions,
}

struct Overview {
    servers: Servers,
    waiting: i64,
    live: i64,
    day: Vec<(JobState, i64)>,
    pause: Option<Pause>,
    poll: Poll,
    orphans: Vec<Orphan>,
    shared: Option<(Shared, Option<(String, String)>)>,
    recent: Vec<JobLine>,
    available: Option<Available>,
}

pub(super) async fn show(SignedIn { app, viewer }: SignedIn) -> Result<Response, Failure> {
    let (root, now) = (app.settings.root.clone(), clock::now_ms());
    let steamcmd = app.settings.doctor.place.steamcmd.clone();

    let found = app.store.read(move |db| {
        let (waiting, live) = jobs::counts(db)?;
        let shared = match overview::shared_job(db)? {
            Some(shared) => {
                let progress = job::progress(db, shared.id)?;
                Some((shared, progress))
            }
            None => None,
        };

        Ok(Overview {
            servers: overview::servers(db)?,
            waiting,
            live,
            day: overview::jobs_since(db, now - DAY)?,
            pause: queue::pause(db)?,
            poll: poll::last(db)?,
            orphans: poll::orphans(db)?,
            shared,
            available: builds::available(db)?,
            recent: JobLine::all(job_rows::recent(db, None, RECENT)?, now),
        })
    });

    let found = found.await?;

    // The page works without the disk.
    let looked = disk::look(move || {
        (
            steam::build(&root),
            steam::nothing(&root, steamcmd.as_deref()),
        )
    });

    let (build, nothing) = looked
        .await
        .unwrap_or_else(|failure| (Err(failure.message), None));
    let install = steam::InstallOptions {
        nothing,
        mounted: found.servers.has_mounted(),
    };

    let is_new = found.available.is_some_and(|available| {
        build
            .as_ref()
            .map_or(true, |&build| available.is_new(build))
    });

    let frame = Frame::of(viewer, "Admin").within("admin");

    page(&OverviewPage {
        frame,
        tab: "overview",
        key: secret::random()?,
        found,
        build,
        is_new,
        install,
    })
}

/// Pauses or resumes the queue.
pub(super) async fn pause(
    SignedIn { app, viewer }: SignedIn,
    FormFields(switch): FormFields,
) -> Result<Response, Failure> {
    let (actor, reason) = (viewer.actor(), one_line(switch.raw("reason")));
    let now = clock::now_ms();
    match switch.raw("action") {
        "pause" => {
            let reason = Some(reason).filter(|reason| !reason.is_empty());
            app.store
                .write(move |tx| queue::set_paused(tx, now, &actor, reason.as_deref()))
                .await?;
        }
        "resume" => {
            app.store
                .write(move |tx| queue::set_resumed(tx, now, &actor))
                .await?;
            app.wake_worker();
        }
        _ => return Err(Failure::unprocessable("action is pause or resume")),
    }

    Ok(Redirect::to("/admin").into_response())
}

/// Makes one line of bounded length.
fn one_line(text: &str) -> String {
    let line: String = visible(text)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(REASON)
        .collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_reason_is_one_line_of_bounded_length() {
        assert_eq!(one_line(" disk\r\nfull\u{1b} "), "disk  full");
        assert_eq!(one_line(&"ä".repeat(9000)).chars().count(), 500);
    }
}
