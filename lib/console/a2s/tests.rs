//! Tests of `console::a2s`: games that answer, and games that do not play by the rules.

use super::*;
use proptest::prelude::*;

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
const LAN: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 5);
const INFO: &[u8] = b"\xff\xff\xff\xffI\x11Friday\0c1m1_hotel\0left4dead2\0Left 4 Dead 2\0\x26\x02\
    \x04\x08\x01dl\0\x01\x32.2.4.3\0";
const PLAYERS: &[u8] = b"\xff\xff\xff\xffD\x01\0Zoey\0\x05\0\0\0\0\0\x80\x3f";

fn at(address: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address, port)
}

fn challenge(bytes: Challenge) -> Vec<u8> {
    [&b"\xff\xff\xff\xffA"[..], &bytes].concat()
}

fn sent(a2s: &mut A2s) -> Vec<(Ipv4Addr, u16, Vec<u8>)> {
    let packets = a2s.take_packets().into_iter();
    packets
        .map(|(to, packet)| (*to.ip(), to.port(), packet))
        .collect()
}

/// The outcome of what has ended, which is one question.
fn outcome(a2s: &mut A2s) -> (Key, Outcome) {
    let mut ended = a2s.take_ended();
    assert_eq!(ended.len(), 1, "{ended:?}");
    ended.remove(0)
}

fn is_silent(a2s: &mut A2s) -> bool {
    outcome(a2s).1 == Err(Unanswered::Silent)
}

#[test]
fn a_game_is_asked_with_its_challenge_and_its_answer_is_kept_for_a_second() {
    let (mut a2s, start) = (A2s::default(), Instant::now());
    assert_eq!(a2s.ask(start, (1, Question::Info)), None);
    assert_eq!(a2s.ask(start, (1, Question::Players)), None);
    assert_eq!(a2s.ask(start, (1, Question::Players)), None, "only once");
    assert_eq!(
        sent(&mut a2s),
        [(LOOPBACK, 1, Question::Info.packet(None))],
        "the second question waits for the challenge"
    );

    a2s.receive(start, at(LOOPBACK, 1), &challenge([1; 4]));
    assert_eq!(
        sent(&mut a2s),
        [
            (LOOPBACK, 1, Question::Info.packet(Some([1; 4]))),
            (LOOPBACK, 1, Question::Players.packet(Some([1; 4]))),
        ]
    );

    let later = start + Duration::from_millis(12);
    a2s.receive(later, at(LOOPBACK, 1), INFO);
    let (key, info) = outcome(&mut a2s);
    assert_eq!(key, (1, Question::Info));
    assert_eq!(info.as_ref().unwrap().took, Duration::from_millis(12));
    a2s.receive(later, at(LOOPBACK, 1), PLAYERS);
    assert!(matches!(outcome(&mut a2s).1.unwrap().answer, Answer::Players(all) if all.len() == 1));
    assert_eq!(a2s.due(), None);

    assert_eq!(a2s.ask(later + FRESH / 2, (1, Question::Info)), Some(info));
    // Afterwards the game is asked again, and the challenge is still good.
    let again = later + FRESH;
    assert_eq!(a2s.ask(again, (1, Question::Info)), None);
    assert_eq!(
        sent(&mut a2s),
        [(LOOPBACK, 1, Question::Info.packet(Some([1; 4])))]
    );
}

#[test]
fn silence_is_told_after_three_questions_and_concerns_no_other_game() {
    let (mut a2s, start) = (A2s::default(), Instant::now());
    for port in 1..=300 {
        a2s.ask(start, (port, Question::Info));
    }
    for port in 2..=300 {
        a2s.receive(start, at(LOOPBACK, port), INFO);
    }
    assert_eq!(a2s.take_ended().len(), 299);
    assert_eq!(sent(&mut a2s).len(), 300);

    for step in 1..3 {
        let now = start + PATIENCE * step;
        assert_eq!(a2s.due(), Some(now));
        a2s.tick(now);
        assert_eq!(sent(&mut a2s).len(), 1);
        assert!(a2s.take_ended().is_empty());
    }
    a2s.tick(start + PATIENCE * 3);
    assert!(is_silent(&mut a2s));
    assert_eq!(a2s.due(), None);
}

