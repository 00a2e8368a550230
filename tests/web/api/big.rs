//! Responses stay small, however much is stored, also if clients do not read them.

use std::io::{Read as _, Write as _};

use serde_json::json;

use super::{Site, ids};

use crate::support::until;

/// The number of jobs, each for 100 servers.
const JOBS: i64 = 300;

/// Restarts of 100 servers, all requested by anna.
fn crowded() -> Site {
    let site = Site::new();
    let numbers = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)";
    let rows = format!(
        "{numbers} INSERT INTO jobs (operation, requested_by, user_id, created_at,
         updated_at) SELECT 'restart', 'web:anna', 1, 1, 1 FROM n
         WHERE i < {JOBS}; {numbers} INSERT INTO job_targets (job_id, server_id) SELECT id, i + 1
         FROM jobs, n
         WHERE i < 100; {numbers} INSERT INTO tasks (job_id, position, kind, server_id) SELECT id,
         i, iif(i % 2, 'start', 'stop'), i / 2 + 1 FROM jobs, n WHERE i < 200
         ORDER BY id, i; INSERT INTO task_dependencies (task_id, depends_on, needs) SELECT id,
         id - 1, 'success' FROM tasks WHERE position % 2;"
    );

    site.host
        .db()
        .write(|tx| Ok(tx.execute_batch(&rows)?))
        .unwrap();

    site
}

#[test]
fn a_page_of_large_jobs_ends_early_and_the_next_continues() {
    let site = crowded();
    let (mut seen, mut parts) = (Vec::new(), 0);
    while seen.len() < usize::try_from(JOBS).unwrap() {
        let answer = site.ask(
            &site.anna,
            "GET",
            &format!("/api/jobs?limit=500&offset={}", seen.len()),
            None,
        );

        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(
            answer.body.len() < 2 * 1024 * 1024,
            "{} bytes",
            answer.body.len()
        );

        let part = answer.json();
        assert_eq!(
            (&part["total"], &part["limit"], &part["offset"]),
            (&json!(JOBS), &json!(500), &json!(seen.len()))
        );

        let jobs = part["items"].as_array().unwrap();
        assert!(!jobs.is_empty(), "after {}", seen.len());

        for job in jobs {
            let tasks = job["tasks"].as_array().unwrap();
            assert_eq!(
                (tasks.len(), job["servers"].as_array().unwrap().len()),
                (200, 100)
            );

            assert_eq!(tasks[1]["depends_on"], json!([tasks[0]["id"]]));
            assert_eq!(tasks[2]["depends_on"], json!([]));
        }

        seen.extend(ids(&part));
        parts += 1;
    }

    assert_eq!(seen, (1..=JOBS).rev().collect::<Vec<_>>(), "each once");
    assert!(parts < 20, "{parts} parts");
    assert_eq!(
        ids(&site.get(
            &site.anna,
            &format!("/api/jobs?limit=5&offset={}", JOBS - 3)
        )),
        [3, 2, 1]
    );
}

#[test]
fn clients_that_do_not_read_cost_little_and_block_no_other() {
    let site = crowded();
    let mut idle: Vec<_> = (0..4).map(|_| site.web.connect()).collect();
    for stream in &mut idle {
        let head = format!(
            "GET /api/jobs?limit=500 HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
            site.web.addr, site.boss
        );

        stream.write_all(head.as_bytes()).unwrap();
        nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::RcvBuf, &4096).unwrap();
    }

    for stream in &idle {
        stream.set_nonblocking(true).unwrap();
    }

    let first = until("one of them is answered", || {
        idle.iter().position(|stream| stream.peek(&mut [0]).is_ok())
    });
    for stream in &idle {
        stream.set_nonblocking(false).unwrap();
    }

    assert!(
        !ids(&site.get(&site.anna, "/api/jobs?limit=500")).is_empty(),
        "meanwhile"
    );

    for stream in &mut idle {
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200", "each has its turn");
    }

    let peak = site.web.peak();
    assert!(peak < 80 * 1024, "{peak} KiB");

    // The others were served because unread data of the first one was not kept.
    let mut rest = Vec::new();
    idle[first].read_to_end(&mut rest).ok();
    assert!(
        !rest.ends_with(b"\r\n0\r\n\r\n") && rest.len() < 1024 * 1024,
        "{} bytes",
        rest.len()
    );
}
