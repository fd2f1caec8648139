use std::path::Path;

use crate::ensemble::refused;
use crate::{TINY, folder, line, trained};

/// A folder with `text.txt` and a run `run` of three models.
fn three() -> tempfile::TempDir {
    trained("--members 3 --seed 5")
}

#[test]
fn a_run_of_several_models_says_each_and_all_together() {
    let folder = folder();
    let folder = folder.path();
    let said = line(folder, &format!("train text.txt {TINY} --members 3 --seed 5 --out run"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("member   2 of 3, seed 6: run/members/2"), "{}", said.err);
    let rows: Vec<&str> = said.out.lines().collect();
    assert!(rows[1].starts_with("valid ") && rows[1].contains("3 models as one; alone "), "{}", said.out);
    assert!(rows[2].starts_with("test ") && said.err.contains("try: lstm generate run\n"), "{}", said.out);
    // A run that is over says the same again.
    let result = line(folder, "train --resume run --json").json();
    let members = result["members"].as_array().unwrap();
    assert_eq!((members.len(), &members[2]["seed"], &members[2]["run"]), (3, &7.into(), &"run/members/3".into()));
    let nats = |value: &serde_json::Value| value["nll"].as_f64().unwrap();
    let mean = members.iter().map(|member| nats(&member["test"])).sum::<f64>() / 3.0;
    assert!(nats(&result["test"]) < mean, "{result}");
    let ensemble = line(folder, "ensemble run --json").json();
    assert_eq!((nats(&ensemble), ensemble["members"].as_array().unwrap().len()), (nats(&result["test"]), 3));
}

#[test]
fn all_members_are_used_as_one_or_the_first_alone() {
    let folder = three();
    let folder = folder.path();
    let eval = |options: &str| line(folder, &format!("eval run {options} --json"));
    let all = eval("");
    assert!(all.err.contains("3 models of run are used as one; --members 1 takes the first alone"), "{}", all.err);
    let all = all.json();
    assert_eq!(all["nll"], line(folder, "ensemble run --json").json()["nll"]);
    let first = eval("--members 1");
    assert!(!first.err.contains("used as one"), "{}", first.err);
    let first = first.json();
    assert_eq!((&first["nll"], &first["members"]), (&all["members"][0]["nll"], &serde_json::Value::Null));
    assert_eq!(eval("--members 2").json()["members"].as_array().unwrap().len(), 2);
    refused(folder, "eval run --members 4", &["--members is 4, but run has 3 trained models"]);
    refused(folder, "eval run --members 0", &["--members is 0"]);
    refused(folder, "eval run --members 2 --weights int8", &["--weights is of one model", "--members 2"]);
    let said = eval("--weights f32");
    assert!(said.err.contains("the first of the run's 3 is measured"), "{}", said.err);
    assert!(line(folder, "eval run").out.contains("model      3 models as one; alone "));
    let write =
        |options: &str| line(folder, &format!("generate run --length 30 --json {options}")).json()["text"].clone();
    assert_eq!(write("--members 2"), write("--members 1 --with run/members/2"));
    assert_eq!(write("--with run/members/2 --shares 1,0,0,0 --temperature 0"), write("--members 1 --temperature 0"));
    assert_eq!(line(folder, "score run text.txt --members 3").out, line(folder, "score run text.txt").out);
    // What is of one model is of the first, and show names the others.
    let shown = line(folder, "show run");
    assert!(
        shown.out.contains("the first of 3, which eval, score and generate use as one, with run/members/2"),
        "{}",
        shown.out
    );
    assert_eq!(line(folder, "show run --json").json()["members"].as_array().unwrap().len(), 3);
    assert!(!line(folder, "show run/members/2").out.contains("members "), "a member by itself has none");
    assert_eq!(line(folder, "convert run model.safetensors").code, Some(0));
}

#[test]
fn members_that_cannot_be_are_refused_and_nothing_is_left() {
    let folder = trained("");
    let folder = folder.path();
    for (options, expected) in [
        ("--members 0 --out new", &["--members is 0"][..]),
        ("--members 1001 --out new", &["--members is 1001", "1 to 1000"]),
        ("--members 2 --from run --out new", &["--members", "all would begin as"]),
    ] {
        let tiny = if options.contains("--from") { "--epochs 1" } else { TINY };
        refused(folder, &format!("train text.txt {tiny} {options}"), expected);
    }
    assert!(!folder.join("new").exists());
    refused(folder, "train text.txt --members 2 --find-lr", &["--members has no part with --find-lr"]);
    refused(folder, "train --resume run --members 2 --epochs 4", &["--members gives a run that goes on more members"]);
    let more = line(folder, "train --resume run --members 2");
    assert_eq!(more.code, Some(0), "{}", more.err);
    assert!(more.err.contains("member 1 of 2 is trained") && more.out.contains("2 models as one"), "{}", more.err);
    refused(
        folder,
        "train --resume run --epochs 4",
        &["2 members that are equally long", "--members 4 adds as many again"],
    );
}

/// A kill within the second member: the run goes on with it to what there would have been, and --force begins again with one.
#[test]
fn a_killed_run_goes_on_with_its_member_and_is_replaced_whole() {
    let whole = three();
    let test = |folder: &Path| {
        let result = line(folder, "eval run --json").json();
        (result["nll"].clone(), result["members"].as_array().map_or(1, Vec::len))
    };
    let folder = folder();
    let folder = folder.path();
    let arguments: Vec<String> =
        format!("train text.txt {TINY} --members 3 --seed 5 --out run").split_whitespace().map(str::to_owned).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // Somewhere in the second: each has some seventy file operations.
    let said = crate::command(folder, &arguments).env("LSTM_TEST_FAULT", "kill:100").output().unwrap();
    assert_eq!(said.status.code(), Some(137));
    assert!(folder.join("run/model.safetensors").exists() && !folder.join("run/members/3").exists());
    assert_eq!(test(folder).1, 1);
    let said = line(folder, "train --resume run");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(test(folder), test(whole.path()));
    let said = line(folder, &format!("train text.txt {TINY} --out run --force"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!((test(folder).1, folder.join("run/members").exists()), (1, false));
}

#[test]
fn a_time_is_that_of_all_members() {
    let folder = folder();
    let said = line(folder.path(), "train text.txt --budget 6s --members 2 --out run --json");
    assert!(said.err.contains("2 such models are trained one after the other"), "{}", said.err);
    assert_eq!(said.json()["members"].as_array().unwrap().len(), 2);
    // What is left when the run is chosen, in equal parts.
    let budget = |run: &str| -> f64 {
        let config = std::fs::read_to_string(folder.path().join(run).join("config.toml")).unwrap();
        config.lines().find_map(|line| line.strip_prefix("budget = ")).unwrap().parse().unwrap()
    };
    assert!(budget("run") < 3.0 && budget("run") == budget("run/members/2"), "{}", budget("run"));
}
