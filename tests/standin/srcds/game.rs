//! What the game is at the moment, and what happens to it: players, maps, hibernation.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Zoned;

use crate::bans::Bans;
use crate::controls;
use crate::cvars::Cvars;
use crate::players::{Player, SURVIVORS};
use crate::say;

/// `maxplayers` at start, and what a lobby's reservation makes of it.
const MAX_PLAYERS: usize = 18;
const COOP_LOBBY: usize = 4;
const VERSUS_LOBBY: usize = 8;

/// How long a change of map takes, unless `standin.map-load-ms` says otherwise.
const MAP_LOAD: Duration = Duration::from_secs(2);

/// What arrives together with the command for it is still answered before.
const FRAME: Duration = Duration::from_millis(50);

const LONGER: Duration = Duration::from_millis(10);

/// The game does one thing at a time: while it loads a map or hangs, nothing else is answered.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Game>>);

impl Shared {
    pub fn new(game: Game) -> Self {
        Self(Arc::new(Mutex::new(game)))
    }

    /// At once, whatever the game does.
    pub fn lock(&self) -> MutexGuard<'_, Game> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Once it neither loads a map nor hangs.
    pub fn when_free(&self) -> MutexGuard<'_, Game> {
        loop {
            let game = self.lock();
            if !game.is_loading() && !controls::has_fault("hang") {
                return game;
            }
            drop(game);
            thread::sleep(LONGER);
        }
    }
}

/// A map that is being loaded.
struct Load {
    from: Instant,
    until: Instant,
    /// Runs server.cfg at its end, as for every map but the first, whose server.cfg ran already.
    is_change: bool,
}

pub struct Game {
    /// The command line, as the engine reads it.
    words: Vec<String>,
    pub cvars: Cvars,
    pub bans: Bans,
    /// IP and port, as bound.
    pub address: (String, u16),
    /// What it calls itself; see `build.rs`.
    pub version: String,
    pub map: String,
    pub players: Vec<Player>,
    last_userid: u32,
    /// The lobby's cookie, in hexadecimal.
    pub lobby: Option<String>,
    pub is_hibernating: bool,
    hibernate_at: Option<Instant>,
    load: Option<Load>,
    pub is_logging: bool,
    /// Until the first map is there, commands are those of the command line and of server.cfg.
    pub has_started: bool,
    /// What the running RCON command prints goes there, and not to the console.
    answer: Option<Vec<u8>>,
    /// RCON connections that know the password.
    pub authenticated: Vec<(SocketAddr, TcpStream)>,
}

impl Game {
    pub fn new(words: Vec<String>) -> Self {
        Self {
            words,
            cvars: Cvars::new(),
            bans: Bans::default(),
            address: (String::new(), 0),
            version: crate::build::version(),
            map: String::new(),
            players: Vec::new(),
            // The survivors have the first.
            last_userid: 9,
            lobby: None,
            is_hibernating: true,
            hibernate_at: None,
            load: None,
            is_logging: false,
            has_started: false,
            answer: None,
            authenticated: Vec::new(),
        }
    }

    /// Options first, then the commands in their order; a later one wins.
    pub fn run_arguments(&mut self) {
        for at in 0..self.words.len() {
            let Some(command) = self.words[at].strip_prefix('+') else {
                continue;
            };
            let value = self
                .words
                .get(at + 1)
                .filter(|next| !next.starts_with(['+', '-']));
            let line = format!("{command} {}", value.map_or("", String::as_str));
            self.run(line.as_bytes());
        }

        for (option, cvar) in [("-ip", "ip"), ("-port", "hostport")] {
            let at = self
                .words
                .iter()
                .position(|word| word.eq_ignore_ascii_case(option));
            if let Some(value) = at.and_then(|at| self.words.get(at + 1)).cloned() {
                self.cvars.set(cvar, value.as_bytes());
            }
        }
    }

    pub fn has_option(&self, name: &str) -> bool {
        self.words
            .iter()
            .any(|word| word.eq_ignore_ascii_case(name))
    }

