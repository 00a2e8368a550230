//! The doctor's findings, as far as the web front's sandbox allows.

use askama::Template;
use axum::response::Response;

use super::super::frame::{Frame, page};
use crate::base::clock;
use crate::base::config::CommandSockets;
use crate::doctor::{self, DoctorPaths, Finding, Report, Severity};
use crate::web::disk;
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;

#[derive(Template)]
#[template(path = "admin/health.html")]
struct HealthPage {
    frame: Frame,
    tab: &'static str,
    report: Report,
    failed: usize,
    warned: usize,
}

impl HealthPage {
    /// The class and the text of a finding's badge.
    fn state(finding: &Finding) -> (&'static str, &'static str) {
        match finding.severity {
            Severity::Ok => ("good", "ok"),
            Severity::Skip => ("queued", "skip"),
            Severity::Warn => ("queued", "look"),
            Severity::Fail => ("failed", "fail"),
        }
    }
}

pub(super) async fn show(SignedIn { app, viewer }: SignedIn) -> Result<Response, Failure> {
    let settings = &app.settings;
    let places = DoctorPaths {
        root: settings.root.clone(),
        database: app.store.path().to_owned(),
        worker_socket: settings.worker_socket.clone(),
        sockets: CommandSockets {
            helper_socket: settings.helper_socket.clone(),
            runner_socket: settings.runner_socket.clone(),
            publisher_socket: settings.publisher_socket.clone(),
        },
        looks: settings.doctor.clone(),
    };

    let mut report = disk::look(move || doctor::in_sandbox(&places, clock::now_ms())).await?;

    // Failures first.
    report
        .findings
        .sort_by_key(|finding| std::cmp::Reverse(finding.severity));

    let number = |severity| {
        report
            .findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    };

    let (failed, warned) = (number(Severity::Fail), number(Severity::Warn));
    let frame = Frame::of(viewer, "Health").within("admin");
    page(&HealthPage {
        frame,
        tab: "health",
        report,
        failed,
        warned,
    })
}
