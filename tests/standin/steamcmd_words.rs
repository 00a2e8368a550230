//! How the stand-in fails, in the real one's words. Each line is one that people have reported.
//!
//! | key | what it prints, and ends with | from which kind of report |
//! |---|---|---|
//! | `fatal=offline` | `Steamcmd needs to be online to update`, 254 | first starts off-line or behind a firewall, with an assertion after it (steam-for-linux 12372, 10994) |
//! | `fatal=space` | `Steamcmd needs 250MB of free disk space to update`, 7 | full root disks of small hosts |
//! | `fatal=libraries` | the shell's `linux32/steamcmd: No such file or directory`, 127 | 64-bit hosts without 32-bit libraries |
//! | `user_info=timeout` | `Waiting for user info...FAILED (Timed out)`, then `OK`, nothing updated, 0 | steamcmd/docker 65, LinuxGSM 2675 |
//! | `login=connection` | `FAILED (No Connection)`, 5 | hosts whose network goes at night |
//! | `login=limit` | `FAILED (Rate Limit Exceeded)`, 5 | managers that log in once for each mod (dayz-server-manager 46) |
//! | `login=password` | `FAILED (Invalid Password)`, 5 | accounts whose cached credentials have expired (steam-for-linux 11208) |
//! | `login=guard` | asks for a `Steam Guard code:` on its input, 5 | accounts with Steam Guard (steamguard-cli 447) |
//! | `appinfo=timeout` | `Timed out waiting for AppInfo update`, 1 | LinuxGSM 2562, Source-1-Games 1183 |
//! | `refuse=No_subscription` | `Failed to install app '222860' (No subscription)`, 8; any words, `_` for a space | anonymous logins since 2024 |
//! | `refuse_anonymous=1` | the same, to the anonymous login alone | the same |
//! | `state=0x602` | `Error! App '222860' state is 0x602 after update job.`, 8 | every game's trackers |
//!
//! `times=N` (or `state_times=N`) makes it fail in the first N runs only that could, `pass=linux`
//! (`windows`, `prime`, `info`) in runs of that pass only. Without them it always does.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::{APP, Conf, INSTALL_FAILED, Order, Printer};

const LOGIN_FAILED: u8 = 5;

/// A way to fail, and its value.
pub struct Way {
    key: &'static str,
    value: String,
}

const KEYS: [&str; 6] = ["fatal", "user_info", "login", "appinfo", "refuse", "state"];

/// The way in which this run is to fail, if it is to.
pub fn chosen(conf: &Conf, order: &Order) -> Option<Way> {
    if conf.text("pass").is_some_and(|pass| pass != order.pass()) {
        return None;
    }
    let named = |key: &'static str| {
        conf.text(key).map(|value| Way {
            key,
            value: value.to_owned(),
        })
    };

    let old = conf.has("login_fail").then(|| Way {
        key: "login",
        value: "connection".to_owned(),
    });

    let anonymous = order.login.as_deref() == Some("anonymous") && conf.has("refuse_anonymous");
    let refused = anonymous.then(|| Way {
        key: "refuse",
        value: "No_subscription".to_owned(),
    });

    let way = KEYS.into_iter().find_map(named).or(old).or(refused)?;
    let only_there = match way.key {
        "appinfo" => order.update || order.info > 0,
        "refuse" | "state" => order.update,
        _ => true,
    };
    if !only_there {
        return None;
    }
    let counter = conf.beside("standin.failures");
    let failed: u64 = fs::read_to_string(&counter)
        .ok()
        .and_then(|n| n.trim().parse().ok())
        .unwrap_or(0);
    let most = conf
        .number("times")
        .or(conf.number("state_times"))
        .unwrap_or(u64::MAX);
    if failed >= most {
        return None;
    }
    let _ = fs::write(counter, format!("{}\n", failed + 1));
    Some(way)
}

impl Way {
    fn is(&self, key: &str, value: &str) -> bool {
        self.key == key && self.value == value
    }

