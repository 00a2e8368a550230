//! Which builds there are, who uses them, and which may be removed.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::base::Exit;
use crate::db::builds::{record, reject};
use crate::db::with_servers;
use crate::domain::build::Builds;

/// Builds 5, 6 (current) and 7 are kept; Steam publishes 8. Server 1 runs build 6 and server 2 is
/// stopped on build 5; server 3 is from before there were builds.
fn host() -> (tempfile::TempDir, PathBuf, Connection) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    for build in ["5", "6", "7"] {
        std::fs::create_dir_all(root.join("builds").join(build)).unwrap();
    }
    let about =
        r#"{"build":6,"published_at":40,"job":9,"size":2048,"copied":3,"copied_size":1024}"#;
    std::fs::write(root.join("builds/6/.left4me"), about).unwrap();
    symlink("6", root.join("builds/current")).unwrap();

    for (server, game) in [("1", "builds/6"), ("2", "builds/5"), ("3", "installation")] {
        let dir = root.join("instances").join(server);
        std::fs::create_dir_all(&dir).unwrap();
        let layers = format!("{0}/layer:{1}/{game}", dir.display(), root.display());
        std::fs::write(
            dir.join("instance.env"),
            format!("LEFT4ME_LOWERDIRS=\"{layers}\"\n"),
        )
        .unwrap();
    }

    let db = with_servers(3);
    db.execute_batch(
        "UPDATE servers SET actual_state = 'running', build = 6, build_since = 50 WHERE id = 1;
         UPDATE servers SET actual_state = 'stopped', build = 4, build_since = 30 WHERE id = 2;",
    )
    .unwrap();
    let found = Builds {
        available: 8,
        installed: Some(6),
        ..Builds::default()
    };
    record(&db, &found, 60).unwrap();
    reject(&db, 7, "left4me-worker", "S1 did not come up", 70).unwrap();
    (dir, root, db)
}

#[test]
fn every_build_is_listed_once_with_what_is_known_of_it() {
    let (_dir, root, db) = host();
    let disk = OnDisk::read(&root).unwrap();
    assert_eq!(disk.current(), Some(6));

    let all = all(&db, &disk).unwrap();
    let shown: Vec<_> = all
        .iter()
        .map(|one| (one.build, one.current, one.kept, one.available))
        .collect();
    assert_eq!(
        shown,
        [
            (8, false, false, true),
            (7, false, true, false),
            (6, true, true, false),
            (5, false, true, false)
        ]
    );

    assert_eq!(all[1].rejected.as_ref().unwrap().why, "S1 did not come up");
    let current = &all[2];
    assert_eq!(
        (current.published_at, current.size, current.copied),
        (Some(40), Some(2048), Some(1024))
    );
    let user = |id: i64, running, since| BuildUser {
        id: Some(ServerId(id)),
        name: format!("S{}", id - 1),
        running,
        since,
    };
    assert_eq!(current.servers, [user(1, true, Some(50))]);
    assert_eq!(
        all[3].servers,
        [user(2, false, None)],
        "4 was another build"
    );

    let users = users(&db, &disk).unwrap();
    assert_eq!(users[&GameFiles::Installation], [user(3, false, None)]);
}

#[test]
fn only_a_build_that_is_neither_current_nor_used_may_be_removed() {
    let (_dir, root, db) = host();
    let disk = OnDisk::read(&root).unwrap();
    let refused = |build| {
        let error = check_removal(&db, &disk, build).unwrap_err();
        (error.exit, error.to_string())
    };

    assert_eq!(refused(8).0, Exit::NotFound, "it is not here");
    let (exit, why) = refused(6);
    assert!(
        exit == Exit::Conflict && why.contains("the current one"),
        "{why}"
    );
    let (exit, why) = refused(5);
    assert_eq!(exit, Exit::Conflict);
    assert_eq!(
        why,
        "build 5 is in use by S1: first run `left4me-job enqueue initialize --server 2`"
    );
    check_removal(&db, &disk, 7).unwrap();

    // A job may go back to the build that the server came up on last.
    db.execute_batch(
        "UPDATE servers SET build = 7 WHERE id = 3;
         INSERT INTO jobs (operation, requested_by, created_at, updated_at, state, started_at,
             worker_id) VALUES ('restart', 'x', 1, 1, 'running', 1, 'w');
         INSERT INTO job_targets VALUES (1, 3);",
    )
    .unwrap();
    let (exit, why) = refused(7);
    assert!(exit == Exit::Conflict && why.contains("job 1"), "{why}");

    db.execute_batch("UPDATE jobs SET operation = 'update' WHERE id = 1")
        .unwrap();
    let (exit, why) = refused(7);
    assert!(
        exit == Exit::Conflict && why.contains("works on the builds"),
        "{why}"
    );
}

#[test]
fn a_host_without_builds_and_servers_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let disk = OnDisk::read(dir.path()).unwrap();
    assert_eq!(all(&with_servers(0), &disk).unwrap(), []);
}
