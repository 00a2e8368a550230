//! The form for a new schedule: its fields as they were typed, what they mean, and what is wrong
//! with them.

use jiff::tz::TimeZone;

use super::super::extract::Fields;
use super::words::DAYS;
use crate::base::names::{BadName, ServerId, ServerRef, shown};
use crate::domain::calendar::{Calendar, ZoneName};
use crate::domain::condition::ConditionRequest;
use crate::domain::scheduled::{
    self, ScheduleRequest, ScheduleTargets, ScheduledOperation, one_zone,
};

/// What is wrong: fields, and one line each. `form` is all of it.
pub type Wrong = Vec<(&'static str, String)>;

/// The form, to be shown.
pub struct ScheduleForm {
    pub typed: Fields,
    pub wrong: Wrong,
    pub servers: Vec<ServerChoice>,
    /// On the page of this server, which it is for then.
    pub server: Option<ServerId>,
    pub is_admin: bool,
    /// The zones to choose from.
    pub zones: Vec<String>,
    /// The host's own.
    pub zone_here: String,
}

/// A server that can be chosen.
pub struct ServerChoice {
    pub id: ServerId,
    /// With its owner if that is not the viewer.
    pub label: String,
    pub chosen: bool,
}

/// An option, or a box that can be ticked.
pub struct Choice {
    pub word: &'static str,
    pub label: &'static str,
    pub chosen: bool,
}

/// What templates ask.
impl ScheduleForm {
    pub fn typed(&self, name: &str) -> &str {
        self.typed.raw(name)
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.typed.is_set(name)
    }

    pub fn wrong(&self, name: &str) -> Option<&str> {
        let found = self.wrong.iter().find(|(field, _)| *field == name);
        found.map(|(_, words)| words.as_str())
    }

    /// Whether this is the first wrong field, which gets the focus.
    pub fn is_first(&self, name: &str) -> bool {
        self.wrong.first().is_some_and(|(field, _)| *field == name)
    }

    pub fn operations(&self) -> Vec<Choice> {
        let only_servers = !self.is_admin || self.server.is_some();
        let offered = ScheduledOperation::ALL.into_iter();
        offered
            .filter(|operation| operation.takes_servers() || !only_servers)
            .map(|operation| Choice {
                word: operation.as_str(),
                label: label(operation),
                chosen: self.typed("operation") == operation.as_str(),
            })
            .collect()
    }

    pub fn days(&self) -> Vec<Choice> {
        let ticked: Vec<&str> = self.typed.all("day").collect();
        let choice = |(word, label)| Choice {
            word,
            label,
            chosen: ticked.contains(&word),
        };
        DAYS.into_iter().map(choice).collect()
    }

    /// Whether the field for an expression is seen at once.
    pub fn has_expression(&self) -> bool {
        self.is_set("on") || self.wrong("on").is_some()
    }

    /// The page of this form, where app.js gives back what was typed.
    pub fn home(&self) -> String {
        match self.server {
            Some(id) => format!("/servers/{id}"),
            None => "/schedules".to_owned(),
        }
    }
}

/// As the buttons are called.
fn label(operation: ScheduledOperation) -> &'static str {
    match operation {
        ScheduledOperation::Restart => "Restart",
        ScheduledOperation::Stop => "Stop",
        ScheduledOperation::Start => "Start",
        ScheduledOperation::Initialize => "Write settings",
        ScheduledOperation::Reset => "Reset",
        ScheduledOperation::Update => "Update the game",
        ScheduledOperation::Backup => "Make a backup",
    }
}

/// A field's name for people, in place of the option of the command line.
fn named(option: &str) -> String {
    match option {
        "on" => "the time",
        "when-empty" => "“Wait until nobody plays”",
        "until" => "“At most until”",
        "then" => "“If somebody plays then”",
        "warn" => "“Before going ahead, tell players”",
        "rolling" => "“Servers at a time”",
        "no-restart" => "“Restart no server”",
        other => other,
    }
    .to_owned()
}

