//! A page in a real browser that is told what to do: Chromium by its driver, over the protocol WebDriver, as far as the tests need it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The first of these programs that this machine has; says that a test is skipped where it has none.
pub fn program(names: &[&str]) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut all = std::env::split_paths(&paths).flat_map(|path| names.iter().map(move |name| path.join(name)));
    let found = all.find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: there is no {} on this machine", names.join(", nor "));
    }
    found
}

/// What Chromium is called.
pub const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser that shows a page and ends with its test.
pub struct Browser {
    driver: Child,
    address: String,
    session: String,
    _profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without this the browser outlives its driver.
        let _ = self.exchange("DELETE", "", &json!({}));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

impl Browser {
    /// Opens a page in a window of this width, if there are a browser and its driver.
    pub fn open(page: &Path, width: usize) -> Option<Self> {
        let (binary, driver) = (program(&CHROMIUM)?, program(&["chromedriver"])?);
        let profile = tempfile::tempdir().unwrap();
        let mut driver =
            Command::new(driver).arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port =
            lines.find_map(|line| Some(line.split_once("successfully on port ")?.1.trim_end_matches('.').to_owned()));
        let port = port.expect("the driver says its port");
        // It goes on talking, and would wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let address = format!("127.0.0.1:{port}");
        let mut arguments: Vec<String> = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-sync",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        arguments.push(format!("--window-size={width},900"));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"binary": binary, "args": arguments}, "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let mut browser = Self { driver, address, session: String::new(), _profile: profile };
        let answer = browser.ask("POST", "", &wanted);
        browser.session = answer["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {answer}")).to_owned();
        browser.ask("POST", "/url", &json!({"url": format!("file://{}", page.display())}));
        Some(browser)
    }

    /// Sends a command of the session and hands back its value.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let (head, value) =
            self.exchange(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {}", value["value"]["message"]);
        value["value"].clone()
    }

    /// The head and the body of an answer. The driver leaves its connections open, so the head says where the body ends.
    fn exchange(&self, method: &str, path: &str, body: &Value) -> std::io::Result<(String, Value)> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        let path =
            if self.session.is_empty() { "/session".to_owned() } else { format!("/session/{}{path}", self.session) };
        let body = body.to_string();
        let (address, length) = (&self.address, body.len());
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n");
        write!(&stream, "{head}Content-Length: {length}\r\n\r\n{body}")?;
        let (mut reader, mut head, mut length) = (BufReader::new(&stream), String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let start = head.len();
            if reader.read_line(&mut head)? == 0 {
                break;
            }
            if let Some(number) = head[start..].to_ascii_lowercase().strip_prefix("content-length:") {
                length = number.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok((head, serde_json::from_slice(&body)?))
    }

    /// What a script on the page returns.
    pub fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// The text that a script returns.
    pub fn text(&self, script: &str) -> String {
        self.run(script).as_str().unwrap_or_default().to_owned()
    }

    /// The element that a selector finds.
    fn element(&self, selector: &str) -> String {
        let found = self.ask("POST", "/element", &json!({"using": "css selector", "value": selector}));
        let id = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
        id.unwrap_or_else(|| panic!("{selector}: {found}")).to_owned()
    }

    /// Clicks into the middle of what a selector finds, as a hand does.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.ask("POST", &format!("/element/{element}/click"), &json!({}));
    }

    /// Clicks at a place of an element, in pixels from its middle, which is brought into the window before.
    pub fn click_at(&self, selector: &str, x: i64, y: i64) {
        self.run(&format!("document.querySelector('{selector}').scrollIntoView({{block: 'center'}})"));
        let origin = json!({"element-6066-11e4-a52e-4f735466cecf": self.element(selector)});
        let actions = json!([
            {"type": "pointerMove", "duration": 0, "origin": origin, "x": x, "y": y},
            {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0},
        ]);
        let pointer = json!({"type": "pointer", "id": "mouse", "actions": actions});
        self.ask("POST", "/actions", &json!({"actions": [pointer]}));
    }

    /// Waits until a script returns true.
    pub fn wait(&self, script: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.run(script) != true {
            assert!(Instant::now() < until, "{script} has not become true");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the console says since it was last asked.
    pub fn console(&self) -> Vec<String> {
        let said = self.ask("POST", "/se/log", &json!({"type": "browser"}));
        said.as_array().into_iter().flatten().map(Value::to_string).collect()
    }
}
