//! Checks after a start whether the server stays up. The game is a Type=exec service, which systemd
//! reports as started as soon as its program runs. Most faults of maps, addons and plugins end it
//! within seconds.
//!
//! The worker cannot spawn processes, and each request to the helper starts a unit. So it reads the
//! unit's control group, a small file that everybody may read.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::base::Result;
use crate::domain::unit::Unit;
use crate::host::units::Observed;

/// Where the kernel shows control groups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// How long a server must stay up. It takes the game longer until players can join; the worker does
/// not wait for that.
const MOMENT: Duration = Duration::from_secs(3);

/// How often it is checked.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until the main process of the unit has been up for a moment. False if it has ended. True
/// if its control group is not known.
pub(super) fn stays_up(seen: &Observed, may_continue: impl Fn() -> Result<()>) -> Result<bool> {
    let unit = &seen.unit;
    let (Some(pid), Some(group)) = (unit.main_pid, &unit.control_group) else {
        return Ok(!has_ended(unit));
    };

    // 0: the start time is not known.
    let since = if unit.active_enter_us == 0 {
        u64::MAX
    } else {
        unit.active_enter_us
    };

    let up = Duration::from_micros(seen.at.monotonic_us.saturating_sub(since));

    // A host that mounts its control groups elsewhere.
    if !Path::new(CGROUPS).join("cgroup.controllers").exists() {
        return Ok(true);
    }

    let processes = PathBuf::from(format!("{CGROUPS}{group}/cgroup.procs"));

    // A server that has run longer already passes.
    watch(&processes, pid, MOMENT.saturating_sub(up), may_continue)
}

/// Whether the main process of the unit is still there. True if its control group is not known.
pub(super) fn is_up(seen: &Observed) -> bool {
    let (Some(pid), Some(group)) = (seen.unit.main_pid, &seen.unit.control_group) else {
        return !has_ended(&seen.unit);
    };
    let is_known = Path::new(CGROUPS).join("cgroup.controllers").exists();
    let processes = PathBuf::from(format!("{CGROUPS}{group}/cgroup.procs"));
    !is_known || has(&processes, pid)
}

/// Whether the game ended while its unit was read. That is read value by value, so a unit can be
/// active in the first of them and without its process in the next.
fn has_ended(unit: &Unit) -> bool {
    unit.active == "active" && unit.main_pid.is_none()
}

fn has(processes: &Path, pid: u32) -> bool {
    let listed = fs_err::read_to_string(processes).unwrap_or_default();
    listed.lines().any(|line| line.parse() == Ok(pid))
}

fn watch(
    processes: &Path,
    pid: u32,
    moment: Duration,
    may_continue: impl Fn() -> Result<()>,
) -> Result<bool> {
    let begun = Instant::now();
    loop {
        may_continue()?;

        if !has(processes, pid) {
            return Ok(false);
        }

        let left = moment.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(true);
        }

        std::thread::sleep(left.min(PAUSE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Error;

    const MOMENT: Duration = Duration::from_millis(500);

    fn group(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cgroup.procs");
        fs_err::write(&file, text).unwrap();
        (directory, file)
    }

    #[test]
    fn a_server_that_ends_within_the_moment_is_seen_and_one_that_stays_takes_the_moment_only() {
        let (_kept, file) = group("70\n77\n");
        let begun = Instant::now();
        assert!(watch(&file, 77, MOMENT, || Ok(())).unwrap());
        assert!(
            begun.elapsed() >= MOMENT && begun.elapsed() < MOMENT * 4,
            "{:?}",
            begun.elapsed()
        );

        let ends = file.clone();
        let end = std::thread::spawn(move || {
            std::thread::sleep(MOMENT / 2);
            fs_err::write(ends, "70\n").unwrap();
        });

        let begun = Instant::now();
        assert!(!watch(&file, 77, MOMENT * 20, || Ok(())).unwrap());
        assert!(begun.elapsed() < MOMENT * 4, "{:?}", begun.elapsed());
        end.join().unwrap();
    }

    #[test]
    fn a_restarted_game_is_another_process_and_a_cancelled_wait_ends_at_once() {
        let (_kept, file) = group("78\n");
        assert!(!watch(&file, 77, MOMENT, || Ok(())).unwrap());
        let begun = Instant::now();
        let refused = watch(&file, 78, MOMENT * 20, || {
            Err(Error::failed("it is being cancelled"))
        });
        assert!(refused.is_err() && begun.elapsed() < MOMENT);
        assert!(
            stays_up(&Observed::default(), || Ok(())).unwrap(),
            "nothing is known of it"
        );
    }

    #[test]
    fn an_active_unit_without_a_process_has_ended() {
        let mut seen = Observed::default();
        seen.unit.active = "active".to_owned();
        seen.unit.sub = "running".to_owned();
        assert!(!stays_up(&seen, || Ok(())).unwrap() && !is_up(&seen));
        seen.unit.main_pid = Some(77);
        assert!(
            stays_up(&seen, || Ok(())).unwrap() && is_up(&seen),
            "its control group is not known"
        );
    }
}
