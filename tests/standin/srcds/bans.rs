//! Who may not come: Steam ids (`banid`), which may not play, and addresses (`addip`), from which
//! no packet is read.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::GAME;

/// A ban until then, or for ever.
struct Ban<T> {
    what: T,
    until: Option<Instant>,
}

#[derive(Default)]
pub struct Bans {
    ids: Vec<Ban<String>>,
    addresses: Vec<Ban<IpAddr>>,
    /// Wrong RCON passwords, by address.
    failures: Vec<(IpAddr, Instant)>,
}

/// How many wrong passwords are too many.
pub struct Limits {
    pub at_all: f64,
    pub within: f64,
    pub window: Duration,
}

impl Bans {
    /// `minutes` 0 is for ever. A ban that is there is replaced.
    pub fn ban_id(&mut self, id: &str, minutes: f64) {
        self.ids.retain(|ban| ban.what != id);
        self.ids.push(ban(id.to_owned(), minutes));
    }

    /// By id or by its number in [`Self::list_ids`]; gives the id.
    pub fn remove_id(&mut self, which: &str) -> Option<String> {
        self.expire();
        let at = self.ids.iter().position(|ban| ban.what == which);
        let by_number = || which.parse::<usize>().ok()?.checked_sub(1);
        let at = at.or_else(by_number).filter(|at| *at < self.ids.len())?;
        Some(self.ids.remove(at).what)
    }

    pub fn is_id_banned(&mut self, id: &str) -> bool {
        self.expire();
        self.ids.iter().any(|ban| ban.what == id)
    }

    pub fn list_ids(&mut self) -> Vec<String> {
        self.expire();
        listed(
            "ID",
            self.ids.iter().map(|ban| (ban.what.clone(), ban.until)),
        )
    }

    /// The permanent ones, as commands, for later starts.
    pub fn write_ids(&self) -> io::Result<()> {
        let lines = self.ids.iter().filter(|ban| ban.until.is_none());
        let text: String = lines
            .map(|ban| format!("banid 0 {}\r\n", ban.what))
            .collect();
        fs::write(Path::new(GAME).join("cfg/banned_user.cfg"), text)
    }

    pub fn ban_address(&mut self, address: IpAddr, minutes: f64) {
        self.addresses.retain(|ban| ban.what != address);
        self.addresses.push(ban(address, minutes));
    }

    pub fn remove_address(&mut self, address: IpAddr) -> bool {
        let before = self.addresses.len();
        self.addresses.retain(|ban| ban.what != address);
        self.failures.retain(|(failed, _)| *failed != address);
        self.addresses.len() != before
    }

    pub fn is_address_banned(&mut self, address: IpAddr) -> bool {
        self.expire();
        self.addresses.iter().any(|ban| ban.what == address)
    }

    pub fn list_addresses(&mut self) -> Vec<String> {
        self.expire();
        let addresses = self.addresses.iter();
        listed("IP", addresses.map(|ban| (ban.what.to_string(), ban.until)))
    }

    pub fn write_addresses(&self) -> io::Result<()> {
        let lines = self.addresses.iter().filter(|ban| ban.until.is_none());
        let text: String = lines
            .map(|ban| format!("addip 0 {}\r\n", ban.what))
            .collect();
        fs::write(Path::new(GAME).join("cfg/banned_ip.cfg"), text)
    }

    /// A wrong password; says whether that was one too many. No address is spared, 127.0.0.1
    /// neither: the branch has no `sv_rcon_whitelist_address`.
    pub fn password_failed(&mut self, address: IpAddr, limits: &Limits) -> bool {
        self.failures.push((address, Instant::now()));
        let own = self
            .failures
            .iter()
            .filter(|(failed, _)| *failed == address);
        let all = own.clone().count() as f64;
        let recent = own.filter(|(_, at)| at.elapsed() <= limits.window).count() as f64;
        all >= limits.at_all || recent >= limits.within
    }

    pub fn password_accepted(&mut self, address: IpAddr) {
        self.failures.retain(|(failed, _)| *failed != address);
    }

    fn expire(&mut self) {
        let now = Instant::now();
        self.ids
            .retain(|ban| ban.until.is_none_or(|until| until > now));
        self.addresses
            .retain(|ban| ban.until.is_none_or(|until| until > now));
    }
}

fn ban<T>(what: T, minutes: f64) -> Ban<T> {
    let until = (minutes > 0.0).then(|| Instant::now() + Duration::from_secs_f64(minutes * 60.0));
    Ban { what, until }
}

fn listed(kind: &str, bans: impl Iterator<Item = (String, Option<Instant>)>) -> Vec<String> {
    let rows: Vec<String> = bans
        .enumerate()
        .map(|(at, (what, until))| {
            let left = until.map_or_else(
                || "permanent".to_owned(),
                |until| {
                    let left = until.saturating_duration_since(Instant::now());
                    format!("{:.3} min", left.as_secs_f64() / 60.0)
                },
            );
            format!("{} {what} : {left}", at + 1)
        })
        .collect();

    let head = match rows.len() {
        0 => format!("{kind} filter list: empty"),
        1 => format!("{kind} filter list: 1 entry"),
        many => format!("{kind} filter list: {many} entries"),
    };
    [vec![head], rows].concat()
}