#[test]
fn a_game_that_does_not_answer_on_loopback_is_asked_at_this_hosts_other_addresses() {
    let (mut a2s, start) = (A2s::default(), Instant::now());
    a2s.set_own_addresses(vec![LAN]);
    a2s.ask(start, (1, Question::Info));
    a2s.take_packets();
    a2s.tick(start + PATIENCE);
    let asked = [LOOPBACK, LAN].map(|address| (address, 1, Question::Info.packet(None)));
    assert_eq!(sent(&mut a2s), asked);

    let now = start + PATIENCE;
    a2s.receive(now, at(LAN, 1), &challenge([2; 4]));
    assert_eq!(
        sent(&mut a2s),
        [(LAN, 1, Question::Info.packet(Some([2; 4])))]
    );
    a2s.receive(now, at(LAN, 1), INFO);
    assert!(outcome(&mut a2s).1.is_ok());

    // The next time it is asked there first.
    a2s.ask(now + FRESH, (1, Question::Info));
    assert_eq!(sent(&mut a2s)[0].0, LAN);
}

#[test]
fn an_answer_from_another_address_of_this_host_counts_and_from_elsewhere_it_does_not() {
    let (mut a2s, now) = (A2s::default(), Instant::now());
    a2s.set_own_addresses(vec![LAN]);
    a2s.ask(now, (1, Question::Info));

    let foreign = at(Ipv4Addr::new(192, 168, 1, 6), 1);
    for from in [foreign, at(LOOPBACK, 2), at(LAN, 3)] {
        assert_eq!(
            a2s.receive(now, from, INFO),
            Some((from.port(), BadPacket::Unasked))
        );
    }
    assert!(a2s.take_ended().is_empty());

    assert_eq!(a2s.receive(now, at(LAN, 1), INFO), None);
    assert!(outcome(&mut a2s).1.is_ok());
    assert_eq!(a2s.receive(now, at(LAN, 1), INFO), None, "sent twice");
}

#[test]
fn a_game_that_was_restarted_is_asked_without_the_old_challenge() {
    let (mut a2s, start) = (A2s::default(), Instant::now());
    a2s.ask(start, (1, Question::Info));
    a2s.receive(start, at(LOOPBACK, 1), &challenge([1; 4]));
    a2s.receive(start, at(LOOPBACK, 1), INFO);
    a2s.take_packets();

    let now = start + FRESH;
    a2s.ask(now, (1, Question::Info));
    a2s.tick(now + PATIENCE);
    let packets = sent(&mut a2s).into_iter().map(|(_, _, packet)| packet);
    assert_eq!(
        packets.collect::<Vec<_>>(),
        [
            Question::Info.packet(Some([1; 4])),
            Question::Info.packet(None)
        ]
    );
}

#[test]
fn an_answer_without_a_challenge_and_one_in_pieces_are_taken() {
    let (mut a2s, now) = (A2s::default(), Instant::now());
    a2s.ask(now, (1, Question::Info));
    a2s.receive(now, at(LOOPBACK, 1), INFO);
    assert!(outcome(&mut a2s).1.is_ok());

    a2s.ask(now, (1, Question::Players));
    let piece = |number: u8, bytes: &[u8]| {
        let head = [254, 255, 255, 255, 7, 0, 0, 0, 2, number, 224, 4];
        [&head[..], bytes].concat()
    };
    a2s.receive(now, at(LOOPBACK, 1), &piece(1, &PLAYERS[9..]));
    // Of an answer that is never completed.
    let mut other = piece(0, b"x");
    other[4] = 8;
    a2s.receive(now, at(LOOPBACK, 1), &other);
    a2s.receive(now, at(LOOPBACK, 1), &piece(0, &PLAYERS[..9]));
    assert!(a2s.take_ended().is_empty(), "its other piece was dropped");
    a2s.receive(now, at(LOOPBACK, 1), &piece(1, &PLAYERS[9..]));
    assert!(outcome(&mut a2s).1.is_ok());
}