    /// Before it is steamcmd at all.
    pub fn at_start(&self, out: &mut Printer) -> Option<u8> {
        if self.is("fatal", "libraries") {
            out.line("steamcmd.sh: line 37: linux32/steamcmd: No such file or directory");
            return Some(127);
        }

        let (words, code) = match (self.key, self.value.as_str()) {
            ("fatal", "offline") => (
                "Steamcmd needs to be online to update.  Please \
                 confirm your network connection and try again.",
                254,
            ),
            ("fatal", "space") => ("Steamcmd needs 250MB of free disk space to update.", 7),
            _ => return None,
        };

        out.line(
            "ILocalize::AddFile() failed to load file \"public/steambootstrapper_english.txt\".",
        );
        out.line("[  0%] Checking for available update...");
        out.line("[----] Verifying installation...");
        out.line("[  0%] Downloading Update...");
        out.line("[  0%] Checking for available update...");
        out.line(&format!("[----] !!! Fatal Error: {words}"));
        out.line(
            "threadtools.cpp (3552) : Assertion Failed: \
             Illegal termination of worker thread 'Thread(0x02F18F10/0x0'",
        );

        Some(code)
    }

    /// Once it is logged in.
    pub fn before_download(&self, out: &mut Printer) -> Option<u8> {
        match self.key {
            // Not logged in, and it ends as if nothing were wrong.
            "user_info" => Some(0),
            "appinfo" => {
                out.line("ERROR! Timed out waiting for AppInfo update.");
                Some(1)
            }
            "refuse" => {
                out.line(&format!(
                    "ERROR! Failed to install app '{APP}' ({})",
                    self.value.replace('_', " ")
                ));

                Some(INSTALL_FAILED)
            }
            _ => None,
        }
    }

    /// After the download.
    pub fn at_end(&self) -> Option<String> {
        (self.key == "state").then(|| {
            format!(
                "Error! App '{APP}' state is {} after update job.",
                self.value
            )
        })
    }
}

/// The lines of a login; an exit code when it fails.
pub fn log_in(order: &Order, account: &str, way: Option<&Way>, out: &mut Printer) -> Option<u8> {
    let anonymous = account == "anonymous";
    let start = if anonymous {
        "Connecting anonymously to Steam Public...".to_owned()
    } else {
        if !remembers(account) && !ask_for_password(order, account, out) {
            return Some(LOGIN_FAILED);
        }
        format!("Logging in user '{account}' [U:1:1868766091] to Steam Public...")
    };

    let login = way
        .filter(|way| way.key == "login")
        .map(|way| way.value.as_str());
    let failed = match login {
        Some("limit") => "FAILED (Rate Limit Exceeded)",
        Some("password") => "FAILED (Invalid Password)",
        Some("guard") => {
            out.line(&start);
            out.line(
                "This computer has not been authenticated for your account using Steam Guard.",
            );
            out.line(
                "Please check your email for the message from Steam, and enter the Steam Guard",
            );
            out.line(" code from that message.");
            out.bytes(b"Steam Guard code:", b"");
            if typed().is_none() {
                out.line("FAILED (Account Logon Denied)");
            }
            return Some(LOGIN_FAILED);
        }
        Some(_) => "FAILED (No Connection)",
        None => "OK",
    };

    out.line(&format!("{start}{failed}"));
    if login.is_some() {
        return Some(LOGIN_FAILED);
    }
    out.line("Waiting for client config...OK");
    if way.is_some_and(|way| way.is("user_info", "timeout")) {
        out.line("Waiting for user info...FAILED (Timed out)");
        out.line("OK");
    } else {
        out.line("Waiting for user info...OK");
    }

    None
}

/// A line of input; none at its end.
fn typed() -> Option<String> {
    let mut line = String::new();
    io::stdin()
        .read_line(&mut line)
        .ok()
        .filter(|read| *read > 0)?;
    Some(line.trim().to_owned())
}

fn credentials() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join("Steam/config/config.vdf")
}

fn remembers(account: &str) -> bool {
    fs::read_to_string(credentials()).is_ok_and(|text| text.contains(&format!("\"{account}\"")))
}

/// A login by hand leaves a token, and the password nowhere.
fn ask_for_password(order: &Order, account: &str, out: &mut Printer) -> bool {
    out.line("Cached credentials not found.");
    out.line("");
    if !order.no_prompt {
        out.bytes(b"password: ", b"");
        if typed().is_some_and(|password| !password.is_empty()) {
            out.line("");
            let file = credentials();
            let _ = file.parent().map(fs::create_dir_all);
            let token = "eyAidHlwIjogIkpXVCIsICJhbGciOiAiRWREU0EiIH0";
            return fs::write(
                file,
                format!("\"Accounts\" {{ \"{account}\" {{ \"token\" \"{token}\" }} }}\n"),
            )
            .is_ok();
        }
    }

    out.line("FAILED (Invalid Password)");
    false
}
