//! What is shipped for Prometheus, Grafana, Caddy and nginx, tried with these programs.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use left4me::base::clock::now_ms;
use left4me::base::names::ServerId;
use left4me::db::Db;
use left4me::db::game::NamedGame;
use left4me::db::metrics::{self, BuildFigures, CrashedServer, DriftedServer, FleetFigures};
use left4me::domain::drift::Drift;
use left4me::domain::fleet::view::Seen;
use left4me::domain::game::{Figures, Game};
use left4me::web::metrics::Metrics;
use serde_json::Value;

use crate::support::host::{TestHost, stop};
use crate::support::{alive, ended, marker, until};

const NAME: &str = "left4me.example.org";

/// What a proxy shows left4me.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(shipped(path)).unwrap()
}

/// Runs a program that is not ours, and returns its output if it succeeded.
fn run(program: &str, command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap_or_else(|error| {
        panic!(
            "{program} cannot be started: {error}. \
             tests/run brings it; or see the table at its beginning"
        )
    });

    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );

    assert!(status.success(), "{command:?}\n{text}");
    text
}

/// A scrape of a host where everything has happened once.
fn scrape() -> String {
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open(&directory.path().join("left4me.db")).unwrap();
    let mut tables = metrics::snapshot(db.connection()).unwrap();
    tables.drifted = vec![DriftedServer {
        id: ServerId(7),
        name: "Friday \"night\"".to_owned(),
        kind: Drift::Down,
    }];

    tables.crashes = vec![CrashedServer {
        id: ServerId(7),
        name: "Friday \"night\"".to_owned(),
        count: 3,
    }];

    let figures = Figures {
        players: 3,
        bots: 1,
        max_players: 8,
        map: "c1m1_hotel".to_owned(),
        response_ms: 12,
    };
    tables.games = vec![NamedGame {
        id: ServerId(7),
        name: "Friday \"night\"".to_owned(),
        game: Game::after(None, Some(figures), 1_800_000_050_000),
    }];

    tables.builds = BuildFigures {
        current: Some(11_906_514),
        available: Some(11_906_600),
        is_rejected: false,
        servers: [(Some(11_906_514), 3)].into(),
    };

    let seen = Seen {
        status_received_at: Some(1_800_000_000_000),
        ..Seen::default()
    };
    tables.fleet = Some(FleetFigures {
        hosts: vec![("ams-1".to_owned(), seen)],
        ..FleetFigures::default()
    });

    let own = Metrics::new(1_800_000_000_000).unwrap();
    own.observe("GET", "/jobs/{id}", 200, Duration::from_millis(3));
    own.refused("streams");
    let _open = own.stream("job");
    own.render(&tables, 1_800_000_060_000).unwrap()
}

// ---- Prometheus and Grafana --------------------------------------------------------------------

#[test]
fn promtool_finds_nothing_wrong_with_a_scrape() {
    let mut command = Command::new("promtool");
    command
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .expect("promtool is missing: tests/run brings it (Debian's prometheus has it)");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(scrape().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && printed.is_empty(),
        "{printed}\n{}",
        scrape()
    );
}

