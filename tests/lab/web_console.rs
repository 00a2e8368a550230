//! An evening at the console in a browser: commands are typed, completed and called back, replies
//! stand among the journal's lines, and the history says who typed.

use crate::browser::{Browser, Scripts};
use crate::lab::{Lab, s, wait_until};
use crate::rows::game;

const PASSWORD: &str = "a long password 123";
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const UP: &str = "\u{e013}";
const DOWN: &str = "\u{e015}";
const INPUT: &str = "#command input[name=command]";
const STATE: &str = "[data-command-state]";

pub fn commands_are_typed_in_a_browser(lab: &Lab) {
    lab.in_its_network("commands_are_typed_in_a_browser", |lab| {
        lab.describe(&["Friday"]);
        lab.job(&["install"]);
        lab.job(&["start", "--server", "1"]);
        lab.answers("Friday");
        somebody_joins(lab);
        lab.run_with(
            "root",
            &[
                "left4me",
                "user",
                "add",
                "anna",
                "--admin",
                "--password-stdin",
            ],
            PASSWORD,
        )
        .ends_with(0);

        let anna = Browser::start(lab.suite().as_str(), Scripts::On);
        anna.go("/login");
        anna.sign_in("anna", PASSWORD);
        anna.comes_to("/");
        anna.sees("#server-1", "1/");
        anna.go("/servers/1/log");
        anna.sees("[data-log-state]", "live");

        a_command_is_completed_and_its_reply_shown(&anna);
        what_players_see_is_in_the_journal_below_it(&anna);
        a_former_command_is_called_back(&anna);
        a_refused_command_says_why_and_can_be_corrected(&anna);
        anna.shoot_all("40-console-input");
        the_history_says_who_typed(lab, &anna);
        without_scripts_the_form_shows_the_reply(lab);
    });
}

fn somebody_joins(lab: &Lab) {
    let dir = game(1);
    lab.sh(&format!(
        "printf 'Bob\\tSTEAM_1:0:22\\n' >{dir}/.new; mv {dir}/.new {dir}/standin.join"
    ));
    wait_until("he plays", s(30), || {
        lab.poll();
        lab.server("Friday")["players"] == 1
    });
}

fn typed(browser: &Browser) -> String {
    let value = format!("return document.querySelector('{INPUT}').value");
    let value = browser.js(&value);
    value.as_str().expect("a text").to_owned()
}

fn focus(browser: &Browser) {
    browser.js(&format!("document.querySelector('{INPUT}').focus()"));
}

/// A command and its reply: lines of the log, one below the other.
fn a_command_is_completed_and_its_reply_shown(anna: &Browser) {
    focus(anna);
    anna.press(&format!("stat{TAB}"));
    anna.sees(STATE, "status stats");
    assert_eq!(typed(anna), "stat", "both begin so");
    anna.press(&format!("u{TAB}"));
    assert_eq!(typed(anna), "status");
    anna.press(ENTER);

    anna.sees("#log", "hostname");
    anna.sees("#log", "STEAM_1:0:22");
    let log = anna.text("#log");
    let (command, reply) = (log.find("> status"), log.find("hostname"));
    assert!(command.is_some() && command < reply, "{log}");
    assert_eq!(typed(anna), "", "the next one can be typed");
}

fn what_players_see_is_in_the_journal_below_it(anna: &Browser) {
    focus(anna);
    anna.press(&format!("log on{ENTER}"));
    anna.waits("it was sent", || match typed(anna).as_str() {
        "" => Ok(()),
        other => Err(other.to_owned()),
    });
    anna.waits("its reply has come", || {
        let state = anna.text(STATE);
        if state.contains("waiting") {
            Err(state)
        } else {
            Ok(())
        }
    });

    anna.press(&format!("say good evening{ENTER}"));
    anna.waits("what was typed, and the game's own line", || {
        let log = anna.text("#log");
        if log.contains("> say good evening") && log.matches("good evening").count() > 1 {
            Ok(())
        } else {
            Err(log)
        }
    });
}

fn a_former_command_is_called_back(anna: &Browser) {
    anna.go("/servers/1/log");
    anna.sees("[data-log-state]", "live");
    focus(anna);
    anna.press(&format!("map c2m1{TAB}"));
    assert_eq!(typed(anna), "map c2m1_highway");
    anna.press(UP);
    assert_eq!(
        typed(anna),
        "say good evening",
        "also after the page was left"
    );
    anna.press(&format!("{UP}{UP}{UP}"));
    assert_eq!(typed(anna), "status", "there is nothing before the first");
    anna.press(&format!("{DOWN}{DOWN}{DOWN}"));
    assert_eq!(typed(anna), "map c2m1_highway", "what was being written");
    anna.press(&format!("{UP}{UP}{UP}{ENTER}"));
    anna.sees("#log", "hostname");
    anna.is_quiet();
}

fn a_refused_command_says_why_and_can_be_corrected(anna: &Browser) {
    focus(anna);
    anna.press(&format!("quit{ENTER}"));
    anna.sees("#log", "use stop or restart");
    anna.sees(STATE, "that did not work");
    assert_eq!(typed(anna), "quit");
    anna.is_told(422);
}

fn the_history_says_who_typed(lab: &Lab, anna: &Browser) {
    let commands = lab.events(1, "server.command");
    let details: Vec<&str> = commands.iter().map(|event| event.detail.as_str()).collect();
    for command in ["status", "log on", "say good evening"] {
        assert!(details.contains(&command), "{details:?}");
    }
    assert!(!details.contains(&"quit"), "{details:?}");
    let history = lab.ok(&["left4me", "server", "history", "Friday"]);
    let line = history.lines().find(|line| line.contains("good evening"));
    assert!(
        line.is_some_and(|line| line.contains("web:anna")),
        "{history}"
    );

    anna.go("/servers/1");
    anna.sees("#events", "say good evening");
    anna.sees("#events", "anna");
    anna.is_quiet();
}

fn without_scripts_the_form_shows_the_reply(lab: &Lab) {
    let plain = Browser::start(lab.suite().as_str(), Scripts::Off);
    plain.go("/login");
    plain.sign_in("anna", PASSWORD);
    plain.comes_to("/");
    plain.go("/servers/1/log");
    plain.fill(INPUT, "status");
    plain.press(ENTER);
    plain.sees("#reply", "hostname");
    plain.sees("#reply", "by web:anna");
}
