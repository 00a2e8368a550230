//! A real browser as a value: Debian's chromium, driven through chromedriver. Its processes are
//! this machine's, its network is where the test runs, which is the lab's.
//!
//! Whatever the browser complains of on its console fails the test at the next
//! [`Browser::is_quiet`], a violation of the content security policy included. [`Browser::shoot`]
//! looks at a page as a whole: what axe-core says of it, how it fits on a phone, and a picture of
//! it for people.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use axum::http::Method;
use fantoccini::actions::{InputSource as _, MouseActions, PointerAction};
use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::wd::{WebDriverCompatibleCommand, WindowHandle};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::lab::{command, repository, wait_for};

/// Where left4me-web.socket listens.
const ORIGIN: &str = "http://127.0.0.1:8000";

/// For what a page does by itself, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The sizes, in CSS pixels, that pages are looked at.
const DESKTOP: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (360, 740);

/// Whether pages' scripts run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scripts {
    On,
    Off,
}

/// A browser with one user in it.
pub struct Browser {
    runtime: Runtime,
    client: Client,
    driver: Child,
    /// Pipes of a program that still writes into them.
    _output: BufReader<ChildStdout>,
    _profile: TempDir,
    pictures: PathBuf,
    scripts: Scripts,
}

/// What WebDriver has no word for, and chromedriver has.
#[derive(Debug)]
struct Ask {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Ask {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!(
            "session/{}/{}",
            session.unwrap_or_default(),
            self.path
        ))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

/// The way to an element by what people see: a link's or button's words, or its label.
pub struct Named<'a>(pub &'a str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.0;
        assert!(!words.contains('"'), "no quotes in {words}");
        write!(
            f,
            r#"(//a|//button|//summary)[normalize-space(.)="{words}" or @aria-label="{words}"] | //label[contains(normalize-space(.), "{words}")]//input"#
        )
    }
}

impl Browser {
    /// Starts one, with nothing remembered. `suite` tells the pictures of two runs apart.
    #[track_caller]
    pub fn start(suite: &str, scripts: Scripts) -> Self {
        let profile = TempDir::new().expect("a directory for the profile");
        let (driver, output, port) = (0..5)
            .find_map(|_| chromedriver(profile.path()))
            .expect("chromedriver names its port");
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let capabilities = match capabilities(
            profile.path().join("data").to_str().expect("a path"),
            scripts,
        ) {
            Value::Object(capabilities) => capabilities,
            _ => unreachable!("an object is what was made"),
        };

        let client = runtime.block_on(
            ClientBuilder::new(HttpConnector::new())
                .capabilities(capabilities)
                .connect(&format!("http://127.0.0.1:{port}")),
        );

        let pictures = repository().join("target/screenshots").join(suite);
        std::fs::create_dir_all(&pictures).expect("a directory for the pictures");
        let browser = Self {
            runtime,
            client: client.expect("a browser"),
            driver,
            _output: output,
            _profile: profile,
            pictures,
            scripts,
        };

        browser.size(DESKTOP);
        browser
    }

    fn run<T>(&self, doing: impl Future<Output = Result<T, CmdError>>) -> Result<T, String> {
        self.runtime
            .block_on(doing)
            .map_err(|error| error.to_string())
    }

