//! The product in one command, as the README tells it.

use std::process::Stdio;

use crate::lab::{command, lab_script, repository};

pub fn the_demo_runs_from_a_checkout_to_its_end() {
    let mut demo = command(lab_script());
    // Without --release: tests/run has built this package already, so that nothing is compiled again.
    demo.args(["demo", "--exit"])
        .current_dir(repository())
        .stdin(Stdio::null());
    // cargo sets things for tests that would make it build everything again.
    demo.env_clear();
    let kept = [
        "PATH",
        "HOME",
        "CARGO_HOME",
        "CARGO_TARGET_DIR",
        "RUSTUP_HOME",
        "RUSTUP_TOOLCHAIN",
        "http_proxy",
        "https_proxy",
    ];

    let labs =
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LEFT4ME_LAB_"));
    demo.envs(
        kept.iter()
            .filter_map(|name| Some((*name, std::env::var_os(name)?))),
    )
    .envs(labs);

    let output = demo.output().expect("deploy/lab runs");
    let (said, shown) = (
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout),
    );

    assert!(
        output.status.success(),
        "deploy/lab demo --exit: {}\n{said}\n{shown}",
        output.status
    );

    for server in ["one", "two"] {
        assert!(
            said.contains(&format!("{server}: left4me-server@")),
            "{server} was checked\n{said}"
        );
    }

    assert!(
        shown.contains("fully installed"),
        "the lines are shown live\n{shown}"
    );
}
