//! Who belongs to a fleet, when several commands change that at once.

use std::process::{Command, Stdio};

use left4me::base::keys::{OpeningKey, SigningKey};
use serde_json::Value;

use crate::support::LEFT4ME;

fn left4me(root: &std::path::Path, args: &[&str]) -> Command {
    let mut command = Command::new(LEFT4ME);
    command
        .arg("fleet")
        .args(args)
        .env("LEFT4ME_ENV_FILE", "/dev/null")
        .env("LEFT4ME_ROOT", root)
        .env("LEFT4ME_FLEET_DIR", root.join("fleet"))
        .env("LEFT4ME_LINK_SOCKET", root.join("link.sock"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn hosts_that_are_admitted_at_once_all_belong_to_the_fleet() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let init = ["init", "home", "--host", "fra-1", "--engine", "127.0.0.1:9"];
    let made = left4me(root, &init).output().unwrap();
    assert!(made.status.success(), "{made:?}");

    let hosts: Vec<String> = (1..=8).map(|number| format!("ams-{number}")).collect();
    let admits = hosts.iter().map(|host| {
        let key = SigningKey::generate().public().to_string();
        let seal = OpeningKey::generate().public().to_string();
        left4me(root, &["admit", host, &key, &seal])
            .spawn()
            .unwrap()
    });
    let admits: Vec<_> = admits.collect();
    for admit in admits {
        let ended = admit.wait_with_output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
    }

    let read = |path: &str| -> Value {
        serde_json::from_slice(&std::fs::read(root.join(path)).unwrap()).unwrap()
    };
    let book = read("fleet/operator/fleet.json");
    let members = book["roster"]["hosts"].as_array().unwrap().iter();
    let names: Vec<_> = members
        .map(|member| member["name"].as_str().unwrap())
        .collect();
    assert_eq!(names[..8], hosts, "{names:?}");

    // What the fleet is told is the same.
    let told = read("fleet/roster.json");
    let roster: Value = serde_json::from_str(told["body"].as_str().unwrap()).unwrap();
    assert_eq!(roster, book["roster"]);
}
