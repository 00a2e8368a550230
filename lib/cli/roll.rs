//! How an update or rollback brings a build to the servers: the options of `enqueue`.

use std::num::NonZeroU16;

use crate::base::config::BuildMode;
use crate::base::{Error, Result, builds};
use crate::cli::Context;
use crate::db;
use crate::domain::operation::Operation;
use crate::domain::update::UpdateOptions;

const HEADING: &str = "Updates";

/// Options of `enqueue` for updates and rollbacks.
#[derive(clap::Args)]
pub struct RollArgs {
    /// Restart all servers that run another build at once; the default
    #[arg(long, help_heading = HEADING,
          conflicts_with_all = ["when_empty", "until", "rolling", "no_restart"])]
    now: bool,
    /// Restart no server: each takes the build at its next start
    #[arg(long, help_heading = HEADING,
          conflicts_with_all = ["when_empty", "until", "rolling", "max_failures"])]
    no_restart: bool,
    /// Leave the other servers alone once N could not start on the build [default: 1]
    #[arg(long, help_heading = HEADING, value_name = "N")]
    max_failures: Option<NonZeroU16>,
    /// For update: download and verify all files, also when Steam has no new build
    #[arg(long, help_heading = HEADING)]
    validate: bool,
    /// For rollback: this build [default: the newest that is kept and older than the current one]
    #[arg(long, help_heading = HEADING, value_name = "ID",
          value_parser = clap::value_parser!(u64).range(1..=i64::MAX.unsigned_abs()))]
    build: Option<u64>,
}

impl RollArgs {
    /// The options for a job.
    ///
    /// Fails with 2 if --now does not apply to the operation; 3 or 4 if there is nothing to go back to.
    pub fn resolve(&self, context: &Context, operation: Operation) -> Result<UpdateOptions> {
        let options = UpdateOptions {
            in_place: operation.is_exclusive() && context.build_mode == BuildMode::InPlace,
            ..self.for_another_host(operation)?
        };
        if operation == Operation::Rollback && !options.in_place {
            self.check_target(context)?;
        }
        Ok(options)
    }

    /// The options for a job on another host, which has builds and a way to keep them of its own.
    ///
    /// Fails with 2 if --now does not apply to the operation.
    pub fn for_another_host(&self, operation: Operation) -> Result<UpdateOptions> {
        if self.now && !operation.rolls_out() {
            return Err(Error::usage(format!(
                "--now does not apply to {operation}: only update and rollback restart servers \
                 because of a build"
            )));
        }
        Ok(UpdateOptions {
            validate: self.validate,
            no_restart: self.no_restart,
            max_failures: self.max_failures,
            build: self.build,
            ..UpdateOptions::default()
        })
    }

    /// What the job would find too, but only when its turn comes.
    fn check_target(&self, context: &Context) -> Result<()> {
        let rejected = db::builds::rejected(context.db.connection())?;
        let rejected: Vec<u64> = rejected.iter().map(|one| one.build).collect();
        builds::rollback_target(&context.root, self.build, &rejected).map(|_| ())
    }
}
