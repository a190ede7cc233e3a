//! The page in a real browser: what it draws, what it answers to, and that it asks for nothing. `make test-browser` runs this.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::tests::page;

/// How long an answer of the browser may take: it starts beside everything else that is tested.
const PATIENCE: Duration = Duration::from_secs(120);
/// Debian's package of the browser, and its program.
const PROGRAM: &str = "chromium-headless-shell";

/// A browser without a window, spoken to by its own protocol over a pipe
/// (<https://chromedevtools.github.io/devtools-protocol/>).
struct Browser {
    child: Child,
    input: ChildStdin,
    output: Receiver<Value>,
    events: VecDeque<Value>,
    /// All that the page asked for, and all that went wrong in it.
    requests: Vec<String>,
    errors: Vec<String>,
    session: Option<String>,
    last: u64,
    folder: tempfile::TempDir,
}

impl Browser {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // It reads from its third and writes to its fourth descriptor.
        let child = Command::new("sh")
            .arg("-c")
            .arg("exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null")
            .args([
                "sh",
                PROGRAM,
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--no-first-run",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .arg("--host-resolver-rules=MAP * ~NOTFOUND")
            .arg(format!(
                "--user-data-dir={}",
                folder.path().join("profile").display()
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            while lines.read_until(0, &mut bytes).is_ok_and(|read| read > 0) {
                bytes.pop_if(|byte| *byte == 0);
                let Ok(message) = serde_json::from_slice(&bytes) else {
                    break;
                };
                bytes.clear();
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser = Self {
            child,
            input,
            output,
            events: VecDeque::new(),
            requests: Vec::new(),
            errors: Vec::new(),
            session: None,
            last: 0,
            folder,
        };
        let target = browser.ask("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.ask("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let sent = self
            .input
            .write_all(&bytes)
            .and_then(|()| self.input.flush());
        sent.unwrap_or_else(|error| {
            panic!("{PROGRAM} has ended ({error}): is Debian's package {PROGRAM} installed? `make packages` installs it")
        });
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.next(end, method);
            if answer["id"] == json!(self.last) {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.note(answer);
        }
    }

    fn next(&mut self, end: Instant, what: &str) -> Value {
        let left = end.saturating_duration_since(Instant::now());
        self.output.recv_timeout(left).unwrap_or_else(|error| {
            panic!("no answer to {what} ({error}): is Debian's package {PROGRAM} installed? `make packages` installs it")
        })
    }

    fn note(&mut self, event: Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Network.requestWillBeSent" => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                self.requests.push(url.to_owned());
            }
            "Runtime.exceptionThrown" => self.errors.push(params.to_string()),
            "Log.entryAdded" => self.errors.push(params["entry"].to_string()),
            "Runtime.consoleAPICalled" => self.errors.push(params["args"].to_string()),
            _ => {}
        }
        self.events.push_back(event);
    }

    /// Opens a page on a screen of this size, and waits until it is there.
    fn open(&mut self, url: &str, width: u32, height: u32, dark: bool) {
        let screen =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", screen);
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.ask("Emulation.setEmulatedMedia", media);
        self.events.clear();
        self.ask("Page.navigate", json!({"url": url}));
        let end = Instant::now() + PATIENCE;
        let loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.events.iter().any(loaded) {
            let event = self.next(end, "loading the page");
            self.note(event);
        }
    }

    /// The value of an expression in the page.
    fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true});
        let answer = self.ask("Runtime.evaluate", asked);
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    fn click(&mut self, selector: &str) {
        let place = self.value(&format!(
            "(() => {{ const box = document.querySelector({selector:?}).getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
            self.ask("Input.dispatchMouseEvent", event);
        }
    }

    fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let event =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.ask("Input.dispatchKeyEvent", event);
        }
    }

    /// Keeps a picture of the whole page for people, and says how many bytes it has.
    fn picture(&mut self, name: &str) -> usize {
        let asked = json!({"format": "png", "captureBeyondViewport": true});
        let answer = self.ask("Page.captureScreenshot", asked);
        let bytes = STANDARD.decode(answer["data"].as_str().unwrap()).unwrap();
        let folder = pictures();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), &bytes).unwrap();
        bytes.len()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where pictures are kept.
fn pictures() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target =
        target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"));
    target.join("browser")
}

/// The share of the map that its parts cover: those that fill the view, and those that hold no others.
const COVERED: &str = "(() => {
  const svg = document.querySelector('section.map svg');
  const all = svg.clientWidth * svg.clientHeight;
  const area = (rects) => rects.reduce((sum, rect) => sum + rect.width.baseVal.value * rect.height.baseVal.value, 0) / all;
  const rects = [...svg.querySelectorAll('rect')];
  const inside = rects.every((rect) => rect.x.baseVal.value >= -0.5 && rect.y.baseVal.value >= -0.5
    && rect.x.baseVal.value + rect.width.baseVal.value <= svg.clientWidth + 0.5
    && rect.y.baseVal.value + rect.height.baseVal.value <= svg.clientHeight + 0.5);
  const tops = [...svg.querySelectorAll(':scope > g > g > rect')];
  const leaves = rects.filter((rect) => !rect.classList.contains('folder'));
  return {inside, tops: area(tops), leaves: area(leaves), count: rects.length};
})()";

fn check_map(browser: &mut Browser) {
    let covered = browser.value(COVERED);
    assert_eq!(covered["inside"], true, "{covered}");
    let tops = covered["tops"].as_f64().unwrap();
    assert!((0.99..1.01).contains(&tops), "{covered}");
    let leaves = covered["leaves"].as_f64().unwrap();
    assert!(leaves > 0.8 && leaves < 1.01, "{covered}");
}

