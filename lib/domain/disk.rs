//! When a disk counts as almost full, and how sizes are written.

const GIB: u64 = 1 << 30;

/// The free space below which a disk is almost full: a twentieth of it, but not more than this.
const MOST: u64 = 5 * GIB;

/// The space on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub total: u64,
    /// What users other than root can still write.
    pub free: u64,
}

/// Whether a disk is almost full. One that `was` stays so until a quarter more is free, so that it
/// is not told again and again.
pub fn is_low(space: Space, was: bool) -> bool {
    let limit = (space.total / 20).min(MOST);
    let limit = if was { limit + limit / 4 } else { limit };
    space.free < limit
}

/// `1.2 GiB of 40.0 GiB are free`
pub fn message(space: Space) -> String {
    format!("{} of {} are free", gib(space.free), gib(space.total))
}

/// `1.2 GiB`
pub fn gib(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 10 / u128::from(GIB);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

/// Formats bytes: `0 B`, `512 KiB`, `1.3 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];

    if bytes < 1024 {
        return format!("{bytes} B");
    }

    let (mut size, mut unit) = (bytes as f64 / 1024.0, 0);
    while size >= 1023.5 && unit + 1 < UNITS.len() {
        (size, unit) = (size / 1024.0, unit + 1);
    }

    let digits = usize::from(size < 9.95);
    format!("{size:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn low(free_tenths: u64, total: u64, was: bool) -> bool {
        let space = Space {
            total: total * GIB,
            free: free_tenths * GIB / 10,
        };
        is_low(space, was)
    }

    #[test]
    fn a_disk_is_low_below_a_twentieth_or_five_gib_and_until_there_is_a_quarter_more() {
        assert!(!low(20, 40, false) && low(19, 40, false));
        assert!(low(24, 40, true) && !low(25, 40, true));
        assert!(!low(50, 4000, false) && low(49, 4000, false));
    }

    #[test]
    fn the_message_has_tenths() {
        let space = Space {
            total: 40 * GIB,
            free: 1_288_490_189,
        };
        assert_eq!(message(space), "1.2 GiB of 40.0 GiB are free");
    }
}
