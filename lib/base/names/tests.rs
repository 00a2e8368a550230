//! Tests of `base::names`.

use super::*;
use proptest::prelude::*;

const BAD: [&str; 12] = [
    "",
    "..",
    "../x",
    "a/../b",
    "a\0b",
    "a\nb",
    "-rf",
    "a:b",
    "a,b",
    "\u{1b}[31m",
    " ",
    "a\u{202e}b",
];

#[test]
fn names_refuse_paths_control_bytes_and_leading_dashes() {
    let long = "a".repeat(10_240);
    for bad in BAD.into_iter().chain([long.as_str()]) {
        assert!(bad.parse::<InstanceName>().is_err(), "{bad:?}");
        assert!(bad.parse::<OverlayName>().is_err(), "{bad:?}");
        assert!(bad.parse::<OverlayRef>().is_err(), "{bad:?}");
        assert!(bad.parse::<ServerId>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_refusal_is_one_short_line() {
    let error = "x\n"
        .repeat(5_000)
        .parse::<InstanceName>()
        .unwrap_err()
        .to_string();
    assert!(!error.contains('\n') && error.len() < 250, "{error}");
}

#[test]
fn a_display_name_is_free_text_but_never_only_digits() {
    assert!(
        "Friday night: expert, no bots"
            .parse::<ServerName>()
            .is_ok()
    );

    assert!("Größe №1".parse::<ServerName>().is_ok());
    assert!("42".parse::<ServerName>().is_err());
    assert!("42".parse::<UserName>().is_ok() && "..".parse::<UserName>().is_err());
}

#[test]
fn a_refusal_shows_the_text_with_escapes() {
    let said = |text: &str| text.parse::<OverlayName>().unwrap_err().to_string();
    assert!(
        said("Сервер").starts_with("'Сервер' is not a valid overlay name"),
        "{}",
        said("Сервер")
    );

    assert!(
        said("a\u{202e}b\n\u{1b}").starts_with("'a\\u{202e}b\\n\\u{1b}' is"),
        "{}",
        said("a\u{202e}b\n\u{1b}")
    );
}

const CURSOR: &str = "s=739ad463348b4ceca5a9e69c95a3c93f;i=4ece7;b=6c7c6013a26343b29e964691ff25d04c;\
                      m=4fc72436e;t=4c508a72423d9;x=d3e5610681098c10";

#[test]
fn a_cursor_has_exactly_the_six_fields_of_journald() {
    assert_eq!(CURSOR.parse::<Cursor>().unwrap().as_str(), CURSOR);
    for bad in [
        CURSOR.replace("m=", "n="),
        CURSOR.replace("4c508a72423d9", ""),
        CURSOR.replace("4c508a72423d9", "4C508A72423D9"),
        CURSOR.replace("4c508a72423d9", "14c508a72423d94c5"),
        CURSOR.replace("s=7", "s="),
        CURSOR.replace(";m", " m"),
        format!("{CURSOR};"),
        format!(" {CURSOR}"),
        format!("{CURSOR}\n"),
        CURSOR[..CURSOR.len() - 19].to_owned(),
    ] {
        assert!(bad.parse::<Cursor>().is_err(), "{bad}");
    }
}

#[test]
fn an_overlay_path_stays_below_its_root() {
    assert!("maps/custom-1".parse::<OverlayRef>().is_ok());
    for bad in ["/etc", "maps//x", "maps/", "./x", "maps/.hidden"] {
        assert!(bad.parse::<OverlayRef>().is_err(), "{bad}");
    }
}

#[test]
fn digits_are_an_id_and_everything_else_is_a_name() {
    assert_eq!("7".parse(), Ok(ServerRef::Id(ServerId(7))));
    assert!(matches!("7b".parse(), Ok(ServerRef::Name(_))));
    assert!(matches!("Friday".parse(), Ok(BlueprintRef::Name(_))));
    for bad in ["", "0", "99999999999999999999", "-1", "../1"] {
        assert!(bad.parse::<ServerRef>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn every_accepted_instance_is_a_safe_path_component(text in ".{0,80}") {
        if let Ok(name) = text.parse::<InstanceName>() {
            prop_assert!(!name.as_str().contains(['/', '.', '\0', ':', ',', ' ']));
            prop_assert!(!name.as_str().starts_with('-'));
        }
    }

    #[test]
    fn journald_cursors_are_accepted_and_broken_ones_refused(
        ids: [u128; 2], numbers: [u64; 4], at in 0_usize..160, other in "[^0-9a-f]",
    ) {
        let ([s, b], [i, m, t, x]) = (ids, numbers);
        let text = format!("s={s:032x};i={i:x};b={b:032x};m={m:x};t={t:x};x={x:x}");
        prop_assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text.clone());

        let at = at % text.len();
        if text.as_bytes()[at] != other.as_bytes()[0] {
            let broken = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            prop_assert!(broken.parse::<Cursor>().is_err(), "{}", broken);
        }
    }

    #[test]
    fn every_accepted_cursor_is_one_plain_word(text in "[sibmtx=;0-9a-f \n-]{0,180}") {
        if let Ok(cursor) = text.parse::<Cursor>() {
            prop_assert!(cursor.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'=' || b == b';'));
        }
    }

    #[test]
    fn an_id_is_digits_and_positive(text in "[-+0-9 ]{0,22}") {
        if let Ok(id) = text.parse::<JobId>() {
            prop_assert!(id.0 > 0);
            prop_assert!(text.bytes().all(|b| b.is_ascii_digit()));
        }
    }
}
