//! Connects to a host. The address that was checked is the one that is connected to: a name that
//! has another address a moment later leads nowhere else.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};

use super::later;
use crate::domain::alert::Answer;
use crate::domain::alert::address::is_public;
use crate::domain::alert::target::ALLOW_PRIVATE;

/// How long one of a host's addresses may take to answer.
const CONNECT: Duration = Duration::from_secs(4);

/// How many of a host's addresses are tried.
const ADDRESSES: usize = 4;

/// Connects to a host that an alert names.
pub(super) async fn connect_public(
    host: &str,
    port: u16,
    allow_private: bool,
) -> Result<TcpStream, Answer> {
    let all = resolve(host, port).await?;
    let allowed: Vec<SocketAddr> = all
        .iter()
        .copied()
        .filter(|address| allow_private || is_public(address.ip()))
        .collect();

    match (allowed.is_empty(), all.first()) {
        (true, Some(private)) => Err(Answer::Refused(format!(
            "{host} is {}, an address of this host or of a private network; {ALLOW_PRIVATE}",
            private.ip()
        ))),
        _ => connect_any(host, &allowed).await,
    }
}

/// Connects to a host that root's settings name.
pub(super) async fn connect(host: &str, port: u16) -> Result<TcpStream, Answer> {
    let addresses = resolve(host, port).await?;
    connect_any(host, &addresses).await
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Answer> {
    match lookup_host((host, port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(later(format!("{host} has no address: {error}"))),
    }
}

async fn connect_any(host: &str, addresses: &[SocketAddr]) -> Result<TcpStream, Answer> {
    let mut why = "it has no address".to_owned();
    for address in addresses.iter().take(ADDRESSES) {
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = format!("no answer within {} s", CONNECT.as_secs()),
        }
    }
    Err(later(format!("{host} cannot be reached: {why}")))
}
