//! Converts a snapshot of the tables into Prometheus' metric families. Pure.

mod builds;
mod fleet;
mod games;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::db::metrics::{Durations, OTHER, Snapshot};
use crate::domain::operation::Operation;

/// All families that have series.
pub fn families(tables: &Snapshot, now: i64) -> Vec<MetricFamily> {
    let mut all = queue(tables, now);
    all.extend(servers(tables, now));
    all.extend(games::families(tables, now));
    all.extend(builds::families(&tables.builds));
    all.extend(fleet::families(tables.fleet.as_ref(), now));
    all.extend(cancellations(tables));
    all.push(alerts(tables));
    // The encoder fails on a family without series.
    all.retain(|family| !family.get_metric().is_empty());
    all
}

fn queue(tables: &Snapshot, now: i64) -> Vec<MetricFamily> {
    let by_state = |(&(operation, state), &n): (&(&str, &str), &u64),
                    metric: fn(&[(&str, &str)], f64) -> Metric| {
        metric(&[("operation", operation), ("state", state)], number(n))
    };

    let oldest = tables
        .oldest_queued
        .map_or(0.0, |at| seconds_since(at, now));

    vec![
        family(
            "left4me_jobs",
            "Jobs that have not ended, by operation and state.",
            MetricType::GAUGE,
            tables.live.iter().map(|row| by_state(row, gauge)),
        ),
        family(
            "left4me_jobs_total",
            "Jobs that ended, by operation and how they ended.",
            MetricType::COUNTER,
            tables.ended.iter().map(|row| by_state(row, counter)),
        ),
        family(
            "left4me_job_duration_seconds",
            "From a job's start to its end, by operation.",
            MetricType::HISTOGRAM,
            tables
                .job_durations
                .iter()
                .map(|(operation, took)| histogram(&[("operation", operation)], took)),
        ),
        family(
            "left4me_queue_wait_seconds",
            "From a job's acceptance to its start.",
            MetricType::HISTOGRAM,
            [histogram(&[], &tables.queue_wait)],
        ),
        family(
            "left4me_queue_oldest_seconds",
            "Age of the oldest job that waits; 0 when none does.",
            MetricType::GAUGE,
            [gauge(&[], oldest)],
        ),
        family(
            "left4me_jobs_waiting",
            "Jobs that wait until nobody plays, or until a time, by condition.",
            MetricType::GAUGE,
            tables
                .waiting
                .iter()
                .map(|(condition, n)| gauge(&[("condition", condition)], *n as f64)),
        ),
        family(
            "left4me_schedules",
            "Schedules by state; failed: the last run, or systemd's timer.",
            MetricType::GAUGE,
            tables
                .schedules
                .iter()
                .map(|(state, &n)| gauge(&[("state", state)], number(n))),
        ),
        family(
            "left4me_jobs_overdue",
            "Jobs that run longer than expected, by operation.",
            MetricType::GAUGE,
            overdue(tables, now).map(|(operation, n)| gauge(&[("operation", operation)], n)),
        ),
        family(
            "left4me_queue_paused",
            "1 while claiming is paused.",
            MetricType::GAUGE,
            [gauge(&[], f64::from(u8::from(tables.paused)))],
        ),
    ]
}

/// The number of overdue jobs of each operation.
fn overdue(tables: &Snapshot, now: i64) -> impl Iterator<Item = (&'static str, f64)> {
    let words = Operation::ALL.into_iter().map(Some).chain([None]);
    words.filter_map(move |operation| {
        let jobs = tables
            .under_way
            .iter()
            .filter(|job| job.operation == operation && job.overdue(now).is_some());
        let n = number(jobs.count() as u64);
        let word = operation.map_or(OTHER, Operation::as_str);
        (operation.is_some() || n > 0.0).then_some((word, n))
    })
}

