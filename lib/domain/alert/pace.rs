//! When a message is sent, and what it tells of. A destination gets a few messages a minute; what is
//! beyond that goes into a summary. A server that crashes again and again is told once, then in
//! summaries that become rarer.

use std::collections::BTreeMap;

use super::AlertClass;
use crate::base::names::ServerId;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// How long delivery is attempted, ms.
pub const DAY: i64 = 24 * HOUR;

/// The most messages within [`WINDOW`] to one destination.
const MOST: usize = 5;
const WINDOW: i64 = MINUTE;

/// How long a summary of everything is followed by summaries, ms: the flood is not over.
const FLOOD: i64 = 2 * MINUTE;

/// The pause after a message about a server that is told again and again.
const QUIET: i64 = 10 * MINUTE;
/// The pause after a summary about it.
const LONG_QUIET: i64 = HOUR;

/// How far back sent messages count, ms.
pub const MEMORY: i64 = 2 * HOUR;

/// The pause after the first failure, and the longest one.
const FIRST_RETRY: i64 = 10 * SECOND;
const LAST_RETRY: i64 = 30 * MINUTE;

/// What may be told together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub class: AlertClass,
    pub server: Option<ServerId>,
}

impl Key {
    /// How many messages about it are sent at once, before the pause. None: there is no pause.
    fn burst(self) -> Option<usize> {
        self.server?;
        match self.class {
            AlertClass::Crash => Some(1),
            AlertClass::Drift | AlertClass::Unresponsive => Some(3),
            AlertClass::JobFailed | AlertClass::Update | AlertClass::Disk | AlertClass::Fleet => {
                None
            }
        }
    }
}

/// An event that waits to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// `alert_outbox.id`
    pub id: i64,
    pub key: Key,
}

/// A message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Unix ms.
    pub at: i64,
    /// What it was about; none for a summary of everything.
    pub key: Option<Key>,
    /// The events that it told of besides the first.
    pub more: i64,
}

/// What to do for one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// One message about these, in this order. No key: a summary of everything.
    Send { ids: Vec<i64>, about: Option<Key> },
    /// Nothing before this time, unix ms.
    Wait(i64),
    /// Nothing waits.
    Nothing,
}

/// Decides about the next message. `waiting` is in the order of events; `sent` has the messages of
/// the last [`MEMORY`] in any order.
pub fn next(waiting: &[Waiting], sent: &[Sent], now: i64) -> Next {
    let (due, later) = due(waiting, sent, now);
    if due.is_empty() {
        return later.map_or(Next::Nothing, Next::Wait);
    }

    // A time in the future is from before the clock was set back: it must not silence anybody.
    let recent: Vec<i64> = sent
        .iter()
        .map(|message| message.at)
        .filter(|at| (now - WINDOW + 1..=now).contains(at))
        .collect();
    let left = MOST.saturating_sub(recent.len());
    if left == 0 {
        let first = recent.into_iter().min().unwrap_or(now);
        return Next::Wait(first + WINDOW);
    }

    let last = sent
        .iter()
        .filter(|message| message.at <= now)
        .max_by_key(|message| message.at);
    let is_flood = last.is_some_and(|last| last.key.is_none() && now - last.at < FLOOD);
    if due.len() > 1 && (left == 1 || is_flood) {
        let mut ids: Vec<i64> = due.into_iter().flat_map(|(_, ids)| ids).collect();
        ids.sort_unstable();
        return Next::Send { ids, about: None };
    }
    let first = due.into_iter().next();
    first.map_or(Next::Nothing, |(key, ids)| Next::Send {
        ids,
        about: Some(key),
    })
}

/// Messages: what each is about, and its events.
type Due = Vec<(Key, Vec<i64>)>;

/// The messages that may be sent now if nothing limits them, in order, and the time when the next
/// one may be.
fn due(waiting: &[Waiting], sent: &[Sent], now: i64) -> (Due, Option<i64>) {
    let mut due = Due::new();
    let mut pauses: BTreeMap<Key, Pause> = BTreeMap::new();
    let mut later: Option<i64> = None;

    for row in waiting {
        let Some(burst) = row.key.burst() else {
            due.push((row.key, vec![row.id]));
            continue;
        };

        let pause = pauses
            .entry(row.key)
            .or_insert_with(|| Pause::of(row.key, burst, sent, now));
        if pause.until > now {
            later = later.into_iter().chain([pause.until]).min();
        } else if pause.merges && pause.told > 0 {
            let group = due.iter_mut().find(|(key, _)| *key == row.key);
            group.into_iter().for_each(|(_, ids)| ids.push(row.id));
        } else if pause.merges || pause.told + pause.recent < burst {
            due.push((row.key, vec![row.id]));
            pause.told += 1;
        }
    }

    (due, later)
}

