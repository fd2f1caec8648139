//! The server as its clients meet it: the real program, asked over the network.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Said, command, line, lstm, trained};

/// A server that ends with its test.
struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer: its status, its headers and its body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }
}

impl Server {
    fn start(folder: &Path, options: &str) -> Self {
        Self::start_with(folder, options, None)
    }

    fn start_with(folder: &Path, options: &str, token: Option<&str>) -> Self {
        Self::of(folder, &format!("run {options}"), token)
    }

    /// models: with their options.
    fn of(folder: &Path, models: &str, token: Option<&str>) -> Self {
        let mut command = command(folder, &["serve", "--port", "0"]);
        command.args(models.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.env_remove("LSTM_SERVE_TOKEN");
        if let Some(token) = token {
            command.env("LSTM_SERVE_TOKEN", token);
        }
        let mut child = command.spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().strip_prefix("http://").unwrap_or_else(|| panic!("{address:?}")).to_owned();
        eprintln!("listening at {address}");
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends a request and hands back the connection.
    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = self.connect();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}",
            self.address
        );
        // Who is refused by the headers alone may find the connection closed.
        let _ = stream.write_all(request.as_bytes());
        stream
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut bytes = Vec::new();
        let _ = self.send(method, path, headers, body).read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let head = head.to_lowercase();
        let body = if head.contains("transfer-encoding: chunked") { joined(body) } else { body.to_owned() };
        Answer { status, head, body }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, "Content-Type: application/json\r\n", &body.to_string())
    }

    fn complete(&self, body: &Value) -> Value {
        let answer = self.post("/v1/completions", body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// The value of a figure of `/metrics`.
    fn figure(&self, name: &str) -> u64 {
        let text = self.get("/metrics").body;
        let line =
            text.lines().find(|line| line.starts_with(&format!("lstm_{name}{{"))).unwrap_or_else(|| panic!("{text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Waits until a figure is `value`.
    fn await_figure(&self, name: &str, value: u64) {
        let begun = Instant::now();
        while self.figure(name) != value {
            assert!(begun.elapsed() < Duration::from_secs(60), "{name} is {}, not {value}", self.figure(name));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The text of chunks.
fn joined(body: &str) -> String {
    let (mut text, mut rest) = (String::new(), body);
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        text.push_str(&more[..size]);
        rest = &more[size + 2..];
    }
    text
}

/// The events of a stream, and that it came to its end.
fn events(body: &str) -> Vec<Value> {
    let mut events: Vec<&str> = body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    assert_eq!(events.pop(), Some("[DONE]"), "{body}");
    events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}

#[test]
fn texts_come_whole_or_as_they_are_written_and_are_those_of_generate() {
    let folder = trained("");
    let server = Server::start(folder.path(), "");
    let asked = json!({"model": "run", "prompt": "the cat", "max_tokens": 30, "temperature": 0.8, "seed": 7});
    let whole = server.complete(&asked);
    let choice = &whole["choices"][0];
    assert_eq!((&whole["object"], &choice["finish_reason"]), (&json!("text_completion"), &json!("length")));
    assert_eq!(whole["usage"], json!({"prompt_tokens": 2, "completion_tokens": 30, "total_tokens": 32}));
    let generated =
        lstm(folder.path(), &["generate", "run", "--prompt", "the cat", "--length", "30", "--seed", "7", "--json"]);
    assert_eq!(choice["text"], generated.json()["text"]);

    let mut streamed = asked.clone();
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({"include_usage": true});
    let answer = server.post("/v1/completions", &streamed);
    assert!(answer.head.contains("text/event-stream"), "{}", answer.head);
    let events = events(&answer.body);
    let text: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!(json!(text), choice["text"]);
    assert!(events.len() > 20, "{}", events.len());
    let (last, others) = events.split_last().unwrap();
    assert_eq!((&last["usage"], &last["choices"]), (&whole["usage"], &json!([])));
    assert!(others.iter().all(|event| event["usage"].is_null() && event["id"] == events[0]["id"]));
    assert_eq!(others.last().unwrap()["choices"][0]["finish_reason"], "length");
}

#[test]
fn a_text_is_the_same_whatever_else_is_written() {
    let folder = trained("");
    let server = Server::start(folder.path(), "--rows 20");
    let asked = |seed: u64| json!({"prompt": ["the dog", "a cat sees"], "max_tokens": 40 + seed, "seed": seed, "n": 2, "logprobs": 2});
    let choices = |seed| server.complete(&asked(seed))["choices"].clone();
    let alone: Vec<Value> = (0..8).map(choices).collect();
    let together: Vec<Value> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|seed| scope.spawn(move || choices(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
    let texts: Vec<&Value> = alone[0].as_array().unwrap().iter().map(|choice| &choice["text"]).collect();
    assert!(texts.len() == 4 && texts[0] != texts[1], "{texts:?}");
    assert!(server.figure("prompt_tokens_reused_total") > 0);
}

#[test]
fn echo_logprobs_stop_and_best_of_are_openais() {
    let folder = trained("");
    let server = Server::start(folder.path(), "");
    let asked = json!({"prompt": "the cat sees", "max_tokens": 5, "echo": true, "logprobs": 3, "temperature": 0});
    let choice = server.complete(&asked)["choices"][0].clone();
    let probabilities = &choice["logprobs"];
    let tokens: Vec<&str> = probabilities["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!(tokens.len(), 8);
    assert_eq!(tokens.concat(), choice["text"].as_str().unwrap());
    assert!(choice["text"].as_str().unwrap().starts_with("the cat sees"));
    let offsets: Vec<u64> =
        probabilities["text_offset"].as_array().unwrap().iter().map(|o| o.as_u64().unwrap()).collect();
    for (token, offset) in tokens.iter().zip(&offsets) {
        assert!(choice["text"].as_str().unwrap()[*offset as usize..].starts_with(token));
    }
    for at in 3..8 {
        // The coldest choice is the likeliest there was, and among the three.
        let top = probabilities["top_logprobs"][at].as_object().unwrap();
        let own = probabilities["token_logprobs"][at].as_f64().unwrap();
        assert!(top.len() >= 3 && top.values().all(|other| other.as_f64().unwrap() <= own), "{top:?}");
    }
    // The prompt alone, scored.
    let read = server.complete(&json!({"prompt": "the cat", "max_tokens": 0, "echo": true, "logprobs": 0}));
    assert_eq!(read["choices"][0]["text"], "the cat");
    assert_eq!(read["choices"][0]["logprobs"]["tokens"], json!(["the", " cat"]));
    let scored = server.post("/v1/score", &json!({"text": ["the cat", ""]})).json();
    assert_eq!(scored["texts"][0]["tokens"][1]["logprob"], read["choices"][0]["logprobs"]["token_logprobs"][1]);
    assert_eq!(scored["texts"][1], json!({"nats": 0.0, "perplexity": null, "tokens": []}));

    let whole = server.complete(&json!({"prompt": "the", "max_tokens": 60, "seed": 3}))["choices"][0].clone();
    let text = whole["text"].as_str().unwrap();
    let stop = &text[20..26];
    for stream in [false, true] {
        let asked =
            json!({"prompt": "the", "max_tokens": 60, "seed": 3, "stop": ["never there", stop], "stream": stream});
        let answer = server.post("/v1/completions", &asked);
        let choices: Vec<Value> = match stream {
            true => events(&answer.body).iter().map(|event| event["choices"][0].clone()).collect(),
            false => vec![answer.json()["choices"][0].clone()],
        };
        let written: String = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
        assert_eq!(written, text[..text.find(stop).unwrap()]);
        assert_eq!(choices.last().unwrap()["finish_reason"], "stop");
    }

    let mean = |best_of: u64| {
        let asked =
            json!({"prompt": "a", "max_tokens": 20, "seed": 1, "best_of": best_of, "logprobs": 0, "temperature": 2});
        let answer = server.complete(&asked);
        assert_eq!(answer["usage"]["completion_tokens"], 20 * best_of);
        let logs = answer["choices"][0]["logprobs"]["token_logprobs"].clone();
        logs.as_array().unwrap().iter().map(|log| log.as_f64().unwrap()).sum::<f64>()
    };
    assert!(mean(12) > mean(1));
}

#[test]
fn a_clamped_unit_changes_the_text_and_what_is_inside_is_shown() {
    let folder = trained("");
    let server = Server::start(folder.path(), "");
    let asked = |clamp: Value| {
        server.complete(&json!({
            "prompt": "the", "max_tokens": 30, "seed": 1, "details": true, "clamp": clamp,
            "inside": {"layer": 1, "part": "h"},
        }))["choices"][0]
            .clone()
    };
    let (free, clamped) = (asked(json!([])), asked(json!([{"layer": 1, "unit": 3, "value": 5.0}])));
    assert_ne!(free["text"], clamped["text"]);
    assert!(clamped["details"].as_array().unwrap().iter().all(|token| token["inside"][3] == 5.0));
    assert_eq!(free["details"][0]["inside"].as_array().unwrap().len(), 8);
    assert_eq!(free["details"][0]["top"].as_array().unwrap().len(), 8);
    // A branch: the same tokens up to a place, another one there, and on.
    let ids: Vec<&Value> = free["details"].as_array().unwrap().iter().take(5).map(|token| &token["id"]).collect();
    let branched = server.complete(&json!({"prompt": ids, "max_tokens": 3, "seed": 1}));
    assert_eq!(branched["usage"]["prompt_tokens"], 5);
}

#[test]
fn requests_that_cannot_be_meant_are_refused_by_name() {
    let folder = trained("");
    let server = Server::start(folder.path(), "--most-tokens 50 --most-bytes 2000 --rows 4");
    let refused = |body: Value, status: u16, field: Value, said: &str| {
        let answer = server.post("/v1/completions", &body);
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.message().contains(said), "{body}: {}", answer.body);
        assert_eq!(answer.json()["error"]["param"], field, "{body}: {}", answer.body);
    };
    for (body, field, said) in [
        (json!({"temperature": -1}), json!("temperature"), "temperature is -1"),
        (json!({"top_p": 2}), json!("top_p"), "top_p is 2"),
        (json!({"n": 0}), json!("n"), "at least 1"),
        (json!({"n": 3, "best_of": 2}), json!("best_of"), "at least 3"),
        (json!({"best_of": 2, "stream": true}), json!("best_of"), "streamed"),
        (json!({"logprobs": 1000}), json!("logprobs"), "at most 100"),
        (json!({"max_tokens": 0}), json!("max_tokens"), "nothing to write"),
        (json!({"max_tokens": 51}), json!("max_tokens"), "more than the 50"),
        (json!({"prompt": [[1], [2], [1], [2], [1]]}), json!("prompt"), "at most 4"),
        (json!({"prompt": [99999]}), json!("prompt"), "token 99999"),
        (json!({"stop": ""}), json!("stop"), "empty"),
        (json!({"suffix": "x"}), json!("suffix"), "left to right"),
        (json!({"logit_bias": {"5": 1}}), json!("logit_bias"), "leave it out"),
        (json!({"frequency_penalty": 0.5}), json!("frequency_penalty"), "repetition_penalty"),
        (json!({"stream_options": {"include_usage": true}}), json!("stream_options"), "stream"),
        (json!({"clamp": [{"layer": 9, "unit": 0, "value": 0}]}), Value::Null, "layer 9"),
        (json!({"maximal_tokens": 5}), Value::Null, "maximal_tokens"),
        // Fields have names, and no order in which they could be listed.
        (json!([null, "the cat", 5]), Value::Null, "an object with named fields"),
        (json!({"stream": true, "stream_options": [true]}), Value::Null, "an object with named fields"),
        (json!({"clamp": [[0, 0, 1.0]]}), Value::Null, "an object with named fields"),
        (json!({"prompt": 5}), Value::Null, "a text, texts, tokens"),
    ] {
        refused(body, 400, field, said);
    }
    refused(json!({"model": "other"}), 404, json!("model"), "there is run");
    refused(json!({"prompt": "x".repeat(3000)}), 413, Value::Null, "2000");
    let json_type = "Content-Type: application/json\r\n";
    assert!(server.ask("POST", "/v1/completions", json_type, "{\"prompt\": ").message().contains("no JSON"));
    assert_eq!(server.ask("POST", "/v1/completions", "Content-Type: text/plain\r\n", "{}").status, 415);
    assert_eq!(server.get("/nothing").status, 404);
    assert_eq!(server.get("/v1/completions").status, 405);
    // A page of another site whose name leads here.
    let mut stream = server.connect();
    stream.write_all(b"GET /v1/models HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 403"), "{text}");
    // All that was refused holds no place.
    assert_eq!((server.figure("texts_running"), server.figure("texts_waiting")), (0, 0));
}

#[test]
fn who_goes_away_gives_the_place_back_and_who_comes_too_many_is_told_when_to_come_again() {
    let folder = trained("");
    let server = Server::start(folder.path(), "--rows 2 --waiting 2 --most-tokens 2000000");
    let json_type = "Content-Type: application/json\r\n";
    let long = json!({"prompt": "the", "max_tokens": 1_000_000, "stream": true, "n": 2}).to_string();
    // One who reads the beginning alone, and one who waits for a place.
    let mut first = server.send("POST", "/v1/completions", json_type, &long);
    let mut some = [0; 1000];
    assert!(first.read(&mut some).unwrap() > 0);
    server.await_figure("texts_running", 2);
    let waits = server.send("POST", "/v1/completions", json_type, &long);
    server.await_figure("texts_waiting", 2);
    let refused = server.post("/v1/completions", &json!({"prompt": "a"}));
    assert_eq!(refused.status, 429, "{}", refused.body);
    let seconds = refused.head.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap();
    assert!((1..=120).contains(&seconds.parse::<u64>().unwrap()), "{seconds}");
    // Both go away: the next one has a place.
    drop((first, waits));
    server.await_figure("texts_running", 0);
    server.await_figure("texts_waiting", 0);
    server.complete(&json!({"prompt": "a"}));
    // One who is answered as a whole, too.
    let whole = json!({"prompt": "the", "max_tokens": 1_000_000}).to_string();
    let whole = server.send("POST", "/v1/completions", json_type, &whole);
    server.await_figure("texts_running", 1);
    drop(whole);
    server.await_figure("texts_running", 0);
}

#[test]
fn time_ends_a_text_and_a_signal_ends_the_server_when_all_is_written() {
    let folder = trained("");
    let mut server = Server::start(folder.path(), "--time 1 --most-tokens 100000000");
    let long = json!({"prompt": "the", "max_tokens": 90_000_000, "stream": true});
    let events = events(&server.post("/v1/completions", &long).body);
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "length");
    #[cfg(unix)]
    {
        let mut last = server.send("POST", "/v1/completions", "Content-Type: application/json\r\n", &long.to_string());
        server.await_figure("texts_running", 1);
        let idle = server.connect();
        let pid = server.child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut text = String::new();
        last.read_to_string(&mut text).unwrap();
        assert!(text.contains("[DONE]"), "{}", &text[text.len().saturating_sub(300)..]);
        assert_eq!(server.child.wait().unwrap().code(), Some(0));
        assert!(TcpStream::connect(&server.address).is_err());
        drop(idle);
    }
}

#[test]
fn beyond_this_machine_it_wants_a_token() {
    let folder = trained("");
    let said = |options: &[&str], token: Option<&str>| {
        let mut command = command(folder.path(), &["serve", "run", "--port", "0"]);
        command.args(options).env_remove("LSTM_SERVE_TOKEN").envs(token.map(|token| ("LSTM_SERVE_TOKEN", token)));
        Said::new(command.output().unwrap())
    };
    for (options, token, expected) in [
        (&["--host", "0.0.0.0"][..], None, "without a token"),
        (&["--host", "::"], None, "without a token"),
        (&[], Some(""), "the token is empty"),
        (&["--host", "no such host"], None, "no address"),
        (&["--token-file", "missing"], None, "missing cannot be read"),
        (&["--rows", "0"], None, "--rows is 0"),
        (&["--runs", "text.txt"], None, "no folder"),
        (&["run"], None, "two models are named run"),
        (&["a/b=run"], None, "a/b"),
    ] {
        let said = said(options, token);
        assert_eq!(said.code, Some(2), "{options:?}: {}", said.err);
        assert!(said.err.contains(expected), "{options:?}: {}", said.err);
    }
    let server = Server::start_with(folder.path(), "--host 0.0.0.0", Some("secret"));
    let with = |token: &str| server.ask("GET", "/v1/models", &format!("Authorization: Bearer {token}\r\n"), "");
    assert_eq!((with("secret").status, with("wrong").status, with("").status), (200, 401, 401));
    assert_eq!(
        (server.get("/v1/models").status, server.get("/metrics").status, server.get("/health").status),
        (401, 401, 200)
    );
    assert!(server.get("/").body.contains("Token of this server"));
}

#[test]
fn models_and_runs_are_listed() {
    let folder = trained("");
    let server = Server::start(folder.path(), "again=run --runs .");
    let models = server.get("/v1/models").json();
    let names: Vec<&Value> = models["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(names, ["run", "again"]);
    assert_eq!(models["data"][0]["units"], json!([8, 8]));
    assert_eq!(server.get("/v1/models/again").json()["id"], "again");
    let one = |model| server.complete(&json!({"model": model, "prompt": "the", "seed": 1}))["choices"].clone();
    assert_eq!(one("run"), one("again"));
    assert!(server.post("/v1/completions", &json!({"prompt": "the"})).message().contains("run, again"));
    assert_eq!(server.get("/runs").json()["runs"][0]["name"], "run");
    let lines = server.get("/runs/run").json()["lines"].clone();
    assert!(lines.as_array().unwrap().iter().any(|line| line["valid"].is_number()), "{lines}");
    let all = lines.as_array().unwrap().len();
    assert_eq!(server.get(&format!("/runs/run?from={}", all - 1)).json()["lines"].as_array().unwrap().len(), 1);
    for path in ["/runs/..", "/runs/%2e%2e", "/runs/..%2f", "/runs/other"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    let api = server.get("/openapi.json").json();
    for path in api["paths"].as_object().unwrap().keys().filter(|path| !path.contains('{')) {
        assert_ne!(server.get(path).status, 404, "{path}");
    }
}

#[test]
fn a_model_that_reads_windows_is_served_too() {
    let folder = crate::folder();
    let sizes = "--layers 2 --hidden 8 --embedding 6 --batch 4 --epochs 2 --batches windows(3)";
    let said = line(folder.path(), &format!("train text.txt {sizes} --out run"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let server = Server::start(folder.path(), "");
    let whole = server.complete(&json!({"prompt": "the cat", "max_tokens": 10, "seed": 7, "temperature": 0.8}));
    let generated = line(folder.path(), "generate run --prompt the --length 10 --seed 7 --json");
    assert_eq!(generated.code, Some(0), "{}", generated.err);
    let again = server.complete(&json!({"prompt": "the", "max_tokens": 10, "seed": 7, "temperature": 0.8}));
    assert_eq!(again["choices"][0]["text"], generated.json()["text"]);
    assert_ne!(whole["choices"][0]["text"], "");
}

/// The official package from PyPI, where it is installed for the Python of `LSTM_TEST_PYTHON`.
#[test]
fn the_openai_package_works_unchanged() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/serve/openai_client.py");
    let python = std::env::var("LSTM_TEST_PYTHON").unwrap_or("python3".to_owned());
    let mut command = std::process::Command::new(python);
    command.arg(script).args(["--lstm", env!("CARGO_BIN_EXE_lstm")]);
    let Ok(output) = command.output() else { return eprintln!("skipped: there is no Python") };
    let said = Said::new(output);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    eprint!("{}", said.out);
}

/// The page in a real Chromium, where that and its driver are installed, and selenium for the Python of `LSTM_TEST_PYTHON`.
#[test]
fn the_page_works_in_a_browser() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/serve/browser.py");
    let python = std::env::var("LSTM_TEST_PYTHON").unwrap_or("python3".to_owned());
    let mut command = std::process::Command::new(python);
    command.arg(script).args(["--lstm", env!("CARGO_BIN_EXE_lstm")]);
    if let Ok(axe) = std::env::var("LSTM_TEST_AXE") {
        command.args(["--axe", &axe]);
    }
    let Ok(output) = command.output() else { return eprintln!("skipped: there is no Python") };
    let said = Said::new(output);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    eprint!("{}", said.out);
}

/// A model file by itself, its run gone; and weights of fewer bits, of a file that has them and of one that is asked for them.
#[test]
fn a_model_file_is_served_and_in_weights_of_fewer_bits() {
    let folder = trained("");
    let path = folder.path();
    let body = json!({"prompt": "the cat sees a dog", "echo": true, "temperature": 0, "max_tokens": 12, "logprobs": 1});
    let asked = |models: &str| {
        let server = Server::of(path, models, None);
        let models = server.get("/v1/models").json();
        let answer = server.complete(&body);
        let choice = &answer["choices"][0];
        let logs = choice["logprobs"]["token_logprobs"].as_array().unwrap().clone();
        (models["data"][0]["id"].clone(), choice["text"].clone(), logs)
    };
    assert_eq!(line(path, "quantize run small.safetensors").code, Some(0));
    let (_, text, logs) = asked("run");
    let narrow = ["bf16", "int8"].map(|weights| asked(&format!("run --weights {weights}")).2);
    std::fs::rename(path.join("run/model.safetensors"), path.join("alone.safetensors")).unwrap();
    std::fs::remove_dir_all(path.join("run")).unwrap();
    assert_eq!(asked("alone.safetensors"), (json!("alone"), text.clone(), logs.clone()));
    assert_eq!(asked("named=alone.safetensors --weights f32"), (json!("named"), text, logs.clone()));
    // Bytes are the same bytes, whoever rounds them; and near the numbers that they were.
    assert_eq!(asked("small.safetensors").2, narrow[1]);
    // Of the prompt, which is the same text; of its first token there may be nothing to say.
    let far = |narrow: &[Value]| {
        let both = narrow.iter().zip(&logs).take(5).filter_map(|(a, b)| Some((a.as_f64()? - b.as_f64()?).abs()));
        both.fold(0.0, f64::max)
    };
    assert!(far(&narrow[0]) > 0.0 && far(&narrow[0]) < 0.05, "{narrow:?} {logs:?}");
    assert!(far(&narrow[1]) > 0.0 && far(&narrow[1]) < 0.2, "{narrow:?} {logs:?}");
    let said = line(path, "serve alone.safetensors --weights int4");
    assert!(said.code == Some(2) && said.err.contains("f32, bf16, int8"), "{}", said.err);
}