    fn ask(&self, path: &'static str, body: Value) -> Value {
        self.run(self.client.issue_cmd(Ask { path, body }))
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn devtools(&self, method: &str, params: &Value) {
        self.ask("goog/cdp/execute", json!({"cmd": method, "params": params}));
    }
}

/// Going, seeing, doing.
impl Browser {
    /// Opens a page.
    #[track_caller]
    pub fn go(&self, path: &str) {
        self.run(self.client.goto(&format!("{ORIGIN}{path}")))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// The page's path, with its query.
    #[track_caller]
    pub fn path(&self) -> String {
        let url = self.run(self.client.current_url()).expect("an address");
        url[url::Position::BeforePath..].to_owned()
    }

    /// What a script gives back.
    #[track_caller]
    pub fn js(&self, script: &str) -> Value {
        self.run(self.client.execute(script, Vec::new()))
            .unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// All text that is seen in the first element of this kind; empty when there is none.
    pub fn text(&self, css: &str) -> String {
        let found = self.run(async { self.client.find(Locator::Css(css)).await?.text().await });
        found.unwrap_or_default()
    }

    /// Waits until `css` shows `words`.
    #[track_caller]
    pub fn sees(&self, css: &str, words: &str) {
        self.waits(&format!("'{words}' in {css}"), || {
            let text = self.text(css);
            if text.contains(words) {
                Ok(())
            } else {
                Err(text)
            }
        });
    }

    /// Waits until the page's path is `path`.
    #[track_caller]
    pub fn comes_to(&self, path: &str) {
        self.waits(&format!("the page {path}"), || {
            let now = self.path();
            if now == path {
                Ok(())
            } else {
                Err(format!("{now}: {}", self.text("main")))
            }
        });
    }

    /// Looks until `look` is content.
    #[track_caller]
    pub fn waits<T>(&self, what: &str, look: impl FnMut() -> Result<T, String>) -> T {
        wait_for(what, PATIENCE, look)
    }

    /// Does something with an element, as soon as it is there and takes it: pages move.
    #[track_caller]
    fn with<T>(
        &self,
        what: &str,
        at: Locator<'_>,
        act: impl AsyncFn(Element) -> Result<T, CmdError>,
    ) -> T {
        self.waits(what, || {
            self.run(async { act(self.client.find(at).await?).await })
        })
    }

    /// Clicks what has this name; the first that is seen.
    #[track_caller]
    pub fn click(&self, name: &str) {
        self.click_at(&Named(name).to_string());
    }

    /// Clicks what this XPath finds; the first that is seen.
    #[track_caller]
    pub fn click_at(&self, xpath: &str) {
        self.waits(&format!("a click at {xpath}"), || {
            self.run(async {
                for element in self.client.find_all(Locator::XPath(xpath)).await? {
                    if element.is_displayed().await? {
                        return element.click().await.map(Some);
                    }
                }

                Ok(None)
            })?
            .ok_or_else(|| format!("not there, but: {}", self.text("main")))
        });
    }

    /// Clicks twice, as fast as a mouse can.
    #[track_caller]
    pub fn click_twice(&self, name: &str) {
        let xpath = Named(name).to_string();
        self.with(
            &format!("two clicks at {name}"),
            Locator::XPath(&xpath),
            async |element| {
                let to = PointerAction::MoveToElement {
                    element,
                    duration: None,
                    x: 0.,
                    y: 0.,
                };

                let (down, up) = (
                    PointerAction::Down { button: 0 },
                    PointerAction::Up { button: 0 },
                );

                let mouse = [to, down.clone(), up.clone(), down, up]
                    .into_iter()
                    .fold(MouseActions::new("mouse".into()), |all, one| all.then(one));
                self.client.perform_actions(mouse).await
            },
        );
    }

    /// Waits until the job's page says this of its state by itself.
    #[track_caller]
    pub fn wait_for_state(&self, state: &str, seconds: u64) {
        wait_for(
            &format!("the job is {state}"),
            Duration::from_secs(seconds),
            || {
                let now = self.text("#state");
                if now == state { Ok(()) } else { Err(now) }
            },
        );
    }

    /// What has the focus, in words.
    #[track_caller]
    pub fn focused(&self) -> String {
        self.js("return document.activeElement.textContent.trim()")
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// What a script gives to its `done`.
    #[track_caller]
    pub fn js_async(&self, script: &str) -> Value {
        let script = format!("const done = arguments[arguments.length - 1]; {script}");
        self.run(self.client.execute_async(&script, Vec::new()))
            .unwrap_or_else(|error| panic!("{script:.200}: {error}"))
    }

    /// Opens a page beside the one that is seen, which is given back.
    #[track_caller]
    pub fn open_another(&self, path: &str) -> WindowHandle {
        let before = self.run(self.client.window()).expect("a window");
        let opened = self.run(async {
            let opened = self.client.new_window(false).await?;
            self.client.switch_to_window(opened.handle).await
        });

        opened.expect("another window");
        self.go(path);
        before
    }

    /// Opens a page in a window of its own, which is seen beside the others.
    #[track_caller]
    pub fn open_window(&self, path: &str) {
        let opened = self.run(async {
            let opened = self.client.new_window(true).await?;
            self.client.switch_to_window(opened.handle).await
        });
        opened.expect("another window");
        self.go(path);
    }

    /// Closes all windows but the first one, and looks at that.
    #[track_caller]
    pub fn close_others(&self) {
        let closed = self.run(async {
            let windows = self.client.windows().await?;
            for window in &windows[1..] {
                self.client.switch_to_window(window.clone()).await?;
                self.client.close_window().await?;
            }

            self.client.switch_to_window(windows[0].clone()).await
        });

        closed.expect("one window is left");
    }

    /// Looks at another page that is open.
    #[track_caller]
    pub fn turn_to(&self, window: WindowHandle) {
        self.run(self.client.switch_to_window(window))
            .expect("a window");
    }

    /// Puts text into a field, in place of what is there.
    #[track_caller]
    pub fn fill(&self, css: &str, text: &str) {
        self.with(
            &format!("{css} takes text"),
            Locator::Css(css),
            async |field| {
                field.clear().await?;
                field.send_keys(text).await
            },
        );
    }

    /// Chooses what has these words in a list.
    #[track_caller]
    pub fn choose(&self, css: &str, words: &str) {
        self.with(
            &format!("{css} takes {words}"),
            Locator::Css(css),
            async |list| list.select_by_label(words).await,
        );
    }

    /// Presses keys, wherever the focus is.
    #[track_caller]
    pub fn press(&self, keys: &str) {
        self.run(async { self.client.active_element().await?.send_keys(keys).await })
            .expect("keys are taken");
    }

    /// An attribute of the first element of this kind.
    #[track_caller]
    pub fn attribute(&self, css: &str, name: &str) -> String {
        self.with(css, Locator::Css(css), async |element| {
            element.attr(name).await
        })
        .unwrap_or_default()
    }

    /// Signs in, from the page that asks for it.
    #[track_caller]
    pub fn sign_in(&self, name: &str, password: &str) {
        self.fill("input[name=name]", name);
        self.fill("input[name=password]", password);
        self.click("Sign in");
    }
}

/// What a page must hold, whatever is on it.
impl Browser {
    /// What the browser complained of since the last time.
    #[track_caller]
    pub fn complaints(&self) -> Vec<String> {
        let entries = self.ask("se/log", json!({"type": "browser"}));
        let entries = entries.as_array().cloned().unwrap_or_default();
        let told = |entry: &Value| format!("{}: {}", entry["level"], entry["message"]);
        entries
            .iter()
            .filter(|entry| entry["level"] != "INFO" && entry["level"] != "DEBUG")
            .map(told)
            .collect()
    }

    /// Panics if the browser has complained of anything.
    #[track_caller]
    pub fn is_quiet(&self) {
        assert_eq!(
            self.complaints(),
            Vec::<String>::new(),
            "the browser's console at {}",
            self.path()
        );
    }

    /// Panics unless the browser has complained of this, and of nothing else: the story asked for
    /// it.
    #[track_caller]
    pub fn complains_only_of(&self, words: &str) {
        let complaints = self.complaints();
        let as_expected =
            !complaints.is_empty() && complaints.iter().all(|one| one.contains(words));
        assert!(as_expected, "{words} at {}: {complaints:#?}", self.path());
    }

    /// The same for the status of the page that was asked for.
    #[track_caller]
    pub fn is_told(&self, status: u16) {
        self.complains_only_of(&format!("the server responded with a status of {status}"));
    }

    /// Looks at a page in light and at a desk; panics on what users should not have to put up with.
    #[track_caller]
    pub fn shoot(&self, name: &str) {
        self.picture(name);
        self.is_accessible(name);
        self.is_quiet();
    }

    /// [`Browser::shoot`], and on a phone in the dark.
    #[track_caller]
    pub fn shoot_all(&self, name: &str) {
        self.shoot(name);
        self.devtools(
            "Emulation.setEmulatedMedia",
            &json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]}),
        );

        self.size(PHONE);
        self.picture(&format!("{name}-phone-dark"));
        self.is_accessible(&format!("{name}, on a phone in the dark"));
        self.fits(name);
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": []}));
        self.size(DESKTOP);
        self.is_quiet();
    }

