//! Where a request comes from. A proxy is trusted because of a secret that it sends, or because its
//! address is configured. Being on this host is no reason for trust: game servers and all local
//! users are on it too.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{HeaderMap, header};

use super::origin::is_loopback_name;
use super::throttle::Sender;
use crate::base::shared_secret::Secret;
use crate::web::peers::{Owner, Peer};

/// The header with a proxy's secret. Removed before a handler sees the request.
pub const SECRET_HEADER: &str = "x-left4me-proxy";

/// The headers that a proxy adds.
const FORWARDED: [&str; 5] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
    "via",
];

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The key that failed sign-ins are counted by.
    pub sender: Sender,
    pub locality: Locality,
}

/// Whether a request was made on this host, without a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locality {
    /// Yes, by a user of this host.
    Local,
    /// Yes, by a game server or steamcmd, which run foreign code.
    Foreign,
    /// Over loopback, but the kernel does not know the user.
    Unknown,
    /// No.
    Elsewhere,
}

/// The proxies whose forwarded headers are trusted.
#[derive(Debug, Default)]
pub struct Proxies {
    addresses: Vec<IpAddr>,
    secret: Option<Secret>,
    /// An origin is configured, but neither an address nor a secret. There is a proxy then, and a
    /// forwarded header is most likely the proxy's: its visitors must not share one sender's limit.
    is_open: bool,
    has_complained: AtomicBool,
}

impl Proxies {
    pub fn new(addresses: Vec<IpAddr>, secret: Option<Secret>, has_origin: bool) -> Self {
        let is_open = has_origin && addresses.is_empty() && secret.is_none();
        Self {
            addresses,
            secret,
            is_open,
            has_complained: AtomicBool::new(false),
        }
    }

    pub fn client(&self, peer: &Peer, headers: &HeaderMap) -> Client {
        Client {
            sender: self.sender(peer, headers),
            locality: locality(peer, headers),
        }
    }

    fn sender(&self, peer: &Peer, headers: &HeaderMap) -> Sender {
        let address = peer.addr.ip().to_canonical();
        match peer.owner {
            // Foreign code is never a proxy, whatever it sends and wherever it listens.
            Owner::Foreign(uid) => Sender::Local(uid),
            _ if self.is_trusted(peer, headers) => {
                named(headers).map_or(Sender::Unknown, Sender::Address)
            }
            Owner::Elsewhere => Sender::Address(address),
            owner => {
                self.complain(headers);
                match owner {
                    Owner::User(uid) if !(self.is_open && is_forwarded(headers)) => {
                        Sender::Local(uid)
                    }
                    _ => Sender::Unknown,
                }
            }
        }
    }

    fn is_trusted(&self, peer: &Peer, headers: &HeaderMap) -> bool {
        let mut shown = headers.get_all(SECRET_HEADER).iter();
        if let (Some(secret), Some(text), None) = (&self.secret, shown.next(), shown.next())
            && secret.is(text.as_bytes())
        {
            return true;
        }

        // Game servers share the addresses of this host, so an address counts only if the peer is
        // known not to be one.
        peer.owner != Owner::Unknown && self.addresses.contains(&peer.addr.ip().to_canonical())
    }

    fn complain(&self, headers: &HeaderMap) {
        let has_proxy = self.is_open || self.secret.is_some();
        if has_proxy && is_forwarded(headers) && !self.has_complained.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                "a proxy on this host is not trusted: it sends no secret, or a wrong one, \
                 in X-Left4me-Proxy; until it does, all clients behind it count as one sender: \
                 set LEFT4ME_WEB_PROXY_SECRET_FILE and the proxy's header"
            );
        }
    }
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    FORWARDED.iter().any(|name| headers.contains_key(*name))
}

/// The client that a proxy names. Only the last entry is from our proxy; anyone can write the ones
/// before it.
fn named(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?;
    let named = last
        .to_str()
        .ok()?
        .rsplit(',')
        .next()?
        .trim()
        .parse::<IpAddr>()
        .ok()?;
    Some(named.to_canonical())
}

