//! How a host of the fleet is, as seen from another one. What is old is not known: a host that is
//! silent may be cut off and run all its servers.

use crate::base::words::words;

/// A host tells its status at least this often, in ms.
pub const STATUS_EVERY: i64 = 60_000;

/// Without a status for this long, in ms, a host counts as silent: two of them are missing.
pub const SILENT_AFTER: i64 = 150_000;

/// The alert tells that a host is silent after this time, in ms.
pub const ALERT_AFTER: i64 = 300_000;

/// An order that has no receipt after this time, in ms, is mentioned by alert and doctor.
pub const ORDER_IS_LATE: i64 = 300_000;

words! {
    /// What this host knows of another.
    pub enum HostState ("a state of a host") {
        Up = "up",
        /// It takes in no more servers.
        Cordoned = "cordoned",
        /// Nothing is known since its last status.
        Silent = "silent",
        /// Admitted; it has not told anything yet.
        Never = "never seen",
        Expelled = "expelled",
    }
}

/// What the state is decided from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub expelled: bool,
    /// When its last status came, by this host's clock.
    pub status_received_at: Option<i64>,
    pub cordoned: bool,
}

pub fn host_state(seen: Seen, now: i64) -> HostState {
    match seen.status_received_at {
        _ if seen.expelled => HostState::Expelled,
        None => HostState::Never,
        Some(at) if is_old(at, now) => HostState::Silent,
        Some(_) if seen.cordoned => HostState::Cordoned,
        Some(_) => HostState::Up,
    }
}

/// Whether what came at `at` says nothing any more about `now`.
pub fn is_old(at: i64, now: i64) -> bool {
    now.saturating_sub(at) > SILENT_AFTER
}

impl HostState {
    /// Whether what the host said is still so.
    pub fn is_known(self) -> bool {
        matches!(self, Self::Up | Self::Cordoned)
    }
}

/// What left4me-link said last.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkSaid {
    pub at: Option<i64>,
    pub connected_since: Option<i64>,
    pub disconnected_since: Option<i64>,
}

/// How this host is connected to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkView {
    /// left4me-link has never said anything.
    Never,
    Connected {
        since: i64,
    },
    Away {
        since: i64,
    },
    /// left4me-link itself has been silent since then.
    Silent {
        since: i64,
    },
}

pub fn link(said: LinkSaid, now: i64) -> LinkView {
    match (said.at, said.connected_since) {
        (None, _) => LinkView::Never,
        (Some(at), _) if is_old(at, now) => LinkView::Silent { since: at },
        (Some(_), Some(since)) => LinkView::Connected { since },
        (Some(at), None) => LinkView::Away {
            since: said.disconnected_since.unwrap_or(at),
        },
    }
}

impl LinkView {
    pub fn is_connected(self) -> bool {
        matches!(self, Self::Connected { .. })
    }

    /// Whether a host that says nothing could have been heard: this one has been connected for long
    /// enough.
    pub fn can_judge(self, now: i64) -> bool {
        matches!(self, Self::Connected { since } if now.saturating_sub(since) >= ALERT_AFTER)
    }

    /// Since when nothing comes from other hosts.
    pub fn away_since(self) -> Option<i64> {
        match self {
            Self::Away { since } | Self::Silent { since } => Some(since),
            Self::Never | Self::Connected { .. } => None,
        }
    }
}

/// Whether an event should have told by now that a host is silent. `was`: whether one has. While this
/// host has no connection itself, it learns nothing about others.
pub fn tells_silence(was: bool, last: i64, link: LinkView, now: i64) -> bool {
    let LinkView::Connected { since } = link else {
        return was;
    };
    match now.saturating_sub(last.max(since)) {
        quiet if quiet > ALERT_AFTER => true,
        _ if is_old(last, now) => was,
        _ => false,
    }
}

/// The same for this host's own connection.
pub fn tells_away(was: bool, link: LinkView, now: i64) -> bool {
    match link.away_since() {
        Some(since) => was || now.saturating_sub(since) > ALERT_AFTER,
        None => false,
    }
}

/// The same for orders that no host has answered; the oldest was made at `oldest`.
pub fn tells_late(oldest: Option<i64>, now: i64) -> bool {
    oldest.is_some_and(|at| now.saturating_sub(at) > ORDER_IS_LATE)
}

