use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Said, TINY, command, folder, line, piped, trained};

/// A run of a moment: some seventy file operations.
const BRIEF: &str = "--preset small --hidden 4 --embedding 4 --batch 8 --segment 32 --epochs 1 --threads 1";

fn words(arguments: &str) -> Vec<&str> {
    arguments.split_whitespace().collect()
}

/// Runs `lstm` with the fault that tests ask its writer for, and `input` on standard input.
fn at_fault(folder: &Path, fault: &str, arguments: &str, input: &str) -> Said {
    let mut command = command(folder, &words(arguments));
    let mut child = piped_child(command.env("LSTM_TEST_FAULT", fault));
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Said::new(child.wait_with_output().unwrap())
}

fn piped_child(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Every file of a run with its bytes, but the times in the metrics, and but its page, which is full of them.
fn files(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(run) else { return BTreeMap::new() };
    let entries = entries.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file());
    let entries = entries.filter(|entry| entry.file_name() != "report.html");
    let timeless = |bytes: Vec<u8>| -> Vec<u8> {
        let text = String::from_utf8(bytes).unwrap();
        let lines = text.lines().map(|line| {
            // A line that was being written is half there.
            let Ok(mut line) = serde_json::from_str::<serde_json::Value>(line) else { return line.to_owned() };
            line["seconds"].take();
            line["tokens_per_second"].take();
            format!("{line}\n")
        });
        lines.collect::<String>().into_bytes()
    };
    entries
        .map(|entry| {
            let (name, bytes) = (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
            (name.clone(), if name == "metrics.jsonl" { timeless(bytes) } else { bytes })
        })
        .collect()
}

/// What of a finished run is the same however often it was stopped: all but its checkpoint, which notes times.
fn result(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = files(run);
    assert!(files.remove("checkpoint.safetensors").is_some(), "{:?}", files.keys());
    files
}

/// A folder before a command, and the command.
struct Scenario {
    before: TempDir,
    command: String,
    input: String,
}

impl Scenario {
    /// A copy of the folder.
    fn copy(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        let source = format!("{}/.", self.before.path().display());
        let copied = Command::new("cp").args(["-a", &source, &copy.path().display().to_string()]).status();
        assert!(copied.unwrap().success());
        // Runs name their text by its whole path.
        let config = copy.path().join("run/config.toml");
        if let Ok(text) = std::fs::read_to_string(&config) {
            let [from, to] = [&self.before, &copy].map(|folder| folder.path().display().to_string());
            std::fs::write(&config, text.replace(&from, &to)).unwrap();
        }
        copy
    }

    fn run(&self, folder: &Path) -> Said {
        if self.input.is_empty() { line(folder, &self.command) } else { piped(folder, &self.command, &self.input) }
    }
}

/// The same for any folder that the text lies in.
fn placeless(files: BTreeMap<String, Vec<u8>>, folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let place = folder.display().to_string();
    let strip = |(name, bytes): (String, Vec<u8>)| match name.as_str() {
        "config.toml" => (name, String::from_utf8(bytes).unwrap().replace(&place, "").into_bytes()),
        _ => (name, bytes),
    };
    files.into_iter().map(strip).collect()
}

/// New runs, one in place of another, one made longer, and of a text from standard input.
fn scenarios() -> Vec<Scenario> {
    let of = |before: TempDir, command: String, input: &str| Scenario { before, command, input: input.to_owned() };
    let text = std::fs::read_to_string(folder().path().join("text.txt")).unwrap();
    let finished = || {
        let folder = folder();
        let said = line(folder.path(), &format!("train text.txt {BRIEF} --out run"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        folder
    };
    vec![
        of(folder(), format!("train text.txt {BRIEF} --out run"), ""),
        of(finished(), format!("train text.txt {BRIEF} --out run --force --seed 2"), ""),
        of(finished(), "train --resume run --epochs 2 --threads 1".to_owned(), ""),
        of(finished(), format!("train - {BRIEF} --out run --force --seed 3"), &text),
    ]
}

/// Kills a command at its every file operation: then there is the old run or the new one, and both the same command and
/// `--resume` end as if nothing had been.
#[test]
fn a_kill_at_any_file_operation_leaves_the_old_run_or_the_new_one() {
    let mut kills = 0;
    for scenario in scenarios() {
        let Scenario { before, command, input } = &scenario;
        let old = placeless(files(&before.path().join("run")), before.path());
        let ended = scenario.copy();
        let said = scenario.run(ended.path());
        assert_eq!(said.code, Some(0), "{command}: {}", said.err);
        let new = placeless(result(&ended.path().join("run")), ended.path());
        for at in 1.. {
            let folder = scenario.copy();
            let (path, run) = (folder.path(), folder.path().join("run"));
            let said = at_fault(path, &format!("kill:{at}"), command, input);
            if said.code == Some(0) {
                assert!(at > 30, "{command}: only {at} operations");
                break;
            }
            assert_eq!(said.code, Some(137), "{command} at {at}: {}", said.err);
            kills += 1;
            // A reader finds the old run, the new one, or that there is none.
            let shown = line(path, "show run --json");
            let is_run = run.join("config.toml").exists();
            let expected = if is_run {
                shown.code == Some(0) || shown.err.contains("no model yet")
            } else {
                shown.code == Some(2) && shown.err.contains("run folder") || shown.err.contains("before it began")
            };
            assert!(expected, "{command} at {at}: {}", shown.err);
            let now = placeless(files(&run), path);
            let is_old = !old.is_empty() && old.iter().all(|(name, bytes)| now.get(name) == Some(bytes));
            // One time by the same command, the other by resuming.
            let resumes = at % 2 == 0 && is_run;
            let said = if resumes { line(path, "train --resume run --threads 1") } else { scenario.run(path) };
            let said = match said.code {
                Some(2) if !resumes && said.err.contains("exists already") => {
                    line(path, "train --resume run --threads 1")
                }
                _ => said,
            };
            assert_eq!(said.code, Some(0), "{command} at {at}: {}", said.err);
            let left = placeless(result(&run), path);
            let unfinished = resumes && is_old && left != new;
            let expected =
                if unfinished { placeless(result(&before.path().join("run")), before.path()) } else { new.clone() };
            for (name, bytes) in &expected {
                assert!(left.get(name) == Some(bytes), "{command} at {at}: {name} differs");
            }
            assert_eq!(left.len(), expected.len(), "{command} at {at}: {:?}", left.keys());
        }
    }
    eprintln!("{kills} kills");
}

/// A disk that is full from any file operation on: a sentence, and the old run as it was until the new one has begun.
#[test]
fn a_disk_that_fills_at_any_file_operation_loses_nothing() {
    for scenario in scenarios() {
        let Scenario { command, input, before } = &scenario;
        let old = placeless(files(&before.path().join("run")), before.path());
        for at in 1.. {
            let folder = scenario.copy();
            let (path, run) = (folder.path(), folder.path().join("run"));
            let said = at_fault(path, &format!("full:{at}"), command, input);
            if said.code == Some(0) {
                break;
            }
            assert!(said.code == Some(2) && !said.err.contains("panicked"), "{command} at {at}: {}", said.err);
            assert!(said.err.contains("free some space") || said.err.contains("standard input"), "{}", said.err);
            let names = placeless(files(&run), path);
            let left: Vec<&String> =
                names.keys().filter(|name| name.contains("partial") || *name == "run.lock").collect();
            assert!(left.is_empty() && !run.join("pending").exists(), "{command} at {at}: {left:?}");
            let has_begun = names.contains_key("config.toml") && names.get("config.toml") != old.get("config.toml");
            if !has_begun {
                for (name, bytes) in old.iter().filter(|(name, _)| *name != "checkpoint.safetensors") {
                    assert!(names.get(name) == Some(bytes), "{command} at {at}: {name} differs");
                }
                assert!(!old.is_empty() || !run.exists(), "{command} at {at} left {:?}", names.keys());
            }
            let said = if has_begun { line(path, "train --resume run --threads 1") } else { scenario.run(path) };
            assert_eq!(said.code, Some(0), "{command} at {at}: {}", said.err);
        }
    }
}

/// Kills at random moments, again and again until the run ends: it ends as one that was left alone. `LSTM_TEST_KILLS`: how many at least,
/// 500 of them before a release.
#[test]
fn random_kills_leave_the_result_of_a_run_that_was_left_alone() {
    let kills: u32 = std::env::var("LSTM_TEST_KILLS").map_or(20, |kills| kills.parse().unwrap());
    let folder = folder();
    let path = folder.path();
    let options = format!("{} --epochs 3", BRIEF.replace("--epochs 1", ""));
    let started = Instant::now();
    assert_eq!(line(path, &format!("train text.txt {options} --out whole")).code, Some(0));
    let taken = started.elapsed();
    let expected = result(&path.join("whole"));
    let (mut killed, mut ended, mut number) = (0, 0, 1u64);
    while killed < kills {
        let begins = !path.join("run/config.toml").exists() && !path.join("run/pending").exists();
        let arguments = match begins {
            true => format!("train text.txt {options} --out run"),
            false => "train --resume run --threads 1".to_owned(),
        };
        let mut child = piped_child(&mut command(path, &words(&arguments)));
        // Knuth's generator: moments from the first to a little past the last.
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(taken.mul_f64(1.1 * (number >> 33) as f64 / f64::from(1u32 << 31)));
        let _ = child.kill();
        let said = Said::new(child.wait_with_output().unwrap());
        match said.code {
            None => killed += 1,
            Some(0) => {
                ended += 1;
                for (name, bytes) in &expected {
                    assert!(result(&path.join("run")).get(name) == Some(bytes), "{name} after {killed} kills");
                }
                std::fs::remove_dir_all(path.join("run")).unwrap();
            }
            Some(_) => panic!("{arguments} after {killed} kills: {}", said.err),
        }
    }
    let said = line(path, "train --resume run --threads 1");
    assert!(
        said.code == Some(0) || said.err.contains("run folder") || said.err.contains("before it began"),
        "{}",
        said.err
    );
    eprintln!("{killed} kills, {ended} runs that ended between them");
}

/// Files that an older version left where it was killed were refused until they were removed by hand.
#[test]
fn what_a_killed_process_left_is_no_obstacle() {
    let folder = folder();
    for (name, options) in [("config.toml.partial", "--force"), ("tokenizer.json.4711-0.partial", ""), ("run.lock", "")]
    {
        let run = folder.path().join("k");
        std::fs::create_dir(&run).unwrap();
        std::fs::write(run.join(name), "half").unwrap();
        let said = line(folder.path(), &format!("train text.txt {BRIEF} --out k {options}"));
        assert_eq!(said.code, Some(0), "{name}: {}", said.err);
        assert!(!run.join(name).exists(), "{name}");
        std::fs::remove_dir_all(&run).unwrap();
    }
}

/// Starts a command twice at once.
fn twice(folder: &Path, arguments: &str, inputs: [&str; 2]) -> [Said; 2] {
    let start = |input: &str| {
        let mut child = piped_child(&mut command(folder, &words(arguments)));
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        (child, std::thread::spawn(move || drop(stdin.write_all(input.as_bytes()))))
    };
    let started = inputs.map(start);
    started.map(|(child, writer)| {
        writer.join().unwrap();
        Said::new(child.wait_with_output().unwrap())
    })
}

#[test]
fn two_at_once_take_two_folders_and_keep_their_texts_apart() {
    let folder = folder();
    let path = folder.path();
    let text = std::fs::read_to_string(path.join("text.txt")).unwrap();
    let other = text.replace("cat", "owl");
    for round in 0..4 {
        for said in twice(path, &format!("train text.txt {BRIEF}"), ["", ""]) {
            assert_eq!(said.code, Some(0), "{round}: {}", said.err);
        }
        let [first, second] = ["runs/text", "runs/text-2"].map(|run| result(&path.join(run)));
        assert_eq!(first["model.safetensors"], second["model.safetensors"]);
        let said = twice(path, &format!("train - {BRIEF} --json"), [&text, &other]);
        for (said, text) in said.iter().zip([&text, &other]) {
            let run = said.json()["run"].as_str().unwrap().to_owned();
            assert!(["runs/stdin", "runs/stdin-2"].contains(&run.as_str()), "{run}");
            assert_eq!(&std::fs::read_to_string(path.join(&run).join("text.txt")).unwrap(), text);
            let said = line(path, &format!("train --resume {run}"));
            assert_eq!(said.code, Some(0), "{}", said.err);
        }
        std::fs::remove_dir_all(path.join("runs")).unwrap();
    }
}

/// One that keeps no run has the text of standard input in a temporary folder.
#[cfg(unix)]
#[test]
fn two_at_once_test_rates_on_their_own_texts_and_leave_none_of_them_behind() {
    let folder = folder();
    let path = folder.path();
    let temporary = path.join("temporary");
    std::fs::create_dir_all(&temporary).unwrap();
    let text = std::fs::read_to_string(path.join("text.txt")).unwrap();
    // Of other lengths, so that the curves differ.
    let texts = [text.clone(), text.replace("cat", "owl in the old barn"), format!("{text}\0")];
    let start = |text: &String| {
        let arguments =
            words("train - --find-lr --preset small --hidden 4 --embedding 4 --batch 8 --segment 32 --json");
        let mut child = piped_child(command(path, &arguments).env("TMPDIR", &temporary));
        let (mut stdin, text) = (child.stdin.take().unwrap(), text.clone());
        (child, std::thread::spawn(move || drop(stdin.write_all(text.as_bytes()))))
    };
    let end = |(child, writer): (Child, std::thread::JoinHandle<()>)| {
        writer.join().unwrap();
        Said::new(child.wait_with_output().unwrap())
    };
    let alone: Vec<_> = texts[..2].iter().map(|text| end(start(text)).json()).collect();
    assert_ne!(alone[0], alone[1]);
    let together = texts.iter().map(start).collect::<Vec<_>>().into_iter().map(end).collect::<Vec<_>>();
    assert_eq!(together[2].code, Some(2), "{}", together[2].err);
    for (together, alone) in together.iter().zip(&alone) {
        assert_eq!(together.json(), *alone);
    }
    let is_empty = || std::fs::read_dir(&temporary).unwrap().next().is_none();
    assert!(is_empty());
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut child = piped_child(command(path, &["train", "-", "--find-lr"]).env("TMPDIR", &temporary));
        // To wait for a child would close its standard input, and that ends it too.
        let stdin = child.stdin.take();
        let until = Instant::now() + Duration::from_secs(60);
        while is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(code));
        drop(stdin);
        assert!(is_empty());
    }
}

#[test]
fn of_two_that_write_one_run_the_second_is_told_who_the_first_is() {
    let folder = folder();
    let path = folder.path();
    let options = BRIEF.replace("--epochs 1", "--epochs 100000");
    let mut first = piped_child(&mut command(path, &words(&format!("train text.txt {options} --out run"))));
    let until = Instant::now() + Duration::from_secs(60);
    while !path.join("run/model.safetensors").exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    for second in ["train --resume run".to_owned(), format!("train text.txt {BRIEF} --out run --force")] {
        let said = line(path, &second);
        let holder = format!("is being written by process {} on ", first.id());
        assert!(said.code == Some(2) && said.err.contains(&holder) && said.err.contains("since 20"), "{}", said.err);
    }
    // To read it disturbs nobody.
    assert_eq!(line(path, "show run").code, Some(0));
    first.kill().unwrap();
    first.wait().unwrap();
    // The system has given the lock back.
    let said = ended_where_it_stands(path);
    assert_eq!(said.code, Some(0), "{}", said.err);
}

/// Ends the run `run` at the step that it has come to, which the refusal of fewer says.
fn ended_where_it_stands(path: &Path) -> Said {
    let said = line(path, "train --resume run --steps 1");
    match said.err.split_once("give more, or ") {
        Some((_, rest)) if said.code == Some(2) => {
            line(path, &format!("train --resume run --steps {}", rest.split(' ').next().unwrap()))
        }
        _ => said,
    }
}

/// Those of a scheduler, a container and a closed terminal lost what Ctrl-C saved.
#[cfg(unix)]
#[test]
fn every_signal_to_end_saves_and_has_its_exit_code() {
    let folder = folder();
    let path = folder.path();
    let options = BRIEF.replace("--epochs 1", "--epochs 100000");
    let until = |what: &dyn Fn() -> bool| {
        let last = Instant::now() + Duration::from_secs(60);
        while !what() && Instant::now() < last {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let signal = |child: &Child, signal: &str| {
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    };
    for (name, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let mut child = piped_child(&mut command(path, &words(&format!("train text.txt {options} --out run --force"))));
        until(&|| path.join("run/model.safetensors").exists());
        signal(&child, name);
        drop(child.stdin.take());
        let said = Said::new(child.wait_with_output().unwrap());
        assert_eq!(said.code, Some(code), "{name}: {}", said.err);
        assert!(said.err.contains("stopped and saved") && said.err.contains("--resume run"), "{}", said.err);
        let said = ended_where_it_stands(path);
        assert!(said.code == Some(0) && said.err.contains("going on after step"), "{}", said.err);
        std::fs::remove_dir_all(path.join("run")).unwrap();
        // Before there is a run, nothing of one is left.
        let mut child = piped_child(&mut command(path, &words(&format!("train - {options}"))));
        until(&|| path.join("runs/stdin").exists());
        std::thread::sleep(Duration::from_millis(50));
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{name}");
        assert!(!path.join("runs").exists());
    }
    // What `nohup` ignores stays ignored.
    let script = format!("trap '' HUP; exec {} train text.txt {options} --out run", env!("CARGO_BIN_EXE_lstm"));
    let mut child = piped_child(Command::new("sh").current_dir(path).args(["-c", &script]));
    until(&|| path.join("run/model.safetensors").exists());
    signal(&child, "-HUP");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(child.try_wait().unwrap(), None);
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_text_that_was_moved_is_proven_to_be_the_same() {
    let folder = trained("");
    let path = folder.path();
    std::fs::create_dir(path.join("new")).unwrap();
    std::fs::copy(path.join("text.txt"), path.join("new/moved.txt")).unwrap();
    let text = std::fs::read_to_string(path.join("text.txt")).unwrap();
    std::fs::write(path.join("other.txt"), text.replacen("cat", "dog", 1)).unwrap();
    let before = files(&path.join("run"));
    for (arguments, expected) in [
        ("--resume run nowhere.txt", "nowhere.txt; name where they lie now beside --resume"),
        ("--resume run other.txt", "other.txt is not what the run was trained on"),
        ("--resume run new/moved.txt --valid text.txt", "what it has of validation is a part of its training data"),
        ("--resume run -", "contradict each other"),
    ] {
        let said = line(path, &format!("train {arguments}"));
        assert!(said.code == Some(2) && said.err.contains(expected), "{arguments}: {}", said.err);
        assert!(files(&path.join("run")) == before, "{arguments}");
    }
    std::fs::remove_file(path.join("text.txt")).unwrap();
    for arguments in ["train --resume run", "verify run"] {
        let said = line(path, arguments);
        assert!(
            said.code == Some(2) && said.err.contains("text.txt, where they lay before; name where"),
            "{}",
            said.err
        );
    }
    let said = line(path, "train --resume run new/moved.txt --epochs 3");
    assert_eq!(said.code, Some(0), "{}", said.err);
    // From then on it is known where it is.
    assert_eq!(line(path, "train --resume run --epochs 4").code, Some(0));
    // Of data that lie apart, those are blamed that changed.
    let apart = format!("train new/moved.txt --valid other.txt --test new/moved.txt {BRIEF} --out apart");
    assert_eq!(line(path, &apart).code, Some(0));
    for (option, what) in [("--test", "tested with"), ("--valid", "validated with")] {
        let wrong = if option == "--test" { "other.txt" } else { "new/moved.txt" };
        let said = line(path, &format!("train --resume apart {option} {wrong}"));
        let expected = format!("{wrong} is not what the run was {what}");
        assert!(said.code == Some(2) && said.err.contains(&expected), "{}", said.err);
        assert!(said.err.contains(&format!("name where they lie now by {option} beside --resume")), "{}", said.err);
    }
}

#[test]
fn a_run_that_is_over_says_so_and_a_schedule_does_not_jump() {
    let folder = trained("--schedule cosine");
    let path = folder.path();
    let before = files(&path.join("run"));
    let said = line(path, "train --resume run");
    assert_eq!(said.code, Some(0), "{}", said.err);
    for part in ["the run is over", "its 2 epochs are trained", "--resume run --epochs 4 --learning-rate"] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    assert!(files(&path.join("run")) == before, "nothing is written");
    assert!(line(path, "train --resume run --learning-rate 0.001").err.contains("made longer"));
    let said = line(path, "train --resume run --epochs 4 --learning-rate 0.001");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let shown = line(path, "show run --json").json();
    assert_eq!(shown["config"]["training"]["lengthened"]["reached"], 0.5);
    assert_eq!(shown["config"]["training"]["epochs"], 4);
    // Without a rate it stays low, and that is said.
    let said = line(path, "train --resume run --epochs 6");
    assert!(said.code == Some(0) && said.err.contains("a hundredth of the highest"), "{}", said.err);
    let schedule = &line(path, "show run --json").json()["config"]["training"]["schedule"];
    assert!(
        schedule["kind"] == "constant" && (schedule["learning_rate"].as_f64().unwrap() - 1e-5).abs() < 1e-9,
        "{schedule}"
    );
}

/// Each of them changed the results without a word.
#[test]
fn a_configuration_or_a_tokenizer_that_was_changed_is_refused_by_name() {
    let folder = trained("--optimizer adamw --weight-decay 0.001 --tied=false --residual=false");
    let path = |file: &str| folder.path().join("run").join(file);
    let config = std::fs::read_to_string(path("config.toml")).unwrap();
    for (from, to, name) in [
        ("tied = false", "tied = true", "model.tied"),
        ("readout = \"hidden\"", "readout = \"output-gate\"", "model.lstm.readout"),
        ("residual = false", "residual = true", "model.lstm.residual"),
        ("weight_decay = 0.0", "weight_decay = 0.1", "weight_decay"),
        ("layers = 2", "layers = 4294967296", "model.lstm.layers is 4294967296, but was 2"),
        ("seed = 1", "seed = 2", "seed"),
        ("tied = ", "tide = ", "tide"),
    ] {
        assert!(config.contains(from), "{from}: {config}");
        std::fs::write(path("config.toml"), config.replace(from, to)).unwrap();
        for arguments in ["eval run text.txt", "show run", "generate run", "train --resume run"] {
            let said = line(folder.path(), arguments);
            let named = said.code == Some(2) && said.err.contains(name) && said.err.contains("config.toml");
            assert!(named && !said.err.contains("panicked"), "{arguments}, {to}: {}", said.err);
        }
    }
    // How long the run is does not change what the model is; but it is said by options.
    std::fs::write(path("config.toml"), config.replace("\nepochs = 2", "\nepochs = 3")).unwrap();
    assert_eq!(line(folder.path(), "eval run text.txt").code, Some(0));
    let said = line(folder.path(), "train --resume run");
    assert!(said.code == Some(2) && said.err.contains("give --epochs beside --resume"), "{}", said.err);
    std::fs::write(path("config.toml"), &config).unwrap();
    let tokenizer = std::fs::read_to_string(path("tokenizer.json")).unwrap();
    for damaged in [tokenizer.replace("\"line_markers\": false", "\"line_markers\": true"), format!("{tokenizer} ")] {
        std::fs::write(path("tokenizer.json"), damaged).unwrap();
        for arguments in ["eval run text.txt", "show run", "train --resume run"] {
            let said = line(folder.path(), arguments);
            assert!(said.code == Some(2) && said.err.contains("another tokenizer"), "{arguments}: {}", said.err);
        }
    }
}

/// A run that is over said the results of another one's model, and one that was not trained on beside a damaged one.
#[test]
fn a_model_that_is_not_the_runs_own_is_refused_when_it_goes_on() {
    let folder = trained("");
    let path = |file: &str| folder.path().join(file);
    let text = std::fs::read_to_string(path("text.txt")).unwrap();
    // Of the same lines, the first two in another order, so that the same is chosen for it.
    let (first, rest) = text.split_once('\n').unwrap();
    let (second, rest) = rest.split_once('\n').unwrap();
    assert_ne!(first, second);
    std::fs::write(path("other.txt"), format!("{second}\n{first}\n{rest}")).unwrap();
    let said = line(folder.path(), &format!("train other.txt {TINY} --out other"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let said = line(folder.path(), &format!("train text.txt {TINY} --seed 2 --out seed"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let own = std::fs::read(path("run/model.safetensors")).unwrap();
    let of = |run: &str| std::fs::read(path(run).join("model.safetensors")).unwrap();
    for (model, expected) in [
        (of("other"), "the model of another run"),
        (of("seed"), "seed is 1, but was 2 when model.safetensors was written"),
        (own[..own.len() - 1].to_vec(), "truncated or damaged"),
        (vec![], "model.safetensors"),
    ] {
        std::fs::write(path("run/model.safetensors"), model).unwrap();
        for arguments in ["train --resume run", "train --resume run --epochs 3"] {
            let said = line(folder.path(), arguments);
            assert!(said.code == Some(2) && said.err.contains(expected), "{arguments}, {expected}: {}", said.err);
        }
    }
    std::fs::write(path("run/model.safetensors"), own).unwrap();
    assert_eq!(line(folder.path(), "train --resume run --epochs 3").code, Some(0));
}

#[test]
fn files_that_are_far_too_long_or_lie_about_their_length_are_refused_unread() {
    let folder = trained("");
    let path = |file: &str| folder.path().join("run").join(file);
    let started = Instant::now();
    for (file, expected) in [
        ("config.toml", "3221225472 bytes"),
        ("tokenizer.json", "3221225472 bytes"),
        ("model.safetensors", "in a file of 3221225472"),
    ] {
        let healthy = std::fs::read(path(file)).unwrap();
        std::fs::File::options().write(true).open(path(file)).unwrap().set_len(3 << 30).unwrap();
        let said = line(folder.path(), "eval run text.txt");
        assert!(said.code == Some(2) && said.err.contains(expected), "{file}: {}", said.err);
        std::fs::write(path(file), healthy).unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let healthy = std::fs::read(path("model.safetensors")).unwrap();
    for length in [u64::MAX, 1 << 62, 1 << 40, healthy.len() as u64] {
        let mut lying = healthy.clone();
        lying[..8].copy_from_slice(&length.to_le_bytes());
        std::fs::write(path("model.safetensors"), lying).unwrap();
        let said = line(folder.path(), "eval run text.txt");
        assert!(said.code == Some(2) && said.err.contains("truncated or damaged"), "{length}: {}", said.err);
    }
}
