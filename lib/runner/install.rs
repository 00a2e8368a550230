//! The verb `install`: runs steamcmd on a terminal, the first time with a windows pass before the
//! linux pass. It retries where that may help, and succeeds only when steamcmd reports success and
//! the manifest confirms it.

use std::io;
use std::path::Path;
use std::time::Duration;

use fs_err as fs;

use super::client_library::Needed;
use super::installation::Installation;
use super::retry::RetryPolicy;
use super::steamcmd::{Opened, Steamcmd, ended, open};
use super::{RunnerSettings, room};
use crate::base::config::BuildMode;
use crate::base::names::InstanceName;
use crate::base::overlay_check::Checked;
use crate::base::{Error, Result, filesystem};
use crate::domain::steam::{Cause, Failure, Heard, Pass, Success, Verdict, after};
use crate::process::{Outcome, Supervisor, overlay_mounts};
use crate::wire::{Builds, Stream};

struct Install<'a> {
    steam: Steamcmd<'a>,
}

/// The result of one attempt.
enum Attempt {
    Installed(u64),
    /// The request was cancelled, or a process is left that cannot be killed.
    Cancelled(Outcome),
    Failed(Failure, i32),
}

/// Installs or updates the game in ROOT/installation.
///
/// Fails if steamcmd is missing, an overlay is mounted over it, another steamcmd runs, or every attempt
/// failed; the last one has steamcmd's own exit code, or 1.
pub(super) fn run(supervisor: &mut Supervisor, settings: &RunnerSettings) -> Result<Outcome> {
    let mut steam = match open(supervisor, settings)? {
        Opened::Ready(steam) => steam,
        Opened::Cancelled(outcome) => return Ok(outcome),
    };

    if settings.builds.builds == BuildMode::InPlace {
        refuse_while_mounted(steam.root)?;
    }
    refuse_without_overlays(steam.supervisor, steam.root)?;
    room::ask(&mut steam, settings)?;

    let base = Duration::from_secs(settings.steam.steam_retry_seconds.into());
    let limit = Duration::from_secs(settings.steam.steam_rate_limit_seconds.into());
    let mut install = Install { steam };
    let outcome = install.retry(RetryPolicy::of_installation(base, limit));

    let steam = &mut install.steam;
    if outcome.is_err() {
        steam.provide_library(Needed::Later)?;
    }

    // A windows pass that changed nothing has left the Linux server intact.
    if steam.installation.is_unfinished() {
        if steam.installation.verify().is_ok() {
            steam.installation.mark_finished()?;
        } else {
            steam.say(
                "no linux pass followed the windows pass, and no server starts with \
                 Windows files: correct the cause above, then install again",
            );
        }
    }

    outcome
}

/// A game that no server could start is not worth some 9 GB. left4me-overlay-check.service ran just
/// before this program; where it could not, the file system's type has to do.
fn refuse_without_overlays(supervisor: &mut Supervisor, root: &Path) -> Result<()> {
    let why = match Checked::recent(root) {
        Some(checked) => {
            if let Some(message) = checked.limits() {
                supervisor.write_line(
                    Stream::Stderr,
                    &format!("{message}; `sudo left4me doctor` says what to do"),
                );
            }

            checked.refusal()
        }
        None => filesystem::unfit(&root.join("installation")).map(|kind| {
            format!(
                "{} is on {kind}, where no server's overlay can be mounted",
                root.display()
            )
        }),
    };

    let refused = |why| {
        Error::failed(format!(
            "nothing was downloaded: {why}; `sudo left4me doctor` says what to do"
        ))
    };

    why.map_or(Ok(()), |why| Err(refused(why)))
}