/// Reads the form. `zone` is the host's.
///
/// Fails with every wrong field.
pub fn read(form: &Fields, now: i64, zone: &TimeZone) -> Result<ScheduleRequest, Wrong> {
    let mut wrong = Wrong::new();
    let operation = kept(&mut wrong, "operation", || form.raw("operation").parse());
    let targets = match operation {
        Some(operation) => kept(&mut wrong, "server", || targets(form, operation)),
        None => None,
    };

    let when = match times(form) {
        Ok(when) => Some(when),
        Err(all) => {
            wrong.extend(all);
            None
        }
    };

    let condition = condition(form, &mut wrong);
    let rolling = kept(&mut wrong, "rolling", || {
        let text = form.get("rolling").map(str::trim);
        let number = text.map(|text| {
            let bad = |_| BadName::new(format!("'{}' is no number from 1 on", shown(text)));
            text.parse().map_err(bad)
        });
        number.transpose()
    });

    let (Some(operation), Some(targets), Some(when), Some(condition), Some(rolling)) =
        (operation, targets, when, condition, rolling)
    else {
        return Err(wrong);
    };
    let request = ScheduleRequest {
        operation,
        targets,
        on: when.on,
        zone: when.zone,
        persistent: form.is_set("persistent"),
        rolling,
        no_restart: form.is_set("no_restart"),
        condition,
    };
    check(&request, when.field, now, zone)?;
    Ok(request)
}

/// The value, or none and a line about the field.
fn kept<T>(
    wrong: &mut Wrong,
    field: &'static str,
    read: impl FnOnce() -> Result<T, BadName>,
) -> Option<T> {
    read()
        .map_err(|bad| wrong.push((field, bad.to_string())))
        .ok()
}

fn targets(form: &Fields, operation: ScheduledOperation) -> Result<ScheduleTargets, BadName> {
    let ids = form.all("server").map(str::parse::<ServerId>);
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    let refuse = |words: &str| Err(BadName::new(words.to_owned()));
    match (operation.takes_servers(), form.is_set("all"), ids.len()) {
        (true, true, 0) => Ok(ScheduleTargets::All),
        (true, true, _) => refuse("choose all servers, or some of them"),
        (true, false, 0) => refuse("choose a server"),
        (true, false, _) => Ok(ScheduleTargets::Named(
            ids.into_iter().map(ServerRef::Id).collect(),
        )),
        (false, false, 0) => Ok(ScheduleTargets::None),
        (false, _, _) => refuse("this is for the whole host: choose no server"),
    }
}

/// When it runs, and which field said so.
struct When {
    on: Calendar,
    zone: Option<ZoneName>,
    field: &'static str,
}

fn times(form: &Fields) -> Result<When, Wrong> {
    let mut wrong = Wrong::new();
    let field = if form.is_set("on") { "on" } else { "time" };
    let on = kept(&mut wrong, field, || match form.get("on") {
        Some(_) if form.is_set("time") || form.is_set("day") => Err(BadName::new(
            "give either an expression, or a time and days: empty the others".to_owned(),
        )),
        Some(text) => Calendar::with_zone(text.trim()),
        None => at_time(form).map(|on| (on, None)),
    });

    let zone = form.get("zone").map(|text| text.trim().parse());
    let zone = kept(&mut wrong, "zone", || zone.transpose());

    let (Some((on, own)), Some(zone)) = (on, zone) else {
        return Err(wrong);
    };
    match one_zone(own.as_ref(), zone.as_ref()) {
        Ok(zone) => Ok(When {
            on,
            zone: zone.cloned(),
            field,
        }),
        Err((own, _)) => {
            let words = format!("the expression ends with another zone, {own}: give one of them");
            Err(vec![("zone", words)])
        }
    }
}

