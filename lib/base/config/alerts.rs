//! Settings of alerts: the two sockets, and how left4me-notify sends.

use std::path::PathBuf;

use super::absolute;

/// The socket that starts the delivery of alerts.
#[derive(clap::Args, Clone, Debug)]
pub struct AlertsSocket {
    /// Datagram socket that starts the delivery of alerts
    #[arg(long, global = true, env = "LEFT4ME_ALERTS_SOCKET", value_name = "LEFT4ME_ALERTS_SOCKET", value_parser = absolute,
          default_value = "/run/left4me/alerts.sock", hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub alerts_socket: PathBuf,
}

/// The socket of left4me-notify.
#[derive(clap::Args, Clone, Debug)]
pub struct NotifySocket {
    /// Socket of left4me-notify, which sends alerts
    #[arg(long, global = true, env = "LEFT4ME_NOTIFY_SOCKET", value_name = "LEFT4ME_NOTIFY_SOCKET", value_parser = absolute,
          default_value = "/run/left4me-notify/notify.sock", hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub notify_socket: PathBuf,
}

/// How left4me-notify sends.
#[derive(clap::Args, Clone, Debug)]
pub struct NotifySettings {
    /// 1: alerts may go to addresses of this host and of private networks; 0: only to public ones
    #[arg(long, env = "LEFT4ME_ALERT_PRIVATE", value_name = "LEFT4ME_ALERT_PRIVATE", action = clap::ArgAction::Set, default_value = "0",
          value_parser = zero_or_one, hide_env_values = true, help_heading = "Settings")]
    pub alert_private: bool,
    /// The mail server that takes alerts, smtp://HOST[:PORT], or smtps:// for TLS from the start
    #[arg(long, env = "LEFT4ME_SMTP_URL", value_name = "LEFT4ME_SMTP_URL", default_value = "smtp://localhost:25",
          value_parser = mail_server, hide_env_values = true, help_heading = "Settings")]
    pub smtp_url: MailServer,
    /// The user at that mail server; empty: none
    #[arg(long, env = "LEFT4ME_SMTP_USER", value_name = "LEFT4ME_SMTP_USER", default_value = "",
          value_parser = printable, hide_env_values = true, help_heading = "Settings")]
    pub smtp_user: String,
    /// A file with that user's password; root:left4me-notify 0640
    #[arg(long, env = "LEFT4ME_SMTP_PASSWORD_FILE", value_name = "LEFT4ME_SMTP_PASSWORD_FILE",
          value_parser = absolute, hide_env_values = true, help_heading = "Settings")]
    pub smtp_password_file: Option<PathBuf>,
    /// The sender of mail [default: left4me@ and the name of this host]
    #[arg(long, env = "LEFT4ME_MAIL_FROM", value_name = "LEFT4ME_MAIL_FROM", value_parser = sender,
          hide_env_values = true, help_heading = "Settings")]
    pub mail_from: Option<String>,
}

/// Where mail is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailServer {
    pub host: String,
    pub port: u16,
    /// TLS from the first byte, rather than after STARTTLS.
    pub is_tls: bool,
}

fn zero_or_one(text: &str) -> Result<bool, String> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err("0 or 1 is needed".to_owned()),
    }
}

fn mail_server(text: &str) -> Result<MailServer, String> {
    let parse = || {
        let (scheme, rest) = text.split_once("://")?;
        let (is_tls, usual) = match scheme {
            "smtp" => (false, 25),
            "smtps" => (true, 465),
            _ => return None,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // An IPv6 address is in brackets.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (rest, usual),
        };
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let is_good = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(is_name),
        };
        (is_good && port > 0).then(|| MailServer {
            host: bare.unwrap_or(host).to_owned(),
            port,
            is_tls,
        })
    };
    parse().ok_or_else(|| "smtp://HOST, smtp://HOST:PORT or smtps://HOST is needed".to_owned())
}

fn printable(text: &str) -> Result<String, String> {
    if text.len() <= 256 && text.chars().all(|c| !c.is_control()) {
        Ok(text.to_owned())
    } else {
        Err("a line of at most 256 bytes is needed".to_owned())
    }
}

fn sender(text: &str) -> Result<String, String> {
    let is_good = |b: u8| b.is_ascii_alphanumeric() || b"-._+=@".contains(&b);
    match text.split_once('@') {
        Some((local, host))
            if !local.is_empty()
                && !host.is_empty()
                && !host.contains('@')
                && text.len() <= 254
                && text.bytes().all(is_good)
                && !text.starts_with('-') =>
        {
            Ok(text.to_owned())
        }
        _ => Err("a mail address is needed, NAME@HOST".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_server_is_a_scheme_a_host_and_a_port() {
        let parsed = |text: &str| mail_server(text).map(|s| (s.host, s.port, s.is_tls)).ok();
        for (text, host, port, tls) in [
            ("smtp://localhost", "localhost", 25, false),
            (
                "smtp://mail.example.org:587/",
                "mail.example.org",
                587,
                false,
            ),
            ("smtps://mail.example.org", "mail.example.org", 465, true),
            ("smtp://[::1]:2525", "::1", 2525, false),
            ("smtp://[::1]", "::1", 25, false),
        ] {
            assert_eq!(parsed(text), Some((host.to_owned(), port, tls)), "{text}");
        }
        for bad in [
            "",
            "mail",
            "http://x",
            "smtp://",
            "smtp://a b",
            "smtp://u@h",
            "smtp://h:0",
            "smtp://h:x",
            "smtp://[x]",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
