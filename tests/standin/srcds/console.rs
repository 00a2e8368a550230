//! The console: how a line becomes commands, and what each does.
//!
//! A line is split at `;` outside quotes, and at newlines. Where the public record has the words of
//! an answer, these are they; the refusals are made up.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use crate::game::Game;
use crate::maps;
use crate::{GAME, say};

/// Files of commands run one another so deep.
const EXEC_DEPTH: u32 = 17;

/// What a command is called with.
struct Command<'a> {
    /// In lower case.
    name: String,
    as_typed: String,
    /// Everything behind the name.
    rest: &'a [u8],
}

impl Command<'_> {
    /// All of it, without quotes around.
    fn value(&self) -> &[u8] {
        let rest = self.rest;
        match rest.strip_prefix(b"\"") {
            Some(quoted) => quoted.strip_suffix(b"\"").unwrap_or(quoted),
            None => rest,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.value()).into_owned()
    }

    /// Its words; quotes keep one together.
    fn words(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(self.rest);
        let (mut words, mut rest) = (Vec::new(), text.trim());
        while !rest.is_empty() {
            let (word, after) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
            };
            words.push(word.to_owned());
            rest = after.trim_start();
        }
        words
    }
}

impl Game {
    pub fn run(&mut self, text: &[u8]) {
        self.run_at(text, 0);
    }

    /// `depth`: of files that run files.
    fn run_at(&mut self, text: &[u8], depth: u32) {
        for command in commands(text) {
            let end = command.iter().position(u8::is_ascii_whitespace);
            let (name, rest) = command.split_at(end.unwrap_or(command.len()));
            let as_typed = String::from_utf8_lossy(name).into_owned();
            let command = Command {
                name: as_typed.to_ascii_lowercase(),
                as_typed,
                rest: rest.trim_ascii(),
            };
            self.obey(&command, depth);
        }
    }

    fn obey(&mut self, command: &Command, depth: u32) {
        match command.name.as_str() {
            "exec" => self.exec(&command.text(), depth + 1),
            "echo" => self.print(command.words().join(" ")),
            "say" => self.say(command.value()),
            "status" => self.print_all(self.status()),
            "users" => self.print_all(self.users()),
            "cvarlist" => self.print_all(self.cvars.list()),
            "maps" => self.print_all(maps::list()),
            "map" | "changelevel" => self.go_to(&command.name, &command.text()),
            "kick" => self.kick(command.value()),
            "kickid" => self.kick_id(command.rest),
            "banid" | "removeid" | "listid" | "writeid" => self.ban_command(command),
            "addip" | "removeip" | "listip" | "writeip" => self.address_command(command),
            "log" => self.log_command(&command.text()),
            // Accepted, and nothing is ever sent.
            "logaddress_add" => self.print(format!("logaddress_add:  {}", command.text())),
            "quit" | "exit" | "killserver" | "_restart" => {
                say("Server shutting down");
                std::process::exit(0);
            }
            _ => self.cvar_command(command, depth),
        }
    }

    fn cvar_command(&mut self, command: &Command, depth: u32) {
        let (name, value) = (command.name.as_str(), command.value());
        // Files set variables of plugins that are not here.
        let is_of_plugin = !self.has_started || depth > 0 || name.starts_with("sm_");

        if !command.as_typed.is_ascii() || command.as_typed.contains('\0') {
            // A byte order mark makes its line one of these, and so does each line of UTF-16.
            self.print(format!("Unknown command \"{}\"", command.as_typed));
        } else if command.rest.is_empty() && self.cvars.is_known(name) {
            if self.has_started && depth == 0 {
                self.print_all(self.cvars.described(name));
            }
        } else if self.cvars.is_known(name) || is_of_plugin {
            self.cvars.set(name, value);
            if name == "rcon_password" {
                self.end_connections();
            }
        } else {
            self.print(format!("Unknown command \"{}\"", command.as_typed));
        }
    }

    /// A file below cfg/, found and read as the game's user may.
    pub fn exec(&mut self, file: &str, depth: u32) {
        if depth > EXEC_DEPTH {
            say(format!("standin: {file} runs itself"));
            std::process::abort();
        }

        match fs::read(Path::new(GAME).join("cfg").join(file)) {
            Ok(bytes) => {
                self.print(format!("execing {file}"));
                self.run_at(&bytes, depth.max(1));
            }
            Err(_) => self.print(format!("exec: couldn't exec {file}")),
        }
    }

    fn print_all(&mut self, lines: impl IntoIterator<Item = Vec<u8>>) {
        lines.into_iter().for_each(|line| self.print(line));
    }

    fn say(&mut self, text: &[u8]) {
        self.print([b"Console: ", text].concat());
        self.log([b"\"Console<0><Console><Console>\" say \"", text, b"\""].concat());
    }

    fn go_to(&mut self, command: &str, map: &str) {
        if !self.has_started {
            // The first one; what is no map is not looked for.
            map.clone_into(&mut self.map);
            return;
        }
        if map.is_empty() {
            let usage = "changelevel <levelname> : continue game on a new level";
            self.print(usage);
            return;
        }
        if !maps::is_there(map) {
            self.print(match command {
                "map" => format!("map load failed: {map} not found or invalid"),
                _ => format!("changelevel failed: {map} not found"),
            });
            return;
        }

        if command == "map" {
            say("---- Host_NewGame ----");
            let all: Vec<Vec<u8>> = self
                .players
                .drain(..)
                .map(|player| player.join_line())
                .collect();
            self.change_map(map);
            all.iter().for_each(|line| self.join(line));
        } else {
            say("---- Host_Changelevel ----");
            self.change_map(map);
        }
    }

