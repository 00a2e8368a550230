//! The timers of schedules, as the helper is asked to make them, and as it reports them.

use serde::{Deserialize, Serialize};

use super::{HelperRequest, REQUEST_LIMIT};
use crate::base::names::ScheduleId;
use crate::domain::calendar::{Calendar, ZoneName};

/// A timer. Its texts are parsed where they arrive: what systemd gets is written from the
/// parsed values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timer {
    pub schedule: ScheduleId,
    pub calendar: Calendar,
    /// None for the host's own zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneName>,
    /// Whether it elapses at once if it should have while it was not there.
    #[serde(default)]
    pub persistent: bool,
}

impl Timer {
    /// The value of `OnCalendar=`. Without open repetitions: in some nights in which clocks are
    /// changed, systemd finds no next time for them, and such a timer would stand still.
    pub fn on_calendar(&self) -> String {
        let calendar = self.calendar.bounded();
        match &self.zone {
            Some(zone) => format!("{calendar} {zone}"),
            None => calendar.to_string(),
        }
    }
}

/// A timer that systemd has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerState {
    pub schedule: ScheduleId,
    /// Whether it is active: it waits, or has elapsed for the last time.
    pub active: bool,
    /// Its `OnCalendar=`, as systemd writes it.
    pub calendar: String,
    pub persistent: bool,
    /// When it elapses next, unix ms.
    pub next_at: Option<i64>,
}

impl TimerState {
    /// Whether it is what was asked for.
    pub fn is(&self, timer: &Timer) -> bool {
        let is_same = |(calendar, zone): (Calendar, Option<ZoneName>)| {
            calendar == timer.calendar.bounded() && zone == timer.zone
        };
        self.active
            && self.persistent == timer.persistent
            && Calendar::with_zone(&self.calendar).is_ok_and(is_same)
    }
}

/// A timer that could not be made, in a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerFailure {
    pub schedule: ScheduleId,
    pub why: String,
}

/// The requests that make these timers: as many timers in each as its line has room for.
pub fn set(timers: &[Timer]) -> Vec<HelperRequest> {
    let request = |timers: &[&Timer]| HelperRequest::SetTimers {
        timers: timers.iter().copied().cloned().collect(),
    };
    in_lines(timers, request)
}

/// The requests that remove the timers of these schedules.
pub fn remove(schedules: &[ScheduleId]) -> Vec<HelperRequest> {
    let request = |schedules: &[&ScheduleId]| HelperRequest::RemoveTimers {
        schedules: schedules.iter().copied().copied().collect(),
    };
    in_lines(schedules, request)
}

fn in_lines<T>(all: &[T], request: impl Fn(&[&T]) -> HelperRequest) -> Vec<HelperRequest> {
    let fits = |some: &[&T]| {
        let line = serde_json::to_string(&request(some));
        line.is_ok_and(|line| line.len() < REQUEST_LIMIT)
    };

    let (mut requests, mut some) = (Vec::new(), Vec::new());
    for one in all {
        some.push(one);
        if some.len() > 1 && !fits(&some) {
            some.pop();
            requests.push(request(&some));
            some = vec![one];
        }
    }
    if !some.is_empty() {
        requests.push(request(&some));
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(id: i64, on: &str) -> Timer {
        let (calendar, zone) = Calendar::with_zone(on).unwrap();
        Timer {
            schedule: ScheduleId(id),
            calendar,
            zone,
            persistent: false,
        }
    }

    #[test]
    fn a_request_has_parsed_values_only() {
        let line = r#"{"verb":"set-timers","timers":[{"schedule":3,"calendar":"*-*-* 05:00:00","zone":"Europe/Berlin","persistent":true}]}"#;
        let request: HelperRequest = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), line);
        let HelperRequest::SetTimers { timers } = request else {
            panic!("it is another request")
        };
        assert_eq!(timers[0].on_calendar(), "*-*-* 05:00:00 Europe/Berlin");

        for bad in [
            line.replace("*-*-* 05:00:00", "*-*-* 05:00:00\\nUnit=x.service"),
            line.replace("Europe/Berlin", "../../etc/passwd"),
            line.replace("\"persistent\"", "\"unit\""),
            line.replace("\"schedule\":3", "\"schedule\":\"3\""),
        ] {
            assert!(
                serde_json::from_str::<HelperRequest>(&bad).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn an_open_repetition_gets_an_end_for_systemd() {
        let asked = timer(3, "3/4:00 Europe/Berlin");
        assert_eq!(asked.on_calendar(), "*-*-* 03..23/4:00:00 Europe/Berlin");
        let state = TimerState {
            schedule: ScheduleId(3),
            active: true,
            calendar: asked.on_calendar(),
            persistent: false,
            next_at: None,
        };
        assert!(state.is(&asked), "it is not made again each time");
    }

    #[test]
    fn a_state_is_compared_by_meaning() {
        let asked = timer(3, "Mon..Fri 05:00 Europe/Berlin");
        let state = TimerState {
            schedule: ScheduleId(3),
            active: true,
            calendar: "Mon..Fri *-*-* 05:00:00 Europe/Berlin".to_owned(),
            persistent: false,
            next_at: None,
        };
        assert!(state.is(&asked));
        for other in [
            TimerState {
                active: false,
                ..state.clone()
            },
            TimerState {
                persistent: true,
                ..state.clone()
            },
            TimerState {
                calendar: "*-*-* 05:00:00 Europe/Berlin".to_owned(),
                ..state.clone()
            },
            TimerState {
                calendar: "Mon..Fri *-*-* 05:00:00".to_owned(),
                ..state.clone()
            },
            TimerState {
                calendar: "?".to_owned(),
                ..state.clone()
            },
        ] {
            assert!(!other.is(&asked), "{other:?}");
        }
    }

    #[test]
    fn a_thousand_timers_fit_into_lines_of_their_own() {
        let timers: Vec<Timer> = (1..=1000)
            .map(|id| {
                timer(
                    id,
                    "Mon..Fri *-1,2,3-* 05:00 America/Argentina/Buenos_Aires",
                )
            })
            .collect();
        let requests = set(&timers);
        let line = |request: &HelperRequest| serde_json::to_string(request).unwrap().len();
        assert!(requests.iter().all(|request| line(request) < REQUEST_LIMIT));
        assert!(requests.len() < 60, "{}", requests.len());

        let set: Vec<Timer> = requests
            .into_iter()
            .flat_map(|request| match request {
                HelperRequest::SetTimers { timers } => timers,
                _ => Vec::new(),
            })
            .collect();
        assert_eq!(set, timers);
        assert!(super::set(&[]).is_empty() && remove(&[]).is_empty());
        assert_eq!(remove(&[ScheduleId(7)]).len(), 1);
    }
}
