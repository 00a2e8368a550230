//! The watchdog of a program that runs as steamcmd's user.

use crate::base::notify;

/// Sends keep-alive pings to PID 1, if the unit has a watchdog. steamcmd runs as the same user and
/// can stop this process, which would block the queue: PID 1 then ends the unit (WatchdogSec=). It is
/// a thread of its own, because a slow disk may block the main thread for longer, which is no reason
/// to end the unit. Call it after [`super::Supervisor::new`]: the supervisor takes the signals, which
/// are blocked in this thread too.
pub fn start() {
    let Some(pause) = notify::watchdog_interval() else {
        return;
    };
    let ping = move || {
        loop {
            notify::watchdog();
            std::thread::sleep(pause);
        }
    };

    if let Err(error) = std::thread::Builder::new()
        .name("watchdog".to_owned())
        .spawn(ping)
    {
        tracing::warn!(%error, "cannot start the watchdog thread: PID 1 will end this program");
    }
}