#[test]
fn what_the_programs_do_is_in_the_next_scrape() {
    let host = TestHost::new();
    let marker = marker();
    let _runner = host.runner(&format!("#!/bin/bash\nexec -a steamcmd sleep {marker}\n"));
    let own = Metrics::new(0).unwrap();
    let scrape = || {
        own.render(
            &metrics::snapshot(host.db().connection()).unwrap(),
            now_ms(),
        )
        .unwrap()
    };

    let has = |line: &str| {
        let text = scrape();
        assert!(
            text.lines().any(|printed| printed == line),
            "{line}\n{text}"
        );
    };

    let (first, second) = (host.enqueue(&["install"]), host.enqueue(&["install"]));
    has(r#"left4me_jobs{operation="install",state="queued"} 2"#);
    assert_eq!(host.job(&["cancel", &second.to_string()]).0, 0);
    let mut worker = host.worker(60);
    until("the command runs", || {
        (!alive(&marker).is_empty()).then_some(())
    });
    has(r#"left4me_jobs{operation="install",state="running"} 1"#);
    has("left4me_queue_wait_seconds_count 1");
    let (code, out, err) = host.job(&["cancel", &first.to_string(), "--force"]);
    assert_eq!(code, 0, "{out}{err}");
    for line in [
        r#"left4me_jobs{operation="install",state="queued"} 0"#,
        r#"left4me_jobs{operation="install",state="running"} 0"#,
        r#"left4me_jobs_total{operation="install",state="cancelled"} 2"#,
        r#"left4me_job_duration_seconds_count{operation="install"} 1"#,
        r#"left4me_cancellation_requests_total{scope="job"} 2"#,
        "left4me_cancellation_duration_seconds_count 2",
        "left4me_cancellation_failures_total 0",
        r#"left4me_runners_terminated_total{signal="SIGKILL"} 1"#,
        r#"left4me_runners_terminated_total{signal="SIGTERM"} 0"#,
    ] {
        has(line);
    }

    stop(&worker, nix::sys::signal::Signal::SIGTERM);
    assert_eq!(ended(&mut worker), 0);
}

#[test]
fn the_alerts_are_valid_and_fire_when_they_should() {
    let mut check = Command::new("promtool");
    run(
        "promtool",
        check
            .args(["check", "rules"])
            .arg(shipped("prometheus/left4me.rules.yml")),
    );

    let mut test = Command::new("promtool");
    run(
        "promtool",
        test.args(["test", "rules"])
            .arg(shipped("prometheus/left4me.rules.test.yml")),
    );

    // Each of them is tried both ways.
    let (rules, tests) = (
        read("prometheus/left4me.rules.yml"),
        read("prometheus/left4me.rules.test.yml"),
    );

    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 5, "{alerts:?}");
    for alert in alerts {
        let quiet = format!("alertname: {alert}, exp_alerts: []");
        let loud = format!("alertname: {alert}\n        exp_alerts:\n          - exp_labels");
        assert!(
            tests.contains(&quiet) && tests.contains(&loud),
            "{alert} is not tried both ways"
        );
    }
}

#[test]
fn the_example_for_prometheus_is_a_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    let plain = read("prometheus/left4me.scrape.yml");
    // With the lines for another host, too.
    let uncomment = |line: &str| {
        line.replace("    #authorization", "    authorization")
            .replace("    #  ", "      ")
    };

    let with_token = plain.lines().map(uncomment).collect::<Vec<_>>().join("\n");
    let with_token = changed(
        &with_token,
        "/etc/prometheus/left4me.token",
        &token.to_string_lossy(),
    );

    assert!(
        with_token.contains("\n      credentials_file: /"),
        "{with_token}"
    );

    for (name, text) in [("plain.yml", &plain), ("token.yml", &with_token)] {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        run(
            "promtool",
            Command::new("promtool")
                .args(["check", "config"])
                .arg(&file),
        );
    }
}

/// The expressions of all panels, with Grafana's variables filled in.
fn expressions(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let fill = |text: &str| {
        text.replace("$__rate_interval", "5m")
            .replace("$__range", "6h")
            .replace("$instance", ".*")
    };

    targets
        .map(|target| fill(target["expr"].as_str().unwrap()))
        .collect()
}

/// The names in an expression that can only be a metric's.
fn names(expression: &str) -> Vec<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("left4me_") || word.starts_with("process_"))
        .collect()
}

