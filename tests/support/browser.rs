//! A headless Chromium, told what to do through a pair of pipes (its DevTools protocol): no port, no driver.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::waiting::{PATIENCE, eventually, within};

/// One page in a browser of its own. Dropping it ends the browser.
pub struct Browser {
    process: Child,
    orders: File,
    answers: Receiver<Value>,
    asked: u64,
    session: String,
    /// What the page complained of: exceptions, refused loads, violations of its policy.
    complaints: Vec<String>,
    _folder: TempDir,
}

/// Nothing of the machine's, nothing over the network but what the page asks for.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
];

impl Browser {
    /// Starts one with an empty page.
    pub fn start(program: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pipes = ["orders", "answers"].map(|name| folder.path().join(name));
        assert!(Command::new("mkfifo").args(&pipes).status().unwrap().success());
        // It reads orders from descriptor 3 and answers to descriptor 4.
        let process = Command::new("sh")
            .args(["-c", "orders=$1 answers=$2; shift 2; exec \"$@\" 3<\"$orders\" 4>\"$answers\"", "sh"])
            .args(&pipes)
            .arg(program)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", folder.path().join("data").display()))
            // Where it keeps more than that.
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let orders = File::options().write(true).open(&pipes[0]).unwrap();
        let reader = BufReader::new(File::open(&pipes[1]).unwrap());
        let (tell, answers) = channel();
        thread::spawn(move || {
            for answer in reader.split(0).map_while(Result::ok) {
                let answer = serde_json::from_slice(&answer).expect("JSON from the browser");
                if tell.send(answer).is_err() {
                    return;
                }
            }
        });
        let session = String::new();
        let complaints = Vec::new();
        let mut browser = Self { process, orders, answers, asked: 0, session, complaints, _folder: folder };
        let target = browser.tell("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            browser.tell("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        attached["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        for domain in ["Page", "Runtime", "Log"] {
            browser.tell(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Has it do something; what it answers.
    #[track_caller]
    pub fn tell(&mut self, method: &str, parameters: Value) -> Value {
        self.asked += 1;
        let mut order = json!({ "id": self.asked, "method": method, "params": parameters });
        if !self.session.is_empty() {
            order["sessionId"] = Value::from(self.session.as_str());
        }
        self.orders.write_all(format!("{order}\0").as_bytes()).unwrap();
        loop {
            let answer = self.answers.recv_timeout(PATIENCE);
            let answer = answer.unwrap_or_else(|error| panic!("no answer to {method}: {error}"));
            if answer["id"] == self.asked {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let said = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => &event["params"]["exceptionDetails"],
            Some("Log.entryAdded") if event["params"]["entry"]["level"] == "error" => &event["params"]["entry"]["text"],
            _ => return,
        };
        self.complaints.push(said.to_string());
    }

    /// What the page has complained of since the last time that this was asked.
    pub fn complaints(&mut self) -> Vec<String> {
        // Events come in order with answers.
        self.look("0");
        std::mem::take(&mut self.complaints)
    }

    /// Opens a page.
    #[track_caller]
    pub fn open(&mut self, url: &str) {
        let opened = self.tell("Page.navigate", json!({ "url": url }));
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
    }

    /// What an expression is in the page.
    #[track_caller]
    pub fn look(&mut self, expression: &str) -> Value {
        let looked = self.tell("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(looked["exceptionDetails"].is_null(), "{expression}: {looked}");
        looked["result"]["value"].clone()
    }

    /// Waits until an expression is true in the page; `instead` says what is there meanwhile.
    #[track_caller]
    pub fn wait_until(&mut self, expression: &str, instead: &str) {
        eventually(&format!("{expression} in the page"), || match self.look(expression) {
            Value::Bool(true) => Ok(()),
            _ => Err(self.look(instead).to_string()),
        });
    }

    /// Shows the page at this size, in light or dark.
    pub fn show_as(&mut self, [width, height]: [u32; 2], is_phone: bool, scheme: &str) {
        let scale = if is_phone { 2 } else { 1 };
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": is_phone });
        self.tell("Emulation.setDeviceMetricsOverride", size);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.tell("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// A picture of what is shown, PNG.
    pub fn picture(&mut self) -> Vec<u8> {
        let taken = self.tell("Page.captureScreenshot", json!({ "format": "png", "optimizeForSpeed": false }));
        from_base64(taken["data"].as_str().expect("a picture"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // In order, so that its helpers end with it.
        drop(self.orders.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0"));
        let ended = within(PATIENCE / 3, || match self.process.try_wait() {
            Ok(Some(_)) => Ok(()),
            _ => Err(String::new()),
        });
        if ended.is_err() {
            drop(self.process.kill());
            drop(self.process.wait());
        }
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |char: u8| match char {
        b'A'..=b'Z' => char - b'A',
        b'a'..=b'z' => char - b'a' + 26,
        b'0'..=b'9' => char - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|char| *char != b'=').map(value).collect();
    let group = |group: &[u8]| {
        let all = group.iter().fold(0_u32, |all, digit| (all << 6) | u32::from(*digit)) << (6 * (4 - group.len()));
        all.to_be_bytes()[1..group.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}
