//! A stand-in for steamcmd: a shell script for the real runner.

use super::{Conversation, Envs, RUNNER, Received, Root};

pub const INSTALL: &str = r#"{"verb":"install"}"#;

pub const CHECK: &str = r#"{"verb":"check"}"#;

/// Installs a steamcmd whose three runs are the given shell code. `laid` is a successful Windows
/// pass, `whole` a successful Linux pass.
pub fn steamcmd(root: &Root, prime: &str, windows: &str, linux: &str) {
    root.script(
        "steam/steamcmd.sh",
        &script(prime, windows, linux, "asked 42"),
    );
}

/// Installs a steamcmd that installs build 42 and runs this shell code when it is asked for app
/// info. FILES and DOWNLOAD set what each of the two depots takes, in bytes. `asked BUILD` answers twice, the first time with an old build; `block BUILD` answers once.
pub fn steamcmd_that_answers(root: &Root, info: &str) {
    root.script("steam/steamcmd.sh", &answers(info));
}

/// The same, as a script.
pub fn answers(info: &str) -> String {
    script(":", "laid", "whole", info)
}

fn script(prime: &str, windows: &str, linux: &str, info: &str) -> String {
    format!(
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
block() {{
    echo 'AppID : 222860, change number : 26574431/0'
    printf '"222860"\n{{\n\t"common"\n\t{{\n\t\t"name"\t\t"a game"\n\t}}\n\t"depots"\n\t{{\n'
    if [ -n "$FILES" ]; then depots "$FILES" "$DOWNLOAD"; fi
    printf '\t\t"branches"\n'
    printf '\t\t{{\n\t\t\t"%s"\n\t\t\t{{\n\t\t\t\t"buildid"\t\t"%s"\n' "${{2:-public}}" "$1"
    printf '\t\t\t\t"timeupdated"\t\t"1763543534"\n\t\t\t}}\n\t\t}}\n\t}}\n}}\n'
}}
depots() {{
    for depot in 222861 222863; do
        printf '\t\t"%s"\n\t\t{{\n\t\t\t"manifests"\n\t\t\t{{\n\t\t\t\t"public"\n\t\t\t\t{{\n' "$depot"
        printf '\t\t\t\t\t"size"\t\t"%s"\n\t\t\t\t\t"download"\t\t"%s"\n' "$1" "$2"
        printf '\t\t\t\t}}\n\t\t\t}}\n\t\t}}\n'
    done
}}
asked() {{ block 1; echo 'something else'; block "$1"; }}
first() {{ if [ -e "../tmp/$1" ]; then return 1; fi; touch "../tmp/$1"; }}
case "$*" in
*"Type linux"*) {linux}
;;
*"Type windows"*) {windows}
;;
*app_info_print*) {info}
;;
*) {prime}
;;
esac
"#
    )
}

/// Installs the game once, successfully.
pub fn installed(root: &Root) {
    steamcmd(root, ":", "laid", "whole");
    assert_eq!(install(root).exit(), 0);
    std::fs::remove_file(root.join("tmp/calls")).unwrap();
}

/// Asks which build is published.
pub fn check(root: &Root) -> Received {
    check_with(root, &[])
}

/// Asks with additional settings.
pub fn check_with(root: &Root, settings: &[(&str, &str)]) -> Received {
    request(root, CHECK, settings)
}

pub fn install(root: &Root) -> Received {
    install_with(root, &[])
}

/// Installs with additional settings.
pub fn install_with(root: &Root, settings: &[(&str, &str)]) -> Received {
    request(root, INSTALL, settings)
}

fn request(root: &Root, line: &str, settings: &[(&str, &str)]) -> Received {
    let mut talk = Conversation::start(&[RUNNER], &envs(root, settings));
    talk.send_line(line);
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
        line if line.contains("app_info_print") => "info",
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
