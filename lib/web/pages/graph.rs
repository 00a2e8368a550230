//! Small graphs of a server's resources, drawn as SVG paths. Pure.
//!
//! Time is divided into columns; each shows the mean of its samples. A column without samples is a
//! gap: the server did not run, or was not polled.

use std::fmt::Write as _;

use crate::db::samples::Sample;
use crate::web::pages::parts;

const COLUMNS: usize = 240;
/// The height in SVG units. One unit of the width is a column.
const HEIGHT: f64 = 60.0;
/// The longest time between two samples for which CPU use is computed, ms.
const FAR: i64 = 30 * 60 * 1000;

/// A value at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Unix ms.
    pub at: i64,
    /// Bytes, percent, ….
    pub value: f64,
}

#[derive(Clone, Debug)]
pub struct Graph {
    pub title: &'static str,
    /// The same in words, for screen readers: range and last value.
    pub description: String,
    /// `d` of the curve.
    pub curve: String,
    /// `d` of the area below it.
    pub area: String,
    /// Width and height in SVG units.
    pub size: (usize, usize),
    /// The value at the upper edge.
    pub top: String,
    /// The start of the time axis, in words.
    pub from: &'static str,
    /// The last value, if there is one.
    pub last: Option<String>,
}

/// A graph's time range, scale and labels.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub title: &'static str,
    /// The start, unix ms.
    pub since: i64,
    /// The end, unix ms.
    pub until: i64,
    pub from: &'static str,
    /// The least value of the upper edge.
    pub at_least: f64,
    pub say: fn(f64) -> String,
}

/// The memory use of the samples that have it.
pub fn memory(samples: &[Sample]) -> Vec<Point> {
    let known = samples
        .iter()
        .filter_map(|sample| Some((sample.at, sample.memory_bytes?)));
    known
        .map(|(at, bytes)| Point {
            at,
            value: bytes.max(0) as f64,
        })
        .collect()
}

/// How many people played, by the samples at which the game answered.
pub fn players(samples: &[Sample]) -> Vec<Point> {
    let known = samples
        .iter()
        .filter_map(|sample| Some((sample.at, sample.players?)));
    known
        .map(|(at, players)| Point {
            at,
            value: players.into(),
        })
        .collect()
}

/// CPU use between two samples, in percent of one CPU. The counter starts at 0 when the unit
/// starts; such a pair is skipped.
pub fn cpu(samples: &[Sample]) -> Vec<Point> {
    let known: Vec<(i64, i64)> = samples
        .iter()
        .filter_map(|sample| Some((sample.at, sample.cpu_ns?)))
        .collect();
    let pairs = known.windows(2).filter_map(|pair| {
        let (time, used) = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
        let good = (1..=FAR).contains(&time) && used >= 0;
        good.then(|| Point {
            at: pair[1].0,
            value: used as f64 / (time as f64 * 1e6) * 100.0,
        })
    });

    pairs.collect()
}

pub fn format_bytes(value: f64) -> String {
    parts::bytes(value as i64)
}

pub fn format_percent(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.1} %")
    } else {
        format!("{value:.0} %")
    }
}

/// Whole people; the mean of a column may be a fraction.
pub fn format_count(value: f64) -> String {
    format!("{value:.0}")
}

/// Draws the graph; none without a point in its time range.
pub fn draw(frame: &Frame, points: &[Point]) -> Option<Graph> {
    let columns = columns(frame, points);
    let known = || columns.iter().flatten().copied();

    let highest = known().fold(f64::NAN, f64::max);
    if highest.is_nan() {
        return None;
    }

    let lowest = known().fold(f64::INFINITY, f64::min);
    let top = round_up(highest.max(frame.at_least));

    // The last value counts as current only if the last columns have samples.
    let last = points
        .iter()
        .rev()
        .find(|point| (frame.since..=frame.until).contains(&point.at));
    let recent = columns.iter().rev().take(2).any(Option::is_some);
    let last = last
        .filter(|_| recent)
        .map(|point| (frame.say)(point.value));

    let (curve, area) = paths(&columns, top);
    let say = frame.say;
    let now = last
        .as_deref()
        .map_or_else(|| "none now".to_owned(), |last| format!("{last} now"));

    Some(Graph {
        title: frame.title,
        description: format!(
            "{}: between {} and {}, {now}",
            frame.title,
            say(lowest),
            say(highest)
        ),
        curve,
        area,
        size: (COLUMNS, HEIGHT as usize),
        top: say(top),
        from: frame.from,
        last,
    })
}

/// The mean of each column's points.
fn columns(frame: &Frame, points: &[Point]) -> Vec<Option<f64>> {
    let mut sums = vec![(0.0, 0.0); COLUMNS];
    let span = (frame.until - frame.since).max(1) as f64;
    for point in points
        .iter()
        .filter(|point| (frame.since..=frame.until).contains(&point.at) && point.value.is_finite())
    {
        let place = (point.at - frame.since) as f64 / span * COLUMNS as f64;
        let (sum, count) = &mut sums[(place as usize).min(COLUMNS - 1)];
        *sum += point.value;
        *count += 1.0;
    }

    sums.into_iter()
        .map(|(sum, count)| (count > 0.0).then(|| sum / count))
        .collect()
}

