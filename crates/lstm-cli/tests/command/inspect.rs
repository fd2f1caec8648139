use std::process::{Command, Stdio};

use crate::browser::{Browser, program};
use crate::report::{assert_alone, seen};
use crate::{lstm, piped, trained};

const TEXT: &str = "the cat sees a dog and runs home";

#[test]
fn a_text_is_looked_into_on_a_page_in_values_and_in_the_terminal() {
    let folder = trained("");
    let path = folder.path();
    let said =
        lstm(path, &["inspect", "run", "--text", TEXT, "--off", "1.3@2..4", "--ablate", "all", "--explain", "5"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    for part in ["perplexity", "layer 2", "switched off from token 2 to 4", "without unit", "sees:"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    assert!(!said.out.contains('\x1b'), "no colours where there is no terminal");
    let html = std::fs::read_to_string(path.join("inspect.html")).unwrap();
    assert_alone(&html);
    for part in ["Gates and states", "What the loss of a unit costs", "Changed", "integrated gradients"] {
        assert!(html.contains(part), "{part}");
    }
    let json = lstm(path, &["inspect", "run", "--text", TEXT, "--json", "--explain", "5"]).json();
    assert_eq!(json["tokens"].as_array().unwrap().len(), 9);
    assert_eq!(json["layers"][1]["f"][8].as_array().unwrap().len(), 8);
    let cause = &json["causes"][0];
    assert_eq!((cause["token"].as_u64(), cause["embedding"].as_array().unwrap().len()), (Some(5), 5));
    assert!(cause["integrated_error"].as_f64().unwrap() < 0.05, "{cause}");
    let csv = lstm(path, &["inspect", "run", "--text", TEXT, "--csv"]);
    assert_eq!(csv.out.lines().count(), 1 + 9 * 2 * 8);
    let said = lstm(path, &["inspect", "run", "--text", TEXT, "--npz", "states.npz"]);
    assert!(said.code == Some(0) && path.join("states.npz").metadata().unwrap().len() > 1_000, "{}", said.err);
    assert_eq!(piped(path, "inspect run - --out of-stdin.html", TEXT).code, Some(0));
}

#[test]
fn a_file_is_read_as_the_run_s_own_text_is() {
    let folder = trained("");
    let path = folder.path();
    let text = "the cat sees a dog\nand runs home\n";
    std::fs::write(path.join("plain"), text).unwrap();
    std::fs::write(path.join("crlf"), text.replace('\n', "\r\n")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
    std::fs::write(path.join("text.gz"), packed.finish().unwrap()).unwrap();
    let csv = |file: &str| lstm(path, &["inspect", "run", file, "--csv"]).out;
    let expected = csv("plain");
    assert!(expected.lines().count() > 1);
    assert_eq!([csv("crlf"), csv("text.gz")], [expected.clone(), expected]);
}

#[test]
fn what_cannot_be_looked_into_is_said() {
    let folder = trained("");
    let path = folder.path();
    std::fs::write(path.join("labels"), "one two").unwrap();
    for (arguments, why) in [
        (vec!["--text", ""], "no tokens"),
        (vec!["--text", TEXT, "--explain", "9"], "--explain is 9"),
        (vec!["--text", TEXT, "--clamp", "3.1=2"], "layer 3"),
        (vec!["--text", TEXT, "--clamp", "1=2"], "LAYER.UNIT=VALUE"),
        (vec!["--text", TEXT, "--off", "1.8"], "unit 8"),
        (vec!["--text", TEXT, "--gate", "1.f=2"], "from 0 to 1"),
        (vec!["--text", TEXT, "--labels", "labels"], "2 labels for 8 tokens"),
        (vec!["nothing.txt"], "nothing.txt"),
        (vec![], "FILE"),
    ] {
        let said = lstm(path, &[&["inspect", "run"], &arguments[..]].concat());
        assert!(said.code == Some(2) && said.err.contains(why), "{arguments:?}: {}", said.err);
    }
    assert!(!path.join("inspect.html").exists());
}

#[test]
fn the_page_opens_in_a_browser_and_draws() {
    let folder = trained("");
    let path = folder.path();
    assert_eq!(lstm(path, &["inspect", "run", "--text", TEXT, "--out", "page.html"]).code, Some(0));
    for (width, dark) in [(1200, false), (375, true)] {
        let Some((document, console)) = seen(&path.join("page.html"), width, dark) else { return };
        assert!(console.is_empty(), "{console:?}");
        // The script has drawn the tokens, the arcs of the chosen prediction, the map and the trace.
        for part in ["aria-pressed=\"true\"", "class=\"arc", "tokens across", "log-probability", "over the text, from"]
        {
            assert!(document.contains(part), "{part}");
        }
    }
}

/// The inspector used as people use it: a unit, an order, a prediction.
#[test]
fn the_page_follows_what_is_clicked() {
    let folder = trained("");
    let path = folder.path();
    let said = lstm(path, &["inspect", "run", "--text", TEXT, "--explain", "5,8", "--out", "page.html"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let Some(browser) = Browser::open(&path.join("page.html"), 1200) else { return };
    browser.wait("return document.querySelectorAll('#text button').length === 9");
    let trace = "return document.getElementById('trace').querySelector('.curve').getAttribute('d')";
    let label =
        |name: &str| browser.text(&format!("return document.getElementById('{name}').getAttribute('aria-label')"));
    let chosen = "return [...document.querySelectorAll('#text button')].findIndex((b) => b.getAttribute('aria-pressed') === 'true')";
    let sort = |order: &str| {
        browser.run(&format!(
            "const sort = document.getElementById('sort'); sort.value = '{order}'; sort.dispatchEvent(new Event('change'))"
        ));
    };
    sort("unit");
    // A click on the map takes the unit of that row and the token of that column; each row has the height that the page says.
    let size = |name: &str| browser.run(&format!("return +document.getElementById('map').{name}")).as_i64().unwrap();
    let (width, height, across, down) =
        (size("clientWidth"), size("clientHeight"), size("dataset.across"), size("dataset.down"));
    let before = browser.text(trace);
    let (unit, token) = (6, 3);
    browser.click_at("#map", token * across + across / 2 - width / 2, unit * down + down / 2 - height / 2);
    browser.wait("return +document.getElementById('unit').value === 6");
    assert_eq!(browser.run(chosen), token);
    assert_ne!(browser.text(trace), before);
    assert!(label("trace").contains("of unit 6 over the text"), "{}", label("trace"));
    // In an order of its own the same place is another unit, and the map is another picture.
    let picture = "return document.getElementById('map').toDataURL()";
    let by_number = browser.text(picture);
    sort("memory");
    let order = browser.text(
        "return JSON.stringify(JSON.parse(document.getElementById('facts').textContent).layers[0].orders.memory)",
    );
    let order: Vec<i64> = serde_json::from_str(&order).unwrap();
    assert_ne!(order, (0..8).collect::<Vec<_>>(), "the units happen to lie by their memory");
    assert_ne!(browser.text(picture), by_number);
    browser.click_at("#map", across / 2 - width / 2, down / 2 - height / 2);
    browser.wait(&format!("return +document.getElementById('unit').value === {}", order[0]));
    // A prediction whose causes were worked out is joined by arcs to what it goes back to, and one whose were not says so.
    let places = browser.text(
        "const facts = JSON.parse(document.getElementById('facts').textContent); \
         return JSON.stringify(facts.causes.map((cause) => facts.place[cause.token]))",
    );
    let places: Vec<i64> = serde_json::from_str(&places).unwrap();
    assert_eq!(places.len(), 2);
    for (token, explained) in [(places[0], true), (places[0] - 1, false), (places[1], true)] {
        browser.click(&format!("#text button:nth-of-type({})", token + 1));
        assert_eq!(browser.run(chosen), token);
        let arcs = browser.run("return document.querySelectorAll('#text svg path.arc').length").as_u64().unwrap();
        let said = browser.text("return document.getElementById('cause').textContent");
        assert_eq!(
            (arcs > 0, said.contains("log-probability")),
            (explained, explained),
            "{token}: {arcs} arcs, {said}"
        );
    }
    assert_eq!(browser.console(), Vec::<String>::new());
}

/// `--npz` as NumPy reads it.
#[test]
fn numpy_reads_the_values() {
    let folder = trained("");
    let path = folder.path();
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_numpy =
        Command::new(&python).args(["-c", "import numpy"]).output().is_ok_and(|output| output.status.success());
    if !has_numpy {
        eprintln!("skipped: {python} has no NumPy (the variable PYTHON names another)");
        return;
    }
    assert_eq!(lstm(path, &["inspect", "run", "--text", TEXT, "--npz", "states.npz"]).code, Some(0));
    let json = lstm(path, &["inspect", "run", "--text", TEXT, "--json"]).json();
    let script = "import json, numpy; arrays = numpy.load('states.npz'); \
                  print(json.dumps({name: [list(arrays[name].shape), arrays[name].ravel().tolist()] for name in arrays.files if name.startswith('layer')}))";
    let output = Command::new(&python).current_dir(path).args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let arrays: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for layer in 0..2 {
        for name in ["i", "f", "g", "o", "c", "h"] {
            let array = &arrays[format!("layer{}_{name}", layer + 1)];
            assert_eq!(
                array[0],
                serde_json::json!([9, 8]),
                "{name} of {layer} among {:?}",
                arrays.as_object().map(|a| a.keys().cloned().collect::<Vec<_>>())
            );
            let rows = json["layers"][layer][name].as_array().unwrap();
            let values: Vec<f64> =
                rows.iter().flat_map(|row| row.as_array().unwrap()).map(|v| v.as_f64().unwrap()).collect();
            let read: Vec<f64> = array[1].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            assert!(values.iter().zip(&read).all(|(a, b)| (a - b).abs() <= 1e-5), "{name} of layer {layer}");
        }
    }
}

/// In a terminal there are colours, and none where `NO_COLOR` asks for none; everywhere the same words.
#[test]
fn the_terminal_has_colours_unless_they_are_refused() {
    let folder = trained("");
    let Some(script) = program(&["script"]) else { return };
    let shown = |variables: &[(&str, &str)]| {
        let mut command = Command::new(&script);
        let line = format!("{} inspect run --text '{TEXT}' 2>/dev/null", env!("CARGO_BIN_EXE_lstm"));
        command.current_dir(folder.path()).args(["-q", "-e", "-c", &line, "/dev/null"]).stdin(Stdio::null());
        command.env_remove("NO_COLOR").env("COLUMNS", "80").envs(variables.iter().copied());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stdout).unwrap()
    };
    let (coloured, plain, empty) = (shown(&[]), shown(&[("NO_COLOR", "1")]), shown(&[("NO_COLOR", "")]));
    assert!(coloured.contains("\x1b[38;5;") && coloured.contains('█'), "{coloured}");
    assert!(!plain.contains("\x1b[") && !plain.contains('█'), "{plain}");
    assert!(empty.contains("\x1b[38;5;"), "an empty NO_COLOR asks for nothing");
    assert!(plain.contains("perplexity") && plain.contains("layer 2"), "{plain}");
    for line in plain.lines() {
        assert!(line.chars().count() <= 80, "wider than the window: {line}");
    }
}