impl Install<'_> {
    /// Attempts the installation until it succeeds or the policy allows no retry.
    fn retry(&mut self, mut policy: RetryPolicy) -> Result<Outcome> {
        let mut from = self.first_pass();

        loop {
            let (failure, code) = match self.attempt(from)? {
                Attempt::Installed(build) => return self.finish(build),
                Attempt::Cancelled(outcome) => return Ok(outcome),
                Attempt::Failed(failure, code) => (failure, code),
            };

            let why = self.steam.explain(failure.cause, &failure.detail);
            if let Some(outcome) = self.steam.wait(&mut policy, failure.cause, &why, code)? {
                return Ok(outcome);
            }
            if failure.cause == Cause::Corrupt {
                self.clear()?;
            }
            from = failure.from;
        }
    }

    /// Only an installation that is no Linux server yet gets the windows pass.
    fn first_pass(&mut self) -> Pass {
        let installation = &self.steam.installation;
        if installation.is_of_windows() {
            let line = format!(
                "{} lists no files of a Linux server, as a windows pass leaves it: \
                 a windows pass and a linux pass follow",
                installation.manifest().display()
            );
            self.steam.say(&line);
            return Pass::Prime;
        }

        if installation.is_begun() {
            Pass::Linux
        } else {
            Pass::Prime
        }
    }

    fn finish(&mut self, build: u64) -> Result<Outcome> {
        let steam = &mut self.steam;
        steam.installation.mark_finished()?;
        steam.provide_library(Needed::Now)?;

        let directory = steam.installation.directory.display();
        let message = format!("installed: build {build} in {directory}");
        steam.say(&message);
        steam.supervisor.builds(Builds::installed(build));
        Ok(Outcome::exit(0))
    }

    /// Runs the passes from `from` on, then verifies the installation.
    fn attempt(&mut self, from: Pass) -> Result<Attempt> {
        let mut is_new = false;
        for &pass in from.and_later() {
            if pass == Pass::Windows && from == Pass::Prime && self.is_linux() {
                // A Linux server gets no Windows files, unless Steam insists.
                continue;
            }

            let before = self.steam.installation.stamp();
            let (outcome, heard) = match self.marked_pass(pass)? {
                (outcome, _) if ended(outcome) => return Ok(Attempt::Cancelled(outcome)),
                result => result,
            };

            match after(pass, outcome.code, &heard) {
                Verdict::Good(success) => {
                    let changed = self.steam.installation.stamp() != before;
                    is_new = success == Some(Success::UpToDate) || changed;
                    if success.is_some() && outcome.code != 0 {
                        let code = outcome.code;
                        let message = format!(
                            "{pass}: exit code {code} after its success; the manifest decides"
                        );
                        self.steam.say(&message);
                    }
                }
                Verdict::Failed(failure) => return Ok(Attempt::Failed(failure, outcome.code)),
            }
        }

        let verified = self
            .steam
            .installation
            .verify()
            .and_then(|build| match is_new {
                true => Ok(build),
                false => Err(format!(
                    "{} is older than this run",
                    self.steam.installation.manifest().display()
                )),
            });

        Ok(match verified {
            Ok(build) => Attempt::Installed(build),
            Err(detail) => {
                let failure = Failure {
                    cause: Cause::NoProof,
                    detail,
                    from: Pass::Linux,
                };

                Attempt::Failed(failure, 1)
            }
        })
    }

    /// Whether a Linux server was installed here before.
    fn is_linux(&self) -> bool {
        self.steam.installation.is_begun() && !self.steam.installation.is_of_windows()
    }

    /// One pass. A mark says that Windows files may be in the installation; a windows pass that
    /// changed nothing removes it.
    fn marked_pass(&mut self, pass: Pass) -> Result<(Outcome, Heard)> {
        let is_new = pass == Pass::Windows && self.steam.installation.mark_unfinished()?;
        let before = is_new.then(|| self.steam.installation.change_sum());

        let steam = &mut self.steam;
        let arguments = pass.arguments(&steam.installation.directory, steam.account.as_deref());
        let activity = |installation: &Installation| installation.change_sum();
        let result = steam.run(&arguments, steam.silence, &activity, &mut |_| false)?;
        if before.is_some_and(|before| steam.installation.change_sum() == before) {
            steam.installation.mark_finished()?;
        }
        Ok(result)
    }

    /// Removes the partial downloads that steamcmd would resume.
    fn clear(&mut self) -> Result<()> {
        for name in ["downloading", "temp"] {
            let path = self
                .steam
                .installation
                .directory
                .join("steamapps")
                .join(name);
            match fs::remove_dir_all(&path) {
                Ok(()) => {
                    self.steam.say(&format!("removed {}", path.display()));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }

        Ok(())
    }
}

/// Refuses while an overlay is mounted: changing the lower layer of a mounted overlay is undefined
/// behaviour (the kernel's overlayfs documentation). With builds beside each other the installation
/// is no layer of a running server; the worker asks for that, because this program sees no other
/// directory of left4me's.
fn refuse_while_mounted(root: &Path) -> Result<()> {
    let mounted = overlay_mounts::mounted(root)?;
    if mounted.is_empty() {
        return Ok(());
    }

    let names: Vec<&str> = mounted.iter().map(InstanceName::as_str).collect();
    Err(Error::conflict(format!(
        "the game is in use by server {}: stop it first, or use update",
        names.join(", ")
    )))
}
