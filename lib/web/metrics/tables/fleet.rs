//! The fleet, as this host knows it.

use prometheus::proto::{MetricFamily, MetricType};

use super::{counter, family, gauge, number, seconds_since};
use crate::db::fleet::overview;
use crate::db::metrics::FleetFigures;
use crate::domain::fleet::view::{HostState, host_state};

/// Nothing where there is no fleet.
pub(super) fn families(fleet: Option<&FleetFigures>, now: i64) -> Vec<MetricFamily> {
    let Some(fleet) = fleet else {
        return Vec::new();
    };
    let states = HostState::ALL.map(|state| {
        let in_state = |(_, seen): &&(String, _)| host_state(*seen, now) == state;
        let count = fleet.hosts.iter().filter(in_state).count();
        gauge(&[("state", word(state))], number(count as u64))
    });
    let ages = fleet.hosts.iter().filter_map(|(host, seen)| {
        let at = seen.status_received_at.filter(|_| !seen.expelled)?;
        Some(gauge(&[("host", host)], seconds_since(at, now)))
    });
    let orders = [
        ("kept", fleet.orders.kept),
        ("sent", fleet.orders.sent),
        ("accepted", fleet.orders.accepted),
    ];
    let oldest = fleet.orders.oldest.map_or(0.0, |at| seconds_since(at, now));
    let connected = overview::link(&fleet.own, now).is_connected();

    vec![
        family(
            "left4me_fleet_hosts",
            "Hosts of the fleet by what this one knows of them; silent: nothing since the last status.",
            MetricType::GAUGE,
            states,
        ),
        family(
            "left4me_fleet_host_age_seconds",
            "Time since each host's last status came here; no series for expelled hosts.",
            MetricType::GAUGE,
            ages,
        ),
        family(
            "left4me_fleet_orders",
            "Orders from here whose end is not known; kept: on disk, sent: with the engine, \
             accepted: by the host.",
            MetricType::GAUGE,
            orders.map(|(state, n)| gauge(&[("state", state)], number(n.into()))),
        ),
        family(
            "left4me_fleet_orders_oldest_seconds",
            "Age of the oldest order from here that no host has answered; 0 when there is none.",
            MetricType::GAUGE,
            [gauge(&[], oldest)],
        ),
        family(
            "left4me_fleet_connected",
            "1 while left4me-link is connected to the engine.",
            MetricType::GAUGE,
            [gauge(&[], f64::from(u8::from(connected)))],
        ),
        family(
            "left4me_fleet_clone",
            "1 while another machine has this host's identity in the fleet.",
            MetricType::GAUGE,
            [gauge(&[], f64::from(u8::from(fleet.own.is_clone)))],
        ),
        family(
            "left4me_fleet_events_behind",
            "Events of this host that the engine has not acknowledged.",
            MetricType::GAUGE,
            [gauge(&[], number(fleet.events_behind.into()))],
        ),
        family(
            "left4me_fleet_noise_total",
            "Messages from the engine that were nothing, or not signed by whom they should be.",
            MetricType::COUNTER,
            [counter(&[], number(fleet.own.noise.unsigned_abs()))],
        ),
    ]
}

/// The state as a label.
fn word(state: HostState) -> &'static str {
    match state {
        HostState::Never => "never_seen",
        state => state.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::fleet::overview::Unsettled;
    use crate::db::fleet::self_row::SelfRow;
    use crate::domain::fleet::view::Seen;

    #[test]
    fn hosts_are_counted_by_state_and_a_host_without_a_fleet_has_no_series() {
        assert!(families(None, 9).is_empty());
        let host = |name: &str, at, expelled| {
            let seen = Seen {
                expelled,
                status_received_at: at,
                cordoned: false,
            };
            (name.to_owned(), seen)
        };
        let fleet = FleetFigures {
            hosts: vec![
                host("ams-1", Some(999_000), false),
                host("par-1", Some(1_000), false),
                host("rom-1", Some(1_000), true),
                host("mad-1", None, false),
            ],
            own: SelfRow {
                link_at: Some(999_000),
                connected_since: Some(5),
                noise: 3,
                ..SelfRow::default()
            },
            orders: Unsettled {
                kept: 1,
                sent: 2,
                accepted: 0,
                oldest: Some(940_000),
            },
            events_behind: 7,
        };
        let all = families(Some(&fleet), 1_000_000);
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&all)
            .unwrap();
        for line in [
            "left4me_fleet_hosts{state=\"up\"} 1",
            "left4me_fleet_hosts{state=\"silent\"} 1",
            "left4me_fleet_hosts{state=\"never_seen\"} 1",
            "left4me_fleet_hosts{state=\"expelled\"} 1",
            "left4me_fleet_host_age_seconds{host=\"par-1\"} 999",
            "left4me_fleet_orders{state=\"sent\"} 2",
            "left4me_fleet_orders_oldest_seconds 60",
            "left4me_fleet_connected 1",
            "left4me_fleet_clone 0",
            "left4me_fleet_events_behind 7",
            "left4me_fleet_noise_total 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(!text.contains("host=\"rom-1\""), "{text}");
    }
}