fn locality(peer: &Peer, headers: &HeaderMap) -> Locality {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let is_plain = peer.addr.ip().to_canonical().is_loopback()
        && host.is_some_and(|host| is_loopback_name(&host.to_ascii_lowercase()))
        && !is_forwarded(headers)
        && !headers.contains_key(SECRET_HEADER);

    match peer.owner {
        Owner::Foreign(_) => Locality::Foreign,
        Owner::User(_) if is_plain => Locality::Local,
        Owner::Unknown if is_plain => Locality::Unknown,
        _ => Locality::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn secret() -> Secret {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), SECRET).unwrap();
        Secret::read(file.path()).unwrap()
    }

    fn peer(addr: &str, owner: Owner) -> Peer {
        Peer {
            addr: addr.parse().unwrap(),
            owner,
        }
    }

    fn address(text: &str) -> Sender {
        Sender::Address(text.parse().unwrap())
    }

    const USER: Owner = Owner::User(33);
    const GAME: Owner = Owner::Foreign(2_100_000_007);

    #[test]
    fn only_a_trusted_proxys_own_header_entry_counts() {
        let forwarded = ("x-forwarded-for", "198.51.100.7, 203.0.113.9");
        let shown = [forwarded, (SECRET_HEADER, SECRET)];
        let by_secret = Proxies::new(Vec::new(), Some(secret()), true);
        let sender = |proxies: &Proxies, owner, pairs: &[(&'static str, &str)]| {
            proxies.sender(&peer("127.0.0.1:5", owner), &headers(pairs))
        };

        assert_eq!(sender(&by_secret, USER, &shown), address("203.0.113.9"));
        assert_eq!(
            sender(&by_secret, Owner::Unknown, &shown),
            address("203.0.113.9")
        );

        assert_eq!(
            by_secret.sender(&peer("192.0.2.1:5", Owner::Elsewhere), &headers(&shown)),
            address("203.0.113.9")
        );

        // A missing, wrong, partial or repeated secret is not trusted.
        for bad in [
            vec![],
            vec!["x"],
            vec![&SECRET[1..]],
            vec![SECRET, SECRET],
            vec!["x", SECRET],
        ] {
            let mut pairs = vec![forwarded];
            pairs.extend(bad.iter().map(|text| (SECRET_HEADER, *text)));
            assert_eq!(
                sender(&by_secret, USER, &pairs),
                Sender::Local(33),
                "{bad:?}"
            );
        }

        let by_address = Proxies::new(vec!["127.0.0.1".parse().unwrap()], None, true);
        assert_eq!(
            sender(&by_address, USER, &[forwarded]),
            address("203.0.113.9")
        );

        assert_eq!(
            sender(&by_address, Owner::Unknown, &[forwarded]),
            Sender::Unknown,
            "it may be a game server"
        );

        assert_eq!(
            by_address.sender(
                &peer("192.0.2.1:5", Owner::Elsewhere),
                &headers(&[forwarded])
            ),
            address("192.0.2.1")
        );

        assert_eq!(
            sender(&by_address, USER, &[("x-forwarded-for", "nonsense")]),
            Sender::Unknown
        );

        // Without secret and address, being on this host is no reason for trust.
        let none = Proxies::new(Vec::new(), None, true);
        assert_eq!(sender(&none, USER, &[forwarded]), Sender::Unknown);
        assert_eq!(sender(&none, USER, &[]), Sender::Local(33));
        assert_eq!(
            sender(&Proxies::default(), USER, &[forwarded]),
            Sender::Local(33),
            "no proxy is expected"
        );
    }

    #[test]
    fn a_game_server_is_itself_whatever_it_sends() {
        let local = Proxies::new(vec!["127.0.0.1".parse().unwrap()], Some(secret()), true);
        for pairs in [
            vec![],
            vec![("x-forwarded-for", "203.0.113.9")],
            vec![(SECRET_HEADER, SECRET)],
        ] {
            let client = local.client(&peer("127.0.0.1:5", GAME), &headers(&pairs));
            assert_eq!(
                client,
                Client {
                    sender: Sender::Local(2_100_000_007),
                    locality: Locality::Foreign
                }
            );
        }
    }

    #[test]
    fn a_request_through_a_proxy_is_not_local() {
        let local = |owner, pairs: &[(&'static str, &str)]| {
            locality(&peer("127.0.0.1:5", owner), &headers(pairs))
        };
        let host = ("host", "localhost:8000");

        assert_eq!(local(USER, &[host]), Locality::Local);
        assert_eq!(local(GAME, &[host]), Locality::Foreign);
        assert_eq!(local(Owner::Unknown, &[host]), Locality::Unknown);
        assert_eq!(
            local(USER, &[("host", "l4d.example.org")]),
            Locality::Elsewhere
        );

        assert_eq!(local(USER, &[]), Locality::Elsewhere);
        for name in FORWARDED.into_iter().chain([SECRET_HEADER]) {
            assert_eq!(
                local(USER, &[host, (name, "203.0.113.9")]),
                Locality::Elsewhere,
                "{name}"
            );
        }

        let other = peer("192.0.2.1:5", Owner::Elsewhere);
        assert_eq!(
            locality(&other, &headers(&[("host", "localhost")])),
            Locality::Elsewhere
        );
    }
}
