//! Durations as people write them.

/// Parses `90s`, `30m`, `1h30m` or `2d` into ms. Each unit at most once, the larger ones first.
pub fn parse(text: &str) -> Option<i64> {
    const UNITS: [(char, i64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

    let (mut rest, mut units, mut seconds) = (text, UNITS.iter(), 0_i64);
    while !rest.is_empty() || rest.len() == text.len() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest
            .get(..end)
            .filter(|digits| digits.len() <= 9)?
            .parse()
            .ok()?;
        let unit = rest[end..].chars().next()?;
        let (_, factor) = units.find(|(letter, _)| *letter == unit)?;
        seconds += number * factor;
        rest = &rest[end + 1..];
    }
    Some(seconds * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_numbers_with_units_the_larger_first() {
        for (text, seconds) in [
            ("90s", 90),
            ("30m", 1800),
            ("1h30m", 5400),
            ("2d", 172_800),
            ("1d1h1m1s", 90_061),
            ("0s", 0),
            ("999999999d", 86_399_999_913_600),
        ] {
            assert_eq!(parse(text), Some(seconds * 1000), "{text}");
        }
        for bad in [
            "",
            "2",
            "h",
            "-2h",
            "+2h",
            "2 h",
            "2w",
            "1m1h",
            "1h1h",
            "1h 30m",
            "2H",
            "2ħ",
            "1.5h",
            "9999999999s",
            "1h2",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
