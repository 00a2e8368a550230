//! left4me-notify: sends one message to a destination outside this host. It is the only program of
//! left4me with alerts on one side and the network on the other, so it has nothing else: no
//! database, no other socket, a user of its own.

mod address;
mod http;
mod smtp;
mod tls;

use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser};

use crate::base::config::{self, Logging, NotifySettings};
use crate::base::{Error, Result, journal, notify, undumpable};
use crate::domain::alert::{Answer, Channel, Delivery};
use crate::wire::line::{LineReader, REQUEST_TIME};
use crate::wire::parse;

const PROGRAM: &str = "left4me-notify";

/// The longest request, in bytes: a summary with ten long events, as text and as a document.
const LIMIT: usize = 256 * 1024;

/// How long a delivery may take in all, from the name's lookup to the answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Send one alert to its destination
///
/// systemd starts it for each connection to left4me-notify.socket. `left4me alert test` sends a
/// message through it.
#[derive(Parser)]
#[command(name = PROGRAM, version)]
struct NotifyCli {
    #[command(flatten)]
    own: NotifySettings,
    #[command(flatten)]
    logging: Logging,
}

/// The program's command line, for its manual page.
pub fn command() -> clap::Command {
    NotifyCli::command()
}

pub fn main() -> ExitCode {
    undumpable::set();
    let cli = config::parse::<NotifyCli>();
    journal::start(cli.logging.log);
    serve(&cli.own).map_or_else(|error| error.report(PROGRAM), |()| ExitCode::SUCCESS)
}

/// Reads the request, sends the message, answers.
fn serve(settings: &NotifySettings) -> Result<()> {
    let Some(socket) = notify::passed_socket() else {
        return Err(Error::usage(
            "no connection was passed: systemd starts this program for left4me-notify.socket; \
             use `left4me alert test`",
        ));
    };

    let answer = match read(&socket) {
        Ok(delivery) => deliver(settings, &delivery),
        Err(why) => {
            tracing::warn!("request refused: {why}");
            Answer::Refused(why)
        }
    };
    write(socket, &answer)
}

/// Reads the one request of the connection.
fn read(socket: &OwnedFd) -> Result<Delivery, String> {
    let mut lines = LineReader::new(LIMIT);
    let line = lines.read_line(socket.as_fd(), REQUEST_TIME);
    let line = line.map_err(|bad| format!("not a request: {bad}"))?;
    parse(line).map_err(|why| format!("not a request: {why}"))
}

fn write(socket: OwnedFd, answer: &Answer) -> Result<()> {
    let mut line = serde_json::to_string(answer)
        .map_err(|error| Error::failed(format!("the answer: {error}")))?;
    line.push('\n');
    let mut stream = UnixStream::from(socket);
    stream.set_write_timeout(Some(REQUEST_TIME))?;
    Ok(stream.write_all(line.as_bytes())?)
}

/// Sends the message within [`TIMEOUT`]. The secret in the destination is in no answer.
fn deliver(settings: &NotifySettings, delivery: &Delivery) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return later(format!("no runtime: {error}")),
    };

    let sending = async {
        match delivery.to.channel() {
            Channel::Mail => smtp::send(settings, delivery).await,
            Channel::Discord | Channel::Webhook | Channel::Ntfy => {
                http::send(settings, delivery).await
            }
        }
    };
    let answer = runtime.block_on(async { tokio::time::timeout(TIMEOUT, sending).await });
    // A name's lookup cannot be interrupted, and must not hold the answer back.
    runtime.shutdown_background();

    let hide = |text: String| delivery.to.hide(&text);
    match answer {
        Err(_) => later(format!("no answer within {} s", TIMEOUT.as_secs())),
        Ok(Answer::Sent(said)) => Answer::Sent(hide(said)),
        Ok(Answer::Refused(why)) => Answer::Refused(hide(why)),
        Ok(Answer::Retry { why, after }) => Answer::Retry {
            why: hide(why),
            after,
        },
    }
}

/// A fault that may be over at the next attempt.
fn later(why: impl std::fmt::Display) -> Answer {
    Answer::Retry {
        why: why.to_string(),
        after: None,
    }
}
