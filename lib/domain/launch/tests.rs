//! Tests of `domain::launch`.

use super::*;
use proptest::prelude::*;

/// The engine's parser after it has joined argv: newer copies with quotes, older ones without.
fn engine(argv: &[&str], quotes: bool) -> Vec<String> {
    let quote = if quotes { "\"" } else { "" };
    let line: String = argv
        .iter()
        .map(|word| format!("{quote}{word}{quote} "))
        .collect();
    assert!(line.len() < 2048, "the engine would write past its buffer");

    let (mut words, mut word, mut is_quoted) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        match (c, is_quoted, &mut word) {
            ('"', true, _) => {
                words.extend(word.take().filter(|word| !word.is_empty()));
                is_quoted = false;
            }
            ('"', false, None) => {
                is_quoted = true;
                word = Some(String::new());
            }
            (c, false, None) if c.is_whitespace() => {}
            (c, false, Some(_)) if c.is_whitespace() => words.extend(word.take()),
            (c, _, word) => word.get_or_insert_default().push(c),
        }
    }

    words.extend(word);
    words
}

fn is_refused(word: &str, with: &str) {
    let error = word.parse::<Argument>().expect_err(word).to_string();
    assert!(
        error.contains(with) && !error.contains('\n'),
        "{word:?}: {error}"
    );
}

#[test]
fn what_the_engine_would_read_as_something_else_is_refused_with_the_way_out() {
    for word in [
        "My server",
        "x -port 27001 -ip 127.0.0.1",
        "\t",
        "a\u{a0}b",
        "a\u{2003}b",
        " +map",
    ] {
        is_refused(
            word,
            if word.contains('\t') {
                "control"
            } else {
                "configuration lines"
            },
        );
    }

    for word in [
        "\"My", "a\"b", "@file", "x@file", "a;quit", "..\\x", "Größe", "a\u{ad}b",
    ] {
        is_refused(word, "configuration lines");
    }

    for word in ["a\nb", "a\0b", "\u{1b}[2J", "a\u{85}b"] {
        is_refused(word, "control character");
    }

    is_refused("", "empty");
    is_refused(&"x".repeat(251), "250 bytes");
    for word in ["+", "++map", "+sv_tags:x", "+hostport'1", "+a{b", "+map/"] {
        is_refused(word, "name of a command");
    }
}

#[test]
fn reserved_words_are_refused_in_any_case() {
    for word in [
        "-game",
        "-GAME",
        "+HostPort",
        "-port",
        "+ip",
        "-strictportbind",
    ] {
        is_refused(word, "left4me sets this argument itself");
    }

    for word in [
        "-autoupdate",
        "-Steam_Dir",
        "-steamcmd_script",
        "-binary",
        "-gdb",
        "-debug",
        "-norestart",
    ] {
        is_refused(word, "srcds_run");
    }

    is_refused("+RCON_password", "configuration lines");
    is_refused("-condebug", "l4d2ctl logs");
}

#[test]
fn what_stays_one_word_arrives() {
    for word in [
        "+map",
        "c1m1_hotel",
        "***",
        "?",
        "[a]*",
        "-tickrate",
        "60",
        "$HOME",
        "%n",
        "a'b",
        "-",
        "x=y,z",
    ] {
        assert_eq!(word.parse::<Argument>().unwrap().as_str(), word);
    }

    for word in ["-games", "+hostports", "-port2", "x-port", "game"] {
        assert!(word.parse::<Argument>().is_ok(), "{word}");
    }
}

#[test]
fn a_file_to_run_is_one_below_cfg() {
    for (command, value) in [
        ("+exec", "../../x.cfg"),
        ("+EXEC", "/etc/passwd"),
        ("+exec", "a/../../x"),
        ("+servercfgfile", "c:x"),
    ] {
        let error = check_line([command, value]).unwrap_err().to_string();
        assert!(error.contains("left4dead2/cfg"), "{error}");
    }

    for value in ["server.cfg", "sourcemod/x.cfg", "a..b", "+map", "-x"] {
        check_line(["+exec", value]).unwrap();
    }

    check_line(["+exec"]).unwrap();
}

#[test]
fn a_line_near_the_engines_buffer_is_refused() {
    let long = |count: usize| vec!["x".repeat(100); count];
    check_line(long(14)).unwrap();
    let error = check_line(long(20)).unwrap_err().to_string();
    assert!(
        error.contains("too long together") && error.contains("configuration lines"),
        "{error}"
    );

    assert!(
        check_line(vec!["x"; 201])
            .unwrap_err()
            .to_string()
            .contains("at most 200")
    );

    check_line(vec!["x"; 200]).unwrap();
}

#[test]
fn the_default_map_is_added_where_none_is_named() {
    let given = |words: &[&str]| check_line(words).unwrap();
    assert_eq!(
        words(&given(&[])).collect::<Vec<_>>(),
        ["+map", "c1m1_hotel"]
    );

    assert_eq!(
        words(&given(&["-x"])).collect::<Vec<_>>(),
        ["-x", "+map", "c1m1_hotel"]
    );

    assert_eq!(
        words(&given(&["+MAP", "c2"])).collect::<Vec<_>>(),
        ["+MAP", "c2"]
    );

    assert_eq!(
        words(&given(&["-nodefaultmap"])).collect::<Vec<_>>(),
        ["-nodefaultmap"]
    );
}

#[test]
fn the_program_and_its_own_words_are_those_of_the_unit() {
    let unit = include_str!("../../../systemd/left4me-server@.service");
    let start = unit
        .lines()
        .find(|line| line.starts_with("ExecStart="))
        .unwrap();
    for word in &OWN[..6] {
        assert!(
            start.split(' ').any(|found| found == *word),
            "{word} in {start}"
        );
    }

    assert_eq!(
        start.split(' ').count(),
        OWN.len() + 2,
        "the program, left4me's own, the arguments: {start}"
    );
}

proptest! {
    #[test]
    fn what_passes_is_the_same_to_every_copy_of_the_engine(
        given in proptest::collection::vec("[ \
                                           -~]{1,12}|[-+][a-z]{1,8}|[^\\p{Cc}]{1,6}|[*?'$%/]{1,4}", 0..12),
    ) {
        let Ok(arguments) = check_line(&given) else { return Ok(()) };
        let program = format!("/var/lib/left4me/runtime/{}/merged/srcds_linux", "n".repeat(64));
        let argv: Vec<&str> = std::iter::once(program.as_str()).chain(OWN).chain(words(&arguments)).collect();
        prop_assert_eq!(engine(&argv, true), argv.clone());
        prop_assert_eq!(engine(&argv, false), argv);
    }

    #[test]
    fn the_longest_line_that_passes_fits(sizes in proptest::collection::vec(1_usize..250, 0..40)) {
        let given: Vec<String> = sizes.into_iter().map(|size| "x".repeat(size)).collect();
        let Ok(arguments) = check_line(&given) else { return Ok(()) };
        let program = format!("/var/lib/left4me/runtime/{}/merged/srcds_linux", "n".repeat(64));
        let argv: Vec<&str> = std::iter::once(program.as_str()).chain(OWN).chain(words(&arguments)).collect();
        prop_assert_eq!(engine(&argv, true).len(), argv.len());
    }
}