/// The state of a job of another host after an event of this kind. None if the event says nothing
/// about it. An end stays: an event that was missing may come late.
pub fn job_state(before: Option<&str>, kind: &str) -> Option<&'static str> {
    let has_ended = matches!(before, Some("succeeded" | "failed" | "cancelled"));
    let after = match kind {
        super::event::ACCEPTED | "job.queued" if before.is_none() => "queued",
        "job.released" if before.is_none() => "queued",
        "job.started" => "running",
        "job.succeeded" => "succeeded",
        "job.failed" => "failed",
        "job.cancelled" => "cancelled",
        _ => return None,
    };
    (!has_ended).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_connection_or_a_new_one_judges_nobody() {
        let since = 1_000;
        let connected = LinkView::Connected { since };
        assert!(!connected.can_judge(since + ALERT_AFTER - 1));
        assert!(connected.can_judge(since + ALERT_AFTER));
        for link in [
            LinkView::Never,
            LinkView::Away { since },
            LinkView::Silent { since },
        ] {
            assert!(!link.can_judge(since + 10 * ALERT_AFTER));
        }
    }

    #[test]
    fn a_host_that_says_nothing_is_silent_and_never_down() {
        let seen = |at, cordoned, expelled| Seen {
            expelled,
            status_received_at: at,
            cordoned,
        };
        let state = |seen| host_state(seen, 1_000_000);
        assert_eq!(state(seen(None, false, false)), HostState::Never);
        assert_eq!(state(seen(Some(1_000_000), false, false)), HostState::Up);
        assert_eq!(state(seen(Some(990_000), true, false)), HostState::Cordoned);
        assert_eq!(state(seen(Some(849_999), true, false)), HostState::Silent);
        assert_eq!(state(seen(Some(990_000), true, true)), HostState::Expelled);
        // Its clock is ahead, or this one was set back.
        assert_eq!(state(seen(Some(2_000_000), false, false)), HostState::Up);
        assert!(!HostState::ALL.map(HostState::as_str).contains(&"stopped"));
    }

    #[test]
    fn a_connection_counts_only_while_left4me_link_says_so() {
        let said = |at, connected, disconnected| LinkSaid {
            at,
            connected_since: connected,
            disconnected_since: disconnected,
        };
        let now = 1_000_000;
        assert_eq!(link(said(None, None, None), now), LinkView::Never);
        let connected = link(said(Some(990_000), Some(5), None), now);
        assert_eq!(connected, LinkView::Connected { since: 5 });
        let away = link(said(Some(990_000), None, Some(7)), now);
        assert_eq!(away.away_since(), Some(7));
        let dead = link(said(Some(800_000), Some(5), None), now);
        assert_eq!(dead, LinkView::Silent { since: 800_000 });
        assert!(!dead.is_connected() && connected.is_connected());
    }

    #[test]
    fn silence_is_told_after_five_minutes_of_a_connection_and_once() {
        let up = LinkView::Connected { since: 0 };
        let told = |was, quiet| tells_silence(was, 1_000_000, up, 1_000_000 + quiet);
        assert!(!told(false, ALERT_AFTER) && told(false, ALERT_AFTER + 1));
        assert!(told(true, SILENT_AFTER + 1), "not over yet");
        assert!(!told(true, 1_000), "it is back");

        let away = LinkView::Away { since: 1_000_000 };
        assert!(
            !tells_silence(false, 0, away, 9_000_000),
            "nothing is learned"
        );
        let back = LinkView::Connected { since: 9_000_000 };
        assert!(
            !tells_silence(false, 0, back, 9_000_000 + 60_000),
            "give it time"
        );

        let away = |was, gone| tells_away(was, away, 1_000_000 + gone);
        assert!(!away(false, 60_000) && away(false, ALERT_AFTER + 1) && away(true, 0));
        assert!(!tells_away(true, up, 9_000_000));
        assert!(!tells_late(None, 9) && tells_late(Some(0), ORDER_IS_LATE + 1));
    }

    #[test]
    fn a_job_that_has_ended_stays_so_when_an_earlier_event_comes_late() {
        assert_eq!(job_state(None, "order.accepted"), Some("queued"));
        assert_eq!(job_state(Some("queued"), "job.started"), Some("running"));
        assert_eq!(job_state(Some("running"), "job.queued"), None);
        assert_eq!(job_state(Some("running"), "job.failed"), Some("failed"));
        assert_eq!(job_state(Some("failed"), "job.started"), None);
        assert_eq!(job_state(None, "server.crashed"), None);
    }
}
