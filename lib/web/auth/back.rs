//! Where a browser goes on after it has signed in, or after a form that was refused: only to pages of ours.

use axum::http::{HeaderMap, Uri, header};

/// The page that a form was sent from, as its browser says: the path of its Referer. We ask browsers for it
/// (`Referrer-Policy: same-origin`), and only a form of our own is taken. The dashboard, when it does not say.
#[must_use]
pub fn came_from(headers: &HeaderMap) -> String {
    let referer = headers.get(header::REFERER).and_then(|value| value.to_str().ok());
    let uri = referer.and_then(|referer| referer.parse::<Uri>().ok());
    let path = uri.as_ref().and_then(Uri::path_and_query).map_or("/", |path| path.as_str());
    inside(path).to_owned()
}

/// A path of ours, or the dashboard: nobody is led away. A browser reads `\` as `/`, and `//host` as another host.
#[must_use]
pub fn inside(next: &str) -> &str {
    let ours =
        next.starts_with('/') && !next.starts_with("//") && !next.contains('\\') && !next.contains(char::is_control);
    if ours && next.len() <= 1000 { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_leads_back_to_the_page_that_it_was_sent_from() {
        let from = |referer: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::REFERER, referer.parse().unwrap());
            came_from(&headers)
        };
        assert_eq!(from("http://127.0.0.1:8000/blueprints/7/edit?x=1"), "/blueprints/7/edit?x=1");
        assert_eq!(from("http://127.0.0.1:8000//evil.example/"), "/");
        assert_eq!([from("about:blank"), came_from(&HeaderMap::new())], ["/", "/"]);
    }

    #[test]
    fn after_signing_in_nobody_is_led_away() {
        assert_eq!(inside("/jobs/7?x=1"), "/jobs/7?x=1");
        for bad in ["", "https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb"] {
            assert_eq!(inside(bad), "/", "{bad}");
        }
    }
}
