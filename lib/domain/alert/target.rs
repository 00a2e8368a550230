//! Destinations: the URL or the address of an alert, checked where people give it.

use std::net::IpAddr;

use axum::http::Uri;
use serde::{Deserialize, Serialize};

use super::Channel;
use super::address::is_public;
use crate::base::names::{BadName, shown};

/// The longest URL or mail address, in bytes.
const LONGEST: usize = 1024;

/// How to allow private addresses.
pub const ALLOW_PRIVATE: &str = "LEFT4ME_ALERT_PRIVATE=1 in /etc/left4me/left4me.env allows it";

/// A checked destination. Its text is a secret: whoever knows it can post there. So [`Target`] has
/// no `Display`, and errors never repeat the text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct Target {
    channel: Channel,
    text: String,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    channel: String,
    text: String,
}

impl TryFrom<Unchecked> for Target {
    type Error = BadName;

    fn try_from(raw: Unchecked) -> Result<Self, BadName> {
        Self::new(raw.channel.parse()?, &raw.text)
    }
}

impl From<Target> for Unchecked {
    fn from(target: Target) -> Self {
        Self {
            channel: target.channel.to_string(),
            text: target.text,
        }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.channel, self.masked())
    }
}

impl Target {
    /// Checks a URL, or a mail address.
    pub fn new(channel: Channel, text: &str) -> Result<Self, BadName> {
        let bad = |why: &str| Err(BadName::new(format!("the destination is refused: {why}")));
        let text = text.trim();
        if text.len() > LONGEST {
            return bad("it is longer than 1,024 bytes");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return bad("it has spaces, control characters or letters beyond ASCII \
                 (write a host as xn--…, a path as %C3%A4…)");
        }

        let checked = match channel {
            Channel::Mail => check_mail(text),
            Channel::Discord => check_url(text).and_then(|uri| check_discord(&uri)),
            Channel::Webhook | Channel::Ntfy => check_url(text).map(drop),
        };
        match checked {
            Ok(()) => Ok(Self {
                channel,
                text: text.to_owned(),
            }),
            Err(why) => bad(&why),
        }
    }

    pub fn channel(&self) -> Channel {
        self.channel
    }

    /// The secret itself, for where it is stored and used.
    pub fn secret(&self) -> &str {
        &self.text
    }

    /// The URL; none for mail.
    pub fn uri(&self) -> Option<Uri> {
        (self.channel != Channel::Mail)
            .then(|| self.text.parse().ok())
            .flatten()
    }

    /// What lists show: the host, or the mail address with its first letter only.
    pub fn masked(&self) -> String {
        if let Some((name, host)) = self.text.split_once('@')
            && self.channel == Channel::Mail
        {
            let first: String = name.chars().take(1).collect();
            return format!("{first}…@{host}");
        }

        let uri = self.uri().unwrap_or_default();
        let host = uri.authority().map_or("?", |authority| authority.as_str());
        format!("{}://{host}/…", uri.scheme_str().unwrap_or("https"))
    }

    /// Replaces the secret in a text that others wrote, such as a destination's answer.
    pub fn hide(&self, text: &str) -> String {
        let path = self.uri().and_then(|uri| {
            let path = uri.path_and_query()?.as_str().to_owned();
            (path.len() > 1).then_some(path)
        });
        let hidden = text.replace(&self.text, "…");
        match path {
            Some(path) => hidden.replace(&path, "/…"),
            None => hidden,
        }
    }

    /// The private address that a URL names directly.
    pub fn private_address(&self) -> Option<IpAddr> {
        let uri = self.uri()?;
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
        host.parse().ok().filter(|address| !is_public(*address))
    }
}

fn check_url(text: &str) -> Result<Uri, String> {
    let needed = "a URL is needed, https://HOST/PATH or http://HOST/PATH";
    let uri: Uri = text.parse().map_err(|_| needed.to_owned())?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(needed.to_owned());
    }
    let authority = uri.authority().ok_or(needed)?;
    if authority.as_str().contains('@') {
        return Err("a URL with a user or a password is not supported".to_owned());
    }
    if text.contains('#') {
        return Err("a URL with a fragment (#…) is not supported".to_owned());
    }

    let rest = authority.as_str().strip_prefix(authority.host());
    let is_port = |rest: &str| match rest.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => rest.is_empty(),
    };
    if authority.host().is_empty() || !rest.is_some_and(is_port) {
        return Err(needed.to_owned());
    }
    Ok(uri)
}

/// Only the path is checked: proxies and other instances of the service have other hosts.
fn check_discord(uri: &Uri) -> Result<(), String> {
    let mut parts = uri.path().split('/').skip_while(|part| *part != "webhooks");
    let is_id = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let has_both = parts.next().is_some()
        && parts.next().is_some_and(is_id)
        && parts.next().is_some_and(|token| !token.is_empty());
    if has_both {
        Ok(())
    } else {
        Err(
            "a webhook's URL is needed, https://discord.com/api/webhooks/NUMBER/TOKEN: \
             channel settings, Integrations, Webhooks, Copy Webhook URL"
                .to_owned(),
        )
    }
}

