//! What a new job waits for, and the question before one that ends people's game.

use std::io::IsTerminal as _;

use crate::base::{Error, Result, clock, output};
use crate::cli::Context;
use crate::db::conditions;
use crate::domain::condition::warning::Warnings;
use crate::domain::condition::{AtDeadline, Condition, ConditionRequest, Until};
use crate::domain::fleet::order::OrderedCondition;
use crate::domain::operation::Operation;
use crate::queue::enqueue::{JobRequest, players_of};

/// Options of `enqueue` for jobs that wait.
#[derive(clap::Args)]
pub struct ConditionArgs {
    /// Wait until nobody plays on any of the servers; update and rollback wait for each server by
    /// itself, and make the build ready at once
    #[arg(long, help_heading = "Conditions")]
    when_empty: bool,
    /// Wait at most until this time of day, or for this duration
    #[arg(long, help_heading = "Conditions", value_name = "HH:MM|DURATION")]
    until: Option<Until>,
    /// What to do at that time when somebody still plays: go or give-up
    #[arg(long, help_heading = "Conditions", value_name = "go|give-up")]
    then: Option<AtDeadline>,
    /// Tell players so long before that time, as in 10m,5m,1m,10s
    #[arg(long, help_heading = "Conditions", value_name = "TIMES[=TEXT]")]
    warn: Option<Warnings>,
    /// Do not ask whether to go ahead when somebody plays
    #[arg(long, short)]
    yes: bool,
}

impl ConditionArgs {
    /// The condition that was asked for.
    ///
    /// Fails with 2 if the options do not fit together or to the operation.
    pub fn resolve(&self, operation: Operation, now: i64) -> Result<Option<Condition>> {
        let request = ConditionRequest {
            when_empty: self.when_empty,
            until: self.until.clone(),
            then: self.then,
            warn: self.warn.clone(),
        };
        let option = |name: &str| format!("--{name}");
        Ok(request.resolve(operation, now, &clock::zone(), option)?)
    }

    /// The condition in the words of an order, for another host. None if nothing was asked for.
    pub fn ordered(&self) -> Option<OrderedCondition> {
        let ordered = OrderedCondition {
            when_empty: self.when_empty,
            until: self.until.as_ref().map(|until| until.asked().to_owned()),
            then: self.then.map(|then| then.to_string()),
            warn: self.warn.as_ref().map(Warnings::asked),
        };
        (ordered != OrderedCondition::default()).then_some(ordered)
    }

    /// Asks on a terminal whether the job may end the game of people. Without a terminal, scripts
    /// and timers go ahead.
    ///
    /// Fails with 1 if the answer is no.
    pub fn confirm(&self, context: &Context, request: &JobRequest<'_>, now: i64) -> Result<()> {
        let operation = request.operation;
        let restarts = !request.update.no_restart;
        let is_asked =
            operation.takes_condition() && request.condition.is_none() && restarts && !self.yes;
        if !is_asked || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Ok(());
        }

        let connection = context.db.connection();
        let targets = players_of(connection, request)?;
        let Some(playing) = conditions::playing(connection, targets.as_deref(), now)? else {
            return Ok(());
        };

        let playing = output::printable(&playing);
        eprint!("{playing}. {operation} anyway? --when-empty waits for them. [y/N] ");
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Error::failed("nothing was queued")),
        }
    }
}
