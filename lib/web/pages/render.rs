//! Only for tests: renders shared parts of pages with hostile text.
#![cfg(test)]

/// Text that must stay text wherever it is shown.
pub const HOSTILE: &str = "</pre><script>alert(1)</script>\"' onload='x' &lt; \u{202e}\u{1b}[31m";

/// Fails if hostile text became markup.
pub fn must_be_text(html: &str) {
    for bad in ["<script>alert", "' onload", "\" onload", "\"'"] {
        assert!(!html.contains(bad), "{bad} in {html}");
    }
    assert!(html.contains("&#60;script&#62;"), "{html}");
}

#[cfg(test)]
mod tests {
    use askama::Template;

    use super::{HOSTILE, must_be_text};
    use crate::base::names::{JobId, ServerId};
    use crate::db::job_rows::Target;
    use crate::domain::job::JobState;
    use crate::domain::server::{ActualState, DesiredState};
    use crate::web::pages::parts::{Elapsed, JobLine, Pager};
    use crate::web::pages::power::{Power, PowerState, UnfinishedJob, repairs, switches};

    #[derive(Template)]
    #[template(
        source = r#"{% import "partials/macros.html" as m %}{{ m::job_table(jobs, now, "Jobs", "none", csrf) }}{{ m::pages(pager) }}{{ m::power(power, csrf) }}{{ m::time_or(never, now, "never") }}{{ m::badge(state) }}"#,
        ext = "html"
    )]
    struct All<'a> {
        jobs: Vec<JobLine>,
        pager: Pager,
        power: Power,
        never: Option<i64>,
        state: ActualState,
        csrf: &'a str,
        now: i64,
    }

    fn line(servers: Vec<Target>, error: &str) -> JobLine {
        JobLine {
            id: JobId(7),
            operation: HOSTILE.to_owned(),
            servers,
            more: 2,
            state: JobState::Failed,
            by: HOSTILE.to_owned(),
            created_at: 1_000,
            took: Elapsed {
                words: "12 s".to_owned(),
                since: Some(1_000),
            },
            error: Some(error.to_owned()),
            waiting: Some(HOSTILE.to_owned()),
            open: true,
        }
    }

    fn power(busy: bool) -> Power {
        let state = PowerState {
            desired: DesiredState::Stopped,
            actual: ActualState::Stopped,
            drift: None,
            busy,
        };

        Power {
            server: ServerId(3),
            name: HOSTILE.to_owned(),
            job: busy.then(|| UnfinishedJob {
                id: JobId(9),
                operation: HOSTILE.to_owned(),
                state: JobState::Queued,
                open: true,
            }),
            offers: [switches(state), repairs(state, true)].concat(),
            key: "k".to_owned(),
        }
    }

    #[test]
    fn shared_parts_show_hostile_text_as_text() {
        let wide = "漢".repeat(4096);
        let servers = vec![
            Target {
                id: ServerId(3),
                name: Some(HOSTILE.to_owned()),
            },
            Target {
                id: ServerId(4),
                name: None,
            },
        ];

        for busy in [true, false] {
            let page = All {
                jobs: vec![line(servers.clone(), HOSTILE), line(Vec::new(), &wide)],
                pager: Pager::new("/x?q=%22", Some(2), 1).with_total(3),
                power: power(busy),
                never: None,
                state: ActualState::Unknown,
                csrf: HOSTILE,
                now: 61_000,
            };

            let html = page.render().unwrap();

            must_be_text(&html);
            assert!(html.contains(&wide));
            assert!(
                html.contains("server 4 (gone)")
                    && html.contains("and 2 more")
                    && html.contains("1 min ago"),
                "{html}"
            );

            assert!(
                html.contains(r#"<span class="badge is-unknown">unknown</span>"#),
                "{html}"
            );

            assert_eq!(html.contains("/servers/3/start"), !busy);
            assert_eq!(html.contains(r#"value="k-3-delete""#), !busy);
            assert_eq!(html.contains("job #9 queued"), busy, "{html}");
        }
    }
}
