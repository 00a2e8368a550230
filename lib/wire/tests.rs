//! Tests of `wire`.

use super::*;

#[test]
fn requests_have_the_contracts_shape() {
    let enable: HelperRequest = serde_json::from_str(r#"{"verb":"enable","server":"1"}"#).unwrap();
    assert_eq!(
        serde_json::to_string(&enable).unwrap(),
        r#"{"verb":"enable","server":"1"}"#
    );

    let journal: HelperRequest =
        serde_json::from_str(r#"{"verb":"journal","server":"1","lines":5}"#).unwrap();
    assert_eq!(
        journal,
        HelperRequest::journal("1".parse().unwrap(), 5, false)
    );

    assert_eq!(
        serde_json::to_string(&journal).unwrap(),
        r#"{"verb":"journal","server":"1","lines":5,"follow":false}"#
    );

    let install: RunnerRequest = serde_json::from_str(r#"{"verb":"install"}"#).unwrap();
    assert_eq!(install, RunnerRequest::Install {});
}

#[test]
fn a_reading_request_has_a_short_grace() {
    let grace = |line: &str, seconds| {
        let request = parse::<HelperRequest>(line).unwrap();
        request.grace(Duration::from_secs(seconds)).as_secs()
    };

    assert_eq!(grace(r#"{"verb":"show","server":"1"}"#, 10), 1);
    assert_eq!(grace(r#"{"verb":"show","server":"1"}"#, 0), 0);
    assert_eq!(grace(r#"{"verb":"disable","server":"1"}"#, 10), 10);
}

#[test]
fn unknown_verbs_fields_and_bad_names_are_refused() {
    for bad in [
        r#"{"verb":"start","server":"1"}"#,
        r#"{"verb":"mount","server":"1"}"#,
        r#"{"verb":"enable","server":"1","force":true}"#,
        r#"{"verb":"enable","server":"../1"}"#,
        r#"{"verb":"enable","server":1}"#,
        r#"{"verb":"enable"}"#,
        r#"{"server":"1"}"#,
        r#"["enable","1"]"#,
    ] {
        assert!(parse::<HelperRequest>(bad).is_err(), "{bad}");
    }

    for bad in [
        r#"{"verb":"install","argv":["sh"]}"#,
        r#"{"verb":"run"}"#,
        "{}",
    ] {
        assert!(parse::<RunnerRequest>(bad).is_err(), "{bad}");
    }

    assert!(parse::<Control>(r#"{"cancel":"stop"}"#).is_err());
    assert!(parse::<Control>(r#"["kill"]"#).is_err());
}

#[test]
fn the_last_answer_has_the_contracts_shape() {
    let last = Answer::exit(143, Some(EndedBy::Terminate), Some(Tree::Empty));
    let expected = r#"{"exit":143,"ended_by":"terminate","tree":"empty"}"#;
    assert_eq!(serde_json::to_string(&last).unwrap(), expected);
}