#[test]
fn a_bad_answer_is_told_by_name_and_a_good_one_may_follow() {
    let (mut a2s, start) = (A2s::default(), Instant::now());
    a2s.ask(start, (1, Question::Info));
    let bad = a2s.receive(start, at(LOOPBACK, 1), &INFO[..20]);
    assert_eq!(bad, Some((1, BadPacket::Short)));
    a2s.receive(start, at(LOOPBACK, 1), INFO);
    assert!(outcome(&mut a2s).1.is_ok());

    a2s.ask(start + FRESH, (1, Question::Info));
    a2s.receive(start, at(LOOPBACK, 1), b"\xff\xff\xff\xffmx");
    for step in 1..=3 {
        a2s.tick(start + FRESH + PATIENCE * step);
    }
    let bad = Unanswered::Bad(BadPacket::Kind(b'm'));
    assert_eq!(outcome(&mut a2s).1, Err(bad));
}

#[test]
fn endless_challenges_and_endless_packets_end_the_question_at_once() {
    for (packet, why) in [
        (challenge([7; 4]), BadPacket::Challenges),
        (PLAYERS.to_vec(), BadPacket::Endless),
    ] {
        let (mut a2s, now) = (A2s::default(), Instant::now());
        a2s.ask(now, (1, Question::Info));
        let mut packets = 0;
        while a2s.under_way() > 0 {
            a2s.receive(now, at(LOOPBACK, 1), &packet);
            packets += 1;
            assert!(packets <= MOST_PACKETS);
        }
        assert_eq!(outcome(&mut a2s).1, Err(Unanswered::Bad(why)));
        assert!(a2s.take_packets().len() <= 1 + MOST_CHALLENGES as usize);
    }
}

#[test]
fn only_so_many_games_are_remembered() {
    let (mut a2s, now) = (A2s::default(), Instant::now());
    for port in 1..=u16::MAX {
        a2s.ask(now, (port, Question::Info));
        a2s.receive(now, at(LOOPBACK, port), INFO);
        a2s.take_packets();
        a2s.take_ended();
    }
    assert!(a2s.games.len() <= MOST_GAMES);
    a2s.tick(now + FRESH);
    assert!(a2s.kept.is_empty());
}

proptest! {
    #[test]
    fn whatever_a_game_sends_each_question_ends_once_and_in_time(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..60),
        heads in prop::collection::vec(0..4_usize, 60),
    ) {
        let (mut a2s, start) = (A2s::default(), Instant::now());
        a2s.ask(start, (1, Question::Info));
        a2s.ask(start, (1, Question::Players));
        let mut ended = Vec::new();
        for (datagram, head) in datagrams.iter().zip(heads) {
            let head: &[u8] = [
                &b""[..],
                b"\xff\xff\xff\xffA",
                b"\xff\xff\xff\xffI",
                b"\xfe\xff\xff\xff\x01\0\0\0\x02",
            ][head];
            a2s.receive(start, at(LOOPBACK, 1), &[head, datagram].concat());
            ended.extend(a2s.take_ended());
        }
        for step in 1..=3 {
            a2s.tick(start + PATIENCE * step);
        }
        ended.extend(a2s.take_ended());

        let questions: Vec<Question> = ended.iter().map(|((_, question), _)| *question).collect();
        prop_assert_eq!(questions.len(), 2);
        prop_assert_ne!(questions[0], questions[1]);
        prop_assert_eq!(a2s.due(), None);
    }
}