#[test]
fn alerts_and_dashboard_use_only_metrics_that_there_are_and_all_of_ours() {
    let scrape = scrape();
    let series = scrape.lines().filter(|line| !line.starts_with('#'));
    let printed: BTreeSet<&str> = series
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();
    let dashboard: Value = serde_json::from_str(&read("grafana/left4me.json")).unwrap();
    let expressions = expressions(&dashboard);
    let rules = read("prometheus/left4me.rules.yml");
    let tests = read("prometheus/left4me.rules.test.yml");
    let definition = dashboard["templating"]["list"][1]["definition"]
        .as_str()
        .unwrap();
    let mut used = BTreeSet::new();
    for text in expressions
        .iter()
        .map(String::as_str)
        .chain([definition, &rules, &tests])
    {
        used.extend(names(text));
    }
    let unknown: Vec<_> = used.difference(&printed).collect();
    assert!(unknown.is_empty(), "nothing prints these: {unknown:?}");
    assert!(used.len() > 15, "{used:?}");
    // What no alert or panel uses need not be counted.
    let base = |name: &str| {
        ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name)
            .to_owned()
    };

    let used: BTreeSet<String> = used.iter().map(|name| base(name)).collect();
    let unused: Vec<_> = printed
        .iter()
        .filter(|name| name.starts_with("left4me_") && !used.contains(&base(name)))
        .collect();
    assert!(
        unused.is_empty(),
        "neither alert nor panel uses these: {unused:?}"
    );

    let docs = std::fs::read_to_string(shipped("../docs/operations.md")).unwrap();
    let untold: Vec<_> = printed
        .iter()
        .filter(|name| !docs.contains(&format!("`{}`", base(name))))
        .collect();
    assert!(
        untold.is_empty(),
        "docs/operations.md does not say what these are: {untold:?}"
    );
}

#[test]
fn the_dashboard_is_one_that_grafana_imports() {
    let dashboard: Value = serde_json::from_str(&read("grafana/left4me.json")).unwrap();
    assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels
        .iter()
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        let (x, w) = (
            panel["gridPos"]["x"].as_u64().unwrap(),
            panel["gridPos"]["w"].as_u64().unwrap(),
        );

        assert!(
            x + w <= 24 && !panel["targets"].as_array().unwrap().is_empty(),
            "{panel}"
        );
    }

    // As recording rules, so that promtool reads them.
    let rules: Vec<String> = (expressions(&dashboard).iter().enumerate())
        .map(|(at, text)| {
            format!(
                "      - {{record: 'panel:{at}', expr: {}}}",
                serde_json::to_string(text).unwrap()
            )
        })
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("panels.yml");
    std::fs::write(
        &file,
        format!(
            "groups:\n  - name: panels\n    rules:\n{}\n",
            rules.join("\n")
        ),
    )
    .unwrap();

    run(
        "promtool",
        Command::new("promtool").args(["check", "rules"]).arg(&file),
    );
}

// ---- Caddy and nginx ---------------------------------------------------------------------------

#[test]
fn caddy_takes_its_example_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("Caddyfile");
    std::fs::write(
        &file,
        with_secret(
            &read("caddy/Caddyfile"),
            "/etc/caddy/left4me-proxy",
            directory.path(),
        ),
    )
    .unwrap();

    for verb in ["adapt", "validate"] {
        let mut command = caddy(directory.path());
        let printed = run(
            "caddy",
            command
                .args([verb, "--adapter", "caddyfile", "--config"])
                .arg(&file),
        );

        assert!(!printed.contains("\"level\":\"warn\""), "{printed}");
    }
}

#[test]
fn caddy_in_front_of_left4me_does_what_its_example_says() {
    let site = Site::new();
    let Ports {
        http,
        https,
        left4me,
    } = site.ports;

    let own = format!(
        "{{\n\tadmin off\n\thttp_port {http}\n\thttps_port {https}\n\tdefault_bind \
        127.0.0.1\n\tskip_install_trust\n}}\n"
    );

    let certificate = format!(
        "{NAME} {{\n\ttls {} {}\n",
        site.certificate.display(),
        site.key.display()
    );

    let text = changed(
        &read("caddy/Caddyfile"),
        &format!("{NAME} {{\n"),
        &certificate,
    );

    let text = changed(&text, "127.0.0.1:8000", &format!("127.0.0.1:{left4me}"));
    let text = with_secret(&text, "/etc/caddy/left4me-proxy", site.directory.path());
    let file = site.directory.path().join("Caddyfile");
    std::fs::write(&file, own + &text).unwrap();
    let mut command = caddy(site.directory.path());
    // Debian 12's Caddy calls a body that is too large a bad gateway.
    site.serve(
        "caddy",
        command
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(&file),
        &[" 413", " 502"],
    );
}