    /// Takes a picture of the page in a window of this width.
    #[track_caller]
    pub fn shoot_at(&self, name: &str, width: u32) {
        self.size((width, DESKTOP.1));
        self.picture(&format!("{name}-{width}"));
    }

    /// A browser in this time zone.
    pub fn in_zone(&self, zone: &str) {
        self.devtools(
            "Emulation.setTimezoneOverride",
            &json!({"timezoneId": zone}),
        );
    }

    /// A script that runs before those of each page from now on.
    pub fn before_pages(&self, script: &str) {
        self.devtools(
            "Page.addScriptToEvaluateOnNewDocument",
            &json!({"source": script}),
        );
    }

    /// Goes back to the usual size.
    pub fn at_a_desk(&self) {
        self.size(DESKTOP);
    }

    fn size(&self, (width, height): (u32, u32)) {
        let phone = width == PHONE.0;
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}),
        );
    }

    /// No page scrolls sideways.
    #[track_caller]
    fn fits(&self, name: &str) {
        let widest = "const wide = [...document.querySelectorAll('body *')].filter(e \
                      => e.getBoundingClientRect().right > 361 && !e.closest('.table, \
                      pre, .log-frame')).slice(0, 5).map(e => e.outerHTML.slice(0, \
                      120)); return [document.documentElement.scrollWidth, \
                      document.documentElement.clientWidth, wide]";
        let found = self.js(widest);
        let (scrolled, seen) = (found[0].as_u64(), found[1].as_u64());
        assert!(
            scrolled <= seen && seen == Some(PHONE.0.into()),
            "{name} is wider than a phone: {found:#}"
        );
    }

    #[track_caller]
    fn picture(&self, name: &str) {
        let picture = self
            .run(self.client.screenshot())
            .unwrap_or_else(|error| panic!("a picture of {name}: {error}"));
        std::fs::write(self.pictures.join(format!("{name}.png")), picture)
            .expect("the picture is written");
    }

    /// Panics on what axe-core calls serious or worse.
    #[track_caller]
    fn is_accessible(&self, name: &str) {
        if self.scripts == Scripts::On {
            let found = self.flaws();
            assert!(
                found.is_empty(),
                "axe-core on {name} at {}: {found:#?}",
                self.path()
            );
        }
    }

    /// What axe-core calls serious or worse.
    #[track_caller]
    pub fn flaws(&self) -> Vec<Value> {
        let found = self.js_async(&format!("if (!window.axe) {{ {}\n }} {RUN_AXE}", axe()));
        found
            .as_array()
            .cloned()
            .unwrap_or_else(|| panic!("axe-core at {}: {found}", self.path()))
    }
}

