//! Whether a request is meant for us (its Host), and whether our own pages sent it (its Origin).

use std::net::IpAddr;

use axum::http::{HeaderMap, Method, header};

use crate::base::origin::Origin;

/// The addresses of the web front.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// LEFT4ME_WEB_ORIGIN, as `https://l4d.example.org`. None: only loopback is served.
    own: Option<Origin>,
}

impl Origins {
    pub fn new(own: Option<Origin>) -> Self {
        Self { own }
    }

    /// Whether the front is reached over TLS. Cookies are Secure then.
    pub fn is_https(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.scheme == "https")
    }

    /// Whether the request's Host is ours, or a loopback name.
    pub fn is_our_host(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return false;
        };
        let Ok(host) = host.to_str() else {
            return false;
        };
        let host = host.to_ascii_lowercase();
        is_loopback_name(&host) || self.own.as_ref().is_some_and(|own| own.authority == host)
    }

    /// Whether one of our pages sent this. Browsers send Sec-Fetch-Site, old ones only Origin. A
    /// request that changes nothing may come from anywhere.
    pub fn is_from_us(&self, method: &Method, headers: &HeaderMap) -> bool {
        if method.is_safe() {
            return true;
        }

        if let Some(site) = headers.get("sec-fetch-site") {
            return site == "same-origin" || site == "none";
        }

        let text = |name| {
            headers
                .get(name)
                .and_then(|value: &axum::http::HeaderValue| value.to_str().ok())
        };

        let (Some(origin), Some(host)) = (text(header::ORIGIN), text(header::HOST)) else {
            return false;
        };

        let Ok(origin) = origin.parse::<Origin>() else {
            return false;
        };
        if self.own.as_ref() == Some(&origin) {
            return true;
        }

        let host = host.to_ascii_lowercase();
        origin.scheme == "http" && origin.authority == host && is_loopback_name(&host)
    }

    /// The host that players connect to, without a port: that of our own origin, else of the
    /// request.
    pub fn game_host(&self, headers: &HeaderMap) -> String {
        let asked = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let authority = self
            .own
            .as_ref()
            .map(|own| own.authority.as_str())
            .or(asked)
            .unwrap_or("localhost");
        match authority.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => name.to_owned(),
            _ => authority.to_owned(),
        }
    }
}

/// `localhost`, 127.0.0.0/8 or `[::1]`, with or without a port.
pub fn is_loopback_name(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };

    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }

    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    name == "localhost"
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback() && ip.is_ipv6() == (bare != name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn ours() -> Origins {
        Origins::new(Some("https://L4D.example.org".parse().unwrap()))
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        for good in [
            "https://l4d.example.org",
            "http://10.0.0.1:8080",
            "https://l4d.example.org/",
        ] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }

        for bad in [
            "",
            "l4d.example.org",
            "ftp://x",
            "https://",
            "https://x/path",
            "https://u@x",
            "https://x?q",
            "https://x#f",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_schemes_own_port_is_no_part_of_an_origin() {
        let same =
            |one: &str, other: &str| one.parse::<Origin>().unwrap() == other.parse().unwrap();
        assert!(
            same("https://x.example:443", "https://x.example")
                && same("http://x.example:80", "http://x.example")
        );
        assert!(!same("https://x.example:80", "https://x.example"));
    }

    #[test]
    fn a_host_is_ours_or_loopback() {
        for good in [
            "l4d.example.org",
            "L4D.EXAMPLE.org",
            "localhost",
            "localhost:8000",
            "127.0.0.1:8000",
            "[::1]:80",
            "[::1]",
        ] {
            assert!(ours().is_our_host(&headers(&[("host", good)])), "{good}");
        }

        for bad in [
            "",
            "evil.example",
            "l4d.example.org.evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "::1",
            "localhost:x",
        ] {
            assert!(!ours().is_our_host(&headers(&[("host", bad)])), "{bad}");
        }

        let twice: HeaderMap = HeaderMap::from_iter([]);
        assert!(!ours().is_our_host(&twice), "none at all");
    }

    #[test]
    fn a_page_of_another_origin_sends_nothing() {
        let post =
            |pairs: &[(&'static str, &str)]| ours().is_from_us(&Method::POST, &headers(pairs));
        let host = ("host", "l4d.example.org");

        assert!(
            post(&[host, ("sec-fetch-site", "same-origin")])
                && post(&[host, ("sec-fetch-site", "none")])
        );

        assert!(
            !post(&[host, ("sec-fetch-site", "same-site")])
                && !post(&[host, ("sec-fetch-site", "cross-site")])
        );

        assert!(!post(&[
            host,
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://l4d.example.org")
        ]));

        assert!(post(&[host, ("origin", "https://l4d.example.org")]));
        assert!(
            !post(&[host, ("origin", "http://l4d.example.org")])
                && !post(&[host, ("origin", "null")])
                && !post(&[host])
        );

        assert!(post(&[
            ("host", "localhost:8000"),
            ("origin", "http://localhost:8000")
        ]));

        assert!(!post(&[
            ("host", "localhost:8000"),
            ("origin", "http://localhost:9000")
        ]));

        assert!(!post(&[
            ("host", "evil.example"),
            ("origin", "http://evil.example")
        ]));

        assert!(ours().is_from_us(
            &Method::GET,
            &headers(&[host, ("sec-fetch-site", "cross-site")])
        ));
    }

    #[test]
    fn players_find_the_game_at_our_host_whatever_its_port() {
        let local = headers(&[("host", "127.0.0.1:8000")]);
        assert_eq!(ours().game_host(&local), "l4d.example.org");
        let host = |text: &str| Origins::default().game_host(&headers(&[("host", text)]));
        assert_eq!(
            [host("127.0.0.1:8000"), host("[::1]:8000"), host("[::1]")],
            ["127.0.0.1", "[::1]", "[::1]"]
        );
    }
}