fn servers(tables: &Snapshot, now: i64) -> Vec<MetricFamily> {
    let drifted = tables.drifted.iter().map(|server| {
        let id = server.id.to_string();
        gauge(
            &[
                ("server", &id),
                ("name", &server.name),
                ("kind", server.kind.as_str()),
            ],
            1.0,
        )
    });

    vec![
        family(
            "left4me_servers",
            "Servers by actual state, as systemd last reported it.",
            MetricType::GAUGE,
            tables
                .servers
                .iter()
                .map(|(state, &n)| gauge(&[("actual_state", state)], number(n))),
        ),
        family(
            "left4me_server_drift",
            "1 for each server that needs attention (desired and \
             actual state differ); no series for the others.",
            MetricType::GAUGE,
            drifted,
        ),
        family(
            "left4me_server_crashes_total",
            "How often each server crashed.",
            MetricType::COUNTER,
            tables.crashes.iter().map(|server| {
                counter(
                    &[("server", &server.id.to_string()), ("name", &server.name)],
                    number(server.count),
                )
            }),
        ),
        family(
            "left4me_poll_age_seconds",
            "Time since the poller last saw all units; since 1970 when it never did.",
            MetricType::GAUGE,
            // A poll that lies ahead is from before the clock was set back: there has been none
            // since.
            [gauge(
                &[],
                seconds(
                    now.saturating_sub(tables.polled_at.unwrap_or(0))
                        .saturating_abs(),
                ),
            )],
        ),
    ]
}

fn alerts(tables: &Snapshot) -> MetricFamily {
    family(
        "left4me_alerts_total",
        "Events for each alert, by what came of them; merged: told in the summary of another.",
        MetricType::COUNTER,
        tables.alerts.iter().map(|((name, result), &n)| {
            counter(&[("destination", name), ("result", result)], number(n))
        }),
    )
}

fn cancellations(tables: &Snapshot) -> Vec<MetricFamily> {
    vec![
        family(
            "left4me_cancellation_requests_total",
            "Requests to cancel, of whole jobs and of single tasks.",
            MetricType::COUNTER,
            tables
                .cancellation_requests
                .iter()
                .map(|(scope, &n)| counter(&[("scope", scope)], number(n))),
        ),
        family(
            "left4me_cancellation_duration_seconds",
            "From the request to its last step.",
            MetricType::HISTOGRAM,
            [histogram(&[], &tables.cancellation_duration)],
        ),
        family(
            "left4me_cancellation_failures_total",
            "Cancellations that could not be completed.",
            MetricType::COUNTER,
            [counter(&[], number(tables.cancellation_failures))],
        ),
        family(
            "left4me_cancellation_timeouts_total",
            "Cancellations in which a command had to be killed \
             because its grace was over; --force is not counted.",
            MetricType::COUNTER,
            [counter(&[], number(tables.cancellation_timeouts))],
        ),
        family(
            "left4me_cancellation_step_failures_total",
            "Steps of cancellations that failed, by step; clean is what removes temporary files.",
            MetricType::COUNTER,
            tables
                .step_failures
                .iter()
                .map(|(step, &n)| counter(&[("step", step)], number(n))),
        ),
        family(
            "left4me_runners_terminated_total",
            "Commands ended by cancellations, by the signal it took; \
             lost: the connection broke before that was known.",
            MetricType::COUNTER,
            tables
                .runners_terminated
                .iter()
                .map(|(signal, &n)| counter(&[("signal", signal)], number(n))),
        ),
    ]
}

fn family(
    name: &str,
    help: &str,
    kind: MetricType,
    series: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(series.into_iter().collect());
    family
}

fn gauge(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = labelled(labels);
    metric.set_gauge(gauge);
    metric
}

fn counter(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut metric = labelled(labels);
    metric.set_counter(counter);
    metric
}

