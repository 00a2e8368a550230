//! What each kind of event is called on the pages, as a sentence; sentence.rs fills it in.

/// The sentence of each kind. `{who}` is the actor; `{job}`, `{task}` and `{server}` are what the
/// event is about. `{detail}` is the event's own text; `{: detail}` and `{(detail)}` are blank
/// without one. `{on}` is the server, if there is one. `{by}` is the job that caused it, or the
/// actor.
pub(super) const SENTENCES: &[(&str, &str)] = &[
    ("job.queued", "{who} requested {job}: {detail}{on}"),
    ("job.warned", "{job} told the players{on}: {detail}"),
    ("job.released", "{job}{on} waits no longer{: detail}"),
    (
        "job.started",
        "{job} started: {detail}{on}, requested by {who}",
    ),
    ("job.succeeded", "{job}{on} succeeded, requested by {who}"),
    (
        "job.failed",
        "{job}{on}, requested by {who}, failed{: detail}",
    ),
    (
        "job.cancelling",
        "{who} requested to cancel {job}{(detail)}",
    ),
    (
        "job.cancelled",
        "{job}{on} was cancelled by {who}{: detail}",
    ),
    ("task.succeeded", "{task} of {job}{on} succeeded{: detail}"),
    ("task.failed", "{task} of {job}{on} failed{: detail}"),
    (
        "task.cancelling",
        "{who} requested to cancel {task} of {job}{on}{(detail)}",
    ),
    (
        "task.cancelled",
        "{task} of {job}{on} was cancelled by {who}{: detail}",
    ),
    ("task.skipped", "{task} of {job}{on} was skipped{: detail}"),
    ("server.created", "{who} created {server}{: detail}"),
    ("server.assigned", "{who} linked {server} {detail}"),
    ("server.removed", "{who} removed {server}{: detail}"),
    ("server.command", "{who} sent to {server}{: detail}"),
    (
        "server.rcon-rotated",
        "{who} requested a new RCON password of {server}",
    ),
    ("server.started", "{server} started, by {by}{: detail}"),
    ("server.crashed", "{server} crashed{: detail}"),
    ("server.stopped", "{server} stopped, by {by}{: detail}"),
    ("server.failed", "{server} failed, by {by}{: detail}"),
    ("server.drifted", "{server} needs attention{: detail}"),
    ("server.unresponsive", "{server} needs attention{: detail}"),
    (
        "server.set",
        "{who} changed a setting of {server}: it {detail}",
    ),
    (
        "server.drift_ended",
        "{server} no longer needs attention, by {by}{: detail}",
    ),
    ("clock.set", "{detail}"),
    ("queue.paused", "{who} paused the queue{: detail}"),
    ("queue.resumed", "{who} resumed the queue"),
    ("user.added", "{who} added the user {detail}"),
    ("user.added-as-admin", "{who} added the admin {detail}"),
    (
        "user.password-changed",
        "{who} changed the password of {detail}",
    ),
    ("user.disabled", "{who} disabled the user {detail}"),
    ("user.enabled", "{who} enabled the user {detail}"),
    ("user.signed-in", "{who} signed in"),
    ("token.created", "{who} created the token {detail}"),
    ("token.revoked", "{who} revoked the token {detail}"),
    ("overlay.added", "{who} added the overlay {detail}"),
    ("overlay.removed", "{who} removed the overlay {detail}"),
    ("alert.added", "{who} added the alert {detail}"),
    ("alert.removed", "{who} removed the alert {detail}"),
    ("alert.muted", "{who} muted the alert {detail}"),
    (
        "alert.unmuted",
        "{who} ended the mute of the alert {detail}",
    ),
    ("schedule.added", "{who} added {detail}"),
    ("schedule.paused", "{who} paused {detail}"),
    ("schedule.resumed", "{who} resumed {detail}"),
    ("schedule.removed", "{who} removed {detail}"),
    ("schedule.failed", "A run{on} failed{: detail}"),
    ("update.available", "{job} found an update{: detail}"),
    ("update.published", "{job}: {detail}"),
    ("update.stopped", "{job} was stopped{: detail}"),
    ("server.went_back", "{job}: {detail}"),
    ("build.removed", "{who} removed build {detail}"),
    ("disk.low", "The disk is almost full{: detail}"),
    ("disk.ok", "The disk has space again{: detail}"),
    ("fleet.connected", "The fleet can be reached"),
    (
        "fleet.disconnected",
        "The fleet cannot be reached{: detail}",
    ),
    (
        "fleet.clone_refused",
        "Another machine has this host's identity{: detail}",
    ),
    (
        "fleet.host_silent",
        "A host of the fleet is silent{: detail}",
    ),
    (
        "fleet.host_back",
        "A host of the fleet tells its status again{: detail}",
    ),
    (
        "fleet.away",
        "There is no connection to the fleet{: detail}",
    ),
    ("fleet.back", "The fleet can be reached again"),
    (
        "fleet.orders_late",
        "Orders to other hosts have no answer{: detail}",
    ),
    (
        "fleet.orders_answered",
        "All orders to other hosts have an answer",
    ),
    ("order.sent", "{who} sent an order {detail}"),
    ("order.accepted", "An order of {who} was accepted{: detail}"),
    ("order.refused", "An order of {who} was refused{: detail}"),
    (
        "order.unknown",
        "The end of an order is not known{: detail}",
    ),
    ("order.withdrawn", "{who} withdrew an order{: detail}"),
    ("fleet.cordoned", "{who} cordoned this host{: detail}"),
    (
        "fleet.uncordoned",
        "{who} ended the cordon of this host{: detail}",
    ),
    ("order.ended", "An order of {who} ended{: detail}"),
    ("blueprint.created", "{who} created the blueprint {detail}"),
    ("blueprint.edited", "{who} edited the blueprint {detail}"),
    ("blueprint.deleted", "{who} deleted the blueprint {detail}"),
];