/// What was told about a key.
struct Pause {
    /// Nothing is told before this time.
    until: i64,
    /// Whether all that waits is one message, because something was told before.
    merges: bool,
    /// The messages within [`QUIET`].
    recent: usize,
    /// The messages that are due.
    told: usize,
}

impl Pause {
    fn of(key: Key, burst: usize, sent: &[Sent], now: i64) -> Self {
        let about = || {
            sent.iter()
                .filter(|message| message.key == Some(key) && message.at <= now)
        };
        let recent = about().filter(|message| now - message.at < QUIET).count();
        let Some(last) = about().max_by_key(|message| message.at) else {
            return Self {
                until: i64::MIN,
                merges: false,
                recent,
                told: 0,
            };
        };

        let until = if last.more > 0 {
            last.at + LONG_QUIET
        } else if recent >= burst {
            last.at + QUIET
        } else {
            i64::MIN
        };
        let over = now >= last.at + QUIET;
        Self {
            until,
            merges: over || last.more > 0,
            recent,
            told: 0,
        }
    }
}

/// When to try again after this many failures in a row, unix ms. `asked` is what the destination
/// asked for, in ms; it is obeyed, up to a day.
pub fn retry_at(failures: u32, asked: Option<i64>, now: i64) -> i64 {
    let doubled = FIRST_RETRY << failures.saturating_sub(1).min(20);
    let asked = asked.unwrap_or(0).clamp(0, DAY);
    now.saturating_add(doubled.min(LAST_RETRY).max(asked))
}

