use std::path::Path;
use std::process::{Command, Stdio};

use crate::browser::{CHROMIUM, program};
use crate::{TINY, folder, line, trained};

/// The document of a page after its script ran, at this width, and what the browser's console says.
pub fn seen(page: &Path, width: usize, dark: bool) -> Option<(String, Vec<String>)> {
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(program(&CHROMIUM)?);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.arg(format!("--window-size={width},900"));
    if dark {
        command.arg("--blink-settings=preferredColorScheme=0");
    }
    command.args(["--virtual-time-budget=2000", "--dump-dom"]).arg(format!("file://{}", page.display()));
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let console = said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    Some((String::from_utf8_lossy(&output.stdout).into_owned(), console))
}

/// A page needs nothing but itself.
pub fn assert_alone(html: &str) {
    for reference in ["src=\"http", "href=\"http", "url(http", "@import", "<link rel=\"stylesheet"] {
        assert!(!html.contains(reference), "{reference}");
    }
}

#[test]
fn a_run_has_a_page_that_needs_nothing_beside_it() {
    let folder = trained("--clip 0.5");
    let page = folder.path().join("run/report.html");
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.len() < 1 << 20, "{} bytes", html.len());
    assert_alone(&html);
    for part in [
        "Perplexity",
        "Loss, nats a token",
        "Learning rate",
        "before clipping",
        "after",
        "forget gate f",
        "Layer 2",
        "How long units remember",
        "What it writes",
        "After epoch 2",
        "To repeat it",
        "Trained on",
        "Configuration",
        "test perplexity",
        "tokens</label>",
        "minutes</label>",
        "model.lstm.hidden",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert!(html.contains("lstm train text.txt --layers 2 --hidden 8"), "the command is there");
    // The page is made anew from the run's files, and is the same.
    assert_eq!(line(folder.path(), "report run").code, Some(0));
    assert_eq!(std::fs::read_to_string(&page).unwrap(), html);
}

#[test]
fn the_page_of_a_resumed_run_is_whole() {
    let folder = trained("");
    let path = folder.path();
    assert_eq!(line(path, "train --resume run --epochs 4").code, Some(0));
    let html = std::fs::read_to_string(path.join("run/report.html")).unwrap();
    for part in ["After epoch 1", "After epoch 4", "lstm train text.txt", "from step"] {
        assert!(html.contains(part), "{part}");
    }
    assert_eq!(html.matches("\"from\":").count(), 2, "two sessions");
}

#[test]
fn runs_are_laid_over_one_another_with_what_differs() {
    let folder = folder();
    let path = folder.path();
    for (name, options) in [("a", "--learning-rate 0.002"), ("b", "--learning-rate 0.004 --seed 2")] {
        let said = line(path, &format!("train text.txt {TINY} --preset small --optimizer adam --out {name} {options}"));
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
    let said = line(path, "report a b --out page.html");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(
        said.out.contains("training.schedule.learning_rate")
            && said.out.contains("seed")
            && !said.out.contains("hidden"),
        "{}",
        said.out
    );
    let html = std::fs::read_to_string(path.join("page.html")).unwrap();
    assert_alone(&html);
    assert!(html.contains("In what they differ") && html.contains("2 runs of lstm") && html.len() < 1 << 20);
    let said = line(path, "report a b --csv");
    let lines: Vec<Vec<&str>> = said.out.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!((lines.len(), lines[0].len()), (3, lines[2].len()), "{}", said.out);
    let column = |name: &str| lines[0].iter().position(|head| *head == name).unwrap();
    assert_eq!([1, 2].map(|run| lines[run][column("training.seed")]), ["1", "2"]);
    assert!(lines[1][column("test")].parse::<f64>().unwrap() > 1.0);
    // What is no page of this program stays.
    std::fs::write(path.join("mine.html"), "mine").unwrap();
    let said = line(path, "report a b --out mine.html");
    assert!(said.code == Some(2) && said.err.contains("choose another --out"), "{}", said.err);
    assert_eq!(std::fs::read_to_string(path.join("mine.html")).unwrap(), "mine");
    let said = line(path, "report a nothing");
    assert!(said.code == Some(2) && said.err.contains("nothing"), "{}", said.err);
}

#[test]
fn a_baseline_is_counted_and_kept_with_the_page() {
    let folder = trained("");
    let said = line(folder.path(), "report run --baseline");
    assert!(said.code == Some(0) && said.out.contains("Kneser-Ney 5-gram"), "{} {}", said.out, said.err);
    line(folder.path(), "report run");
    let html = std::fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    assert!(html.contains("Kneser-Ney 5-gram") && html.contains("Kneser-Ney 3-gram"));
}

#[test]
fn pages_open_in_a_browser_without_a_word_on_its_console() {
    let folder = trained("");
    let page = folder.path().join("run/report.html");
    for (width, dark) in [(1200, false), (375, true)] {
        let Some((document, console)) = seen(&page, width, dark) else { return };
        assert!(document.contains("What it writes"), "{document}");
        assert!(console.is_empty(), "{console:?}");
    }
}

#[test]
fn the_lab_compares_the_choices_of_the_report_on_a_page() {
    let folder = folder();
    let path = folder.path();
    let said = line(path, "lab text.txt --seeds 1 --budget 0.1s");
    assert!(
        said.code == Some(2) && said.err.contains("--budget is 0.1 s, but") && !path.join("lab.html").exists(),
        "{}",
        said.err
    );
    assert!(said.err.contains("with 1 seed need at least"), "{}", said.err);
    let said = line(path, "lab text.txt --seeds 1 --steps 12 --out page.html --json");
    let results = said.json();
    assert_eq!(results["tried"].as_array().unwrap().len(), 9);
    assert!(results["tried"][0]["runs"][0]["valid"].as_array().unwrap().last().unwrap()[1].as_f64().unwrap() > 1.0);
    let html = std::fs::read_to_string(path.join("page.html")).unwrap();
    assert_alone(&html);
    assert!(html.contains("gates that never move") && html.contains("against the standard model"));
    let Some((document, console)) = seen(&path.join("page.html"), 375, true) else { return };
    assert!(console.is_empty() && document.contains("How it was measured"), "{console:?}");
}
