//! Content and ports as an admin meets them on the command line: what `left4me` says of overlays
//! that the game cannot see, of texts that are no UTF-8, of blueprints that hide a server, and of
//! SourceTV's port.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::support::{Finished, LEFT4ME, PASSWORD, Root};

/// A data directory with user anna.
struct Host {
    root: Root,
}

impl Host {
    fn new() -> Self {
        let host = Self { root: Root::new() };
        host.done(
            &["user", "add", "anna", "--password-stdin"],
            format!("{PASSWORD}\n").as_bytes(),
        );
        host
    }

    /// The exit code, and both outputs in one text.
    fn run(&self, args: &[&str], input: &[u8]) -> (i32, String) {
        let Finished { code, out, err } = self.root.run(LEFT4ME, args, input);
        (code, out + &err)
    }

    #[track_caller]
    fn done(&self, args: &[&str], input: &[u8]) -> String {
        let (code, text) = self.run(args, input);
        assert_eq!(code, 0, "{args:?}: {text}");
        text
    }

    #[track_caller]
    fn refused(&self, args: &[&str], input: &[u8], code: i32, words: &[&str]) {
        let printed = self.run(args, input);
        assert!(
            printed.0 == code && words.iter().all(|word| printed.1.contains(word)),
            "{args:?}: {printed:?}"
        );
    }

