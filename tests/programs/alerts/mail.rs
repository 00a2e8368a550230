//! Mail: how it is handed over, and that it and the password go to nobody else.

use serde_json::json;

use super::{Alerting, SECRET};
use crate::support::destinations::{Encryption, MailServer, authority};
use crate::support::host::TestHost;
use crate::support::{Finished, until};

/// An address of this host that left4me does not take for its own, and that the certificate has.
const ELSEWHERE: &str = "127.0.0.2";
/// One that it does not have.
const UNNAMED: &str = "127.0.0.3";

/// A test mail with a password. Gives how it ended, and the lines that the server got.
fn sent_to(server: &MailServer, scheme: &str, is_trusted: bool) -> (Finished, Vec<String>) {
    let url = format!("{scheme}://{}", server.address);
    let host = TestHost::new();
    let file = host.root.write("password", format!("{SECRET}\n"));
    let authority = authority().display().to_string();
    let mut settings = vec![
        ("LEFT4ME_SMTP_URL", url.as_str()),
        ("LEFT4ME_SMTP_USER", "anna"),
        ("LEFT4ME_SMTP_PASSWORD_FILE", file.to_str().unwrap()),
    ];
    if is_trusted {
        settings.push(("SSL_CERT_FILE", &authority));
    }

    let alerting = Alerting::with(&settings);
    alerting.add("a", "mail", "anna@example.org");
    let finished = alerting.alert(&["test", "a"]);
    let lines = until("the end of the conversation", || {
        server.conversations().first().cloned()
    });
    (finished, lines)
}

fn login() -> String {
    let plain = format!("\0anna\0{SECRET}");
    let login = left4me::domain::alert::mime::base64(plain.as_bytes());
    format!("AUTH PLAIN {login}")
}

/// The first word of each line before the mail.
fn words(lines: &[String]) -> Vec<&str> {
    let words = lines.iter().filter_map(|line| line.split(' ').next());
    words.take_while(|word| *word != "DATA").collect()
}

#[test]
fn mail_is_handed_to_the_mail_server_of_the_settings() {
    let server = MailServer::start(None);
    let url = format!("smtp://{}", server.address);
    let alerting = Alerting::with(&[
        ("LEFT4ME_SMTP_URL", &url),
        ("LEFT4ME_MAIL_FROM", "l4d@example.org"),
    ]);
    alerting.add("a", "mail", "anna@example.org");
    alerting.happen("disk.low", None, "0.1 GiB of 40.0 GiB are free", 1);
    alerting.deliver();
    assert_eq!(alerting.states(), json!({"sent": 1}));

    let lines = until("the end of the conversation", || {
        server.conversations().first().cloned()
    });
    assert!(lines[0].starts_with("EHLO "));
    assert_eq!(lines[1], "MAIL FROM:<l4d@example.org>");
    assert_eq!(lines[2], "RCPT TO:<anna@example.org>");
    let subject = lines.iter().find(|line| line.starts_with("Subject: "));
    assert!(subject.unwrap().ends_with("the disk is almost full"));
    assert!(lines.contains(&"Auto-Submitted: auto-generated".to_owned()));
}

#[test]
fn a_mail_server_that_refuses_is_quoted_and_gets_a_password_only_from_a_file() {
    let server = MailServer::start(Some("550 5.1.1 no such user"));
    let url = format!("smtp://{}", server.address);
    let host = TestHost::new();
    let file = host.root.write("password", format!("{SECRET}\n"));
    let alerting = Alerting::with(&[
        ("LEFT4ME_SMTP_URL", &url),
        ("LEFT4ME_SMTP_USER", "anna"),
        ("LEFT4ME_SMTP_PASSWORD_FILE", file.to_str().unwrap()),
    ]);
    alerting.add("a", "mail", "nobody@example.org");
    let words = ["n…@example.org", "550 5.1.1 no such user"];
    alerting.alert(&["test", "a"]).refused(1, &words);

    let lines = until("the end of the conversation", || {
        server.conversations().first().cloned()
    });
    let login = left4me::domain::alert::mime::base64(format!("\0anna\0{SECRET}").as_bytes());
    assert_eq!(lines[1], format!("AUTH PLAIN {login}"));
}

#[test]
fn a_password_follows_only_where_tls_has_begun() {
    for (scheme, encryption, before) in [
        (
            "smtp",
            Encryption::StartTls("localhost"),
            &["EHLO", "STARTTLS", "TLS", "EHLO"][..],
        ),
        (
            "smtps",
            Encryption::FromStart("localhost"),
            &["TLS", "EHLO"],
        ),
    ] {
        let server = MailServer::encrypting(ELSEWHERE, encryption);
        let (finished, lines) = sent_to(&server, scheme, true);
        finished.done();
        assert_eq!(words(&lines), [before, &["AUTH", "MAIL", "RCPT"]].concat());
        assert!(lines.contains(&login()));
    }
}

#[test]
fn a_certificate_of_another_host_or_of_nobody_is_refused() {
    for (address, certificate, is_trusted) in [
        (UNNAMED, "localhost", true),
        (ELSEWHERE, "localhost", false),
        (ELSEWHERE, "selfsigned", true),
    ] {
        for (scheme, encryption) in [
            ("smtp", Encryption::StartTls(certificate)),
            ("smtps", Encryption::FromStart(certificate)),
        ] {
            let server = MailServer::encrypting(address, encryption);
            let (finished, lines) = sent_to(&server, scheme, is_trusted);
            let why = format!("TLS with {address} failed");
            finished.refused(69, &[&why, "certificate"]);
            assert_eq!(lines.last().unwrap(), "TLS", "{lines:?}");
        }
    }
}

#[test]
fn without_its_encryption_a_mail_server_gets_no_password_and_no_mail() {
    let stripped = MailServer::encrypting(ELSEWHERE, Encryption::None);
    let (finished, lines) = sent_to(&stripped, "smtp", true);
    finished.refused(1, &["offers no encryption (STARTTLS)", ELSEWHERE]);
    assert_eq!(words(&lines), ["EHLO"]);

    let broken = MailServer::encrypting(ELSEWHERE, Encryption::Broken);
    let (finished, lines) = sent_to(&broken, "smtp", true);
    finished.refused(69, &["454 4.7.0 TLS not available"]);
    assert_eq!(words(&lines), ["EHLO", "STARTTLS"]);
}

/// As Debian's postfix: it offers STARTTLS with a certificate that nobody trusts.
#[test]
fn the_mail_server_of_this_host_needs_no_certificate() {
    let server = MailServer::encrypting("127.0.0.1", Encryption::StartTls("selfsigned"));
    let (finished, lines) = sent_to(&server, "smtp", true);
    finished.done();
    assert_eq!(words(&lines), ["EHLO", "AUTH", "MAIL", "RCPT"]);
}