    fn log_command(&mut self, text: &str) {
        match text {
            "on" | "1" => {
                self.is_logging = true;
                self.print("Server logging enabled.");
            }
            "off" | "0" => {
                self.is_logging = false;
                self.print("Server logging disabled.");
            }
            _ => {
                self.print("Usage:  log < on | off >");
                let state = if self.is_logging { "on" } else { "off" };
                self.print(format!("currently logging: {state}"));
            }
        }
    }

    // ---- people -------------------------------------------------------------------------------

    fn kick(&mut self, name: &[u8]) {
        match self.position(name) {
            Some(at) => self.kick_out(at, b""),
            None => self.print([b"Can't kick \"", name, b"\", name not found"].concat()),
        }
    }

    /// `kickid USERID|STEAMID [REASON]`.
    fn kick_id(&mut self, rest: &[u8]) {
        let end = rest.iter().position(u8::is_ascii_whitespace);
        let (who, reason) = rest.split_at(end.unwrap_or(rest.len()));
        let who = String::from_utf8_lossy(who).replace('"', "");
        match self.who(&who) {
            Some(at) => self.kick_out(at, reason.trim_ascii()),
            None => self.print(format!("kickid: \"{who}\" not found")),
        }
    }

    fn kick_out(&mut self, at: usize, reason: &[u8]) {
        let reason = match reason {
            b"" => b"Kicked by Console".to_vec(),
            reason => [b"Kicked by Console : ", reason].concat(),
        };
        self.leave(at, &reason);
    }

    fn who(&self, who: &str) -> Option<usize> {
        let number: Option<u32> = who.trim_start_matches('#').parse().ok();
        self.players
            .iter()
            .position(|player| Some(player.userid) == number || player.steam == who)
    }

    fn ban_command(&mut self, command: &Command) {
        let words = command.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match (command.name.as_str(), words.as_slice()) {
            ("banid", [minutes, who, more @ ..]) => {
                self.ban(minutes.parse().unwrap_or(0.0), who, more == ["kick"]);
            }
            ("banid", _) => {
                self.print("Usage:  banid < minutes > < userid | uniqueid > { kick }");
                self.print("Use 0 minutes for permanent");
            }
            ("removeid", [who]) => match self.bans.remove_id(who) {
                Some(id) => self.print(format!("removeid:  filter removed for {id}")),
                None => self.print(format!("removeid:  couldn't find {who}")),
            },
            ("removeid", _) => self.print("Usage:  removeid < slot | uniqueid >"),
            ("listid", _) => {
                let list = self.bans.list_ids();
                self.print_all(list.into_iter().map(String::into_bytes));
            }
            _ => {
                self.print("Writing banned_user.cfg.");
                if let Err(e) = self.bans.write_ids() {
                    self.print(format!("Couldn't write banned_user.cfg: {e}"));
                }
            }
        }
    }

    fn ban(&mut self, minutes: f64, who: &str, is_kicked: bool) {
        let at = self.who(who);
        let id = match at {
            Some(at) => self.players[at].steam.clone(),
            None if who.starts_with("STEAM_") => who.to_owned(),
            None => {
                self.print(format!("banid:  couldn't find {who}"));
                return;
            }
        };
        // Of no one in particular.
        if id == crate::players::BOT || id == "STEAM_ID_LAN" {
            self.print(format!("banid:  {id} cannot be banned"));
            return;
        }

        self.bans.ban_id(&id, minutes);
        let duration = match minutes {
            0.0 => "permanently".to_owned(),
            minutes => format!("for {minutes:.2} minutes"),
        };
        let whom = match at {
            Some(at) => self.players[at].in_log(false),
            None => format!("<><{id}><>").into_bytes(),
        };
        let after = format!("\" was banned \"{duration}\" by \"Console\"");
        if self.has_started {
            self.log([b"Banid: \"", whom.as_slice(), after.as_bytes()].concat());
        }

        if let Some(at) = at.filter(|_| is_kicked) {
            self.kick_out(at, b"You have been banned");
        }
    }

    fn address_command(&mut self, command: &Command) {
        let words = command.words();
        let address = |at: usize| words.get(at)?.parse::<IpAddr>().ok();
        match command.name.as_str() {
            "addip" => match address(1) {
                Some(address) => {
                    let minutes = words[0].parse().unwrap_or(0.0);
                    self.bans.ban_address(address, minutes);
                }
                None => self.print("Usage:  addip < minutes > < ip address >"),
            },
            "removeip" => match address(0) {
                Some(address) if self.bans.remove_address(address) => {
                    self.print(format!("removeip:  filter removed for {address}"));
                }
                _ => self.print("removeip:  couldn't find it"),
            },
            "listip" => {
                let list = self.bans.list_addresses();
                self.print_all(list.into_iter().map(String::into_bytes));
            }
            _ => {
                self.print("Writing banned_ip.cfg.");
                if let Err(e) = self.bans.write_addresses() {
                    self.print(format!("Couldn't write banned_ip.cfg: {e}"));
                }
            }
        }
    }
}

/// The commands in a text, without comments.
fn commands(text: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let (mut begin, mut is_quoted) = (0, false);
        let mut end = line.len();
        for at in 0..line.len() {
            match line[at] {
                b'"' => is_quoted = !is_quoted,
                b';' if !is_quoted => {
                    found.push(line[begin..at].trim_ascii());
                    begin = at + 1;
                }
                b'/' if !is_quoted && line.get(at + 1) == Some(&b'/') => {
                    end = at;
                    break;
                }
                _ => {}
            }
        }
        found.push(line[begin..end].trim_ascii());
    }

    found.retain(|command| !command.is_empty());
    found
}