#[test]
fn nginx_in_front_of_left4me_does_what_its_example_says() {
    let site = Site::new();
    let Ports {
        http,
        https,
        left4me,
    } = site.ports;

    let mut text = read("nginx/left4me.conf");
    for (from, to) in [
        ("    listen [::]:80;\n", String::new()),
        ("    listen [::]:443 ssl http2;\n", String::new()),
        ("listen 80;", format!("listen 127.0.0.1:{http};")),
        ("listen 443 ssl", format!("listen 127.0.0.1:{https} ssl")),
        ("127.0.0.1:8000", format!("127.0.0.1:{left4me}")),
        (
            "/etc/letsencrypt/live/left4me.example.org/fullchain.pem",
            site.certificate.display().to_string(),
        ),
        (
            "/etc/letsencrypt/live/left4me.example.org/privkey.pem",
            site.key.display().to_string(),
        ),
    ] {
        text = changed(&text, from, &to);
    }

    let prefix = site.directory.path();
    text = with_secret(&text, "/etc/nginx/left4me-proxy", prefix);
    std::fs::write(prefix.join("left4me.conf"), text).unwrap();
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {name};"));
    let main = format!(
        "daemon off;\nmaster_process off;\npid \
         nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp \
         {{\naccess_log off;\ngzip on;\ngzip_types text/event-stream \
         text/plain;\n{}\ninclude left4me.conf;\n}}\n",
        paths.join("\n")
    );

    let main_file = prefix.join("nginx.conf");
    std::fs::write(&main_file, main).unwrap();
    let nginx = || {
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(prefix)
            .arg("-c")
            .arg(&main_file)
            .args(["-e", "stderr"]);
        command
    };

    run("nginx", nginx().arg("-t"));
    site.serve("nginx", &mut nginx(), &[" 413"]);
}

/// The shipped text with one thing in it replaced, which has to be there.
fn changed(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the example has no {from:?} any more");
    text.replace(from, to)
}

/// The text with the file of the proxy's secret in `directory`, as operations.md makes it.
fn with_secret(text: &str, file: &str, directory: &Path) -> String {
    let own = directory.join("left4me-proxy");
    let line = if file.contains("nginx") {
        "proxy_set_header X-Left4me-Proxy"
    } else {
        "header_up X-Left4me-Proxy"
    };

    let end = if file.contains("nginx") { ";" } else { "" };
    std::fs::write(&own, format!("{line} {SECRET}{end}\n")).unwrap();
    let (include, text) = (
        text.lines().find(|line| {
            line.trim()
                .trim_end_matches(';')
                .ends_with(&format!(" {file}"))
        }),
        text,
    );

    let include = include.unwrap_or_else(|| panic!("the example does not include {file}"));
    text.replace(include, &include.replace(file, &own.to_string_lossy()))
}

/// Caddy with whatever it keeps in a directory of the test's.
fn caddy(home: &Path) -> Command {
    let mut command = Command::new("caddy");
    command
        .env("HOME", home)
        .env("XDG_DATA_HOME", home)
        .env("XDG_CONFIG_HOME", home);
    command
}

#[derive(Clone, Copy)]
struct Ports {
    http: u16,
    https: u16,
    left4me: u16,
}