    // ---- what it prints -----------------------------------------------------------------------

    /// A line of the console, or of the answer of the running RCON command.
    pub fn print(&mut self, line: impl AsRef<[u8]>) {
        match &mut self.answer {
            Some(answer) => answer.extend([line.as_ref(), b"\n"].concat()),
            None => say(line),
        }
    }

    /// A line of the log: on the console with `log on` while `sv_logecho` is not 0. An RCON command
    /// that causes it finds it in its answer, too.
    pub fn log(&mut self, line: impl AsRef<[u8]>) {
        if !self.is_logging || !self.cvars.is_on("sv_logecho") {
            return;
        }
        let now = Zoned::now().strftime("L %m/%d/%Y - %H:%M:%S: ").to_string();
        let line = [now.as_bytes(), line.as_ref()].concat();
        if let Some(answer) = &mut self.answer {
            answer.extend([line.as_slice(), b"\n"].concat());
        }
        say(line);
    }

    /// What a player does, in the log.
    pub fn log_of(&mut self, at: usize, what: impl AsRef<[u8]>) {
        let is_long = self.cvars.is_on("standin_long_log");
        let who = self.players[at].in_log(is_long);
        self.log([b"\"", who.as_slice(), b"\" ", what.as_ref()].concat());
    }

    /// Runs a line and gives what it printed.
    pub fn answer(&mut self, line: &[u8], from: &str) -> Vec<u8> {
        self.answer = Some(Vec::new());
        self.run(line);
        if self.cvars.is_on("sv_rcon_log") {
            let before = format!("rcon from \"{from}\": command \"");
            self.log([before.as_bytes(), line, b"\""].concat());
        }
        self.answer.take().unwrap_or_default()
    }