const RUN_AXE: &str = "
    window.axe.run(document, { resultTypes: ['violations'] }).then(
        (found) => done(found.violations.filter((one) => ['serious', \
        'critical'].includes(one.impact)).map((one) => ({
            rule: one.id, impact: one.impact, help: one.help,
            where: one.nodes.slice(0, 5).map((node) => [node.target.join(' '), node.html.slice(0, \
            200), node.failureSummary]),
        }))),
        (error) => done(String(error)));";

/// axe-core's script; `tests/run` fetches it.
fn axe() -> String {
    let path = std::env::var("LEFT4ME_TEST_AXE")
        .expect("LEFT4ME_TEST_AXE names axe.min.js: tests/run fetches it");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A chromedriver, its output and its port. None if it has ended: it picks a free port of IPv4 and
/// then needs the same one of IPv6.
fn chromedriver(home: &Path) -> Option<(Child, BufReader<ChildStdout>, u16)> {
    // Ends with the lab, whose group of processes it is in, if this test should be killed.
    let mut driver = command("chromedriver")
        .args(["--port=0", "--log-level=WARNING"])
        .env("HOME", home)
        .env("TMPDIR", home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver runs");
    let mut output = BufReader::new(driver.stdout.take().expect("a pipe"));

    match port(&mut output) {
        Some(port) => Some((driver, output, port)),
        None => {
            driver.kill().and_then(|()| driver.wait()).ok();
            None
        }
    }
}

/// The port that chromedriver says it has taken.
fn port(output: &mut BufReader<ChildStdout>) -> Option<u16> {
    let begun = Instant::now();
    let mut line = String::new();
    while begun.elapsed() < PATIENCE && output.read_line(&mut line).is_ok_and(|read| read > 0) {
        let port = line
            .trim_end()
            .trim_end_matches('.')
            .rsplit_once("successfully on port ")
            .map(|(_, port)| port.parse());
        if let Some(Ok(port)) = port {
            return Some(port);
        }
        line.clear();
    }

    None
}

/// Started by root, in a network without an outside.
fn capabilities(profile: &str, scripts: Scripts) -> Value {
    let mut options = json!({
        "args": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--lang=en-GB",
            "--force-color-profile=srgb", format!("--user-data-dir={profile}"),
        ],
    });

    if scripts == Scripts::Off {
        options["prefs"] = json!({"profile.managed_default_content_settings.javascript": 2});
    }
    json!({
        "browserName": "chrome",
        "goog:chromeOptions": options,
        "goog:loggingPrefs": {"browser": "ALL"},
        "timeouts": {"script": 60_000, "pageLoad": 60_000},
    })
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "---- the browser was at {}:\n{}",
                self.tried_path(),
                self.text("body")
            );

            if let Ok(picture) = self.run(self.client.screenshot()) {
                let which = self.driver.id();
                std::fs::write(self.pictures.join(format!("failed-{which}.png")), picture).ok();
            }
        }

        // Ends chromium and all of its processes, and then waits for them no longer.
        let closed = async { tokio::time::timeout(PATIENCE, self.client.clone().close()).await };
        self.runtime.block_on(closed).ok();
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}

impl Browser {
    fn tried_path(&self) -> String {
        self.run(self.client.current_url())
            .map_or_else(|error| error, |url| url.to_string())
    }
}