/// A name with a certificate, and something behind it that answers as left4me would.
struct Site {
    directory: tempfile::TempDir,
    certificate: PathBuf,
    key: PathBuf,
    ports: Ports,
    /// The heads of all requests that came through.
    seen: Arc<Mutex<Vec<String>>>,
    /// Lets the open stream say its second line.
    go_on: Sender<()>,
    /// Connections of the proxy that are open.
    open: Arc<AtomicUsize>,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (
            directory.path().join("cert.pem"),
            directory.path().join("key.pem"),
        );

        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]);

        openssl.args([
            "-subj",
            "/CN=left4me",
            "-addext",
            "subjectAltName=DNS:left4me.example.org",
        ]);

        run(
            "openssl",
            openssl
                .arg("-keyout")
                .arg(&key)
                .arg("-out")
                .arg(&certificate),
        );

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        // Held at the same time, so that they are two.
        let free = [
            TcpListener::bind("127.0.0.1:0").unwrap(),
            TcpListener::bind("127.0.0.1:0").unwrap(),
        ];

        let ports = Ports {
            http: port(&free[0]),
            https: port(&free[1]),
            left4me: port(&listener),
        };

        let seen = Arc::default();
        let (go_on, wait) = channel();
        let shared = (Arc::clone(&seen), Arc::new(Mutex::new(wait)));
        let open = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&open);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, wait, count) = (
                    Arc::clone(&shared.0),
                    Arc::clone(&shared.1),
                    Arc::clone(&count),
                );

                count.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    answer(stream, &seen, &wait);
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });

        Self {
            directory,
            certificate,
            key,
            ports,
            seen,
            go_on,
            open,
        }
    }

    /// Starts the proxy, and asks through it what its example promises. `refused`: how it answers a
    /// body that is too large.
    fn serve(&self, program: &str, command: &mut Command, refused: &[&str]) {
        let log = self.directory.path().join("log");
        let file = std::fs::File::create(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let mut running = Running(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("{program}: {error}; tests/run brings it")),
        );

        let tell = || std::fs::read_to_string(&log).unwrap();
        until("the proxy listens", || {
            let ended = running.0.try_wait().unwrap();
            assert!(ended.is_none(), "{program} ended: {}", tell());
            TcpStream::connect(("127.0.0.1", self.ports.https)).ok()
        });

        let printed = self.curl(
            &[
                "-H",
                "X-Forwarded-For: 6.6.6.6",
                "-H",
                "X-Forwarded-Proto: gopher",
                "-H",
                "Forwarded: for=6.6.6.6",
                "-H",
                "X-Real-IP: 6.6.6.6",
                "-H",
                "X-Left4me-Proxy: 6.6.6.6",
            ],
            "/servers/1",
        );

        assert!(
            printed
                .to_lowercase()
                .contains("strict-transport-security: max-age=31536000"),
            "{printed}{}",
            tell()
        );

        let came = self.last_head();
        assert!(
            came.contains("\nx-forwarded-for: 127.0.0.1\n")
                && came.contains("\nx-forwarded-proto: https\n"),
            "{came}"
        );

        assert!(
            came.contains(&format!("\nhost: {NAME}:{}\n", self.ports.https)),
            "{came}"
        );

        assert!(
            !came.contains("6.6.6.6") && !came.contains("gopher"),
            "{came}"
        );

        assert!(
            came.contains(&format!("\nx-left4me-proxy: {SECRET}\n")),
            "{came}"
        );

        let before = self.seen.lock().unwrap().len();
        for path in [
            "/metrics",
            "/metrics/",
            "/metrics?x=1",
            "/%6detrics",
            "//metrics",
            "/jobs/../metrics",
        ] {
            let printed = self.curl(&["--path-as-is"], path);
            assert!(
                printed.lines().next().unwrap().contains(" 404"),
                "{path}: {printed}"
            );
        }

        let large = self.directory.path().join("large");
        std::fs::write(&large, vec![b'x'; 65537]).unwrap();
        let printed = self.curl(
            &["--data-binary", &format!("@{}", large.display())],
            "/login",
        );

        assert!(
            printed
                .lines()
                .any(|line| line.starts_with("HTTP/")
                    && refused.iter().any(|code| line.contains(code))),
            "{printed}{}",
            tell()
        );

        let reached: Vec<_> = self.seen.lock().unwrap().split_off(before);
        assert!(
            reached.iter().all(|head| !head.contains("metrics")),
            "{reached:?}"
        );

        std::fs::write(&large, vec![b'x'; 65536]).unwrap();
        let printed = self.curl(
            &["--data-binary", &format!("@{}", large.display())],
            "/login",
        );

        assert!(
            printed
                .lines()
                .any(|line| line.starts_with("HTTP/") && line.contains(" 200")),
            "{printed}{}",
            tell()
        );

        for path in [
            "/jobs/1/logs",
            "/servers/12/log/stream",
            "/live",
            "/live/jobs?after=3",
        ] {
            self.follow(path);
        }

        let url = format!("http://{NAME}:{}/jobs/1", self.ports.http);
        let printed = run(
            "curl",
            self.curl_command()
                .args([
                    "-i",
                    "--resolve",
                    &format!("{NAME}:{}:127.0.0.1", self.ports.http),
                ])
                .arg(url),
        );

        let location = printed.lines().find_map(|line| {
            line.split_once(": ")
                .filter(|(name, _)| name.eq_ignore_ascii_case("location"))
        });

        assert!(
            location.is_some_and(|(_, to)| to.starts_with(&format!("https://{NAME}"))
                && to.trim_end().ends_with("/jobs/1")),
            "{printed}"
        );

        // left4me-web closes a connection that was silent for 10 s: a request that meets that on
        // its way is lost. The proxy keeps its connections for a while, and lets go of them before.
        self.curl(&[], "/jobs/1");
        let silent = Instant::now();
        assert!(
            self.open.load(Ordering::SeqCst) > 0,
            "a connection is kept for the next request"
        );

        until("the proxy lets go of its connections", || {
            (self.open.load(Ordering::SeqCst) == 0).then_some(())
        });
        assert!(
            silent.elapsed() < Duration::from_secs(9),
            "after {:?}",
            silent.elapsed()
        );
    }

    /// A stream's first line arrives while the second one is not written yet.
    fn follow(&self, path: &str) {
        let mut command = self.curl_command();
        command
            .args(["--no-buffer", "--compressed"])
            .arg(self.url(path))
            .stdout(Stdio::piped());
        let mut curl = Running(command.spawn().unwrap());
        let (lines, arrived) = channel();
        let out = curl.0.stdout.take().unwrap();
        std::thread::spawn(move || {
            BufReader::new(out)
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| lines.send(line))
        });

        let next = || loop {
            let line = arrived
                .recv_timeout(crate::support::PATIENCE)
                .unwrap_or_else(|error| panic!("{path}: no line came: {error}"));
            if !line.is_empty() {
                return line;
            }
        };

        assert_eq!(next(), "data: first", "{path}");
        self.go_on.send(()).unwrap();
        assert_eq!(next(), "data: second", "{path}");
        assert!(curl.0.wait().unwrap().success());
    }

    fn url(&self, path: &str) -> String {
        format!("https://{NAME}:{}{path}", self.ports.https)
    }

    fn curl_command(&self) -> Command {
        let mut command = Command::new("curl");
        let name = format!("{NAME}:{}:127.0.0.1", self.ports.https);
        command
            .args([
                "-sS",
                "--max-time",
                "30",
                "--noproxy",
                "*",
                "--resolve",
                &name,
                "--cacert",
            ])
            .arg(&self.certificate);
        command
    }

    /// The answer with its head.
    fn curl(&self, options: &[&str], path: &str) -> String {
        run(
            "curl",
            self.curl_command()
                .arg("-i")
                .args(options)
                .arg(self.url(path)),
        )
    }

    fn last_head(&self) -> String {
        self.seen.lock().unwrap().last().cloned().unwrap()
    }
}

/// Ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Answers the requests of a connection: streams with a line, a pause until the test says so, and
/// another one; all else with a word.
fn answer(stream: TcpStream, seen: &Mutex<Vec<String>>, wait: &Mutex<Receiver<()>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match reader.read_line(&mut head) {
                Ok(read) if read > 0 => {}
                _ => return,
            }
        }

        let head = head.replace("\r\n", "\n").to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0);
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        seen.lock().unwrap().push(head);
        if reader
            .by_ref()
            .take(length)
            .read_to_end(&mut Vec::new())
            .is_err()
        {
            return;
        }
        let is_stream =
            path.ends_with("/logs") || path.ends_with("/stream") || path.starts_with("/live");
        if !is_stream {
            if stream
                .write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok",
                )
                .is_err()
            {
                return;
            }
            continue;
        }

        let _ = stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: \
              text/event-stream\r\nConnection: close\r\n\r\ndata: first\n\n",
        );

        if wait
            .lock()
            .unwrap()
            .recv_timeout(crate::support::PATIENCE)
            .is_ok()
        {
            let _ = stream.write_all(b"data: second\n\n");
        }
        return;
    }
}
