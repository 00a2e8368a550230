//! The HTTP requests of the services, and what their answers mean.

use serde_json::{Value, json};

use super::message::cut;
use super::{Answer, Channel, Message, mime};

/// Discord's limit of a message, which counts UTF-16 code units at most.
const DISCORD: usize = 2000;

/// Discord shows no previews of links in the message.
const SUPPRESS_EMBEDS: u32 = 4;

/// ntfy turns longer messages into attachments, bytes.
const NTFY: usize = 4096;

/// The longest title in a header, in characters.
const TITLE: usize = 200;

/// How much of a destination's answer is repeated, in characters.
const REPEATED: usize = 200;

/// A POST request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// Names and values; printable ASCII.
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

/// The request for a message. Mail has none.
pub fn request(channel: Channel, message: &Message) -> HttpRequest {
    match channel {
        Channel::Discord => discord(message),
        Channel::Ntfy => ntfy(message),
        Channel::Webhook | Channel::Mail => HttpRequest {
            headers: vec![json_type()],
            body: message.document.to_string(),
        },
    }
}

fn json_type() -> (&'static str, String) {
    ("content-type", "application/json".to_owned())
}

/// Discord's "Execute Webhook". `allowed_mentions` keeps a server that is named @everyone from
/// notifying everyone.
fn discord(message: &Message) -> HttpRequest {
    let mark = if message.is_bad { "🔴" } else { "🟢" };
    let title = escaped(&cut(&message.title, TITLE));
    let text = escaped(&message.text);
    let content = format!("{mark} **{title}**\n{text}");
    let body = json!({
        "content": within(content.trim_end(), DISCORD, char::len_utf16),
        "allowed_mentions": {"parse": []},
        "flags": SUPPRESS_EMBEDS,
    });

    HttpRequest {
        headers: vec![json_type()],
        body: body.to_string(),
    }
}

/// Text without the meaning that Discord gives to some characters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(
            c,
            '\\' | '*'
                | '_'
                | '~'
                | '`'
                | '|'
                | '>'
                | '<'
                | '#'
                | '['
                | ']'
                | '('
                | ')'
                | '-'
                | ':'
                | '@'
        ) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// ntfy's "Publishing": the message is the body, and headers have the rest.
fn ntfy(message: &Message) -> HttpRequest {
    let (priority, tag) = if message.is_bad {
        ("high", "rotating_light")
    } else {
        ("default", "white_check_mark")
    };
    // An empty body would become the word "triggered".
    let text = if message.text.is_empty() {
        &message.title
    } else {
        &message.text
    };

    HttpRequest {
        headers: vec![
            ("content-type", "text/plain; charset=utf-8".to_owned()),
            ("title", mime::header(&cut(&message.title, TITLE), " ")),
            ("priority", priority.to_owned()),
            ("tags", tag.to_owned()),
        ],
        body: within(text, NTFY, char::len_utf8),
    }
}

/// The beginning of `text` that has at most `most` units, with a mark if there is more.
fn within(text: &str, most: usize, units: fn(char) -> usize) -> String {
    if text.chars().map(units).sum::<usize>() <= most {
        return text.to_owned();
    }
    let mut used = units('…');
    let fits = |c: &char| {
        used += units(*c);
        used <= most
    };
    let mut short: String = text.chars().take_while(fits).collect();
    short.push('…');
    short
}

/// What an HTTP answer means. `retry_after` is the header of that name. `body` is the beginning of
/// the body.
pub fn verdict(status: u16, reason: &str, retry_after: Option<&str>, body: &[u8]) -> Answer {
    let said = format!("{status} {reason}").trim_end().to_owned();
    let text = String::from_utf8_lossy(body);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let why = if text.is_empty() {
        said.clone()
    } else {
        format!("{said}: {}", cut(&text, REPEATED))
    };

    match status {
        200..=299 => Answer::Sent(said),
        300..=399 => Answer::Refused(format!(
            "{said}: redirects are not followed; give the address that it leads to"
        )),
        408 | 425 | 429 | 500..=599 => Answer::Retry {
            why,
            after: after(retry_after, body),
        },
        _ => Answer::Refused(why),
    }
}

