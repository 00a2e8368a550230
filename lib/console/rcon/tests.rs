//! Tests of `console::rcon`.

use super::*;
use packet::build;
use proptest::prelude::*;

fn logged_in() -> Conversation {
    let mut conversation = Conversation::begin("secret");
    assert_eq!(
        conversation.take_output(),
        build(LOGIN_ID, LOGIN, b"secret")
    );
    let answers = [
        build(LOGIN_ID, RESPONSE, b""),
        build(LOGIN_ID, LOGIN_RESULT, b""),
    ];
    assert_eq!(
        conversation.receive(&answers.concat()),
        Ok(Some(Said::LoggedIn))
    );
    assert!(conversation.is_ready());
    conversation
}

fn reply(text: &[u8], cut: bool) -> Said {
    Said::Reply {
        bytes: text.to_vec(),
        cut,
    }
}

/// What the game sends after a reply: the empty packet, and another one.
fn end(id: i32) -> Vec<u8> {
    let second = build(id + 1, RESPONSE, b"\0\0\0\x01\0\0\0\0");
    [build(id + 1, RESPONSE, b""), second].concat()
}

#[test]
fn a_reply_has_all_packets_until_the_empty_one_comes_back() {
    let mut conversation = logged_in();
    for (id, first, second) in [(2, "a", "b"), (4, "c", ""), (6, "", "")] {
        conversation.command("status");
        let expected = [build(id, COMMAND, b"status"), build(id + 1, RESPONSE, b"")];
        assert_eq!(conversation.take_output(), expected.concat());

        let packets = [
            build(id, RESPONSE, first.as_bytes()),
            build(id, RESPONSE, second.as_bytes()),
            end(id),
        ];
        let said = conversation.receive(&packets.concat());
        let whole = format!("{first}{second}");
        assert_eq!(said, Ok(Some(reply(whole.as_bytes(), false))));
        assert_eq!(conversation.receive(&[]), Ok(None));
        assert!(conversation.is_ready());
    }
}

#[test]
fn late_packets_of_the_last_reply_and_other_ids_are_no_part_of_the_next() {
    let mut conversation = logged_in();
    conversation.command("one");
    conversation.receive(&build(3, RESPONSE, b"")).unwrap();

    conversation.command("two");
    let packets = [
        build(3, RESPONSE, b"\0\0\0\x01\0\0\0\0"),
        build(2, RESPONSE, b"late"),
        build(-1, RESPONSE, b"nobody"),
        build(4, LOGIN_RESULT, b"strange"),
        build(4, RESPONSE, b"own"),
        end(4),
    ];
    let said = conversation.receive(&packets.concat());
    assert_eq!(said, Ok(Some(reply(b"own", false))));
}

#[test]
fn a_wrong_password_and_nonsense_instead_of_a_login_are_told_apart() {
    let answer = |bytes: &[u8]| Conversation::begin("secret").receive(bytes);
    let refused = [build(1, RESPONSE, b""), build(-1, LOGIN_RESULT, b"")].concat();
    assert_eq!(answer(&refused), Ok(Some(Said::WrongPassword)));
    assert_eq!(
        answer(&build(7, LOGIN_RESULT, b"")),
        Err(BadConversation::Login)
    );
    assert_eq!(answer(&build(1, 77, b"")), Err(BadConversation::Login));

    let sizes = [i32::MAX, -1, 3, 0];
    for size in sizes {
        let bad = BadConversation::Size(BadSize(size));
        assert_eq!(answer(&size.to_le_bytes()), Err(bad));
    }
    let empty = build(1, RESPONSE, b"").repeat(MOST_STRAY as usize + 1);
    assert_eq!(answer(&empty), Err(BadConversation::Stray));
}

#[test]
fn a_long_reply_is_cut_and_an_endless_one_ends_the_conversation() {
    let mut conversation = logged_in();
    conversation.command("cvarlist");
    let packet = build(2, RESPONSE, &[b'x'; 4096]);
    for _ in 0..OUTPUT_LIMIT / 4096 + 1 {
        assert_eq!(conversation.receive(&packet), Ok(None));
    }
    let said = conversation.receive(&end(2));
    assert_eq!(said, Ok(Some(reply(&[b'x'; OUTPUT_LIMIT], true))));

    for packet in [build(4, RESPONSE, &[b'x'; 4096]), build(4, RESPONSE, b"")] {
        let mut conversation = logged_in();
        conversation.command("one");
        conversation.receive(&end(2)).unwrap();
        conversation.command("two");
        let mut packets = 0;
        while conversation.receive(&packet).is_ok() {
            packets += 1;
            assert!(packets < MOST_BYTES);
        }
    }

    let mut conversation = logged_in();
    let stray = build(9, RESPONSE, b"x").repeat(MOST_STRAY as usize + 1);
    assert_eq!(conversation.receive(&stray), Err(BadConversation::Stray));
}

#[test]
fn a_reply_of_a_game_that_never_sends_the_empty_packet_can_be_ended() {
    let mut conversation = logged_in();
    assert_eq!(conversation.end_reply(), None);
    conversation.command("status");
    assert!(!conversation.has_begun());
    conversation.receive(&build(2, RESPONSE, b"text")).unwrap();
    assert!(conversation.has_begun());
    assert_eq!(conversation.end_reply(), Some(reply(b"text", false)));
}

proptest! {
    #[test]
    fn any_bytes_in_any_split_are_taken_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        step in 1..50_usize,
        begins_well in any::<bool>(),
    ) {
        let mut conversation = logged_in();
        conversation.command("status");
        let head = build(2, RESPONSE, b"text");
        let head = if begins_well { &head[..] } else { b"" };
        for piece in [head, &bytes].concat().chunks(step) {
            if conversation.receive(piece).is_err() {
                break;
            }
        }
    }
}