/// The expression for a time of day and some days of the week.
fn at_time(form: &Fields) -> Result<Calendar, BadName> {
    let text = form.raw("time").trim();
    if text.is_empty() {
        return Err(BadName::new("say at what time".to_owned()));
    }

    let bad = || BadName::new(format!("'{}' is no time of day such as 05:00", shown(text)));
    let (hour, minute) = text.split_once(':').ok_or_else(bad)?;
    let number = |text: &str, end: u8| {
        let is_written_so = (1..=2).contains(&text.len()) && !text.starts_with('+');
        let number = text.parse::<u8>().ok();
        number.filter(|number| is_written_so && *number < end)
    };
    let (hour, minute) = match (number(hour, 24), number(minute, 60)) {
        (Some(hour), Some(minute)) if text.len() >= 4 => (hour, minute),
        _ => return Err(bad()),
    };

    let ticked: Vec<&str> = form.all("day").collect();
    let day = |day: &&str| DAYS.iter().any(|(word, _)| word == day);
    if let Some(other) = ticked.iter().find(|ticked| !day(ticked)) {
        return Err(BadName::new(format!("'{}' is no day", shown(other))));
    }
    let days = match ticked.len() {
        0 | 7 => String::new(),
        _ => format!("{} ", ticked.join(",")),
    };
    format!("{days}*-*-* {hour:02}:{minute:02}:00").parse()
}

/// What each job waits for. Without a time and players to wait for, what to do at that time has no
/// meaning.
fn condition(form: &Fields, wrong: &mut Wrong) -> Option<ConditionRequest> {
    let (when_empty, before) = (form.is_set("when_empty"), wrong.len());
    let has_both = when_empty && form.is_set("until");
    let text = |name| form.get(name).map(str::trim);

    let until = kept(wrong, "until", || text("until").map(str::parse).transpose());
    let then = kept(wrong, "condition", || {
        let then = text("then").filter(|_| has_both);
        then.map(str::parse).transpose()
    });
    let warn = kept(wrong, "warn", || text("warn").map(str::parse).transpose());

    (wrong.len() == before).then(|| ConditionRequest {
        when_empty,
        until: until.flatten(),
        then: then.flatten(),
        warn: warn.flatten(),
    })
}