    /// Whoever knew the password must give it again, also when it is the same as before.
    pub fn end_connections(&mut self) {
        for (_, stream) in self.authenticated.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    // ---- maps ---------------------------------------------------------------------------------

    pub fn is_loading(&self) -> bool {
        let has_begun = |load: &Load| load.from <= Instant::now();
        self.load.as_ref().is_some_and(has_begun)
    }

    /// The first map is there, unless `standin.map-load-ms` says that it takes a while.
    pub fn start_first_map(&mut self) {
        self.has_started = true;
        let now = Instant::now();
        self.load = controls::map_load().map(|time| Load {
            from: now,
            until: now + time,
            is_change: false,
        });
    }

    /// In a moment it answers nothing any more, until the map is there. The players stay.
    pub fn change_map(&mut self, map: &str) {
        self.map = map.to_owned();
        self.players.retain(|player| !player.is_bot());
        for player in &mut self.players {
            player.has_entered = false;
        }

        // On the console, not in the answer: that has left before the load begins.
        let answer = self.answer.take();
        self.log(format!("Loading map \"{map}\""));
        self.answer = answer;
        let from = Instant::now() + FRAME;
        self.load = Some(Load {
            from,
            until: from + controls::map_load().unwrap_or(MAP_LOAD),
            is_change: true,
        });
    }

    fn end_load(&mut self, is_change: bool) {
        if !is_change {
            return;
        }
        say(format!("Host_NewGame on map {}", self.map));
        say("Executing dedicated server config file server.cfg");
        self.exec("server.cfg", 0);
        self.log(format!(
            "Started map \"{}\" (CRC \"-1188225414\")",
            self.map
        ));
    }

    // ---- players ------------------------------------------------------------------------------

    pub fn humans(&self) -> usize {
        self.players
            .iter()
            .filter(|player| !player.is_bot())
            .count()
    }

    pub fn max_players(&self) -> usize {
        let number = self.cvars.number("sv_maxplayers");
        let lobby = if self.cvars.text("mp_gamemode") == "versus" {
            VERSUS_LOBBY
        } else {
            COOP_LOBBY
        };
        match self.lobby {
            _ if number >= 1.0 => number as usize,
            Some(_) => lobby,
            None => MAX_PLAYERS,
        }
    }

    /// The survivors that nobody plays, with userids of their own. They are rows of `status`, and
    /// counted nowhere.
    pub fn idle_survivors(&self) -> impl Iterator<Item = (u32, &'static str)> {
        let played = self.players.len();
        let survivors = if self.is_hibernating {
            &[][..]
        } else {
            &SURVIVORS
        };
        (2..).zip(survivors.iter().copied().skip(played))
    }

    pub fn join(&mut self, line: &[u8]) {
        let userid = self.last_userid + 1;
        let player = Player::parse(line, userid);
        let (name, address) = (player.name.clone(), player.address.clone());
        if self.players.len() >= self.max_players() {
            say([b"Reject connection: Server is full: ", name.as_slice()].concat());
            return;
        }
        if self.bans.is_id_banned(&player.steam) {
            say(format!("UserID {} is banned: {address}", player.steam));
            return;
        }

        self.last_userid = userid;
        if self.is_hibernating {
            say("Server waking up from hibernation");
        }
        (self.is_hibernating, self.hibernate_at) = (false, None);
        let is_bot = player.is_bot();
        self.players.push(player);
        let at = self.players.len() - 1;
        if is_bot {
            self.players[at].has_entered = true;
        } else {
            let after = format!("\" connected ({address}).");
            say([b"Client \"", name.as_slice(), after.as_bytes()].concat());
        }
        self.log_of(at, format!("connected, address \"{address}\""));
    }

    pub fn position(&self, name: &[u8]) -> Option<usize> {
        self.players.iter().position(|player| player.name == name)
    }

    pub fn leave(&mut self, at: usize, reason: &[u8]) {
        let what = [b"disconnected (reason \"", reason, b"\")"].concat();
        self.log_of(at, what);
        let player = self.players.remove(at);
        if !player.is_bot() {
            say([
                b"Dropped ",
                player.name.as_slice(),
                b" from server (",
                reason,
                b")",
            ]
            .concat());
        }

        if self.humans() == 0 && self.cvars.is_on("sv_hibernate_when_empty") {
            let delay = self.cvars.number("sv_hibernate_postgame_delay").max(0.0);
            self.hibernate_at = Some(Instant::now() + Duration::from_secs_f64(delay));
        }
    }

    /// `NAME: TEXT`. Names can hold a colon: the longest that fits is meant.
    pub fn talk(&mut self, line: &[u8]) {
        let speakers = self.players.iter().enumerate().filter_map(|(at, player)| {
            let text = line.strip_prefix(player.name.as_slice())?;
            Some((at, player.name.len(), text.strip_prefix(b": ")?))
        });
        let Some((at, _, text)) = speakers.max_by_key(|(_, length, _)| *length) else {
            return;
        };

        say(line);
        self.log_of(at, [b"say \"", text, b"\""].concat());
    }

    /// Nobody may be there. A lobby chooses map and mode.
    pub fn reserve(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        self.lobby = words.next().map(str::to_owned);
        let map = words.next().map(str::to_owned);
        if let Some(mode) = words.next() {
            self.cvars.set("mp_gamemode", mode.as_bytes());
        }
        if let Some(map) = map {
            self.change_map(&map);
        }
    }

    // ---- time ---------------------------------------------------------------------------------

    /// What is due: the end of a load, players who have loaded the map, hibernation.
    pub fn step(&mut self) {
        let now = Instant::now();
        if let Some(load) = self.load.take_if(|load| load.until <= now) {
            self.end_load(load.is_change);
        }
        if self.load.is_some() {
            return;
        }

        for at in 0..self.players.len() {
            if !self.players[at].has_entered {
                self.log_of(at, "entered the game");
                self.players[at].has_entered = true;
            }
        }

        if self.hibernate_at.take_if(|at| *at <= now).is_some() {
            self.players.clear();
            self.lobby = None;
            self.is_hibernating = true;
            say("Server is hibernating");
        }
    }
}
