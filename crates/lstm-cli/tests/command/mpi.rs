use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Said, TINY, folder, line};

/// A run of 8 rows a step, in 8 shards.
const EIGHT: &str =
    "--layers 2 --hidden 8 --embedding 6 --batch 8 --segment 8 --dropout 0.2 --epochs 2 --shards 8 --threads 1";

/// `mpirun` with these words, whoever runs it and however few processors there are.
fn mpirun(folder: &Path, words: &str) -> Command {
    let mut command = Command::new("mpirun");
    command.current_dir(folder).args(words.split_whitespace());
    for variable in ["ALLOW_RUN_AS_ROOT", "ALLOW_RUN_AS_ROOT_CONFIRM", "MCA_rmaps_base_oversubscribe"] {
        command.env(format!("OMPI_{variable}"), "1");
    }
    command.env("OMPI_MCA_mpi_yield_when_idle", "1").env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// So many ranks of `lstm` with these arguments.
fn ranks(folder: &Path, count: usize, arguments: &str) -> Said {
    let words = format!("-n {count} {} {arguments}", env!("CARGO_BIN_EXE_lstm"));
    Said::new(mpirun(folder, &words).output().unwrap())
}

/// Whether there is an `mpirun`; says so where there is none.
fn is_here() -> bool {
    let found = Command::new("mpirun").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: there is no mpirun here");
    }
    found
}

/// What a run of several ranks has in common with one: all but the times.
fn result(run: &Path) -> BTreeMap<&'static str, Vec<u8>> {
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let timeless = metrics.lines().map(|line| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["seconds"].take();
        line["tokens_per_second"].take();
        format!("{line}\n")
    });
    let model = std::fs::read(run.join("model.safetensors")).unwrap();
    BTreeMap::from([("model", model), ("metrics", timeless.collect::<String>().into_bytes())])
}

#[test]
fn any_number_of_ranks_trains_the_model_of_one_process_and_rank_0_alone_talks() {
    if !is_here() {
        return;
    }
    let folder = folder();
    let here = folder.path();
    let alone = line(here, &format!("train text.txt {EIGHT} --out alone"));
    assert_eq!(alone.code, Some(0), "{}", alone.err);
    for count in [2, 3, 4] {
        let said = ranks(here, count, &format!("train text.txt {EIGHT} --out of-{count}"));
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert!(result(&here.join(format!("of-{count}"))) == result(&here.join("alone")), "{count}");
        assert_eq!(said.err.matches("run      of-").count(), 1, "{}", said.err);
        assert_eq!(said.out.matches("tokens/s").count(), 1, "{}", said.out);
        assert!(said.out.contains(&format!("a step of 8 shards on {count} ranks: ")), "{}", said.out);
    }
    // Without a word about it a plan has as many shards as ranks; on fewer ranks and on one process it goes on with the same bits.
    let unsaid = EIGHT.replace("--shards 8", "");
    for (count, more) in [(4, "--epochs 1"), (3, "--epochs 2")] {
        let run = if count == 4 { format!("text.txt {unsaid} --out parts") } else { "--resume parts".to_owned() };
        let said = ranks(here, count, &format!("train {} {more}", run.replace("--epochs 2", "")));
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
    assert!(std::fs::read_to_string(here.join("parts/config.toml")).unwrap().contains("shards = 4"));
    let preset = "--preset small --layers 1 --hidden 8 --embedding 8 --batch 9 --epochs 1 --out preset";
    assert_eq!(ranks(here, 2, &format!("train text.txt {preset}")).code, Some(0));
    assert!(std::fs::read_to_string(here.join("preset/config.toml")).unwrap().contains("shards = 8"));
    // One that it makes for a time uses all of them, and says so.
    let said = ranks(here, 2, "train text.txt --budget 2s --tokenizer chars --batch 8 --threads 1 --out planned");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("plan     each of 2 ranks trains at "), "{}", said.err);
    assert!(said.err.contains("times the rows of one machine's, so the rate is "), "{}", said.err);
    let said = ranks(here, 2, "train --resume alone --epochs 3 --json");
    assert_eq!(said.json()["exchange"]["ranks"], 2);
}

#[test]
fn ranks_that_do_not_go_together_are_refused_at_the_start() {
    if !is_here() {
        return;
    }
    let (folder, lstm) = (folder(), env!("CARGO_BIN_EXE_lstm"));
    let here = folder.path();
    let other = here.join("lstm");
    std::fs::copy(lstm, &other).unwrap();
    let mut bytes = std::fs::OpenOptions::new().append(true).open(&other).unwrap();
    std::io::Write::write_all(&mut bytes, b"another build").unwrap();
    drop(bytes);
    let run = format!("train text.txt {EIGHT} --out run");
    for (words, expected) in [
        (
            format!("-n 1 {lstm} {run} --seed 1 : -n 2 {lstm} {run} --seed 2"),
            "was started with other arguments than rank 0: 2",
        ),
        (format!("-n 1 {lstm} {run} : -n 1 {} {run}", other.display()), "is another program"),
        (format!("-n 1 {lstm} {run} : -n 1 env LSTM_ISA=scalar {lstm} {run}"), "computes with scalar, rank 0 with"),
        (format!("-n 9 {lstm} {run}"), "there are 9 ranks, but a step of this run is cut into 8 shards"),
        (format!("-n 2 {lstm} train text.txt {TINY} --shards 5 --out run"), "--shards is 5, but a batch has 4 rows"),
        (format!("-n 2 {lstm} train text.txt --find-lr"), "--find-lr tries rates in one process"),
        (format!("-n 2 {lstm} train text.txt --task classify"), "several ranks train language models alone"),
    ] {
        let said = Said::new(mpirun(here, &words).output().unwrap());
        assert_ne!(said.code, Some(0), "{words}");
        assert!(said.err.contains(expected), "{words}: {}", said.err);
        let _ = std::fs::remove_dir_all(here.join("run"));
    }
}

