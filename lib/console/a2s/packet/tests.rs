//! Tests of `console::a2s::packet`: published packets, and bytes of any kind.

use super::*;
use proptest::prelude::*;

/// An example of Valve's page on server queries.
const PUBLISHED_INFO: &[u8] =
    b"\xff\xff\xff\xffI\x02game2xs.com Counter-Strike Source #1\0de_dust\0\
    cstrike\0Counter-Strike: Source\0\xf0\0\x05\x10\x04dl\0\x001.0.0.22\0";

/// A captured packet that the project l7-filter published.
const CAPTURED_INFO: &[u8] = b"\xff\xff\xff\xffI\x07TJ's Place of Pain\0de_piranesi\0cstrike\0\
    Counter-Strike: Source\0\xdc\0\x08\x10\x06dw\0\x001.0.0.18\0";

/// An example of Valve's page on server queries.
const PUBLISHED_PLAYERS: &[u8] = b"\xff\xff\xff\xffD\x02\x01[D]---->T.N.W<----\0\x0e\0\0\0\
    \xb4\x97\0D\x02Killer !!!\0\x05\0\0\0i$\xd9C";

fn info(bytes: &[u8]) -> Info {
    match Answer::parse(bytes).unwrap() {
        Answer::Info(info) => info,
        other => panic!("{other:?}"),
    }
}

