//! A stand-in for steamcmd: a shell script for the real runner.

use super::{Conversation, Envs, RUNNER, Received, Root};

pub const INSTALL: &str = r#"{"verb":"install"}"#;

/// Installs a steamcmd whose three runs are the given shell code. `laid` is a successful Windows
/// pass, `whole` a successful Linux pass.
pub fn steamcmd(root: &Root, prime: &str, windows: &str, linux: &str) {
    let text = format!(
        r#"#!/bin/sh
cd "$(dirname "$0")" || exit 99
echo "$*" >> ../tmp/calls
manifest() {{
    mkdir -p ../installation/steamapps
    printf '"AppState"\n{{\n"appid" "222860"\n"StateFlags" "%s"\n"buildid" "42"\n' "$1" > ../tmp/acf
    printf '"BytesToDownload" "9"\n"BytesDownloaded" "%s"\n' "$2" >> ../tmp/acf
    printf '"InstalledDepots" {{ "222861" {{ }} "%s" {{ }} }}\n}}\n' "${{3:-222863}}" >> ../tmp/acf
    cp ../tmp/acf ../installation/steamapps/appmanifest_222860.acf
}}
game() {{
    mkdir -p ../installation/bin ../installation/left4dead2/bin
    for name in srcds_linux bin/engine_srv.so left4dead2/bin/server_srv.so; do echo x > "../installation/$name"; done
    chmod +x ../installation/srcds_linux
}}
success() {{ echo "Success! App '222860' ${{1:-fully installed}}."; }}
laid() {{ rm -f ../installation/srcds_linux; manifest 4 9 222862; success; }}
whole() {{ game; manifest 4 9; success; }}
fail() {{ echo "Error! App '222860' state is $1 after update job."; exit 8; }}
refuse() {{ echo "ERROR! Failed to install app '222860' ($1)"; exit 8; }}
first() {{ if [ -e "../tmp/$1" ]; then return 1; fi; touch "../tmp/$1"; }}
case "$*" in
*"Type linux"*) {linux}
;;
*"Type windows"*) {windows}
;;
*) {prime}
;;
esac
"#
    );

    root.script("steam/steamcmd.sh", &text);
}

/// Installs the game once, successfully.
pub fn installed(root: &Root) {
    steamcmd(root, ":", "laid", "whole");
    assert_eq!(install(root).exit(), 0);
    std::fs::remove_file(root.join("tmp/calls")).unwrap();
}

pub fn install(root: &Root) -> Received {
    install_with(root, &[])
}

/// Installs with additional settings.
pub fn install_with(root: &Root, settings: &[(&str, &str)]) -> Received {
    let mut talk = Conversation::start(&[RUNNER], &envs(root, settings));
    talk.send_line(INSTALL);
    let received = talk.rest();
    assert_eq!(talk.end().0, 0, "{received:?}");
    received
}

/// The passes that steamcmd was called for.
pub fn calls(root: &Root) -> Vec<&'static str> {
    let text = std::fs::read_to_string(root.join("tmp/calls")).unwrap_or_default();
    let word = |line: &str| match line {
        line if line.contains("windows") => "windows",
        line if line.contains("linux") => "linux",
        _ => "prime",
    };
    text.lines().map(word).collect()
}

/// The usual environment with these settings replaced.
pub fn envs(root: &Root, settings: &[(&str, &str)]) -> Envs {
    let mut envs = root.envs();
    envs.retain(|(name, _)| !settings.iter().any(|(other, _)| other == name));
    envs.extend(
        settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );

    envs
}
