use crate::{TINY, folder, line, trained};

#[test]
fn a_run_is_proven_and_another_kernel_s_bits_are_told_from_it() {
    let folder = trained("--keep-checkpoints 2");
    let said = line(folder.path(), "verify run --all");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(
        said.out.lines().all(|line| line.starts_with("the same bits: ")) && said.out.lines().count() == 1,
        "{}",
        said.out
    );
    let json = line(folder.path(), "verify run --seed 0 --json --threads 1");
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert!(json["same"] == true && json["stretches"][0]["numbers"].as_u64().unwrap() > 1000, "{json}");
    if json["stretches"][0]["isa"][0] != "scalar" {
        let other = crate::command(folder.path(), &["verify", "run"]).env("LSTM_ISA", "scalar").output().unwrap();
        let out = String::from_utf8_lossy(&other.stdout).into_owned();
        assert_eq!(other.status.code(), Some(1), "{out}");
        assert!(out.starts_with("NOT the same") && out.contains("LSTM_ISA="), "{out}");
    }
    // A kept checkpoint is a part of the run, and the run is as it was.
    let said = line(folder.path(), "eval run");
    assert_eq!(said.code, Some(0), "{}", said.err);
}

#[test]
fn what_cannot_be_proven_says_why() {
    let folder = trained("");
    for (command, expected) in [
        ("verify run", "--keep-checkpoints N"),
        ("verify nothing", "nothing"),
        ("verify run --seed 1 --all", "--all"),
        ("verify run/model.safetensors", "model.safetensors"),
        (&format!("train text.txt {TINY} --out other --keep-checkpoints -1"), "--keep-checkpoints"),
        (&format!("train text.txt {TINY} --out other --keep-checkpoints 1000000000"), "--keep-checkpoints"),
    ] {
        let said = line(folder.path(), command);
        assert!(said.code == Some(2) && said.err.contains(expected), "{command}: {}", said.err);
    }
    assert!(!folder.path().join("other").exists());
}

#[test]
fn several_runs_are_a_table_with_the_best_first() {
    let folder = folder();
    for (name, options) in [("worse", "--learning-rate 1e-5"), ("better", "--learning-rate 0.02")] {
        let said = line(folder.path(), &format!("train text.txt {TINY} --out {name} {options}"));
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
    let said = line(folder.path(), "show worse better");
    let lines: Vec<Vec<&str>> = said.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(lines[0].starts_with(&["run", "valid", "test"]) && lines[0].ends_with(&["learning_rate"]), "{}", said.out);
    assert!(lines[1][0] == "better" && lines[1].ends_with(&["0.02"]) && lines[2][0] == "worse", "{}", said.out);
    let csv = line(folder.path(), "show --csv worse better").out;
    let heads: Vec<&str> = csv.lines().map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(heads, ["run", "better", "worse"]);
    let json: serde_json::Value = serde_json::from_str(&line(folder.path(), "show --json worse better").out).unwrap();
    assert_eq!(json[0]["settings"]["training.schedule.learning_rate"], "0.02");
    assert!(json[0]["figures"]["valid"].as_f64().unwrap() < json[1]["figures"]["valid"].as_f64().unwrap());
    // What one run is refused for, several are.
    let config = folder.path().join("worse/config.toml");
    let changed = std::fs::read_to_string(&config).unwrap().replace("hidden = 8\n", "hidden = 9\n");
    std::fs::write(config, changed).unwrap();
    assert_eq!(line(folder.path(), "show worse").code, Some(2));
    let changed = ("show better worse", "model.lstm.hidden is 9, but was 8");
    for (command, expected) in [("show --csv", "runs/*"), ("show better nothing", "nothing"), changed] {
        let said = line(folder.path(), command);
        assert!(said.code == Some(2) && said.err.contains(expected), "{command}: {}", said.err);
    }
}