/// How long to wait, in ms. Discord's body has seconds with a fraction, the header whole ones; the
/// longer of the two counts. A date in the header is not read.
fn after(header: Option<&str>, body: &[u8]) -> Option<i64> {
    let header = header.and_then(|text| text.trim().parse::<f64>().ok());
    let document: Option<Value> = serde_json::from_slice(body).ok();
    let body = document.and_then(|document| document.get("retry_after")?.as_f64());
    header
        .into_iter()
        .chain(body)
        .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
        // The cast saturates.
        .map(|seconds| (seconds * 1000.0).ceil() as i64)
        .max()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(title: &str, text: &str) -> Message {
        Message {
            title: title.to_owned(),
            text: text.to_owned(),
            is_bad: true,
            document: json!({"events": []}),
        }
    }

    fn content(message: &Message) -> String {
        let body: Value = serde_json::from_str(&discord(message).body).unwrap();
        assert_eq!(body["allowed_mentions"], json!({"parse": []}));
        body["content"].as_str().unwrap().to_owned()
    }

    #[test]
    fn discord_gets_plain_text_in_two_lines() {
        let content = content(&message(
            "[lan] @everyone **x** crashed",
            "see https://x/_y_",
        ));
        assert_eq!(
            content,
            "🔴 **\\[lan\\] \\@everyone \\*\\*x\\*\\* crashed**\nsee https\\://x/\\_y\\_"
        );
    }

    #[test]
    fn ntfy_gets_the_text_with_an_ascii_title() {
        let request = request(Channel::Ntfy, &message("Größe\r\nX: y", ""));
        assert_eq!(request.body, "Größe\r\nX: y");
        for (name, value) in &request.headers {
            let is_plain = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            assert!(is_plain, "{name}: {value}");
        }
    }

    #[test]
    fn answers_are_success_a_later_attempt_or_a_persons_task() {
        let sent = |status| matches!(verdict(status, "", None, b""), Answer::Sent(_));
        let retry = |status| matches!(verdict(status, "", None, b""), Answer::Retry { .. });
        let refused = |status| matches!(verdict(status, "", None, b""), Answer::Refused(_));
        assert!([200, 204, 299].into_iter().all(sent));
        assert!([408, 429, 500, 502, 503, 599].into_iter().all(retry));
        assert!(
            [100, 301, 307, 400, 401, 403, 404, 413]
                .into_iter()
                .all(refused)
        );
        assert_eq!(
            verdict(
                404,
                "Not Found",
                None,
                b"{\"message\":\n \"Unknown Webhook\"}"
            ),
            Answer::Refused("404 Not Found: {\"message\": \"Unknown Webhook\"}".to_owned())
        );
    }

    #[test]
    fn the_time_that_a_service_asks_for_is_read_from_header_and_body() {
        let asked = |header, body: &str| match verdict(429, "", header, body.as_bytes()) {
            Answer::Retry { after, .. } => after,
            other => panic!("{other:?}"),
        };
        let discord =
            r#"{"message": "You are being rate limited.", "retry_after": 64.57, "global": false}"#;
        assert_eq!(asked(Some("65"), discord), Some(65_000));
        assert_eq!(asked(None, discord), Some(64_570));
        assert_eq!(asked(Some("3"), "no JSON"), Some(3000));
        assert_eq!(asked(Some("Wed, 21 Oct 2026 07:28:00 GMT"), ""), None);
        assert_eq!(asked(Some("-1"), r#"{"retry_after": "soon"}"#), None);
        assert_eq!(asked(Some("1e300"), ""), Some(i64::MAX));
    }

    proptest! {
        #[test]
        fn messages_keep_the_services_limits(title in ".{0,300}", text in ".{0,6000}") {
            let message = message(&title, &text);
            prop_assert!(content(&message).encode_utf16().count() <= DISCORD);
            let ntfy = request(Channel::Ntfy, &message);
            prop_assert!(ntfy.body.len() <= NTFY);
        }

        #[test]
        fn any_answer_has_a_verdict(
            status in any::<u16>(), header in prop::option::of(".{0,20}"), body in any::<Vec<u8>>()
        ) {
            verdict(status, "", header.as_deref(), &body);
        }
    }
}