/// Whether an event of this time is given up: it was not delivered within a day.
pub fn is_too_late(created_at: i64, now: i64) -> bool {
    now.saturating_sub(created_at) > DAY
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn key(class: AlertClass, server: i64) -> Key {
        Key {
            class,
            server: Some(ServerId(server)),
        }
    }

    /// Sends what `next` says to, until `until`. `happens` are times and keys of events. Gives the
    /// messages: when, and the events in it.
    fn simulate(happens: &[(i64, Key)], until: i64) -> Vec<(i64, Vec<i64>)> {
        let mut now = NOW;
        let mut sent: Vec<Sent> = Vec::new();
        let mut messages = Vec::new();
        let mut done = std::collections::HashSet::new();

        while now < until {
            let waiting: Vec<Waiting> = (0..)
                .zip(happens)
                .filter(|(id, (at, _))| *at <= now && !done.contains(id))
                .map(|(id, (_, key))| Waiting { id, key: *key })
                .collect();
            let upcoming = happens
                .iter()
                .map(|(at, _)| *at)
                .filter(|at| *at > now)
                .min();
            match next(&waiting, &sent, now) {
                Next::Send { ids, about } => {
                    sent.push(Sent {
                        at: now,
                        key: about,
                        more: ids.len() as i64 - 1,
                    });
                    done.extend(ids.iter().copied());
                    messages.push((now, ids));
                }
                Next::Wait(at) => {
                    assert!(at > now, "it would spin");
                    now = at.min(upcoming.unwrap_or(i64::MAX));
                }
                Next::Nothing => match upcoming {
                    Some(at) => now = at,
                    None => return messages,
                },
            }
        }

        messages
    }

    #[test]
    fn a_crash_loop_is_one_message_and_summaries_that_become_rarer() {
        let crashes: Vec<_> = (0..40)
            .map(|n| (NOW + n * 12 * SECOND, key(AlertClass::Crash, 3)))
            .collect();
        let messages = simulate(&crashes, NOW + DAY);
        let sizes: Vec<usize> = messages.iter().map(|(_, ids)| ids.len()).collect();
        assert_eq!(sizes, [1, 39]);
        assert_eq!(messages[0].0, NOW, "the first at once");

        let all_night: Vec<_> = (0..2400)
            .map(|n| (NOW + n * 12 * SECOND, key(AlertClass::Crash, 3)))
            .collect();
        let messages = simulate(&all_night, NOW + DAY);
        assert_eq!(messages.len(), 10, "in eight hours: {messages:?}");
    }

    #[test]
    fn two_thousand_events_in_a_minute_are_few_messages() {
        let flood: Vec<_> = (0..2000)
            .map(|n| (NOW + n * 30, key(AlertClass::Crash, n)))
            .collect();
        let messages = simulate(&flood, NOW + DAY);
        assert!(messages.len() <= 7, "{}", messages.len());
        let told: usize = messages.iter().map(|(_, ids)| ids.len()).sum();
        assert_eq!(told, 2000);
    }

    #[test]
    fn one_event_is_told_at_once_and_so_is_another_servers() {
        let events = [
            (NOW, key(AlertClass::Crash, 1)),
            (NOW + SECOND, key(AlertClass::Crash, 2)),
            (NOW + 2 * SECOND, key(AlertClass::Drift, 1)),
        ];
        let messages = simulate(&events, NOW + DAY);
        let times: Vec<i64> = messages.iter().map(|(at, _)| at - NOW).collect();
        assert_eq!(times, [0, SECOND, 2 * SECOND]);
    }

    #[test]
    fn crashes_that_waited_together_are_one_message_and_a_summary() {
        let crashes = vec![(NOW, key(AlertClass::Crash, 3)); 6];
        let messages = simulate(&crashes, NOW + DAY);
        let times: Vec<_> = messages
            .iter()
            .map(|(at, ids)| (at - NOW, ids.len()))
            .collect();
        assert_eq!(times, [(0, 1), (QUIET, 5)]);
    }

    #[test]
    fn a_clock_that_is_set_back_silences_nobody() {
        let crash = key(AlertClass::Crash, 3);
        let sent: Vec<Sent> = (0..9)
            .map(|n| Sent {
                at: NOW + HOUR + n,
                key: Some(crash),
                more: 5,
            })
            .collect();
        let waiting = [Waiting { id: 1, key: crash }];
        let send = Next::Send {
            ids: vec![1],
            about: Some(crash),
        };
        assert_eq!(next(&waiting, &sent, NOW), send);
    }

    #[test]
    fn retries_take_longer_each_time_and_obey_the_destination() {
        let pauses: Vec<i64> = (1..=9).map(|n| retry_at(n, None, 0) / SECOND).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1280, 1800]);
        assert_eq!(retry_at(1, Some(64_571), 0), 64_571);
        assert_eq!(retry_at(9, Some(1), 0), LAST_RETRY);
        assert_eq!(retry_at(1, Some(i64::MAX), 0), DAY);
        assert_eq!(retry_at(u32::MAX, Some(-5), 0), LAST_RETRY);
    }

    fn any_events() -> impl Strategy<Value = Vec<(i64, Key)>> {
        let class = prop::sample::select(AlertClass::ALL.to_vec());
        let server = prop::option::of((1..4_i64).prop_map(ServerId));
        let key = (class, server).prop_map(|(class, server)| Key { class, server });
        prop::collection::vec((0..30 * MINUTE, key), 0..120).prop_map(|mut events| {
            events.sort_by_key(|(at, _)| *at);
            events
                .into_iter()
                .map(|(at, key)| (NOW + at, key))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn each_event_is_told_once_and_never_more_than_five_messages_a_minute(
            events in any_events()
        ) {
            let messages = simulate(&events, NOW + DAY);
            let mut told: Vec<i64> = messages.iter().flat_map(|(_, ids)| ids.clone()).collect();
            told.sort_unstable();
            prop_assert_eq!(told, (0..events.len() as i64).collect::<Vec<_>>());

            for (at, _) in &messages {
                let within = messages
                    .iter()
                    .filter(|(other, _)| (*at - WINDOW + 1..=*at).contains(other));
                prop_assert!(within.count() <= MOST);
            }
        }

        #[test]
        fn a_retry_is_later_and_within_the_limits(
            failures in any::<u32>(), asked in any::<Option<i64>>()
        ) {
            let at = retry_at(failures, asked, NOW);
            prop_assert!((NOW + FIRST_RETRY..=NOW + DAY).contains(&at));
        }
    }
}
