//! Sizes for people.

/// `0 B`, `512 KiB`, `1.3 GiB`.
#[expect(
    clippy::cast_precision_loss,
    reason = "two or three digits of it are shown"
)]
pub fn size(bytes: u64) -> String {
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
