//! Every setting of every program, and a judge of values: the parser of the very argument that
//! reads it.

use clap::builder::Resettable;
use clap::{Arg, Args, Command};

use super::{
    AlertsSocket, BuildSettings, CleanRetry, CommandSockets, ConsoleSocket, FleetSettings, Grace,
    LinkSettings, Logging, NotifySettings, NotifySocket, Paths, PollSeconds, Ports,
    RetentionSettings, SchedulesSocket, SteamSettings, Steamcmd, WebSettings, WorkerSettings,
    WorkerSocket,
};

pub struct KnownSetting {
    arg: Arg,
    pub name: String,
    /// The programs that a bad value stops.
    pub stops: &'static str,
}

pub fn settings() -> Vec<KnownSetting> {
    let every = "every program";
    [
        of::<Paths>(every),
        of::<WorkerSocket>("left4me, left4me-job, left4me-worker, left4me-poller and left4me-web"),
        of::<AlertsSocket>("left4me, left4me-worker and left4me-poller"),
        of::<NotifySocket>("left4me"),
        of::<SchedulesSocket>("left4me and left4me-web"),
        of::<NotifySettings>("left4me-notify"),
        of::<CommandSockets>("left4me, left4me-worker, left4me-poller and left4me-web"),
        of::<ConsoleSocket>(
            "left4me, left4me-job, left4me-worker, left4me-poller, left4me-web and left4me-console",
        ),
        of::<FleetSettings>(
            "left4me, left4me-job, left4me-worker, left4me-poller, left4me-gate and left4me-link",
        ),
        of::<LinkSettings>("left4me-link"),
        of::<Logging>(every),
        of::<Grace>("left4me-worker, left4me-helper, left4me-runner and left4me-publisher"),
        of::<CleanRetry>("left4me-worker"),
        of::<WorkerSettings>("left4me-worker"),
        of::<BuildSettings>(
            "left4me, left4me-job, left4me-worker, left4me-runner, left4me-web and \
             `left4me-helper upgrade`",
        ),
        of::<Steamcmd>("left4me-runner and left4me-web"),
        of::<SteamSettings>("left4me-runner"),
        of::<PollSeconds>("left4me-poller.timer"),
        of::<Ports>("left4me and left4me-web"),
        of::<RetentionSettings>("left4me prune, which left4me-prune.timer runs every night"),
        of::<WebSettings>("left4me-web"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn of<A: Args>(stops: &'static str) -> Vec<KnownSetting> {
    let command = A::augment_args(Command::default());
    let named = |arg: &Arg| {
        let name = arg.get_env()?.to_str()?.to_owned();
        Some(KnownSetting {
            arg: arg.clone().env(Resettable::Reset).global(false),
            name,
            stops,
        })
    };

    command.get_arguments().filter_map(named).collect()
}

impl KnownSetting {
    /// Judges a value as the programs do.
    pub fn judge(&self, value: &str) -> Result<(), String> {
        let long = self.arg.get_long().unwrap_or_default();
        let command = Command::default()
            .no_binary_name(true)
            .arg(self.arg.clone());
        let parsed = command.try_get_matches_from([format!("--{long}={value}")]);
        parsed
            .map(drop)
            .map_err(|error| match std::error::Error::source(&error) {
                Some(why) => why.to_string(),
                None => error.kind().to_string(),
            })
    }

    /// The value that counts when there is none.
    pub fn default(&self) -> Option<&str> {
        self.arg
            .get_default_values()
            .first()?
            .to_str()
            .filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(name: &str, value: &str) -> Result<(), String> {
        settings()
            .iter()
            .find(|known| known.name == name)
            .unwrap()
            .judge(value)
    }

    #[test]
    fn values_are_judged_by_the_programs_own_parsers_and_a_refusal_says_what_is_allowed() {
        for (name, bad, allowed) in [
            ("LEFT4ME_WORKER_SLOTS", "four", "from 1 to 256"),
            ("LEFT4ME_WORKER_SLOTS", "-1", "from 1 to 256"),
            ("LEFT4ME_WORKER_SLOTS", "0", "from 1 to 256"),
            ("LEFT4ME_WORKER_SLOTS", "", "from 1 to 256"),
            ("LEFT4ME_WORKER_SLOTS", "1e9", "from 1 to 256"),
            ("LEFT4ME_CANCEL_GRACE_SECONDS", "10s", "from 0 to 3600"),
            ("LEFT4ME_CLEAN_RETRY_SECONDS", "1;2", "separated by commas"),
            ("LEFT4ME_ROOT", "var/lib", "absolute"),
            ("LEFT4ME_STEAMCMD", "steamcmd", "absolute"),
            ("LEFT4ME_WEB_ORIGIN", "l4d.example.org", "https://HOST"),
            ("LEFT4ME_BUILDS", "inplace", "beside or in-place"),
            ("LEFT4ME_KEEP_BUILDS", "0", "from 1 to 100"),
            ("LEFT4ME_ANSWER_SECONDS", "0", "from 5 to 3600"),
            ("LEFT4ME_WEB_PROXIES", "proxy.lan", "IP addresses"),
            ("LEFT4ME_PORT_RANGE", "27000", "FIRST-LAST"),
            ("LEFT4ME_ALERT_PRIVATE", "yes", "0 or 1"),
            ("LEFT4ME_SMTP_URL", "mail.example.org", "smtp://HOST"),
            ("LEFT4ME_MAIL_FROM", "left4me", "NAME@HOST"),
            ("LEFT4ME_LOG", "loud", "info"),
            ("LEFT4ME_KEEP_LOGS_DAYS", "90d", "from 0 to 36500"),
            ("LEFT4ME_KEEP_LOGS_MIB", "2G", "from 0 to 16777216"),
            ("LEFT4ME_WEB_CONNECTIONS", "99999999999", "from 8 to 60000"),
        ] {
            let why = judged(name, bad).unwrap_err();
            assert!(why.contains(allowed), "{name}={bad}: {why}");
        }

        for (name, good) in [
            ("LEFT4ME_WORKER_SLOTS", "256"),
            ("LEFT4ME_WEB_PROXIES", "192.0.2.1, ::1"),
            ("LEFT4ME_WEB_ORIGIN", "https://l4d.example.org"),
            ("LEFT4ME_WORKER_IDLE_SECONDS", "0"),
            ("LEFT4ME_STEAM_ACCOUNT", "-x"),
        ] {
            assert_eq!(judged(name, good), Ok(()), "{name}={good}");
        }
    }

    #[test]
    fn every_setting_that_the_shipped_file_describes_is_known_with_its_default() {
        let known = settings();
        let shipped = include_str!("../../../deploy/left4me.env")
            .lines()
            .filter_map(|line| line.strip_prefix('#'));
        let described: Vec<(&str, &str)> = shipped
            .filter(|line| line.starts_with("LEFT4ME_"))
            .filter_map(|line| line.split_once('='))
            .collect();
        assert_eq!(described.len(), known.len(), "{described:?}");
        for (name, value) in described {
            let known = known
                .iter()
                .find(|known| known.name == name)
                .unwrap_or_else(|| panic!("{name}"));
            assert_eq!(known.judge(value), Ok(()), "{name}={value}");
            assert!(
                known.default().is_none_or(|default| default == value),
                "{name}={value}: {:?}",
                known.default()
            );
        }
    }
}
