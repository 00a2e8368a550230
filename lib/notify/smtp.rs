//! Hands a mail to the mail server of the settings, by SMTP (RFC 5321): STARTTLS where the server
//! offers it, a login if a user is set.

use std::path::Path;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};

use super::{address, later, tls};
use crate::base::config::NotifySettings;
use crate::base::{clock, host_name, text};
use crate::domain::alert::mime::base64;
use crate::domain::alert::{Answer, Delivery, mail};

/// The longest line of a server's answer, in bytes.
const LINE: u64 = 4096;

/// The most lines of one answer.
const LINES: usize = 100;

/// The longest password file, in bytes.
const PASSWORD: u64 = 1024;

/// Sends the message to the destination's address.
pub(super) async fn send(settings: &NotifySettings, delivery: &Delivery) -> Answer {
    hand_over(settings, delivery)
        .await
        .unwrap_or_else(|answer| answer)
}

async fn hand_over(settings: &NotifySettings, delivery: &Delivery) -> Result<Answer, Answer> {
    let server = &settings.smtp_url;
    let host = this_host();
    let from = match &settings.mail_from {
        Some(from) => from.clone(),
        None => format!("left4me@{host}"),
    };
    let letter = Letter {
        host: &host,
        from: &from,
        to: delivery.to.secret(),
        text: mail::mail(
            &from,
            delivery.to.secret(),
            &delivery.message,
            &host,
            clock::now_ms(),
        ),
        login: login(settings)?,
    };

    let stream = address::connect(&server.host, server.port).await?;
    if server.is_tls {
        let mut session = Session::new(tls::wrap(stream, &server.host).await?);
        session.greeting().await?;
        session.hello(&host).await?;
        return session.deliver(&letter).await;
    }

    let mut session = Session::new(stream);
    session.greeting().await?;
    let hello = session.hello(&host).await?;
    // On the way to this host itself there is nobody to hide from, and Debian's postfix has a
    // certificate that nobody trusts.
    let is_local = is_local(&server.host);
    if is_local || !hello.offers("STARTTLS") {
        // A password is never sent to another host in the clear.
        if letter.login.is_some() && !is_local {
            return Err(Answer::Refused(format!(
                "{} offers no encryption (STARTTLS), and the password is not sent without it",
                server.host
            )));
        }
        return session.deliver(&letter).await;
    }

    session.command("STARTTLS", 220).await?;
    // What the server sent in the clear after its answer is dropped with the buffer.
    let stream = session.stream.into_inner();
    let mut session = Session::new(tls::wrap(stream, &server.host).await?);
    session.hello(&host).await?;
    session.deliver(&letter).await
}

/// What is handed over.
struct Letter<'a> {
    /// The name of this host.
    host: &'a str,
    from: &'a str,
    to: &'a str,
    text: String,
    /// User and password as AUTH PLAIN takes them.
    login: Option<String>,
}

fn login(settings: &NotifySettings) -> Result<Option<String>, Answer> {
    if settings.smtp_user.is_empty() {
        return Ok(None);
    }
    let password = match &settings.smtp_password_file {
        Some(path) => password(path)?,
        None => String::new(),
    };
    let plain = format!("\0{}\0{password}", settings.smtp_user);
    Ok(Some(base64(plain.as_bytes())))
}

fn password(path: &Path) -> Result<String, Answer> {
    let text = text::read(path, PASSWORD).map_err(|error| {
        Answer::Refused(format!(
            "the password of the mail server cannot be read: {error}; \
             as root: chown root:left4me-notify and chmod 0640"
        ))
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn is_local(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "::1")
}

/// The name of this host, as SMTP takes it.
fn this_host() -> String {
    let is_good = |name: &String| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
    };
    host_name()
        .filter(is_good)
        .unwrap_or_else(|| "localhost".to_owned())
}

/// A server's answer: its code, and the text of each line.
struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl Reply {
    fn offers(&self, extension: &str) -> bool {
        self.lines.iter().any(|line| {
            let word = line.split_whitespace().next().unwrap_or_default();
            word.eq_ignore_ascii_case(extension)
        })
    }

    /// A temporary fault is tried again, a permanent one is not (RFC 5321, 4.2.1).
    fn fault(&self) -> Answer {
        let why = format!(
            "the mail server answered {} {}",
            self.code,
            self.lines.join(" ")
        );
        match self.code {
            500..=599 => Answer::Refused(why),
            _ => later(why),
        }
    }
}

struct Session<S> {
    stream: BufReader<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    fn new(stream: S) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    async fn greeting(&mut self) -> Result<(), Answer> {
        self.reply(220).await.map(drop)
    }

    async fn hello(&mut self, host: &str) -> Result<Reply, Answer> {
        self.command(&format!("EHLO {host}"), 250).await
    }

    async fn deliver(&mut self, letter: &Letter<'_>) -> Result<Answer, Answer> {
        if let Some(login) = &letter.login {
            self.command(&format!("AUTH PLAIN {login}"), 235).await?;
        }
        self.command(&format!("MAIL FROM:<{}>", letter.from), 250)
            .await?;
        self.command(&format!("RCPT TO:<{}>", letter.to), 250)
            .await?;
        self.command("DATA", 354).await?;
        self.write(&letter.text).await?;
        let taken = self.command(".", 250).await?;

        // The mail is accepted, whatever comes now.
        self.write("QUIT\r\n").await.ok();
        tracing::debug!(host = letter.host, "mail handed over");
        Ok(Answer::Sent(format!(
            "{} {}",
            taken.code,
            taken.lines.join(" ")
        )))
    }

    async fn command(&mut self, line: &str, expected: u16) -> Result<Reply, Answer> {
        self.write(line).await?;
        self.write("\r\n").await?;
        self.reply(expected).await
    }

    async fn write(&mut self, text: &str) -> Result<(), Answer> {
        let written = self.stream.write_all(text.as_bytes()).await;
        let flushed = match written {
            Ok(()) => self.stream.flush().await,
            failed => failed,
        };
        flushed.map_err(|error| later(format!("the mail server is gone: {error}")))
    }

    /// Reads one answer, of up to [`LINES`] lines.
    async fn reply(&mut self, expected: u16) -> Result<Reply, Answer> {
        let mut lines = Vec::new();
        while lines.len() < LINES {
            let line = self.line().await?;
            let code = line.get(..3).and_then(|code| code.parse().ok());
            let Some(code) = code else {
                return Err(later("the mail server does not speak SMTP"));
            };
            lines.push(line.get(4..).unwrap_or_default().to_owned());

            // A hyphen follows the code in each line but the last.
            if line.as_bytes().get(3) != Some(&b'-') {
                let reply = Reply { code, lines };
                return if code == expected || expected == 250 && code == 251 {
                    Ok(reply)
                } else {
                    Err(reply.fault())
                };
            }
        }
        Err(later("the mail server's answer has no end"))
    }

    async fn line(&mut self) -> Result<String, Answer> {
        let mut bytes = Vec::new();
        let mut limited = (&mut self.stream).take(LINE);
        let read = limited.read_until(b'\n', &mut bytes).await;
        read.map_err(|error| later(format!("the mail server is gone: {error}")))?;
        if !bytes.ends_with(b"\n") {
            return Err(later(
                "the mail server closed the connection or sent a line without end",
            ));
        }
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }
}
