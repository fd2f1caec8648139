//! `lstm sweep`: the runs of every combination of some settings, as one command a line for whatever runs commands.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::repeat::quoted;
use crate::{described, given, tasks};

/// More are a mistake of one who multiplied without noticing.
const MOST_RUNS: usize = 10_000;

/// The options of `lstm sweep`.
#[derive(clap::Args)]
pub struct Sweep {
    /// An option of `lstm train` and its values, as NAME=VALUE,VALUE or, of whole numbers, NAME=FROM..TO with both ends; values that
    /// have commas are parted by semicolons. It can be given more than once: every value is tried with every one of the others
    #[arg(long, required = true, value_name = "NAME=VALUES", value_parser = over)]
    over: Vec<Over>,
    /// The folder in which every run has a folder
    #[arg(long, default_value = "runs/sweep")]
    out: PathBuf,
    /// The command that all have in common, behind --: train TEXT and its options
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// An option with its values.
#[derive(Clone, Debug, PartialEq)]
struct Over {
    name: String,
    values: Vec<String>,
}

fn over(given: &str) -> Result<Over, String> {
    let form = "it is NAME=VALUE,VALUE with the name of an option of lstm train, such as hidden=200,400";
    let (name, values) = given.split_once('=').ok_or(form)?;
    let name = name.trim_start_matches('-');
    if name.is_empty() || values.is_empty() {
        return Err(form.to_owned());
    }
    let range =
        values.split_once("..").and_then(|(from, to)| Some((from.parse::<u64>().ok()?, to.parse::<u64>().ok()?)));
    let values: Vec<String> = match range {
        Some((from, to)) if from > to => {
            return Err(format!("{from}..{to} has no values; the smaller end comes first"));
        }
        Some((from, to)) if to - from >= MOST_RUNS as u64 => {
            return Err(format!("{from}..{to} has more than {MOST_RUNS} values"));
        }
        Some((from, to)) => (from..=to).map(|value| value.to_string()).collect(),
        None => values.split(if values.contains(';') { ';' } else { ',' }).map(str::to_owned).collect(),
    };
    if values.iter().collect::<BTreeSet<_>>().len() < values.len() {
        return Err(format!("{given} has a value twice"));
    }
    Ok(Over { name: name.to_owned(), values })
}

/// Prints a command for every combination: it begins the run, goes on with one that was broken off, and says the result of one that is
/// over.
pub fn run(options: &Sweep) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for line in lines(options)? {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(options: &Sweep) -> Result<Vec<String>> {
    let Sweep { over, out, command } = options;
    let Some(("train", common)) = command.split_first().map(|(first, rest)| (first.as_str(), rest)) else {
        bail!(
            "the command behind -- begins with {:?}; it is one of training, such as: -- train TEXT --epochs 3",
            command[0]
        );
    };
    let is_given = |name: &str| {
        let (alone, joined) = (format!("--{name}"), format!("--{name}="));
        common.iter().any(|word| *word == alone || word.starts_with(&joined))
    };
    for own in ["out", "resume", "force"] {
        if is_given(own) || over.iter().any(|over| over.name == own) {
            bail!(
                "--{own} is not one of a sweep: every run has its own folder in {}, and goes on from there",
                out.display()
            );
        }
    }
    let mut names = BTreeSet::new();
    for Over { name, .. } in over {
        if is_given(name) {
            bail!("--{name} is in the command too; leave it out of one of the two");
        }
        if !names.insert(name) {
            bail!("--over {name} is given twice; give its values together");
        }
    }
    let runs = over.iter().map(|over| over.values.len()).try_fold(1usize, usize::checked_mul);
    let Some(runs) = runs.filter(|runs| *runs <= MOST_RUNS) else {
        bail!("that is more than {MOST_RUNS} runs; leave some values out");
    };
    let mut folders = BTreeSet::new();
    (0..runs).map(|number| line(over, out, common, number, &mut folders)).collect()
}

/// The command of one combination; the values of the last option change first.
fn line(
    over: &[Over],
    out: &std::path::Path,
    common: &[String],
    mut number: usize,
    folders: &mut BTreeSet<String>,
) -> Result<String> {
    let mut chosen = Vec::new();
    for Over { name, values } in over.iter().rev() {
        chosen.push((name, &values[number % values.len()]));
        number /= values.len();
    }
    chosen.reverse();
    let is_plain = |c: char| c.is_alphanumeric() || "-_.+".contains(c);
    let named = |(name, value): &(&String, &String)| format!("{name}={}", value.replace(|c: char| !is_plain(c), "-"));
    let folder = chosen.iter().map(named).collect::<Vec<_>>().join(",");
    if !folders.insert(folder.clone()) {
        bail!("two combinations would have the folder {folder}; let their values differ in letters or digits");
    }
    let folder = out.join(folder).display().to_string();
    let mut words = vec!["lstm".to_owned(), "train".to_owned()];
    words.extend(common.iter().cloned());
    words.extend(chosen.iter().map(|(name, value)| format!("--{name}={value}")));
    words.extend(["--out".to_owned(), folder.clone()]);
    // What would be refused is refused now, not on a cluster.
    let arguments: Vec<_> = words.iter().map(Into::into).collect();
    let task = tasks::of_train(&arguments);
    let mut known = described(task);
    if let Err(error) = known.try_get_matches_from_mut(&words) {
        let said = given::plainly(error).to_string();
        let said = said.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        bail!(
            "{}: {said}",
            chosen.iter().map(|(name, value)| format!("--{name}={value}")).collect::<Vec<_>>().join(" ")
        );
    }
    let program = std::env::args().next().filter(|program| program.contains('/')).unwrap_or("lstm".to_owned());
    words[0] = program.clone();
    let begin = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let (program, folder) = (quoted(&program), quoted(&folder));
    Ok(format!("if [ -e {folder}/config.toml ]; then {program} train --resume {folder}; else {begin}; fi"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(over: &[&str], command: &[&str]) -> Result<Vec<String>> {
        let over = over.iter().map(|given| super::over(given).map_err(anyhow::Error::msg)).collect::<Result<_>>()?;
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        lines(&Sweep { over, out: "runs/s".into(), command })
    }

    #[test]
    fn every_combination_is_a_command_once() {
        let lines = sweep(&["hidden=8;8,16", "seed=1..3"], &["train", "a text.txt", "--epochs", "2"]).unwrap();
        assert_eq!(lines.len(), 6);
        assert!(
            lines[0].contains("train 'a text.txt' --epochs 2 --hidden=8 --seed=1 --out runs/s/hidden=8,seed=1; fi"),
            "{}",
            lines[0]
        );
        assert!(
            lines[5].contains("--hidden=8,16 --seed=3") && lines[5].contains("--resume runs/s/hidden=8-16,seed=3"),
            "{}",
            lines[5]
        );
    }

    #[test]
    fn what_training_would_refuse_is_refused_before_a_line_is_printed() {
        for (over, command, said) in [
            (&["hiden=8,16"][..], &["train"][..], "--hiden"),
            (&["hidden=8,x"], &["train"], "x"),
            (&["hidden=8", "hidden=9"], &["train"], "twice"),
            (&["hidden=8,8"], &["train"], "twice"),
            (&["hidden=8"], &["train", "--hidden=3"], "in the command too"),
            (&["hidden=8"], &["eval"], "begins with \"eval\""),
            (&["out=a,b"], &["train"], "its own folder"),
            (&["seed=5..1"], &["train"], "no values"),
            (&["seed=0..9999", "hidden=1..9"], &["train"], "more than 10000 runs"),
            (&["hidden"], &["train"], "NAME=VALUE"),
        ] {
            let error = sweep(over, command).unwrap_err().to_string();
            assert!(error.contains(said), "{over:?} {command:?}: {error}");
        }
    }
}