    fn doctor(&self) -> String {
        self.run(&["doctor"], b"").1
    }
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn adding_an_overlay_and_the_doctor_report_what_the_game_cannot_see() {
    let host = Host::new();
    let overlay = host.root.join("overlays/package");
    write(&overlay.join("addons/map.vpk"), "x");
    write(&overlay.join("left4dead2/cfg/private.cfg"), "x");
    std::fs::set_permissions(
        overlay.join("left4dead2/cfg/private.cfg"),
        std::fs::Permissions::from_mode(0o600),
    )
    .unwrap();

    write(&host.root.join("workshop_cache/7.vpk"), "x");
    std::fs::create_dir_all(overlay.join("left4dead2/addons")).unwrap();
    symlink(
        "../../../../workshop_cache/7.vpk",
        overlay.join("left4dead2/addons/7.vpk"),
    )
    .unwrap();

    assert!(
        overlay.join("left4dead2/addons/7.vpk").exists(),
        "the trial is fair: the link is sound where it is"
    );

    let added = host.done(&["overlay", "add", "package"], b"");
    for printed in [added, host.doctor()] {
        for words in [
            "overlays/package/addons: the game reads left4dead2/addons",
            "left4dead2/cfg/private.cfg: the game cannot read it (mode 0600",
            "left4dead2/addons/7.vpk: in a server's tree the link leads to ",
        ] {
            assert!(printed.contains(words), "'{words}' is missing: {printed}");
        }
    }

    let clean = host.done(&["overlay", "add", "clean"], b"");
    assert_eq!(clean.lines().count(), 1, "{clean}");
}

#[test]
fn a_config_file_of_any_editor_is_taken_or_named_with_what_converts_it() {
    let host = Host::new();
    let file = host.root.join("server.cfg");
    write(
        &file,
        b"\xef\xbb\xbfhostname \"Gr\xc3\xb6\xc3\x9fe\"\r\n\r\nsv_tags x\r\n",
    );

    let name = file.to_str().unwrap();
    host.done(&["blueprint", "create", "a", "--config-file", name], b"");
    let shown = host.done(&["blueprint", "show", "a", "--json"], b"");
    assert!(
        shown.contains(r#""config":["hostname \"Größe\"","","sv_tags x"]"#),
        "{shown}"
    );

    let wide: Vec<u8> = "\u{feff}hostname x\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (text, words) in [
        (
            b"sv_tags x\r\nhostname \"Gr\xf6\xdfe\"\r\n".to_vec(),
            ["line 2", "iconv -f LATIN1 "],
        ),
        (
            b"hostname \"\xb2\xe2\xca\xd4\xb7\xfe\xce\xf1\xc6\xf7\"\n".to_vec(),
            ["line 1", "iconv -f GBK "],
        ),
        (wide, ["UTF-16", "iconv -f UTF-16 "]),
    ] {
        host.refused(
            &["blueprint", "create", "b", "--config-file", "-"],
            &text,
            2,
            &words,
        );
    }
}

#[test]
fn a_blueprint_that_hides_its_servers_is_reported_wherever_it_is_shown() {
    let host = Host::new();
    let create = [
        "blueprint",
        "create",
        "lan",
        "--arg=-insecure",
        "--arg=-nomaster",
        "--config-file",
        "-",
    ];

    host.done(&create, b"hostname x\nsv_lan 1 // friends\n");
    host.done(&["server", "create", "one", "--blueprint", "lan"], b"");
    let commands: [&[&str]; 2] = [&["blueprint", "show", "lan"], &["server", "show", "one"]];
    for printed in commands
        .into_iter()
        .map(|command| host.done(command, b""))
        .chain([host.doctor()])
    {
        for words in [
            "the argument -insecure",
            "the argument -nomaster",
            "configuration line 2: sv_lan 1",
        ] {
            assert!(printed.contains(words), "'{words}' is missing: {printed}");
        }
    }

    host.done(
        &[
            "blueprint",
            "edit",
            "lan",
            "--no-args",
            "--config-file",
            "-",
        ],
        b"sv_lan 0\n",
    );

    assert!(!host.doctor().contains("sv_lan"));
}

#[test]
fn sourcetv_takes_a_port_that_no_other_server_gets() {
    let host = Host::new();
    host.done(&["blueprint", "create", "plain"], b"");
    host.done(
        &["blueprint", "create", "tv", "--arg=+tv_enable", "--arg=1"],
        b"",
    );

    host.done(
        &["blueprint", "create", "other", "--config-file", "-"],
        b"tv_enable 1\ntv_port 27001\n",
    );

    let create = |name: &str, blueprint: &str, more: &[&str]| {
        let first = [
            "server",
            "create",
            name,
            "--blueprint",
            blueprint,
            "--port-range",
            "27019-27029",
        ];

        [&first[..], more]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };

    let run = |args: &[String]| host.run(&args.iter().map(String::as_str).collect::<Vec<_>>(), b"");

    // 27020 is the first one's SourceTV.
    assert_eq!(run(&create("a", "tv", &[])).0, 0);
    assert!(
        run(&create("b", "plain", &[])).1.contains("on port 27021"),
        "the lowest that neither has"
    );

    for (args, words) in [
        (
            create("c", "plain", &["--port", "27020"]),
            "server 1 ('a') for its SourceTV",
        ),
        (create("c", "tv", &[]), "SourceTV's port 27020"),
        (create("c", "tv", &["--port", "27020"]), "27020"),
    ] {
        let (code, printed) = run(&args);
        assert!(
            code == 4 && printed.contains(words) && printed.lines().count() == 1,
            "{args:?}: {printed}"
        );
    }

    assert_eq!(run(&create("c", "other", &[])).0, 0);
    host.refused(
        &["server", "assign", "b", "--blueprint", "tv"],
        b"",
        4,
        &["SourceTV's port 27020", "server 1"],
    );

    host.refused(
        &["blueprint", "edit", "plain", "--config-file", "-"],
        b"tv_enable 1\n",
        4,
        &["SourceTV's port 27020 of server 'b'"],
    );

    host.done(
        &["blueprint", "edit", "plain", "--config-file", "-"],
        b"tv_enable 1\ntv_port 27002\n",
    );

    // A host that had a clash before can still be edited, and doctor names it.
    host.done(
        &["blueprint", "edit", "plain", "--config-file", "-"],
        b"hostname x\n",
    );

    let database = rusqlite::Connection::open(host.root.join("db/left4me.db")).unwrap();
    database
        .execute(
            "UPDATE blueprints SET config = '[\"tv_enable 1\"]' WHERE name = 'plain'",
            [],
        )
        .unwrap();
    host.done(
        &["blueprint", "edit", "plain", "--config-file", "-"],
        b"tv_enable 1\nhostname y\n",
    );

    assert!(
        host.doctor().contains("UDP port 27020 is used twice"),
        "{}",
        host.doctor()
    );
}
