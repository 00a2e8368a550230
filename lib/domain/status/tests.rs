//! The outputs have the forms of published ones: Left 4 Dead 2 of versions 2.2.2.9 and 2.2.4.3,
//! Left 4 Dead 1.0.4.5, and servers of its siblings. Names and addresses are others.

use proptest::prelude::*;

use super::*;

/// Left 4 Dead 2, 2.2.4.3.
const BUSY: &str = "hostname: 求生之路2 - Friday\n\
version : 2.2.4.3 10097 secure  (unknown)\n\
udp/ip  : 10.0.0.4:27015 [ public 203.0.113.66:27015 ]\n\
os      : Linux Dedicated\n\
map     : c2m1_highway\n\
players : 2 humans, 3 bots (12 max) (not hibernating) (unreserved)\n\
\n\
# userid name uniqueid connected ping loss state rate adr\n\
# 26 1 \"桐喵Six\" STEAM_1:0:12345678 05:40 99 0 active 30000 192.0.2.4:44563\n\
#27 \"Coach\" BOT active\n\
#28 \"Ellis\" BOT active\n\
#75 \"Tank\" BOT active\n\
# 116 2 \"a \"quoted\" name\" STEAM_1:1:87654321 1:02:33 45 2 spawning 30000 198.51.100.8:27005\n\
#end\n";

fn rows(text: &str) -> Vec<Row> {
    Status::parse(text).unwrap().rows
}

/// The user ids, names and accounts of a table with these rows.
fn told(lines: &[&str]) -> Vec<String> {
    let text = format!(
        "# userid name uniqueid connected ping loss state rate adr\n{}\n#end\n",
        lines.join("\n")
    );
    rows(&text)
        .iter()
        .map(|row| {
            let id = row.steam_id.as_ref().map_or("-".into(), SteamId::to_string);
            format!("{} {} {id}", row.user_id, row.name)
        })
        .collect()
}

#[test]
fn a_busy_server_is_read_whole() {
    let status = Status::parse(BUSY).unwrap();
    assert_eq!(status.map.as_deref(), Some("c2m1_highway"));
    assert_eq!((status.humans, status.bots), (Some(2), Some(3)));
    assert_eq!(status.rows.len(), 5);
    assert_eq!(status.rows.iter().filter(|row| row.is_bot).count(), 3);

    assert_eq!(
        status.rows[4],
        Row {
            user_id: 116,
            name: "a \"quoted\" name".to_owned(),
            steam_id: Some("STEAM_1:1:87654321".parse().unwrap()),
            is_bot: false,
            connected: Some(3753),
            ping: Some(45),
            state: "spawning".to_owned(),
        }
    );
}

#[test]
fn an_empty_server_and_other_text_are_told_apart() {
    let idle = "hostname: x\nmap     : c2m1_highway at: 0 x, 0 y, 0 z\n\
                players : 0 humans, 0 bots (12 max) (hibernating) (reserved 186000047bb2ba4)\n\
                # userid name uniqueid connected ping loss state rate adr\n#end";
    let status = Status::parse(idle).unwrap();
    assert_eq!((status.humans, status.rows.len()), (Some(0), 0));
    assert_eq!(status.map.as_deref(), Some("c2m1_highway"));

    for other in ["", "Unknown command \"status\"\n", "hostname: x\nmap : y\n"] {
        assert_eq!(Status::parse(other), None, "{other}");
    }
}

#[test]
fn columns_may_be_missing_or_wide() {
    assert_eq!(
        told(&[
            "# 1100  1000    \"[BR] one\"  STEAM_1:0:000000007  05:10      80    0     active  30000   192.0.2.90:13489",
            "# 2 1 \"LAN\" STEAM_ID_LAN 00:04 5 0 active 30000 192.168.4.85:27005",
            "# 3 \"no entity\" STEAM_1:0:8 00:04 5 0 connecting 30000 [2001:db8::1]:27005",
            "# 37 2 \"no address\" STEAM_1:1:9 29:09 46 0 active 196608",
            "#54 \"rate\" BOT active 64",
            "# 4 \"new form\" [U:1:24691] 00:42 55 0 active 786432 192.0.2.7:27005",
            "# 5 5 \"\" STEAM_ID_PENDING 00:01 0 0 challenging 30000 loopback",
        ]),
        [
            "1100 [BR] one STEAM_1:0:7",
            "2 LAN -",
            "3 no entity STEAM_1:0:8",
            "37 no address STEAM_1:1:9",
            "54 rate -",
            "4 new form STEAM_1:1:12345",
            "5  -",
        ]
    );
}

#[test]
fn a_name_that_looks_like_a_row_is_a_name() {
    let row = "\" STEAM_1:0:1 00:10 5 0 active 30000 192.0.2.1:27005";
    assert_eq!(
        told(&[
            &format!("# 7 1 \"x{row}\" STEAM_1:0:99 00:10 5 0 active 30000 192.0.2.9:27005"),
            "# 8 2 \"# 9 3 \"Admin\" BOT active\" STEAM_1:0:98 00:10 5 0 active 30000 192.0.2.9:27005",
            "# 9 3 \"#end\" STEAM_1:0:97 00:10 5 0 active 30000 192.0.2.9:27005",
        ]),
        [
            &format!("7 x{row} STEAM_1:0:99"),
            "8 # 9 3 \"Admin\" BOT active STEAM_1:0:98",
            "9 #end STEAM_1:0:97",
        ]
    );
}

