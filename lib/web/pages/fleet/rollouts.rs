//! The rollouts of all controllers: moves of servers, and updates in waves.

use askama::Template;
use axum::response::Response;

use super::super::extract::QueryFields;
use super::super::frame::{Frame, page};
use super::{Head, Turn, Turns};
use crate::base::clock;
use crate::domain::fleet::rollout::RolloutState;
use crate::queue::fleet::seen_rollout::{self, SeenRollout};
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;

#[derive(Template)]
#[template(path = "fleet/rollouts.html")]
struct RolloutsPage {
    frame: Frame,
    head: Head,
    rollouts: Vec<SeenRollout>,
    turns: Turns,
}

impl RolloutsPage {
    /// The class of a rollout's state, by its meaning.
    fn class(seen: &SeenRollout) -> &'static str {
        match seen.rollout.state {
            _ if seen.driver_silent_since.is_some() => "unknown",
            RolloutState::Running => "running",
            RolloutState::Aborting => "cancelling",
            RolloutState::Succeeded => "succeeded",
            RolloutState::Failed => "failed",
            RolloutState::Aborted => "cancelled",
        }
    }
}

pub(super) async fn list(
    SignedIn { app, viewer }: SignedIn,
    QueryFields(fields): QueryFields,
) -> Result<Response, Failure> {
    let now = clock::now_ms();
    let turn = Turn::of(&fields)?;
    let part = turn.part();
    let loaded = app.store.read(move |db| {
        Ok((
            Head::load(db, "rollouts", now)?,
            seen_rollout::newest(db, part, now)?,
        ))
    });
    let (head, mut rollouts) = loaded.await?;
    let turns = turn.cut(&mut rollouts, "/fleet/rollouts?");
    page(&RolloutsPage {
        frame: Frame::of(viewer, "Rollouts").within("fleet"),
        head,
        rollouts,
        turns,
    })
}