fn players(bytes: &[u8]) -> Vec<Player> {
    match Answer::parse(bytes).unwrap() {
        Answer::Players(players) => players,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_published_packets_are_parsed() {
    let published = info(PUBLISHED_INFO);
    assert_eq!(published.name, "game2xs.com Counter-Strike Source #1");
    assert_eq!(
        (&*published.map, &*published.game, &*published.version),
        ("de_dust", "Counter-Strike: Source", "1.0.0.22")
    );
    assert_eq!(
        (published.players, published.max_players, published.bots),
        (5, 16, 4)
    );
    assert!(!published.password && !published.vac);

    let captured = info(CAPTURED_INFO);
    assert_eq!(
        (
            &*captured.name,
            &*captured.map,
            captured.players,
            captured.bots
        ),
        ("TJ's Place of Pain", "de_piranesi", 8, 6)
    );

    let found: Vec<_> = players(PUBLISHED_PLAYERS)
        .into_iter()
        .map(|player| (player.name, player.score, player.seconds.round()))
        .collect();
    assert_eq!(
        found,
        [
            ("[D]---->T.N.W<----".to_owned(), 14, 514.0),
            ("Killer !!!".to_owned(), 5, 434.0)
        ]
    );

    let challenge = Answer::parse(b"\xff\xff\xff\xffA\x4b\xa1\xd5\x22");
    assert_eq!(challenge, Ok(Answer::Challenge([0x4b, 0xa1, 0xd5, 0x22])));

    let rules = Answer::parse(b"\xff\xff\xff\xffE\x02\0coop\x001\0sv_tags\0\0");
    let expected = [("coop", "1"), ("sv_tags", "")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(rules, Ok(Answer::Rules(expected.to_vec())));
}

#[test]
fn the_published_questions_are_built() {
    let challenge = Some([1, 2, 3, 4]);
    for (packet, expected) in [
        (
            Question::Info.packet(None),
            &b"\xff\xff\xff\xffTSource Engine Query\0"[..],
        ),
        (
            Question::Info.packet(challenge),
            b"\xff\xff\xff\xffTSource Engine Query\0\x01\x02\x03\x04",
        ),
        (
            Question::Players.packet(None),
            b"\xff\xff\xff\xffU\xff\xff\xff\xff",
        ),
        (
            Question::Players.packet(challenge),
            b"\xff\xff\xff\xffU\x01\x02\x03\x04",
        ),
        (
            Question::Rules.packet(None),
            b"\xff\xff\xff\xffV\xff\xff\xff\xff",
        ),
    ] {
        assert_eq!(packet, expected);
    }
}

#[test]
fn names_are_cut_and_made_visible() {
    let long = "漢".repeat(200);
    let rows: Vec<u8> = [
        b"\xff\xff\xff\xffD\x05".to_vec(),
        b"\0a\xffb\xc3\0\0\0\0\0\0\0\0\0".to_vec(),
        "\0a\u{202e}b\x1b[0m\t\n\0\0\0\0\0\0\0\0\0".into(),
        format!("\0{long}\0\0\0\0\0\0\0\0\0").into(),
    ]
    .concat();

    let names: Vec<String> = players(&rows).into_iter().map(|row| row.name).collect();
    assert_eq!(
        names,
        [
            "a\u{fffd}b\u{fffd}",
            "a\\u{202e}b\u{fffd}[0m \u{fffd}",
            &"漢".repeat(128)
        ]
    );
}

#[test]
fn a_packet_that_ends_within_a_field_is_refused() {
    for whole in [PUBLISHED_INFO, CAPTURED_INFO] {
        for end in 0..whole.len() {
            assert_eq!(Answer::parse(&whole[..end]), Err(BadPacket::Short), "{end}");
        }
    }

    // A game may send fewer rows than it says, but no half ones.
    let first = 6 + 28;
    for end in (6..PUBLISHED_PLAYERS.len()).filter(|end| *end != 6 && *end != first) {
        let cut = Answer::parse(&PUBLISHED_PLAYERS[..end]);
        assert_eq!(cut, Err(BadPacket::Short), "{end}");
    }
    assert_eq!(players(&PUBLISHED_PLAYERS[..first]).len(), 1);
}

#[test]
fn other_packets_are_refused_by_name() {
    for (bytes, bad) in [
        (&b"\xff\xff\xff\xffm127.0.0.1\0"[..], BadPacket::Kind(b'm')),
        (b"\xff\xff\xff\xff", BadPacket::Short),
        (b"hello", BadPacket::Header),
    ] {
        assert_eq!(Answer::parse(bytes), Err(bad));
    }

    for (bytes, bad) in [
        (&b""[..], BadPacket::Short),
        (b"\xfd\xff\xff\xffx", BadPacket::Header),
        (b"\xfe\xff\xff\xff\x01\0\0", BadPacket::Short),
        // A bzip2 bomb is not even looked at.
        (
            b"\xfe\xff\xff\xff\x01\0\0\x80\x02\0\xe0\x04\xff\xff\xff\xff\0\0\0\0BZh9",
            BadPacket::Compressed,
        ),
    ] {
        assert_eq!(Datagram::parse(bytes), Err(bad));
    }

    let piece = Datagram::parse(b"\xfe\xff\xff\xff\x07\0\0\0\x02\x01\xe0\x04rest");
    let expected = Piece {
        id: 7,
        total: 2,
        number: 1,
        bytes: b"rest",
    };
    assert_eq!(piece, Ok(Datagram::Piece(expected)));
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_a_panic_and_within_bounds(
        kind in prop::sample::select(b"AIDEm".to_vec()),
        rest in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        drop(Datagram::parse(&rest));
        let bytes = [&[0xff; 4][..], &[kind], &rest].concat();
        match Answer::parse(&bytes) {
            Ok(Answer::Players(players)) => prop_assert!(players.len() <= rest.len()),
            Ok(Answer::Rules(rules)) => prop_assert!(rules.len() <= rest.len()),
            Ok(Answer::Info(info)) => prop_assert!(info.name.chars().count() <= TEXT_LIMIT),
            Ok(Answer::Challenge(_)) | Err(_) => {}
        }
    }

    #[test]
    fn players_survive_a_round_trip(
        rows in prop::collection::vec(("[a-z漢é\"<> ]{0,40}", any::<i32>(), 0.0..1e6_f32), 0..40)
    ) {
        let mut bytes = b"\xff\xff\xff\xffD".to_vec();
        bytes.push(rows.len().try_into().unwrap());
        for (name, score, seconds) in &rows {
            bytes.push(0);
            bytes.extend(name.as_bytes());
            bytes.push(0);
            bytes.extend(score.to_le_bytes());
            bytes.extend(seconds.to_le_bytes());
        }

        let parsed: Vec<_> = players(&bytes)
            .into_iter()
            .map(|row| (row.name, row.score, row.seconds))
            .collect();
        prop_assert_eq!(parsed, rows);
    }
}
