//! The Unix user of a server: found, or made by systemd-sysusers, which locks the user database and writes it whole.

use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, User};

use super::NAME;
use crate::base::names::InstanceName;
use crate::base::server_user::{self, ServerUser};
use crate::base::{Error, Result, users};
use crate::process::{Peer, Relay, Spec, Supervisor, Terminal};
use crate::wire::{LINE_LIMIT, Stream};

/// How long systemd-sysusers may take when it was asked to end.
const GRACE: Duration = Duration::from_secs(5);

/// Where the loaded units say that a server still has the user of all servers (see former.rs).
pub(super) const SETTING: &str = "LEFT4ME_SERVER_USER";

/// The ids of the server's user, which is made when it is missing.
///
/// # Errors
/// Exit 69 when the user cannot be made.
pub(super) fn ensure(server: &InstanceName) -> Result<(Uid, Gid)> {
    let user = ServerUser::of(server);
    if let Some(found) = find(&user.name)? {
        return Ok(found);
    }
    make(&user, server)?;
    find(&user.name)?.ok_or_else(|| Error::unavailable(format!("the user {} of server {server} is missing", user.name)))
}

/// The ids of the user as which systemd will start the server: its own, or for one that ran through an upgrade
/// left4me-game, until its units are loaded again.
///
/// # Errors
/// As [`ensure`]; exit 1 for another user.
pub(super) fn loaded(server: &InstanceName) -> Result<(Uid, Gid)> {
    match std::env::var(SETTING) {
        Err(_) => ensure(server),
        Ok(name) if name == users::GAME => users::ids(users::GAME),
        Ok(_) => Err(Error::failed(format!(
            "server {server}: {SETTING} is set by left4me's own drop-in only; remove it from yours (`systemctl cat left4me-overlay@{server}`)"
        ))),
    }
}

/// The user of all servers before each had its own.
pub(super) fn former() -> Option<Uid> {
    users::uid(users::GAME)
}

fn find(name: &str) -> Result<Option<(Uid, Gid)>> {
    match User::from_name(name) {
        // A person's account that has such a name by chance is not given to a game.
        Ok(Some(user)) if !server_user::is_managed(&user) => Err(Error::conflict(format!(
            "the account {name} (uid {}) is not one that left4me made: a server needs that name for its own user",
            user.uid
        ))),
        Ok(user) => Ok(user.map(|user| (user.uid, user.gid))),
        Err(errno) => Err(Error::unavailable(format!("the user {name} cannot be looked up: {}", errno.desc()))),
    }
}

/// A number that another user has already is replaced by a free one: the entry counts, not the number.
fn make(user: &ServerUser, server: &InstanceName) -> Result<()> {
    let line = format!("u {} {} \"{} {server}\" -", user.name, user.id, server_user::COMMENT);
    let spec = Spec {
        argv: ["/usr/bin/systemd-sysusers", "--inline", &line].map(Into::into).to_vec(),
        env: [("LANG", "C.UTF-8"), ("PATH", "/usr/bin:/bin")].map(|(name, value)| (name.into(), value.into())).to_vec(),
        cwd: "/".into(),
        terminal: Terminal::Pipes,
        first_signal: Signal::SIGTERM,
        line_limit: LINE_LIMIT,
    };

    let mut last = String::new();
    let outcome = Supervisor::new(Peer::person(NAME), GRACE)?.run(&spec, &mut |stream, line| {
        if stream == Stream::Stderr {
            line.clone_into(&mut last);
        }
        Relay::Drop
    })?;

    if outcome.succeeded() {
        return Ok(());
    }

    Err(Error::unavailable(format!("the user {} of server {server} cannot be made: {last}", user.name)))
}
