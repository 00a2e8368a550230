//! A publisher that is killed at any step leaves the current build as it was, or has made the new
//! one the current build; the next request does the rest and leaves nothing behind.

use std::path::Path;

use crate::publisher::{
    PUBLISH, SEED, UNPUBLISH, ask_with, current, done, names, remove, use_build,
};
use crate::support::Root;
use crate::support::game_tree::{install, listing, write};

/// Sends a request that dies at this point.
fn killed(root: &Root, request: &str, point: &str) {
    let mut envs = root.envs();
    envs.push(("LEFT4ME_FAILPOINT".to_owned(), point.to_owned()));
    let mut talk = crate::support::Conversation::start(&[crate::support::PUBLISHER], &envs);
    talk.send_line(request);
    let received = talk.rest();
    assert!(received.last.is_none(), "{point}: {received:?}");
    assert_eq!(talk.end().0, 137, "{point} is never reached");
}

/// A host with build 6, and build 7 installed.
fn updated() -> Root {
    let root = Root::new();
    install(&root.join("installation"), 6);
    done(&root, PUBLISH);
    install(&root.join("installation"), 7);
    write(&root.join("installation/left4dead2/new"), "new");
    root
}

/// What servers take is whole, whichever build it is.
fn is_whole(root: &Root) {
    let build: u64 = current(root).unwrap().parse().unwrap();
    let directory = root.join("builds").join(build.to_string());
    let found = left4me::process::game_files::verify_finished(&directory);
    assert_eq!(found, Ok(build));
}

#[test]
fn a_publisher_killed_at_any_step_leaves_no_half_build_that_is_used() {
    for (point, build) in [
        ("publisher-cleared", "6"),
        ("publisher-made", "6"),
        ("publisher-file", "6"),
        ("publisher-copied", "6"),
        ("publisher-renamed", "6"),
        ("publisher-link", "6"),
    ] {
        let root = updated();
        killed(&root, PUBLISH, point);
        assert_eq!(current(&root).as_deref(), Some(build), "{point}");
        is_whole(&root);
        let six = listing(&root.join("builds/6"));

        done(&root, PUBLISH);
        assert_eq!(names(&root), ["6", "7", "current"], "{point}");
        assert_eq!(current(&root).as_deref(), Some("7"), "{point}");
        assert_eq!(
            listing(&root.join("builds/7")),
            listing(&root.join("installation"))
        );
        assert_eq!(listing(&root.join("builds/6")), six);
    }
}

#[test]
fn a_repair_killed_in_the_middle_leaves_the_build_as_it_was() {
    for point in ["publisher-aside", "publisher-copied"] {
        let root = updated();
        done(&root, PUBLISH);
        write(&root.join("builds/7/left4dead2/new"), "bad");
        killed(&root, r#"{"verb":"publish","fresh":true}"#, point);
        is_whole(&root);

        done(&root, r#"{"verb":"publish","fresh":true}"#);
        let repaired = std::fs::read_to_string(root.join("builds/7/left4dead2/new"));
        assert_eq!(repaired.unwrap(), "new", "{point}");
        // The other name of a replaced build goes at boot.
        let rest: Vec<_> = names(&root);
        assert!(
            rest.iter().all(|name| !name.starts_with(".new")),
            "{rest:?}"
        );
    }
}

#[test]
fn a_switch_or_a_removal_that_is_killed_is_finished_by_the_next() {
    let root = updated();
    done(&root, PUBLISH);
    killed(&root, &use_build(6), "publisher-link");
    assert_eq!(current(&root).as_deref(), Some("7"));
    done(&root, &use_build(6));
    assert_eq!(current(&root).as_deref(), Some("6"));

    killed(&root, &remove(7), "publisher-old");
    assert_eq!(
        names(&root),
        [".new-current", ".old-7", "6", "current"][1..]
    );
    done(&root, &remove(7));
    assert_eq!(names(&root), ["6", "current"]);
}

fn emptied(root: &Root) {
    std::fs::remove_dir_all(root.join("installation")).unwrap();
    std::fs::create_dir(root.join("installation")).unwrap();
}

#[test]
fn a_seed_that_is_killed_is_no_installation_until_it_is_whole() {
    for point in ["publisher-file", "publisher-seeded"] {
        let root = updated();
        emptied(&root);
        killed(&root, SEED, point);
        let game = root.join("installation");
        assert!(!left4me::process::game_files::is_begun(&game), "{point}");
        done(&root, SEED);
        assert_eq!(listing(&game), listing(&root.join("builds/6")), "{point}");
    }
}

#[test]
fn files_on_their_way_back_are_in_one_of_the_two_and_arrive() {
    for point in ["publisher-unpublish", "publisher-moved", "publisher-unset"] {
        let root = updated();
        let six = listing(&root.join("builds/6"));
        emptied(&root);
        killed(&root, UNPUBLISH, point);

        // A seed continues with that, too: the same files would be there twice otherwise.
        let next = if point == "publisher-unpublish" {
            SEED
        } else {
            UNPUBLISH
        };
        done(&root, next);
        assert_eq!(listing(&root.join("installation")), six, "{point}");
        assert_eq!(current(&root), None, "{point}");
        let is_clean = |path: &Path| !path.join("6/left4dead2").exists();
        assert!(
            is_clean(&root.join("builds")),
            "{point}: {:?}",
            names(&root)
        );
        let (received, _) = ask_with(&root, PUBLISH, &[]);
        assert_eq!(received.exit(), 0, "{received:?}");
        assert_eq!(names(&root), ["6", "current"], "{point}");
    }
}
