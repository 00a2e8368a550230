//! App info as the stand-in prints it: twice in a session, the first time empty or old, and with what
//! else steamcmd has to say between its lines.

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

    for answer in 1..=order.info {
        out.line("[  0%] Checking for available updates...");
        match (habit, answer) {
            ("nothing", _) => {}
            ("lone", 2..) => {}
            ("lone", _) => block(build, habit, out),
            ("old", 1) => block(build - 1, habit, out),
            (_, 1) => out.line(&format!("No app info for AppID {APP} found, requesting...")),
            _ => block(build, habit, out),
        }
    }

    0
}

fn block(build: u64, habit: &str, out: &mut Printer) {
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
         \t\"depots\"\n\t{{\n\t\t\"222861\"\n\t\t{{\n\t\t\t\"manifests\"\n\t\t\t{{\n\
         \t\t\t\t\"public\"\n\t\t\t\t{{\n\t\t\t\t\t\"gid\"\t\t\"2747866087263172284\"\n\t\t\t\t}}\n\
         \t\t\t}}\n\t\t}}\n\
         \t\t\"branches\"\n\t\t{{\n\t\t\t\"{branch}\"\n\t\t\t{{\n\
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
