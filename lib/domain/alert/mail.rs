//! The mail of an alert (RFC 5322).

use super::Message;
use super::mime::{body, header};
use crate::base::clock;
use crate::base::secret::{digest, hex};

/// The longest subject, in characters.
const SUBJECT: usize = 200;

/// A mail, with CR LF at the end of each line. Its body is base64, so no line of it is too long,
/// and none begins with a dot. `from` and `to` are addresses, checked before.
pub fn mail(from: &str, to: &str, message: &Message, host: &str, now: i64) -> String {
    let subject = header(&super::message::cut(&message.title, SUBJECT), "\r\n ");
    let date = clock::rfc_2822(now);
    let text = format!("{}\n\n{}\n", message.title, message.text);
    let id = &hex(&digest(&format!("{now} {to} {text}")))[..32];

    format!(
        "From: left4me <{from}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nDate: {date}\r\n\
         Message-ID: <{id}@{host}>\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
        body(&text.replace('\n', "\r\n"))
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn a_mail_is_ascii_in_lines_of_at_most_998_bytes_and_no_text_becomes_a_header(
            title in ".{0,300}", text in "(?s).{0,3000}"
        ) {
            let message = Message { title, text, is_bad: true, document: json!({}) };
            let mail = mail("a@x", "b@y", &message, "lan", 1_800_000_000_000);
            prop_assert!(mail.is_ascii());
            let (head, body) = mail.split_once("\r\n\r\n").unwrap();
            let names = head
                .split("\r\n")
                .filter(|line| !line.starts_with(' '))
                .map(|line| line.split_once(':').unwrap().0);
            let expected = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted",
                "MIME-Version", "Content-Type", "Content-Transfer-Encoding"];
            prop_assert!(names.eq(expected));
            for line in mail.split("\r\n") {
                prop_assert!(line.len() <= 998 && !line.contains(['\r', '\n']));
            }
            prop_assert!(body.split("\r\n").all(|line| !line.starts_with('.')));
        }
    }
}