/// The process of a rank that `mpirun` started.
fn process(mpirun: &Child, rank: usize) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", mpirun.id())).ok()?;
    let is_it = |process: &&str| {
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|one| one == format!("OMPI_COMM_WORLD_RANK={rank}").as_bytes())
    };
    children.split_whitespace().find(is_it)?.parse().ok()
}

fn kill(process: u32) {
    let _ = Command::new("kill").args(["-9", &process.to_string()]).stderr(Stdio::null()).status();
}

/// A run of a few seconds.
fn long(out: &str) -> String {
    format!("train text.txt {EIGHT} --out {out}").replace("--epochs 2", "--epochs 60")
}

#[test]
fn a_rank_that_is_killed_is_named_with_the_command_that_goes_on() {
    if !is_here() {
        return;
    }
    let folder = folder();
    let here = folder.path();
    for (rank, speaker) in [(2, "rank 2"), (0, "rank 0")] {
        let out = format!("run-{rank}");
        let child = mpirun(here, &format!("-n 3 {} {}", env!("CARGO_BIN_EXE_lstm"), long(&out))).spawn().unwrap();
        let (began, lines) = (Instant::now(), here.join(&out).join("metrics.jsonl"));
        while std::fs::read(&lines).map_or(0, |lines| lines.len()) < 200 {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(20));
        }
        kill(process(&child, rank).unwrap());
        let said = Said::new(child.wait_with_output().unwrap());
        assert_ne!(said.code, Some(0));
        let expected = format!("error: {speaker} (process ");
        let sentence = said.err.lines().find(|line| line.contains(&expected)).unwrap_or_else(|| panic!("{}", said.err));
        assert!(sentence.contains(" died, so the run ends; "), "{sentence}");
        assert!(sentence.contains(&format!("go on with: lstm train --resume {out}")), "{sentence}");
        assert_eq!(said.err.matches(" died, so").count(), 1, "{}", said.err);
        let resumed = ranks(here, 2, &format!("train --resume {out}"));
        assert_eq!(resumed.code, Some(0), "{}", resumed.err);
    }
    let whole = line(here, &long("whole"));
    assert_eq!(whole.code, Some(0), "{}", whole.err);
    for rank in [0, 2] {
        assert!(result(&here.join(format!("run-{rank}"))) == result(&here.join("whole")), "{rank}");
    }
}

/// `LSTM_TEST_KILLS`: how many, 3 unless said.
#[test]
fn a_run_whose_ranks_are_killed_at_random_ends_in_the_bits_of_an_unbroken_one() {
    if !is_here() {
        return;
    }
    let kills: u64 = std::env::var("LSTM_TEST_KILLS").map_or(3, |kills| kills.parse().unwrap());
    let folder = folder();
    let here = folder.path();
    let began = Instant::now();
    assert_eq!(line(here, &long("whole")).code, Some(0));
    let (whole, expected) = (began.elapsed(), result(&here.join("whole")));
    let mut seed = 1u64;
    let mut below = |n: u64| {
        // Any numbers do, the same in every run: Knuth's MMIX.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let (mut killed, mut runs) = (0, 0);
    while killed < kills {
        let run = format!("run-{runs}");
        runs += 1;
        // Some kills a run, until it is over.
        for _ in 0..4 {
            let count = 2 + below(3) as usize;
            let arguments = if here.join(&run).join("config.toml").exists() {
                format!("train --resume {run}")
            } else {
                let _ = std::fs::remove_dir_all(here.join(&run));
                long(&run)
            };
            let mut child =
                mpirun(here, &format!("-n {count} {} {arguments}", env!("CARGO_BIN_EXE_lstm"))).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(300 + below(2 * whole.as_millis() as u64)));
            let rank = below(count as u64) as usize;
            if let Some(process) = process(&child, rank).filter(|_| child.try_wait().unwrap().is_none()) {
                kill(process);
                killed += 1;
            }
            child.wait_with_output().unwrap();
            if here.join(&run).join("config.toml").exists() {
                let shown = line(here, &format!("show {run}"));
                // A run that has no model yet says so.
                assert!(shown.code == Some(0) || shown.err.contains("has no model yet"), "{}", shown.err);
            }
        }
        let last =
            if here.join(&run).join("config.toml").exists() { format!("train --resume {run}") } else { long(&run) };
        let said = ranks(here, 2, &last);
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert!(result(&here.join(&run)) == expected, "{run}");
    }
    eprintln!("{killed} kills in {runs} runs");
}
