//! The large files of the game, which the stand-in lays down if `files` is set. As with the real
//! steamcmd, what a build changes is downloaded into `steamapps/downloading` first, with the
//! manifest no longer that of a whole installation, and then moved into place file by file.
//!
//! A quarter of the files changes from build to build, the others are those of every build. Each
//! begins with its name and the build that it is from, so that the game can see at its start
//! whether all its files belong together (`left4dead2/standin.files`).

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::{APP, Conf, MANIFEST, hang};

const FILES: u64 = 16;
/// One of so many changes with each build.
const CHANGES: u64 = 4;
const MIB: u64 = 1 << 20;

/// What the game reads of its build.
const LIST: &str = "left4dead2/standin.files";
const STEAM_INF: &str = "left4dead2/steam.inf";
const CONTROLS: &str = "left4dead2/standin";

/// Faults of a build, as control files of the game; see `srcds.rs`.
const FAULTS: [&str; 4] = ["crash-on-start", "crash-after", "hang", "only-on"];

/// One large file.
struct Large {
    /// Below the installation.
    path: String,
    /// The build that it is from; 0 for one that all builds share.
    version: u64,
    length: u64,
}

impl Large {
    fn header(&self) -> String {
        format!("{} {}\n", self.path, self.version)
    }

    /// Whether it is there and whole.
    fn is_in(&self, dir: &Path) -> bool {
        let path = dir.join(&self.path);
        let has_length = path
            .metadata()
            .is_ok_and(|found| found.len() == self.length);
        let mut first = String::new();
        let read = File::open(path).and_then(|file| BufReader::new(file).read_line(&mut first));
        has_length && read.is_ok() && first == self.header()
    }

    /// A mebibyte of it: as hard to compress as a game's.
    fn chunk(&self, number: u64) -> Vec<u8> {
        let mut seed = self.path.bytes().fold(number + 1, |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(byte.into())
        });
        seed = seed.wrapping_add(self.version << 20) | 1;
        let mut chunk = Vec::with_capacity(MIB as usize);
        while chunk.len() < MIB as usize {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            chunk.extend(seed.to_le_bytes());
        }

        if number == 0 {
            let header = self.header().into_bytes();
            chunk[..header.len()].copy_from_slice(&header);
        }
        chunk
    }
}

/// A download under way.
pub struct Download {
    staging: PathBuf,
    /// What is missing, mebibyte by mebibyte.
    left: Vec<(usize, u64)>,
    files: Vec<Large>,
    total: usize,
}

impl Download {
    /// Nothing, unless `files` is set.
    pub fn begin(conf: &Conf, dir: &Path, build: u64) -> io::Result<Self> {
        let mut files = large_files(conf, build);
        if !conf.has("rewrite") {
            files.retain(|file| !file.is_in(dir));
        }
        let mut left: Vec<(usize, u64)> = Vec::new();
        for (at, file) in files.iter().enumerate() {
            left.extend((0..file.length / MIB).map(|chunk| (at, chunk)));
        }
        left.reverse();

        let staging = dir.join("steamapps/downloading").join(APP);
        if conf.has("files") {
            unfinished(dir)?;
            // What an earlier run has left there is downloaded again.
            let _ = fs::remove_dir_all(&staging);
            fs::create_dir_all(&staging)?;
        }
        let total = left.len();
        Ok(Self {
            staging,
            left,
            files,
            total,
        })
    }

    /// Downloads until so many hundredths of a percent are there.
    pub fn until(&mut self, part: u64) -> io::Result<()> {
        let wanted = self.total - self.total * part.min(10_000) as usize / 10_000;
        while self.left.len() > wanted {
            let Some((at, number)) = self.left.pop() else {
                break;
            };
            let file = &self.files[at];
            let path = self.staging.join(&file.path);
            fs::create_dir_all(path.parent().unwrap_or(&self.staging))?;
            File::options()
                .create(true)
                .append(true)
                .open(path)?
                .write_all(&file.chunk(number))?;
        }

        Ok(())
    }

    /// Moves what was downloaded into its place.
    pub fn commit(self, conf: &Conf, dir: &Path) -> io::Result<()> {
        let pause = Duration::from_millis(conf.number("commit_ms").unwrap_or(0));
        let half = self.files.len() / 2;
        for (at, file) in self.files.iter().enumerate() {
            if conf.text("hang_at") == Some("commit") && at == half {
                hang();
            }
            let place = dir.join(&file.path);
            fs::create_dir_all(place.parent().unwrap_or(dir))?;
            fs::rename(self.staging.join(&file.path), place)?;
            thread::sleep(pause);
        }

        Ok(())
    }
}

fn large_files(conf: &Conf, build: u64) -> Vec<Large> {
    let size = conf.number("files").unwrap_or(0);
    let length = size.div_ceil(FILES) * MIB;
    let file = |at| Large {
        path: format!("left4dead2/pak{at:02}_dir.vpk"),
        version: if at % CHANGES == 0 { build } else { 0 },
        length,
    };
    let files = if size == 0 { 0 } else { FILES };
    (0..files).map(file).collect()
}

/// An update is under way: the manifest says so until its end.
fn unfinished(dir: &Path) -> io::Result<()> {
    let manifest = dir.join(MANIFEST);
    match fs::read_to_string(&manifest) {
        Ok(text) => fs::write(
            manifest,
            text.replace("\"StateFlags\"\t\t\"4\"", "\"StateFlags\"\t\t\"1026\""),
        ),
        Err(_) => Ok(()),
    }
}

/// What says which build it is, and how that misbehaves.
pub fn describe(conf: &Conf, dir: &Path, build: u64) -> io::Result<()> {
    fs::write(
        dir.join(STEAM_INF),
        format!("PatchVersion=2.2.{build}\nProductName=left4dead2\nappID=550\n"),
    )?;
    let lines = large_files(conf, build)
        .iter()
        .map(|file| format!("{} {} {}\n", file.path, file.length, file.version))
        .collect::<String>();
    fs::write(dir.join(LIST), lines)?;

    for fault in FAULTS {
        let _ = fs::remove_file(dir.join(format!("{CONTROLS}.{fault}")));
    }
    let Some(game) = conf.text("game") else {
        return Ok(());
    };
    let (fault, ports) = game.split_once('@').unwrap_or((game, ""));
    let (fault, value) = fault.split_once(':').unwrap_or((fault, ""));
    if !ports.is_empty() {
        let ports = ports.replace(',', " ");
        fs::write(dir.join(format!("{CONTROLS}.only-on")), ports)?;
    }
    fs::write(dir.join(format!("{CONTROLS}.{fault}")), value)
}
