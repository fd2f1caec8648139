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
