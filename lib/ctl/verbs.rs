//! Carries out the verbs of l4d2ctl.

use std::path::PathBuf;

use serde::Serialize;

use super::client::{print, print_stderr, send};
use crate::base::config::CommandSockets;
use crate::base::names::{InstanceName, server_unit};
use crate::base::output::{json, line};
use crate::base::{Error, Result};
use crate::domain::blueprint::Spec;
use crate::domain::server::ActualState;
use crate::domain::unit::Unit;
use crate::host::instance::{self, Initialized};
use crate::host::{installation, mounts, units};
use crate::wire::{HelperRequest, RunnerRequest, Stream};

/// What the verbs need: the data directory and the two sockets.
pub(super) struct Control {
    pub(super) root: PathBuf,
    pub(super) hands: CommandSockets,
}

/// The output of `status`.
#[derive(Serialize)]
struct Status<'a> {
    name: &'a InstanceName,
    unit: String,
    actual_state: ActualState,
    active_state: String,
    sub_state: String,
    result: String,
    enabled: Option<bool>,
    initialized: bool,
    mounted: bool,
}

impl Control {
    /// overlayfs does not define what happens when a lower layer changes, so no overlay may be
    /// mounted.
    pub(super) fn install(&self) -> Result<()> {
        let mounted = mounts::overlays_mounted(&self.root)?;
        if !mounted.is_empty() {
            let names: Vec<&str> = mounted.iter().map(InstanceName::as_str).collect();
            return Err(Error::conflict(format!(
                "the overlay of {} is mounted: stop it first, or use `left4me-job enqueue update`, \
                which \
                 stops and restarts servers",
                names.join(", ")
            )));
        }

        print(
            &self.hands.runner_socket,
            &RunnerRequest::Install {},
            "install",
        )?;

        line("the game is installed")
    }

    pub(super) fn initialize(&self, name: &InstanceName, spec: &Spec) -> Result<()> {
        match instance::initialize(&self.root, name, spec, || Ok(()))? {
            Initialized::Written => line(&format!(
                "instance {name}: settings and configuration written"
            )),
            Initialized::Unchanged => line(&format!("instance {name} is up to date")),
            Initialized::InUse => Err(Error::conflict(format!(
                "the overlay of instance {name} is mounted, so nothing was changed: run `l4d2ctl \
                stop \
                 {name}`, initialize again, then `l4d2ctl start {name}`"
            ))),
        }
    }

    pub(super) fn start(&self, name: &InstanceName) -> Result<()> {
        if !instance::is_initialized(&self.root, name) {
            return Err(self.missing(name));
        }

        installation::refuse_unfinished(&self.root)
            .map_err(|error| error.within(format!("instance {name}")))?;
        let enabled = self.helper(
            &HelperRequest::Enable {
                server: name.clone(),
                observe: false,
            },
            &format!("start {name}"),
        );

        // systemctl reports that the start failed; the unit's properties say why.
        if let Err(error) = enabled {
            let why = units::why_failed(|| self.observe(name));
            return Err(match why {
                Some(end) => error.because(format!("{end}; see `l4d2ctl logs {name}`")),
                None => error,
            });
        }

        let unit = self.observe(name)?;
        if !unit.is_up() {
            return Err(Error::failed(format!(
                "instance {name} is not up after its start ({}): see `l4d2ctl logs {name}`",
                unit.why_not_up()
            )));
        }

        line(&format!(
            "instance {name} is {} ({})",
            unit.actual(),
            unit.message()
        ))
    }

    pub(super) fn stop(&self, name: &InstanceName) -> Result<()> {
        self.helper(
            &HelperRequest::Disable {
                server: name.clone(),
                observe: false,
            },
            &format!("stop {name}"),
        )?;

        line(&format!("instance {name} is stopped"))
    }

    /// Removes the instance before the purge, because the purge removes the runtime directory only
    /// if the instance is gone.
    pub(super) fn delete(&self, name: &InstanceName) -> Result<()> {
        let what = format!("delete {name}");
        self.helper(
            &HelperRequest::Disable {
                server: name.clone(),
                observe: false,
            },
            &what,
        )?;

        instance::remove(&self.root, name, || Ok(()))?;
        self.helper(
            &HelperRequest::Purge {
                server: name.clone(),
            },
            &what,
        )?;

        line(&format!("instance {name} is deleted"))
    }

    pub(super) fn status(&self, name: &InstanceName, as_json: bool) -> Result<()> {
        let unit = self.observe(name)?;
        let initialized = instance::is_initialized(&self.root, name);
        let is_down = matches!(unit.actual(), ActualState::Stopped | ActualState::Unknown);
        if !initialized && is_down && unit.enabled != Some(true) {
            return Err(self.missing(name));
        }

        let status = Status {
            name,
            unit: server_unit(name),
            actual_state: unit.actual(),
            active_state: unit.active,
            sub_state: unit.sub,
            result: unit.result,
            enabled: unit.enabled,
            initialized,
            mounted: mounts::overlays_mounted(&self.root)?.contains(name),
        };

        if as_json {
            json(&status)
        } else {
            status.print()
        }
    }

    pub(super) fn logs(&self, name: &InstanceName, lines: u32, follow: bool) -> Result<()> {
        let request = HelperRequest::journal(name.clone(), lines, follow);
        self.helper(&request, &format!("logs {name}"))
    }

    fn helper(&self, request: &HelperRequest, what: &str) -> Result<()> {
        print(&self.hands.helper_socket, request, what)
    }

    fn observe(&self, name: &InstanceName) -> Result<Unit> {
        let mut properties = Vec::new();
        let request = HelperRequest::Show {
            server: name.clone(),
        };
        send(
            &self.hands.helper_socket,
            &request,
            &format!("status {name}"),
            &mut |stream, text| {
                match stream {
                    Stream::Stdout => properties.push(text.to_owned()),
                    Stream::Stderr => print_stderr(text),
                }

                Ok(())
            },
        )?;

        Ok(Unit::from_properties(properties.iter().map(String::as_str)))
    }

    fn missing(&self, name: &InstanceName) -> Error {
        Error::not_found(format!(
            "there is no instance {name}: create it with `l4d2ctl initialize {name} -f SPEC.yaml`"
        ))
    }
}

impl Status<'_> {
    fn print(&self) -> Result<()> {
        let yes_no = |yes: bool| if yes { "yes" } else { "no" };
        let result = if self.result.is_empty() || self.result == "success" {
            ""
        } else {
            self.result.as_str()
        };

        for (name, value) in [
            ("instance", self.name.as_str()),
            ("unit", &self.unit),
            ("state", self.actual_state.as_str()),
            (
                "systemd state",
                &format!("{} ({})", self.active_state, self.sub_state),
            ),
            ("result", result),
            ("starts at boot", self.enabled.map_or("unknown", yes_no)),
            ("initialized", yes_no(self.initialized)),
            ("overlay mounted", yes_no(self.mounted)),
        ] {
            if !value.is_empty() {
                line(&format!(
                    "{name:<15}  {}",
                    crate::base::output::printable(value)
                ))?;
            }
        }

        Ok(())
    }
}
