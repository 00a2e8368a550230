//! App info as the stand-in prints it: twice in a session, the first time empty or old, and with what
//! else steamcmd has to say between its lines. Its depots have sizes, as the real ones have; `size=N`
//! and `download=N` set those of the shared depot, in bytes. By default they are as small as what the
//! stand-in lays down. `info=no_sizes`: an older form, with the number of the manifest alone.

use super::{APP, BUILD, Conf, Order, Printer, hang, words};

/// When the build was published, unix seconds.
const PUBLISHED: u64 = 1_763_543_534;

/// Prints the answers of a session, and gives its exit code.
pub fn print(conf: &Conf, order: &Order, way: Option<&words::Way>, out: &mut Printer) -> u8 {
    if let Some(code) = way.and_then(|way| way.before_download(out)) {
        return code;
    }

    let build = conf.number("available").or(conf.number("buildid"));
    let build = build.unwrap_or(BUILD + 1);
    let habit = conf.text("info").unwrap_or_default();
    if habit == "hang" {
        hang();
    }

    let depots = depots(conf, habit);
    for answer in 1..=order.info {
        out.line("[  0%] Checking for available updates...");
        match (habit, answer) {
            ("nothing", _) => {}
            ("lone", 2..) => {}
            ("lone", _) => block(build, habit, &depots, out),
            ("old", 1) => block(build - 1, habit, &depots, out),
            (_, 1) => out.line(&format!("No app info for AppID {APP} found, requesting...")),
            _ => block(build, habit, &depots, out),
        }
    }

    0
}

/// The depots: of both platforms, of Windows and of Linux, and what is installed from another app.
fn depots(conf: &Conf, habit: &str) -> String {
    let files = conf.number("files").map(|mib| (mib + 1) << 20);
    let size = conf.number("size").or(files).unwrap_or(1_048_576);
    let download = conf.number("download").unwrap_or(size / 2);
    let depot = |id: u32, os: &str, gid: u64, size: u64, download: u64| {
        let config = match os {
            "" => String::new(),
            os => format!("\t\t\t\"config\"\n\t\t\t{{\n\t\t\t\t\"oslist\"\t\t\"{os}\"\n\t\t\t}}\n"),
        };
        let manifest = match habit {
            "no_sizes" => format!("\t\t\t\t\"public\"\t\t\"{gid}\"\n"),
            _ => format!(
                "\t\t\t\t\"public\"\n\t\t\t\t{{\n\t\t\t\t\t\"gid\"\t\t\"{gid}\"\n\
                 \t\t\t\t\t\"size\"\t\t\"{size}\"\n\
                 \t\t\t\t\t\"download\"\t\t\"{download}\"\n\t\t\t\t}}\n"
            ),
        };
        format!(
            "\t\t\"{id}\"\n\t\t{{\n{config}\t\t\t\"manifests\"\n\t\t\t{{\n{manifest}\t\t\t}}\n\t\t}}\n"
        )
    };

    "\t\t\"228990\"\n\t\t{\n\t\t\t\"config\"\n\t\t\t{\n\t\t\t\t\"oslist\"\t\t\"windows\"\n\t\t\t}\n\
     \t\t\t\"depotfromapp\"\t\t\"228980\"\n\t\t\t\"sharedinstall\"\t\t\"1\"\n\t\t}\n"
        .to_owned()
        + &depot(222_861, "", 2_747_866_087_263_172_284, size, download)
        + &depot(
            222_862,
            "windows",
            3_884_127_541_920_887_143,
            262_144,
            131_072,
        )
        + &depot(
            222_863,
            "linux",
            7_181_612_376_951_637_386,
            262_144,
            131_072,
        )
}

fn block(build: u64, habit: &str, depots: &str, out: &mut Printer) {
    out.line(&format!(
        "AppID : {APP}, change number : 26574431/0, last change : Thu Nov 19 10:12:14 2026"
    ));
    let many = if habit == "long" { 10_000 } else { 3 };
    let languages: Vec<String> = (1..=many)
        .map(|n| format!("\t\t\t\"language{n}\"\t\t\"{}\"", "x".repeat(60)))
        .collect();
    let branch = if habit == "no_branch" {
        "retired"
    } else {
        "public"
    };

    let text = format!(
        "\"{APP}\"\n{{\n\t\"common\"\n\t{{\n\t\t\"name\"\t\t\"Left 4 Dead 2 Dedicated Server\"\n\
         \t\t\"languages\"\n\t\t{{\n{}\n\t\t}}\n\t}}\n\
         \t\"depots\"\n\t{{\n{depots}\t\t\"branches\"\n\t\t{{\n\t\t\t\"{branch}\"\n\t\t\t{{\n\
         \t\t\t\t\"buildid\"\t\t\"{build}\"\n\t\t\t\t\"timeupdated\"\t\t\"{PUBLISHED}\"\n\
         \t\t\t}}\n\t\t\t\"beta\"\n\t\t\t{{\n\t\t\t\t\"buildid\"\t\t\"7\"\n\t\t\t}}\n\t\t}}\n\
         \t\t\"privatebranches\"\t\t\"1\"\n\t}}\n}}",
        languages.join("\n")
    );

    let lines: Vec<&str> = text.lines().collect();
    let shown = if habit == "broken" {
        lines.len() / 2
    } else {
        lines.len()
    };
    for (at, line) in lines[..shown].iter().enumerate() {
        match at % 7 {
            3 => out.line(&format!("\u{1b}[1m{line}\u{1b}[0m")),
            5 if at < 50 => {
                out.line(line);
                out.line("[  0%] Downloading update (0 of 48,436 KB)...");
            }
            _ => out.line(line),
        }
    }
}
