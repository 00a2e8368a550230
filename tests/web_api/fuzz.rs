//! schemathesis reads the OpenAPI document from the running front, makes requests of all kinds out of it, good and bad,
//! and compares each answer with what the document says. tests/run installs it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;

use super::Place;

/// Where the programs of the virtual environment are: as tests/run says, else where it puts them.
fn program(name: &str) -> PathBuf {
    let cache = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/left4me/api-tools/bin"));
    let bin = std::env::var_os("LEFT4ME_TEST_SCHEMATHESIS").map(PathBuf::from).or_else(cache).unwrap_or_default();
    let path = bin.join(name);
    let there = Command::new(&path).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();

    assert!(
        there.is_ok_and(|status| status.success()),
        "{} is missing: tests/run installs it; or: python3 -m venv DIR && DIR/bin/pip install schemathesis openapi-spec-validator, \
         and LEFT4ME_TEST_SCHEMATHESIS=DIR/bin",
        path.display()
    );

    path
}

#[test]
fn the_document_is_valid_openapi() {
    let validator = program("openapi-spec-validator");
    let place = Place::new();
    let document = place.house.root.write("openapi.json", place.get(&place.anna, "/api/openapi.json").to_string());
    let output = Command::new(validator).args(["--errors", "all"]).arg(document).output().unwrap();

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
    let place = Place::new();
    // Something of everything, so that good ids are met.
    for _ in 0..3 {
        place.enqueue(&place.anna, &json!({"operation": "restart", "all": true}));
    }

    assert_eq!(place.ask(&place.anna, "POST", "/api/jobs/2/cancel", None).status, 200);

    let before = place.count("jobs");
    let output = Command::new(schemathesis)
        .current_dir(place.house.root.path())
        .arg("run")
        .arg(format!("http://{}/api/openapi.json", place.web.addr))
        .args(["--header", &format!("Authorization: Bearer {}", place.boss)])
        // Good data may be refused for its state (what has ended), or because fields do not go together.
        .args(["--checks", "all", "--exclude-checks", "positive_data_acceptance"])
        .args(["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "40"])
        .args(["--seed", "4", "--generation-deterministic"])
        .args(["--request-timeout", "10", "--continue-on-failure", "--no-color", "--warnings", "off"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);

    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(place.count("jobs") > before, "it enqueued some: {said}");
    assert!(place.count("cancellations") > 1, "it cancelled some: {said}");
}
