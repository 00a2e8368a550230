//! Where a browser goes after signing in, or after a refused form: only to our own pages.

use axum::http::{HeaderMap, Uri, header};

/// The page that a form was sent from: the path of its Referer, which we ask browsers for
/// (`Referrer-Policy: same-origin`). Only our own forms get here. The dashboard if there is no
/// Referer.
pub fn referer_path(headers: &HeaderMap) -> String {
    let referer = headers
        .get(header::REFERER)
        .and_then(|value| value.to_str().ok());
    let uri = referer.and_then(|referer| referer.parse::<Uri>().ok());
    let path = uri
        .as_ref()
        .and_then(Uri::path_and_query)
        .map_or("/", |path| path.as_str());
    local_path(path).to_owned()
}

/// `next` if it is a path of ours, else the dashboard: prevents open redirects. Browsers read `\`
/// as `/`, and `//host` as another host.
pub fn local_path(next: &str) -> &str {
    let ours = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains('\\')
        && !next.contains(char::is_control);
    if ours && next.len() <= 1000 {
        next
    } else {
        "/"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_leads_back_to_the_page_that_it_was_sent_from() {
        let from = |referer: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::REFERER, referer.parse().unwrap());
            referer_path(&headers)
        };

        assert_eq!(
            from("http://127.0.0.1:8000/blueprints/7/edit?x=1"),
            "/blueprints/7/edit?x=1"
        );

        assert_eq!(from("http://127.0.0.1:8000//evil.example/"), "/");
        assert_eq!(
            [from("about:blank"), referer_path(&HeaderMap::new())],
            ["/", "/"]
        );
    }

    #[test]
    fn after_signing_in_a_browser_stays_on_our_pages() {
        assert_eq!(local_path("/jobs/7?x=1"), "/jobs/7?x=1");
        for bad in [
            "",
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "javascript:alert(1)",
            "/a\nb",
        ] {
            assert_eq!(local_path(bad), "/", "{bad}");
        }
    }
}