/// The encoder adds the `+Inf` bucket itself.
fn histogram(labels: &[(&str, &str)], durations: &Durations) -> Metric {
    let mut below = 0;
    let mut buckets = Vec::with_capacity(durations.counts.len());
    for (&bound, &n) in &durations.counts {
        below += n;
        if bound < i64::MAX {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(seconds(bound));
            bucket.set_cumulative_count(below);
            buckets.push(bucket);
        }
    }

    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(below);
    histogram.set_sample_sum(durations.total_ms / 1000.0);

    let mut metric = labelled(labels);
    metric.set_histogram(histogram);
    metric
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    Metric::from_label(pairs.collect())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53; Prometheus has only floats"
)]
fn number(n: u64) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 ms")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// An age is never negative, also if the clock was set back.
fn seconds_since(at: i64, now: i64) -> f64 {
    seconds(now.saturating_sub(at).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::{JobId, ServerId};
    use crate::db::metrics::{DriftedServer, snapshot};
    use crate::db::under_way::UnderWay;
    use crate::domain::drift::Drift;

    fn render(tables: &Snapshot, now: i64) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&families(tables, now))
            .unwrap()
    }

    fn nothing() -> Snapshot {
        snapshot(&crate::db::with_servers(0)).unwrap()
    }

    #[test]
    fn a_histogram_is_cumulative_in_seconds_and_ends_with_inf() {
        let counts = [(50, 2), (1000, 0), (2500, 3), (i64::MAX, 1)].into();
        let tables = Snapshot {
            queue_wait: Durations {
                counts,
                total_ms: 12_500.0,
            },
            ..nothing()
        };

        let text = render(&tables, 0);
        let printed: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("queue_wait_seconds"))
            .collect();

        assert_eq!(
            printed,
            [
                "# HELP left4me_queue_wait_seconds From a job's acceptance to its start.",
                "# TYPE left4me_queue_wait_seconds histogram",
                "left4me_queue_wait_seconds_bucket{le=\"0.05\"} 2",
                "left4me_queue_wait_seconds_bucket{le=\"1\"} 2",
                "left4me_queue_wait_seconds_bucket{le=\"2.5\"} 5",
                "left4me_queue_wait_seconds_bucket{le=\"+Inf\"} 6",
                "left4me_queue_wait_seconds_sum 12.5",
                "left4me_queue_wait_seconds_count 6",
            ]
        );
    }

    #[test]
    fn a_server_is_named_when_it_drifts_whatever_its_name_is() {
        let name = "a\\b \"c\"\n} 1\nleft4me_up 1".to_owned();
        let tables = Snapshot {
            drifted: vec![DriftedServer {
                id: ServerId(7),
                name,
                kind: Drift::Down,
            }],
            ..nothing()
        };

        let text = render(&tables, 0);
        let line = r#"left4me_server_drift{server="7",name="a\\b \"c\"\n} 1\nleft4me_up 1",kind="down"} 1"#;
        assert!(text.lines().any(|printed| printed == line), "{text}");
        assert!(
            !render(&nothing(), 0).contains("left4me_server_drift"),
            "no server, no series"
        );
    }

    #[test]
    fn a_job_is_overdue_once_it_runs_for_longer_than_its_kind() {
        const HOUR: i64 = 3_600_000;

        let job = |operation, hours| UnderWay {
            id: JobId(1),
            operation,
            started_at: 10 * HOUR - hours * HOUR - 1,
        };

        let under_way = vec![
            job(Some(Operation::Update), 3),
            job(Some(Operation::Install), 2),
            job(Some(Operation::Stop), 1),
            job(Some(Operation::Start), 0),
            job(None, 1),
        ];

        let text = render(
            &Snapshot {
                under_way,
                ..nothing()
            },
            10 * HOUR,
        );

        for (operation, n) in [
            ("update", 1),
            ("install", 0),
            ("stop", 1),
            ("start", 0),
            ("reset", 0),
            ("other", 1),
        ] {
            let line = format!("left4me_jobs_overdue{{operation=\"{operation}\"}} {n}");
            assert!(
                text.lines().any(|printed| printed == line),
                "{line}\n{text}"
            );
        }
    }

    #[test]
    fn ages_are_as_of_the_scrape_and_counted_from_1970_if_unknown() {
        let text = render(&nothing(), 5_000);
        assert!(
            text.contains("left4me_poll_age_seconds 5\n")
                && text.contains("left4me_queue_oldest_seconds 0\n")
        );

        let tables = Snapshot {
            polled_at: Some(1_500),
            oldest_queued: Some(9_000),
            paused: true,
            ..nothing()
        };

        let text = render(&tables, 5_000);
        for line in [
            "left4me_poll_age_seconds 3.5\n",
            "left4me_queue_oldest_seconds 0\n",
            "left4me_queue_paused 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }

        let tables = Snapshot {
            polled_at: Some(3_605_000),
            ..nothing()
        };

        assert!(
            render(&tables, 5_000).contains("left4me_poll_age_seconds 3600\n"),
            "silent, and the clock was set back"
        );
    }
}
