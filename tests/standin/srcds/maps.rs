//! The maps that are there: the game's own, and those in `left4dead2/maps/`.

use std::path::Path;

use crate::GAME;

/// How many chapters each campaign has, and their names.
const CAMPAIGNS: [&[&str]; 14] = [
    &["hotel", "streets", "mall", "atrium"],
    &["highway", "fairgrounds", "coaster", "barns", "concert"],
    &["plankcountry", "swamp", "shantytown", "plantation"],
    &[
        "milltown_a",
        "sugarmill_a",
        "sugarmill_b",
        "milltown_b",
        "milltown_escape",
    ],
    &["waterfront", "park", "cemetery", "quarter", "bridge"],
    &["riverbank", "bedlam", "port"],
    &["docks", "barge", "port"],
    &["apartment", "subway", "sewers", "interior", "rooftop"],
    &["alleys", "lots"],
    &["caves", "drainage", "ranchhouse", "mainstreet", "houseboat"],
    &["greenhouse", "offices", "garage", "terminal", "runway"],
    &["hilltop", "traintunnel", "bridge", "barn", "cornfield"],
    &[
        "alpinecreek",
        "southpinestream",
        "memorialbridge",
        "cutthroatcreek",
    ],
    &["junkyard", "lighthouse"],
];

fn own() -> impl Iterator<Item = String> {
    CAMPAIGNS
        .iter()
        .enumerate()
        .flat_map(|(campaign, chapters)| {
            chapters
                .iter()
                .enumerate()
                .map(move |(at, name)| format!("c{}m{}_{name}", campaign + 1, at + 1))
        })
}

pub fn is_there(map: &str) -> bool {
    let is_name = map
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let file = Path::new(GAME).join("maps").join(format!("{map}.bsp"));
    is_name && (own().any(|name| name == map) || file.exists())
}

/// `maps *`.
pub fn list() -> Vec<Vec<u8>> {
    let rows = own().map(|name| format!("PENDING:   (fs) {name}.bsp").into_bytes());
    [b"-------------".to_vec()]
        .into_iter()
        .chain(rows)
        .collect()
}
