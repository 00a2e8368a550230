//! Tests of `db::servers`.

use super::*;
use crate::db::with_servers;

#[test]
fn an_update_takes_what_shall_run_and_what_does() {
    let db = with_servers(5);
    assert!(set_desired(&db, ServerId(2), DesiredState::Running, 5).unwrap());
    assert!(
        !set_desired(&db, ServerId(2), DesiredState::Running, 6).unwrap(),
        "it was that already"
    );

    for (id, actual) in [
        (3, ActualState::Stopping),
        (4, ActualState::Failed),
        (5, ActualState::Starting),
    ] {
        db.execute(
            "UPDATE servers SET actual_state = ?2 WHERE id = ?1",
            params![id, actual.as_str()],
        )
        .unwrap();
    }

    assert_eq!(
        all_that_should_run(&db).unwrap(),
        [ServerId(2), ServerId(3), ServerId(5)]
    );

    assert_eq!(all_ids(&db).unwrap().len(), 5);
}

#[test]
fn the_lowest_free_port_is_a_gap_before_it_is_the_end() {
    let db = with_servers(3);
    let range = |first, last| PortRange { first, last };

    assert_eq!(
        ports::lowest_free_port(&db, range(26999, 27005)).unwrap(),
        26999
    );

    assert_eq!(
        ports::lowest_free_port(&db, range(27000, 27005)).unwrap(),
        27003
    );

    assert_eq!(
        ports::lowest_free_port(&db, range(27000, 27002))
            .unwrap_err()
            .exit
            .code(),
        4
    );

    db.execute("DELETE FROM servers WHERE port = 27001", [])
        .unwrap();
    assert_eq!(
        ports::lowest_free_port(&db, range(27000, 27002)).unwrap(),
        27001
    );

    assert_eq!(
        ports::lowest_free_port(&db, range(65535, 65535)).unwrap(),
        65535
    );
}