/// What `ScheduleRequest::check` says, at its field.
fn check(
    request: &ScheduleRequest,
    times: &'static str,
    now: i64,
    zone: &TimeZone,
) -> Result<(), Wrong> {
    let resolved = scheduled::resolve(request.operation, &request.condition, now, zone, named);
    resolved.map_err(|bad| vec![("condition", bad.to_string())])?;

    let all_at_once = ScheduleRequest {
        rolling: None,
        no_restart: false,
        ..request.clone()
    };
    let checked = all_at_once.check(now, zone, named);
    checked.map_err(|bad| vec![(times, bad.to_string())])?;

    let checked = request.check(now, zone, named);
    checked.map_err(|bad| vec![("rolling", bad.to_string())])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-20 12:00 UTC.
    const NOW: i64 = 1_795_176_000_000;

    fn form(fields: &[(&str, &str)]) -> Fields {
        let given = |name: &str| fields.iter().any(|(other, _)| *other == name);
        let usual = [
            ("operation", "restart"),
            ("server", "7"),
            ("time", "05:00"),
            ("then", "give-up"),
        ];
        let usual = usual.into_iter().filter(|(name, _)| !given(name));
        usual.chain(fields.iter().copied()).collect()
    }

    fn reads(fields: &[(&str, &str)]) -> Result<ScheduleRequest, Wrong> {
        read(&form(fields), NOW, &TimeZone::UTC)
    }

    #[test]
    fn a_time_and_days_become_an_expression() {
        let on = |fields: &[(&str, &str)]| reads(fields).unwrap().on.to_string();
        assert_eq!(on(&[]), "*-*-* 05:00:00");
        assert_eq!(on(&[("time", "5:07")]), "*-*-* 05:07:00");
        let days = [("time", "23:59"), ("day", "Sat"), ("day", "Mon")];
        assert_eq!(on(&days), "Mon,Sat *-*-* 23:59:00");
        let all = DAYS.map(|(day, _)| ("day", day));
        assert_eq!(on(&all), "*-*-* 05:00:00");
        assert_eq!(
            on(&[("time", ""), ("on", "*-*-01 4:30")]),
            "*-*-01 04:30:00"
        );
    }

    #[test]
    fn each_wrong_field_is_told() {
        for (fields, field, words) in [
            (&[("operation", "delete")][..], "operation", "delete"),
            (&[("server", "")], "server", "choose a server"),
            (&[("server", "x")], "server", "not a server id"),
            (&[("all", "1")], "server", "or some of them"),
            (&[("operation", "update")], "server", "choose no server"),
            (&[("time", "")], "time", "at what time"),
            (&[("time", "25:00")], "time", "no time of day"),
            (&[("time", "5:0")], "time", "no time of day"),
            (&[("time", "+5:00")], "time", "no time of day"),
            (&[("day", "Montag")], "time", "'Montag' is no day"),
            (&[("on", "*-*-* 04:00")], "on", "either"),
            (&[("time", ""), ("on", "soon")], "on", "soon"),
            (&[("time", ""), ("on", "*-02-30")], "on", "never comes"),
            (&[("time", ""), ("on", "*:*:*")], "on", "at least 5 min"),
            (&[("zone", "Mars/Olympus")], "zone", "Mars/Olympus"),
            (&[("until", "soon")], "until", "neither a time of day"),
            (&[("warn", "1w")], "warn", "durations up to a day"),
            (&[("warn", "1m")], "condition", "needs “At most until”"),
            (&[("rolling", "0")], "rolling", "no number from 1 on"),
            (
                &[("when_empty", "1"), ("rolling", "2")],
                "rolling",
                "does not go with a condition",
            ),
            (
                &[("no_restart", "1")],
                "rolling",
                "restart takes no “Restart no server”",
            ),
        ] {
            let wrong = reads(fields).unwrap_err();
            let [(at, told)] = &wrong[..] else {
                panic!("{fields:?}: {wrong:?}");
            };
            assert_eq!(*at, field, "{told}");
            assert!(told.contains(words), "{fields:?}: {told}");
        }

        let fields = [("server", ""), ("time", "x"), ("until", "y"), ("zone", "z")];
        let wrong = reads(&fields).unwrap_err();
        let fields: Vec<&str> = wrong.iter().map(|(field, _)| *field).collect();
        assert_eq!(fields, ["server", "time", "zone", "until"]);
    }

    #[test]
    fn what_to_do_at_a_time_means_nothing_without_one() {
        let empty = reads(&[("when_empty", "1")]).unwrap().condition;
        assert!(empty.when_empty && empty.then.is_none());
        let until = reads(&[("until", "10m"), ("warn", "5m")]).unwrap();
        assert!(until.condition.then.is_none() && until.condition.warn.is_some());
        let both = reads(&[("when_empty", "1"), ("until", "2h"), ("then", "go")]);
        assert!(both.unwrap().condition.then.is_some());
    }

    #[test]
    fn a_zone_is_given_once() {
        let zone = |fields: &[(&str, &str)]| {
            let zone = reads(fields)?.zone;
            Ok::<_, Wrong>(zone.map(|zone| zone.to_string()))
        };
        assert_eq!(zone(&[]).unwrap(), None);
        let berlin = Some("Europe/Berlin".to_owned());
        assert_eq!(zone(&[("zone", " Europe/Berlin ")]).unwrap(), berlin);
        let inner = ("on", "*-*-* 05:00 Europe/Berlin");
        assert_eq!(zone(&[("time", ""), inner]).unwrap(), berlin);
        let wrong = zone(&[("time", ""), inner, ("zone", "Asia/Tokyo")]).unwrap_err();
        assert_eq!(wrong[0].0, "zone");
    }
}
