//! schemathesis reads the OpenAPI document of the running front, generates good and bad requests
//! from it, and compares each response with the document. tests/run installs it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;

use super::Site;
use crate::support::console;

/// The programs of the virtual environment: as set by tests/run, or its default site.
fn program(name: &str) -> PathBuf {
    let cache =
        || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/left4me/api-tools/bin"));
    let bin = std::env::var_os("LEFT4ME_TEST_SCHEMATHESIS")
        .map(PathBuf::from)
        .or_else(cache)
        .unwrap_or_default();
    let path = bin.join(name);
    let there = Command::new(&path)
        .arg("--help")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();

    assert!(
        there.is_ok_and(|status| status.success()),
        "{} is missing: tests/run installs it; or: python3 -m venv DIR && DIR/bin/pip install \
        schemathesis openapi-spec-validator, \
         and LEFT4ME_TEST_SCHEMATHESIS=DIR/bin",
        path.display()
    );

    path
}

#[test]
fn the_document_is_valid_openapi() {
    let validator = program("openapi-spec-validator");
    let site = Site::new();
    let document = site.host.root.write(
        "openapi.json",
        site.get(&site.anna, "/api/openapi.json").to_string(),
    );

    let output = Command::new(validator)
        .args(["--errors", "all"])
        .arg(document)
        .output()
        .unwrap();

    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn every_route_answers_as_the_document_says() {
    let schemathesis = program("schemathesis");
    let site = Site::new();
    // Commands to games get a reply: a 503 counts as a failure here.
    console::serve(&site.host.root.join("console.sock"), |_| {
        Some(console::output("ran\n"))
    });
    // One object of each kind, so that valid ids occur.
    for _ in 0..3 {
        site.enqueue(&site.anna, &json!({"operation": "restart", "all": true}));
    }

    assert_eq!(
        site.ask(&site.anna, "POST", "/api/jobs/2/cancel", None)
            .status,
        200
    );

    let before = site.count("jobs");
    let output = Command::new(schemathesis)
        .current_dir(site.host.root.path())
        .arg("run")
        .arg(format!("http://{}/api/openapi.json", site.web.addr))
        .args(["--header", &format!("Authorization: Bearer {}", site.boss)])
        // Valid requests may be refused because of the state (already ended), or because fields
        // conflict.
        .args([
            "--checks",
            "all",
            "--exclude-checks",
            "positive_data_acceptance",
        ])
        .args([
            "--phases",
            "examples,coverage,fuzzing,stateful",
            "--max-examples",
            "40",
        ])
        .args(["--seed", "4", "--generation-deterministic"])
        .args([
            "--request-timeout",
            "10",
            "--continue-on-failure",
            "--no-color",
            "--warnings",
            "off",
        ])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);

    assert!(
        output.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );

    assert!(site.count("jobs") > before, "it enqueued some: {printed}");
    assert!(
        site.count("cancellations") > 1,
        "it cancelled some: {printed}"
    );
}
