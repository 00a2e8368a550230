//! The admin's start page: the state of everything, and the switches for it.

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::super::extract::FormFields;
use super::super::frame::{Frame, page};
use super::super::job;
use super::super::parts::JobLine;
use super::steam;
use crate::base::config::BuildMode;
use crate::base::visible::visible;
use crate::base::{clock, secret};
use crate::db::builds::{Available, Rejected};
use crate::db::overview::{self, Servers, Shared};
use crate::db::poll::{self, Orphan, Poll};
use crate::db::queue::{self, Pause};
use crate::db::{self, job_rows, jobs};
use crate::domain::job::JobState;
use crate::web::builds;
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
    /// Why updates leave it alone.
    rejected: Option<Rejected>,
    in_place: bool,
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
    /// Why updates leave the available build alone.
    rejected: Option<Rejected>,
}

pub(super) async fn show(SignedIn { app, viewer }: SignedIn) -> Result<Response, Failure> {
    let now = clock::now_ms();
    let found = app.store.read(move |db| {
        let (waiting, live) = jobs::counts(db)?;
        let shared = match overview::shared_job(db)? {
            Some(shared) => {
                let progress = job::progress(db, shared.id)?;
                Some((shared, progress))
            }
            None => None,
        };

        let available = db::builds::available(db)?;
        Ok(Overview {
            servers: overview::servers(db)?,
            waiting,
            live,
            day: overview::jobs_since(db, now - DAY)?,
            pause: queue::pause(db)?,
            poll: poll::last(db)?,
            orphans: poll::orphans(db)?,
            shared,
            rejected: match available {
                Some(available) => db::builds::rejection(db, available.build)?,
                None => None,
            },
            available,
            recent: JobLine::all(job_rows::recent(db, None, RECENT)?, now),
        })
    });

    let mut found = found.await?;

    let in_place = app.settings.build_mode == BuildMode::InPlace;
    let (build, nothing) = steam::look(&app).await;
    let is_published = builds::current(&app).await.is_some();
    let install = steam::InstallOptions {
        nothing,
        // Running servers use a published build, which an install leaves alone.
        mounted: found.servers.has_mounted() && (in_place || !is_published),
    };
    let is_new = steam::is_new(found.available, &build);
    let rejected = found.rejected.take().filter(|_| is_new);

    let frame = Frame::of(viewer, "Admin").within("admin");

    page(&OverviewPage {
        frame,
        tab: "overview",
        key: secret::random()?,
        found,
        build,
        is_new,
        rejected,
        in_place,
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
