//! Tests of `base::config`.

use clap::{CommandFactory as _, FromArgMatches as _};

use super::*;

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    ports: Ports,
}

fn parsed(file: &str, argv: &[&str]) -> Result<Program, clap::Error> {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), file).unwrap();
    let command = with_defaults(Program::command(), &read_settings(path.path()).unwrap());
    Program::from_arg_matches(&command.try_get_matches_from(argv)?)
}

#[test]
fn a_flag_wins_over_the_settings_file_and_the_file_over_the_default() {
    let program = parsed(
        "# a comment\n\nLEFT4ME_ROOT=\"/srv/l4d\"\nOTHER=1\n",
        &["x"],
    )
    .unwrap();

    assert_eq!(program.paths.root, Path::new("/srv/l4d"));
    assert_eq!(
        program.paths.database(),
        Path::new("/srv/l4d/db/left4me.db")
    );

    let program = parsed("LEFT4ME_ROOT=/srv/l4d", &["x", "--root", "/opt/x"]).unwrap();
    assert_eq!(program.paths.root, Path::new("/opt/x"));
    assert_eq!(
        program.ports.port_range,
        PortRange {
            first: 27000,
            last: 27999
        }
    );
}

#[test]
fn a_database_elsewhere_is_taken_as_named_and_the_former_default_as_the_new_one() {
    let place = |file: &str| parsed(file, &["x"]).unwrap().paths.database();
    assert_eq!(place("LEFT4ME_DB=/srv/x.db"), Path::new("/srv/x.db"));
    assert_eq!(
        place("LEFT4ME_DB=/var/lib/left4me/left4me.db"),
        Path::new("/var/lib/left4me/db/left4me.db")
    );
}

#[test]
fn pauses_are_seconds_with_commas_and_a_bad_value_says_so() {
    assert_eq!(
        pauses("0.1, 2").unwrap().total(),
        Duration::from_millis(2100)
    );

    assert_eq!(pauses("0").unwrap(), Pauses(vec![Duration::ZERO]));
    for bad in [
        "",
        "1,",
        "-1",
        "x",
        "inf",
        "NaN",
        "1e3",
        "8,8",
        "99999999999999999999,1",
    ] {
        assert!(
            pauses(bad).unwrap_err().contains("separated by commas"),
            "{bad}"
        );
    }
}

#[derive(Parser)]
struct WithVerbs {
    #[command(subcommand)]
    verb: Verbs,
}

#[derive(clap::Subcommand)]
enum Verbs {
    Look(PollSeconds),
}

#[test]
fn the_settings_file_counts_for_a_verbs_own_settings_too() {
    let settings = EnvFile::parse("LEFT4ME_POLL_SECONDS=7");
    let seconds = |argv: &[&str]| {
        let command = with_defaults(WithVerbs::command(), &settings);
        let Verbs::Look(poll) = WithVerbs::from_arg_matches(&command.get_matches_from(argv))
            .unwrap()
            .verb;
        poll.number().ok()
    };

    assert_eq!(seconds(&["x", "look"]), Some(7));
    assert_eq!(seconds(&["x", "look", "--poll-seconds", "9"]), Some(9));
    assert_eq!(seconds(&["x", "look", "--poll-seconds", "07"]), None);
}

#[test]
fn a_bad_value_names_its_setting() {
    for bad in [
        "LEFT4ME_PORT_RANGE=5-4",
        "LEFT4ME_PORT_RANGE=80-90",
        "LEFT4ME_ROOT=relative",
        "LEFT4ME_ROOT=/a/../b",
    ] {
        let error = parsed(bad, &["x"]).err().expect("refused").to_string();
        let setting = bad.split('=').next().unwrap();
        assert!(error.contains(setting), "{error}");
    }
}
