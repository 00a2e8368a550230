//! Calendar expressions in plain words, as far as they are simple. Pure.

/// The days of a week, as expressions and people call them.
pub const DAYS: [(&str, &str); 7] = [
    ("Mon", "Monday"),
    ("Tue", "Tuesday"),
    ("Wed", "Wednesday"),
    ("Thu", "Thursday"),
    ("Fri", "Friday"),
    ("Sat", "Saturday"),
    ("Sun", "Sunday"),
];

/// `every day at 05:00` for `*-*-* 05:00:00`, which is the canonical form of such an expression.
/// None for one that is not simple: it is shown as it is.
pub fn words(canonical: &str) -> Option<String> {
    let parts: Vec<&str> = canonical.split(' ').collect();
    let (days, date, time) = match parts[..] {
        [date, time] => (None, date, time),
        [days, date, time] => (Some(days), date, time),
        _ => return None,
    };

    let days = match days {
        Some(days) => Some(weekdays(days)?),
        None => None,
    };
    let date = date_words(date)?;
    Some(match (time_words(time)?, days, date) {
        (Time::Of(time), None, Date::Any) => format!("every day at {time}"),
        (Time::Every(every), None, Date::Any) => every,
        (Time::Of(time), Some(days), Date::Any) => format!("{days} at {time}"),
        (Time::Every(every), Some(days), Date::Any) => format!("{every}, {days}"),
        (Time::Of(time), None, Date::In(date)) => format!("{date} at {time}"),
        (Time::Every(every), None, Date::In(date)) => format!("{every}, {date}"),
        (_, Some(_), Date::In(_)) => return None,
    })
}

/// `Mon..Fri` and `Sat,Sun`.
fn weekdays(text: &str) -> Option<String> {
    let name = |short: &str| {
        let day = DAYS.iter().find(|(day, _)| *day == short);
        day.map(|(_, name)| *name)
    };
    let one = |part: &str| match part.split_once("..") {
        Some((first, last)) => Some(format!("{} to {}", name(first)?, name(last)?)),
        None => name(part).map(str::to_owned),
    };
    Some(listed(
        &text.split(',').map(one).collect::<Option<Vec<_>>>()?,
    ))
}

enum Date {
    Any,
    /// `on the 1st of each month`
    In(String),
}

fn date_words(text: &str) -> Option<Date> {
    let parts: Vec<&str> = text.split('-').collect();
    match parts[..] {
        ["*", "*", "*"] => Some(Date::Any),
        ["*", "*", day] => {
            let days = day.split(',').map(|day| number(day).map(ordinal));
            let days = listed(&days.collect::<Option<Vec<_>>>()?);
            Some(Date::In(format!("on the {days} of each month")))
        }
        [year, month, day] if year.len() == 4 => {
            let all = [number(year)?, number(month)?, number(day)?];
            let [year, month, day] = all;
            Some(Date::In(format!("once, on {year}-{month:02}-{day:02}")))
        }
        _ => None,
    }
}

enum Time {
    /// `05:00 and 17:00`
    Of(String),
    /// `every hour at minute 30`
    Every(String),
}

fn time_words(text: &str) -> Option<Time> {
    let parts: Vec<&str> = text.split(':').collect();
    let [hours, minutes, "00"] = parts[..] else {
        return None;
    };

    match (steps(hours, 24), steps(minutes, 60)) {
        (None, Some(step)) if hours == "*" => Some(Time::Every(format!("every {step} minutes"))),
        (None, None) if hours == "*" => Some(Time::Every(match number(minutes)? {
            0 => "every hour".to_owned(),
            minute => format!("every hour at minute {minute}"),
        })),
        (Some(step), None) => Some(Time::Every(match number(minutes)? {
            0 => format!("every {step} hours from midnight"),
            minute => format!("every {step} hours from 00:{minute:02}"),
        })),
        (None, None) => {
            let minute = number(minutes)?;
            let hours = hours.split(',').map(number).collect::<Option<Vec<_>>>()?;
            let times = hours.iter().map(|hour| format!("{hour:02}:{minute:02}"));
            Some(Time::Of(listed(&times.collect::<Vec<_>>())))
        }
        _ => None,
    }
}

/// The step of `00/6`, if a whole number of them fills the day or hour.
fn steps(text: &str, whole: u32) -> Option<u32> {
    let step = number(text.strip_prefix("00/")?)?;
    (step > 1 && whole.is_multiple_of(step)).then_some(step)
}

fn number(text: &str) -> Option<u32> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok())?
}

fn ordinal(number: u32) -> String {
    let end = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}

/// `a, b and c`
fn listed(all: &[String]) -> String {
    match all {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn simple_expressions_have_words() {
        for (canonical, expected) in [
            ("*-*-* 05:00:00", "every day at 05:00"),
            ("*-*-* 05,17:30:00", "every day at 05:30 and 17:30"),
            ("Mon..Fri *-*-* 05:00:00", "Monday to Friday at 05:00"),
            (
                "Mon,Wed..Fri *-*-* 23:59:00",
                "Monday and Wednesday to Friday at 23:59",
            ),
            ("Sat,Sun *-*-* 00:00:00", "Saturday and Sunday at 00:00"),
            ("*-*-* *:00:00", "every hour"),
            ("*-*-* *:30:00", "every hour at minute 30"),
            ("*-*-* *:00/10:00", "every 10 minutes"),
            ("*-*-* 00/6:00:00", "every 6 hours from midnight"),
            ("*-*-* 00/6:15:00", "every 6 hours from 00:15"),
            ("Sun *-*-* *:00:00", "every hour, Sunday"),
            ("*-*-01 04:00:00", "on the 1st of each month at 04:00"),
            (
                "*-*-02,03,11,22 04:00:00",
                "on the 2nd, 3rd, 11th and 22nd of each month at 04:00",
            ),
            ("2026-12-24 18:00:00", "once, on 2026-12-24 at 18:00"),
        ] {
            assert_eq!(words(canonical).as_deref(), Some(expected), "{canonical}");
        }
    }

    #[test]
    fn others_are_shown_as_they_are() {
        for canonical in [
            "",
            "*-*-*",
            "Mon *-*-01 05:00:00",
            "*-*~01 05:00:00",
            "*-01,04,07,10-01 00:00:00",
            "*-*-* 05:00:30",
            "*-*-* 00/7:00:00",
            "*-*-* *:00/7:00",
            "*-*-* 05..07:00:00",
            "*-*-* *:*:00",
            "*-*-* 00/2:00/5:00",
            "Xyz *-*-* 05:00:00",
            "*-*-* 05:00:00 Europe/Berlin",
            "2026..2028-12-24 18:00:00",
        ] {
            assert_eq!(words(canonical), None, "{canonical}");
        }
    }
}