/// Stricter than RFC 5322: no quotes, comments or route, which no common address has, and nothing
/// that could end a command of SMTP.
fn check_mail(text: &str) -> Result<(), String> {
    let is_host = |host: &str| {
        !host.is_empty()
            && host.len() <= 253
            && host.split('.').all(|label| {
                !label.is_empty()
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                    && !label.starts_with('-')
            })
    };
    let is_local = |local: &str| {
        (1..=64).contains(&local.len())
            && !local.starts_with('-')
            && local
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b))
    };

    match text.rsplit_once('@') {
        Some((local, host)) if is_local(local) && is_host(host) => Ok(()),
        _ => Err(format!(
            "'{}' is not a mail address: NAME@HOST is needed",
            shown(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(channel: Channel, text: &str) -> String {
        Target::new(channel, text).unwrap_err().to_string()
    }

    #[test]
    fn urls_of_the_services_are_taken() {
        for (channel, url, masked) in [
            (
                Channel::Discord,
                "https://discord.com/api/webhooks/123/abc-DEF_9",
                "https://discord.com/…",
            ),
            (
                Channel::Discord,
                "https://discord.com/api/v10/webhooks/123/abc?thread_id=7",
                "https://discord.com/…",
            ),
            (
                Channel::Ntfy,
                "https://ntfy.sh/my-topic",
                "https://ntfy.sh/…",
            ),
            (
                Channel::Webhook,
                "http://[2606:4700::1]:8080/hook?key=x",
                "http://[2606:4700::1]:8080/…",
            ),
            (Channel::Mail, "anna@example.org", "a…@example.org"),
        ] {
            let target = Target::new(channel, &format!(" {url} ")).unwrap();
            assert_eq!(target.secret(), url);
            assert_eq!(target.masked(), masked);
            assert!(!format!("{target:?}").contains("abc"), "{target:?}");
        }
    }

    #[test]
    fn other_urls_are_refused_without_repeating_them() {
        for (channel, url, why) in [
            (Channel::Webhook, "ftp://example.org/x", "https://HOST"),
            (Channel::Webhook, "example.org/secret", "https://HOST"),
            (Channel::Webhook, "file:///etc/secret", "https://HOST"),
            (Channel::Webhook, "https:///secret", "https://HOST"),
            (
                Channel::Webhook,
                "https://example.org:0/secret",
                "https://HOST",
            ),
            (
                Channel::Webhook,
                "https://example.org:/secret",
                "https://HOST",
            ),
            (
                Channel::Webhook,
                "https://u:secret@example.org/",
                "password",
            ),
            (Channel::Webhook, "https://example.org/secret#x", "fragment"),
            (
                Channel::Webhook,
                "https://example.org/secret\r\nX: y",
                "control",
            ),
            (Channel::Webhook, "https://exämple.org/secret", "ASCII"),
            (
                Channel::Discord,
                "https://discord.com/secret",
                "webhooks/NUMBER",
            ),
            (
                Channel::Discord,
                "https://discord.com/api/webhooks/1/",
                "NUMBER/TOKEN",
            ),
            (Channel::Mail, "anna", "NAME@HOST"),
            (Channel::Mail, "anna@", "NAME@HOST"),
            (Channel::Mail, "\"a\"@example.org", "NAME@HOST"),
            (Channel::Mail, "a>@example.org", "NAME@HOST"),
            (Channel::Mail, "a@b,c@d", "NAME@HOST"),
            (Channel::Mail, "-f@example.org", "NAME@HOST"),
        ] {
            let refused = refusal(channel, url);
            assert!(refused.contains(why), "{url}: {refused}");
            assert!(!refused.contains("secret"), "{refused}");
        }
        assert!(
            refusal(Channel::Ntfy, &format!("https://x/{}", "a".repeat(1024))).contains("1,024")
        );
    }

    #[test]
    fn a_private_address_in_the_url_is_seen_at_once() {
        let of = |url: &str| {
            Target::new(Channel::Webhook, url)
                .unwrap()
                .private_address()
        };
        assert!(of("http://127.0.0.1:8080/x").is_some());
        assert!(of("http://[::1]/x").is_some());
        assert!(of("http://1.1.1.1/x").is_none());
        assert!(
            of("http://localhost/x").is_none(),
            "its address is checked later"
        );
    }

    #[test]
    fn a_destinations_answer_does_not_bring_its_secret_back() {
        let target = Target::new(Channel::Webhook, "https://h.example/key/abc?d=e").unwrap();
        assert_eq!(target.hide("no https://h.example/key/abc?d=e"), "no …");
        assert_eq!(target.hide("Cannot POST /key/abc?d=e"), "Cannot POST /…");
    }

    proptest! {
        #[test]
        fn a_target_that_was_taken_is_taken_again(text in "[ -~]{0,60}") {
            for channel in Channel::ALL {
                if let Ok(target) = Target::new(channel, &text) {
                    let json = serde_json::to_string(&target).unwrap();
                    prop_assert_eq!(serde_json::from_str::<Target>(&json).unwrap(), target);
                }
            }
        }
    }
}