#[test]
fn nothing_is_believed_after_a_row_that_was_broken() {
    // A name with a line break, if a game let it through.
    assert_eq!(
        told(&[
            "# 7 1 \"first\" STEAM_1:0:1 00:10 5 0 active 30000 192.0.2.9:27005",
            "# 8 2 \"x",
            "# 9 3 \"Admin\" STEAM_1:0:5 00:10 5 0 active 30000 192.0.2.9:27005",
            "y\" STEAM_1:0:66 00:10 5 0 active 30000 192.0.2.9:27005",
        ]),
        ["7 first STEAM_1:0:1"]
    );

    for bad in [
        "# 8 2 \"x\" STEAM_1:0:5 00:10 5 0 active 30000 192.0.2.9:27005 more",
        "# 8 2 \"x\" STEAM_9:0:5 00:10 5 0 active 30000",
        "# 8 2 \"x\" STEAM_1:0:5 00:10 -5 0 active 30000",
        "# 8 2 \"x\" STEAM_1:0:5 00:10 99999999999 0 active 30000",
        "# 8 2 \"x\" BOT",
        "# 8 2 3 \"x\" BOT active",
        "# x \"x\" BOT active",
    ] {
        assert_eq!(told(&[bad]), [] as [&str; 0], "{bad}");
    }
}

#[test]
fn a_player_is_found_by_number_name_and_account() {
    let status = Status::parse(BUSY).unwrap();
    for (who, user_id) in [
        ("#26", 26),
        ("桐喵Six", 26),
        ("桐喵SIX", 26),
        ("STEAM_0:0:12345678", 26),
        ("[U:1:24691356]", 26),
        ("a \"quoted\" name", 116),
        ("coach", 27),
    ] {
        assert_eq!(
            status.find(&who.parse().unwrap()).unwrap().user_id,
            user_id,
            "{who}"
        );
    }

    for gone in ["#1", "26", "nobody", "STEAM_1:0:1"] {
        assert_eq!(
            status.find(&gone.parse().unwrap()),
            Err(NoSuchPlayer::None),
            "{gone}"
        );
    }
}

#[test]
fn a_name_that_two_players_have_is_no_answer_unless_one_is_spelled_so() {
    let line = |id: u32, name: &str| {
        format!("# {id} \"{name}\" STEAM_1:0:{id} 00:10 5 0 active 30000 192.0.2.9:27005")
    };
    let text = |names: &[&str]| {
        let lines: Vec<String> = names
            .iter()
            .zip(1..)
            .map(|(name, id)| line(id, name))
            .collect();
        format!("# userid name\n{}", lines.join("\n"))
    };

    let find = |names: &[&str], who: &str| {
        Status::parse(&text(names))
            .unwrap()
            .find(&who.parse().unwrap())
            .map(|row| row.user_id)
    };

    assert_eq!(find(&["ann", "Ann"], "Ann"), Ok(2));
    assert_eq!(
        find(&["ann", "Ann"], "ANN"),
        Err(NoSuchPlayer::Several(vec![1, 2]))
    );
    assert_eq!(
        find(&["x", "x"], "x"),
        Err(NoSuchPlayer::Several(vec![1, 2]))
    );
    // As `left4me server players` shows it.
    assert_eq!(find(&["a\u{202e}b"], "a\\u{202e}b"), Ok(1));
}

#[test]
fn steam_ids_have_one_form() {
    for (text, shown) in [
        ("STEAM_0:1:5", "STEAM_1:1:5"),
        ("steam_1:0:0", "STEAM_1:0:0"),
        ("[u:1:11]", "STEAM_1:1:5"),
    ] {
        assert_eq!(text.parse::<SteamId>().unwrap().to_string(), shown);
    }

    for bad in [
        "STEAM_1:2:5",
        "STEAM_1:0:",
        "STEAM_1:0:5:6",
        "STEAM_1:0:+5",
        "STEAM_1:0:4294967295",
        "STEAM_ID_LAN",
        "[U:1:5",
        "[U:2:5]",
        "BOT",
        "STEAM_1:0:5;quit",
    ] {
        assert!(bad.parse::<SteamId>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_name_changes_who_is_who(
        name in "[^\\r\\n\u{85}]{0,40}",
        hard in "(\"|#|end| |STEAM_1:0:1|00:10|5|active|BOT|[0-9.:])*",
    ) {
        for name in [name, hard] {
            let text = format!(
                "# userid name\n# 7 1 \"{name}\" STEAM_1:0:42 00:10 5 0 active 30000 192.0.2.9:27005\n\
                 # 8 2 \"after\" STEAM_1:0:43 00:10 5 0 active 30000 192.0.2.9:27005\n#end"
            );
            let found = rows(&text);
            prop_assert_eq!(found.len(), 2);
            prop_assert_eq!(&found[0].name, &name);
            prop_assert_eq!(found[0].steam_id.as_ref().unwrap().to_string(), "STEAM_1:0:42");
            prop_assert_eq!(&found[1].name, "after");
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "(.|\\n|#|\"|STEAM_1:0:9| BOT active){0,80}") {
        Status::parse(&text);
    }
}
