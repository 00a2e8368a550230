//! The verb `check`: asks Steam which build of the game is published, and reads which one is
//! installed. It changes nothing of the game; steamcmd may update itself.

use std::time::Duration;

use super::client_library::Needed;
use super::retry::RetryPolicy;
use super::steamcmd::{Opened, Steamcmd, ended, open};
use super::{RunnerSettings, room};
use crate::base::Result;
use crate::domain::steam::{AppInfo, Published, question};
use crate::process::{Outcome, Supervisor};
use crate::wire::Builds;

/// How long steamcmd may be silent: unlike an installation, it has nothing to do but to answer.
const SILENCE: Duration = Duration::from_secs(120);

/// Sends the builds that are published and installed.
///
/// Fails if steamcmd is missing, another one runs, or every attempt failed; the last one has
/// steamcmd's own exit code, or 1.
pub(super) fn run(supervisor: &mut Supervisor, settings: &RunnerSettings) -> Result<Outcome> {
    let mut steam = match open(supervisor, settings)? {
        Opened::Ready(steam) => steam,
        Opened::Cancelled(outcome) => return Ok(outcome),
    };

    let base = Duration::from_secs(settings.steam.steam_retry_seconds.into());
    let asked = ask(&mut steam, RetryPolicy::of_question(base));
    if !matches!(asked, Ok(Asked::Cancelled(_))) {
        steam.provide_library(Needed::Later)?;
    }
    let published = match asked? {
        Asked::Published(published) => published,
        Asked::Cancelled(outcome) => return Ok(outcome),
    };

    room::remember(steam.root, published.build, published.size)?;
    let (installed, flaw) = match installed(&steam) {
        Ok(build) => (Some(build), None),
        Err(flaw) => (None, flaw),
    };
    steam.supervisor.builds(Builds {
        available: published.build,
        published_at: published.at.map(|seconds| seconds.saturating_mul(1000)),
        installed,
        flaw,
        size: published.size,
    });
    Ok(Outcome::exit(0))
}

enum Asked {
    Published(Published),
    Cancelled(Outcome),
}

fn ask(steam: &mut Steamcmd<'_>, mut policy: RetryPolicy) -> Result<Asked> {
    let arguments = question(steam.account.as_deref());
    let silence = steam.silence.min(SILENCE);
    let (mut info, mut has_failed) = (AppInfo::default(), false);

    loop {
        info.begin(has_failed);
        let run = steam.run(&arguments, silence, &|_| 0, &mut |line| info.line(line));
        let (outcome, heard) = match run? {
            (outcome, _) if ended(outcome) => return Ok(Asked::Cancelled(outcome)),
            result => result,
        };
        info.end();
        has_failed = heard.has_failed();

        let (cause, detail) = match info.published(outcome.code, &heard) {
            Ok(published) => return Ok(Asked::Published(published)),
            Err(failure) => failure,
        };
        let why = steam.explain(cause, &detail);
        if let Some(outcome) = steam.wait(&mut policy, cause, &why, outcome.code)? {
            return Ok(Asked::Cancelled(outcome));
        }
    }
}

/// The installed build, if the installation is proved to be whole; else what it lacks, or nothing
/// where nothing is installed.
fn installed(steam: &Steamcmd<'_>) -> Result<u64, Option<String>> {
    let installation = &steam.installation;
    if installation.is_unfinished() {
        return Err(Some("it holds Windows files".to_owned()));
    }
    if !installation.is_begun() {
        return Err(None);
    }
    installation.verify().map_err(Some)
}