#[test]
#[ignore = "needs a browser: make test-browser"]
fn the_page_draws_zooms_and_loads_nothing_in_a_browser() {
    let mut browser = Browser::start();
    let path = browser.folder.path().join("page.html");
    std::fs::write(&path, page().html()).unwrap();
    let url = format!("file://{}", path.display());
    let way = "[...document.querySelectorAll('.crumbs button')].map((one) => one.textContent)";

    browser.open(&url, 1280, 900, false);
    check_map(&mut browser);
    assert_eq!(browser.value(way), json!(["all"]));
    assert!(browser.picture("light") > 20_000);

    // A click opens a folder; Escape leaves it; the keyboard opens it, too, and what is in it.
    browser.click("g[aria-label^='usr,'] > text");
    assert_eq!(browser.value(way), json!(["all", "usr"]));
    check_map(&mut browser);
    browser.press("Escape", 27);
    assert_eq!(browser.value(way), json!(["all"]));
    browser.value("document.querySelector(\"g[aria-label^='usr,']\").focus()");
    browser.press("Enter", 13);
    assert_eq!(browser.value(way), json!(["all", "usr"]));
    let focused = browser.value("document.activeElement.getAttribute('aria-label')");
    assert!(focused.as_str().unwrap().starts_with("lib, "), "{focused}");
    browser.press("Enter", 13);
    assert_eq!(browser.value(way), json!(["all", "usr", "lib"]));
    check_map(&mut browser);
    // Names are text, whatever they hold.
    let names = browser.value("document.querySelector('section.map svg').textContent");
    assert!(
        names.as_str().unwrap().contains("</script><img src="),
        "{names}"
    );
    assert!(browser.picture("zoomed") > 10_000);
    browser.click(".crumbs button");
    assert_eq!(browser.value(way), json!(["all"]));

    // By layer, and by what is reached.
    browser.click("input[name=Map][value='1']");
    check_map(&mut browser);
    assert_eq!(
        browser.value("document.querySelectorAll('svg .hidden').length"),
        1
    );
    let legend = "document.querySelector('.legend').checkVisibility()";
    assert_eq!(browser.value(legend), false);
    browser.click("input[name=Color][value=reached]");
    assert_eq!(browser.value(legend), true);
    let colors = "[...new Set([...document.querySelectorAll('svg rect')].map((one) => one.classList[0]))].sort()";
    assert_eq!(
        browser.value(colors),
        json!(["folder", "hidden", "left", "reached"])
    );
    assert!(browser.picture("layers") > 20_000);

    let page = browser
        .value("[document.images.length, document.scripts.length, document.title.length > 100]");
    assert_eq!(page, json!([0, 2, true]));
    let text = browser.value("document.body.innerText");
    assert!(
        text.as_str()
            .unwrap()
            .contains("<img src=http://127.0.0.1:9/x"),
        "{text}"
    );

    browser.open(&url, 1280, 900, true);
    check_map(&mut browser);
    let dark = browser.value("getComputedStyle(document.body).backgroundColor");
    assert_eq!(dark, "rgb(20, 23, 27)");
    assert!(browser.picture("dark") > 20_000);

    browser.open(&url, 360, 740, false);
    check_map(&mut browser);
    let wide = "[...document.querySelectorAll('.bar, .bar label, svg, h1, .facts')]
        .every((one) => one.getBoundingClientRect().right <= 360)";
    assert_eq!(browser.value(wide), true);
    assert_eq!(
        browser.value("document.documentElement.scrollWidth <= 360"),
        true
    );
    assert!(browser.picture("narrow") > 10_000);

    // Without scripts both maps are there as pictures.
    browser.ask(
        "Emulation.setScriptExecutionDisabled",
        json!({"value": true}),
    );
    browser.open(&url, 1280, 900, false);
    assert!(browser.picture("without-script") > 20_000);
    browser.ask(
        "Emulation.setScriptExecutionDisabled",
        json!({"value": false}),
    );
    assert_eq!(
        browser.value("document.querySelectorAll('section.map svg rect').length > 20"),
        true
    );

    let asked: Vec<_> = browser
        .requests
        .iter()
        .filter(|asked| **asked != url)
        .collect();
    assert!(asked.is_empty(), "{asked:?}");
    assert!(browser.errors.is_empty(), "{:?}", browser.errors);
}

/// For looking at it: the page of a real image.
#[test]
#[ignore = "for people: IMAGE=registry.example.com/team/app:1 cargo test -- --ignored the_page_of_a_real_image"]
fn the_page_of_a_real_image_is_drawn() {
    let image = std::env::var("IMAGE").expect("IMAGE says which");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let html = runtime.block_on(crate::inspect::html(&image));
    let mut browser = Browser::start();
    let path = browser.folder.path().join("page.html");
    std::fs::write(&path, &html).unwrap();
    println!("{} bytes", html.len());
    let url = format!("file://{}", path.display());
    for (name, width, dark) in [
        ("real", 1280, false),
        ("real-dark", 1280, true),
        ("real-narrow", 390, false),
    ] {
        browser.open(&url, width, 900, dark);
        browser.picture(name);
    }
    browser.open(&url, 1280, 900, false);
    browser.click("input[name=Map][value='1']");
    browser.picture("real-layers");
    browser.click("input[name=Color][value=reached]");
    browser.picture("real-reached");
    assert!(browser.errors.is_empty(), "{:?}", browser.errors);
}