/// One curve and one area for each run of columns without a gap.
fn paths(columns: &[Option<f64>], top: f64) -> (String, String) {
    let (mut curve, mut area) = (String::new(), String::new());
    let mut at = 0;
    while at < columns.len() {
        let run: Vec<f64> = columns[at..].iter().map_while(|value| *value).collect();
        if run.is_empty() {
            at += 1;
            continue;
        }

        // Writing to a String does not fail. A run of one column is as wide as the column.
        for (index, value) in run.iter().enumerate() {
            let y = HEIGHT - (value / top).clamp(0.0, 1.0) * HEIGHT;
            let x = (at + index) as f64 + 0.5;
            if index == 0 {
                let left = x - 0.5;
                write!(curve, "M{left:.1} {y:.1}").ok();
                write!(area, "M{left:.1} {HEIGHT:.0}V{y:.1}").ok();
            }

            write!(curve, "L{x:.1} {y:.1}").ok();
            write!(area, "L{x:.1} {y:.1}").ok();
        }

        let end = at + run.len();
        write!(curve, "H{end}").ok();
        write!(area, "H{end}V{HEIGHT:.0}Z").ok();
        at = end;
    }

    (curve, area)
}

/// Rounds up to a round number. For large values it is a multiple of a power of 1024, so that bytes
/// are round too.
fn round_up(value: f64) -> f64 {
    let mut unit = 1.0;
    while value / unit > 1024.0 {
        unit *= 1024.0;
    }
    let rest = value / unit;
    let steps = [
        1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 150.0, 200.0, 256.0, 400.0, 512.0, 768.0, 1024.0,
    ];
    steps
        .into_iter()
        .find(|step| *step >= rest)
        .unwrap_or(1024.0)
        * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn frame() -> Frame {
        Frame {
            title: "CPU",
            since: 0,
            until: 240 * HOUR,
            from: "ten days ago",
            at_least: 1.0,
            say: format_percent,
        }
    }

    fn point(at: i64, value: f64) -> Point {
        Point {
            at: at * HOUR + 1,
            value,
        }
    }

    #[test]
    fn a_gap_in_the_samples_is_a_gap_in_the_curve() {
        let graph = draw(&frame(), &[point(0, 50.0), point(1, 100.0), point(9, 25.0)]).unwrap();
        assert_eq!(
            graph.curve,
            "M0.0 30.0L0.5 30.0L1.5 0.0H2M9.0 45.0L9.5 45.0H10"
        );

        assert_eq!(
            graph.area,
            "M0.0 60V30.0L0.5 30.0L1.5 0.0H2V60ZM9.0 60V45.0L9.5 45.0H10V60Z"
        );

        assert_eq!(
            (graph.top.as_str(), graph.last),
            ("100 %", None),
            "it does not run now"
        );

        assert_eq!(graph.description, "CPU: between 25 % and 100 %, none now");
    }

    #[test]
    fn a_column_has_the_mean_of_its_samples_within_the_range() {
        let points = [
            point(-5, 900.0),
            point(239, 10.0),
            Point {
                at: 240 * HOUR,
                value: 30.0,
            },
            point(300, 900.0),
        ];

        let graph = draw(&frame(), &points).unwrap();
        assert_eq!(
            (graph.curve.as_str(), graph.top.as_str()),
            ("M239.0 0.0L239.5 0.0H240", "20 %")
        );

        assert_eq!(graph.last.as_deref(), Some("30 %"));
    }

    #[test]
    fn no_points_make_no_graph_and_odd_numbers_do_no_harm() {
        assert!(draw(&frame(), &[]).is_none());
        assert!(draw(&frame(), &[point(1, f64::NAN), point(2, f64::INFINITY)]).is_none());
        assert!(
            draw(
                &Frame {
                    until: 0,
                    ..frame()
                },
                &[Point { at: 0, value: 0.0 }]
            )
            .is_some()
        );

        let huge = draw(&frame(), &[point(1, 1e300), point(2, -1e300)]).unwrap();
        assert!(
            !huge.curve.contains("NaN") && !huge.curve.contains("inf"),
            "{}",
            huge.curve
        );
    }

    #[test]
    fn cpu_use_is_between_two_samples_and_skips_restarts() {
        let sample = |at, cpu_ns| Sample {
            at,
            memory_bytes: Some(-1),
            cpu_ns,
            players: cpu_ns.map(|_| 3),
            ..Sample::default()
        };

        let samples = [
            sample(0, Some(0)),
            sample(30_000, Some(15_000_000_000)),
            sample(60_000, None),
            sample(90_000, Some(75_000_000_000)),
            sample(120_000, Some(5)),
            sample(120_000, Some(6)),
            sample(9_000_000, Some(7)),
        ];

        assert_eq!(
            cpu(&samples),
            [
                Point {
                    at: 30_000,
                    value: 50.0
                },
                Point {
                    at: 90_000,
                    value: 100.0
                }
            ]
        );

        assert_eq!(players(&samples).len(), 6, "one without an answer");
        assert!(players(&samples).iter().all(|point| point.value == 3.0));
        assert!(memory(&samples).iter().all(|point| point.value == 0.0));
    }

    #[test]
    fn the_upper_edge_is_a_round_number() {
        let mib = 1024.0 * 1024.0;
        assert_eq!(
            [0.3, 1.0, 7.0, 99.0, 101.0].map(round_up),
            [1.0, 1.0, 10.0, 100.0, 150.0]
        );
        assert_eq!(round_up(300.0 * mib), 400.0 * mib);
        assert_eq!(format_bytes(round_up(1.2 * 1024.0 * mib)), "2.0 GiB");
    }
}
