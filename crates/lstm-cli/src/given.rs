//! The options that were given: those that have no part in what is asked for are refused, each by its name and with the
//! reason, before anything is read.

use anyhow::{Result, bail};
use clap::ArgMatches;
use clap::parser::ValueSource;

/// Options that change nothing with an option, or without it.
struct Idle {
    /// The subcommand.
    command: &'static str,
    when: When,
    options: Which,
    /// Why they change nothing, and what to do.
    why: &'static str,
}

/// The option, or the argument in capitals, whose presence or absence decides.
enum When {
    With(&'static str),
    Without(&'static str),
}

/// Options by their long names.
enum Which {
    These(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

/// Where a sampled text is drawn, and what is drawn from.
const SAMPLING: Which = Which::These(&["temperature", "top-k", "top-p", "min-p", "repetition-penalty", "seed"]);

/// The settings of adaptation, and their tuning.
const CACHE_AND_DYNAMIC: [&str; 6] =
    ["cache-theta", "cache-weight", "cache-window", "dynamic-rate", "dynamic-decay", "dynamic-segment"];

const IDLE: [Idle; 9] = [
    Idle {
        command: "train",
        when: When::With("resume"),
        options: Which::AllBut(&[
            "resume",
            "TEXT",
            "valid",
            "test",
            "learning-rate",
            "epochs",
            "steps",
            "budget",
            "patience",
            "threads",
            "json",
        ]),
        why: "a run goes on as its config.toml says, in its own folder; leave it out, or start a new run",
    },
    Idle {
        command: "train",
        when: When::With("find-lr"),
        options: Which::These(&[
            "learning-rate",
            "schedule",
            "warmup",
            "decay",
            "decay-after",
            "average",
            "non-monotone",
            "candidates-until",
            "epochs",
            "steps",
            "budget",
            "patience",
            "out",
            "force",
        ]),
        why: "it tries learning rates one after another until the loss grows, and keeps nothing; leave it out",
    },
    Idle {
        command: "train",
        when: When::Without("TEXT"),
        options: Which::These(&["valid", "test", "split", "text-limit", "lossy", "shuffle", "line-ends"]),
        why: "the built-in language is made in three parts of a fixed length; give a text, or leave it out",
    },
    Idle {
        command: "train",
        when: When::With("split"),
        options: Which::These(&["valid", "test"]),
        why: "--split holds validation and test out of the training text; leave one of them out",
    },
    Idle {
        command: "train",
        when: When::Without("candidates"),
        options: Which::These(&["candidates-until"]),
        why: "it says how long only candidates are scored; give both, or leave it out",
    },
    Idle {
        command: "train",
        when: When::Without("out"),
        options: Which::These(&["force"]),
        why: "a run that is not given a folder takes a free one and replaces none; name the one to replace",
    },
    Idle {
        command: "generate",
        when: When::With("beam"),
        options: SAMPLING,
        why: "a search for the likeliest text draws nothing; leave one of them out",
    },
    Idle {
        command: "eval",
        when: When::With("tune"),
        options: Which::These(&CACHE_AND_DYNAMIC),
        why: "tuning finds every setting of the adaptation; leave one of them out",
    },
    Idle {
        command: "eval",
        when: When::Without("adapt"),
        options: Which::These(&[
            "tune",
            "cache-theta",
            "cache-weight",
            "cache-window",
            "dynamic-rate",
            "dynamic-decay",
            "dynamic-segment",
        ]),
        why: "the model alone is measured; say how it shall follow the text, such as --adapt cache",
    },
];

/// Refuses the first option of a subcommand that has no part in what is asked for.
pub fn refuse_idle(command: &clap::Command, matches: &ArgMatches) -> Result<()> {
    let given: Vec<String> = command
        .get_arguments()
        .filter(|argument| matches.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine))
        .map(|argument| match argument.get_long() {
            Some(long) => long.to_owned(),
            None => argument.get_id().as_str().to_uppercase(),
        })
        .collect();
    let is_given = |name: &str| given.iter().any(|given| given == name);
    for Idle { when, options, why, .. } in IDLE.iter().filter(|idle| idle.command == command.get_name()) {
        let (applies, decides, with) = match when {
            When::With(option) => (is_given(option), option, "with"),
            When::Without(option) => (!is_given(option), option, "without"),
        };
        let is_idle = |option: &&String| match options {
            Which::These(these) => these.contains(&option.as_str()),
            Which::AllBut(these) => !these.contains(&option.as_str()),
        };
        if let Some(option) = given.iter().find(is_idle).filter(|_| applies) {
            bail!("{} has no part {with} {}: {why}", shown(option), shown(decides));
        }
    }
    Ok(())
}

/// An option as it is written; an argument as help names it.
fn shown(option: &str) -> String {
    if option.chars().all(|c| c.is_uppercase()) { format!("a {option}") } else { format!("--{option}") }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::Cli;

    #[test]
    fn every_option_of_the_table_exists() {
        for Idle { command, when, options, .. } in &IDLE {
            let root = Cli::command();
            let command = root.find_subcommand(command).unwrap();
            let (When::With(decides) | When::Without(decides)) = when;
            let (Which::These(these) | Which::AllBut(these)) = options;
            for name in these.iter().chain([decides]) {
                let known = command.get_arguments().any(|argument| {
                    argument.get_long() == Some(name) || argument.get_id().as_str().to_uppercase() == **name
                });
                assert!(known, "{} has no --{name}", command.get_name());
            }
        }
    }

    /// What is given to an option: values of which at least one is no default of any run.
    fn samples(option: &str) -> &'static [&'static str] {
        match option {
            "preset" => &["char", "small"],
            "shuffle" => &["lines"],
            "line-ends" => &["keep"],
            "valid" | "test" => &["text.txt"],
            "split" => &["80/10/10"],
            "text-limit" => &["0.01"],
            "tokenizer" => &["bytes"],
            "min-count" => &["3"],
            "vocab-size" => &["6"],
            "layers" => &["3"],
            "hidden" => &["24"],
            "embedding" => &["12"],
            "projection" => &["5"],
            "wiring" => &["skip"],
            "residual" | "tied" | "variable-segment" | "lazy" => &["true", "false"],
            "readout" => &["output-gate", "hidden"],
            "softmaxes" | "accumulate" => &["2"],
            "horizon" => &["3"],
            "init" => &["uniform(0.02)"],
            "forget-bias" => &["0.5"],
            "batches" => &["lines"],
            "batch" => &["3"],
            "segment" => &["9"],
            "candidates" => &["5"],
            "candidates-until" => &["0.5"],
            "optimizer" => &["adamw", "sgd"],
            "beta1" | "beta2" => &["0.8"],
            "epsilon" => &["1e-6"],
            "non-monotone" => &["2"],
            "average" => &["ema(0.9)"],
            "learning-rate" => &["0.07"],
            "schedule" => &["linear", "plateau"],
            "warmup" => &["0.2"],
            "decay" => &["3"],
            "decay-after" => &["3"],
            "clip" => &["0.7"],
            "weight-decay" => &["0.001"],
            "seed" => &["7"],
            "epochs" => &["4"],
            "steps" => &["50"],
            "budget" => &["5m"],
            "patience" => &["2"],
            "dropout" => &["0.15"],
            "dropout-input" | "dropout-hidden" | "dropout-output" | "dropout-embedding" | "dropout-weights" => {
                &["0.07"]
            }
            "dropout-kind" => &["locked", "standard"],
            "zoneout" => &["0.05"],
            "zoneout-cell" | "zoneout-hidden" => &["0.06"],
            "ar" | "tar" | "label-smoothing" => &["0.03"],
            "out" => &["other"],
            "resume" => &["run"],
            "threads" => &["1"],
            _ => &[],
        }
    }

    fn options_of_train() -> Vec<(String, bool)> {
        let command = Cli::command();
        let train = command.find_subcommand("train").unwrap();
        let options = train.get_arguments().filter(|argument| argument.get_id() != "help");
        let options = options
            .filter_map(|argument| Some((argument.get_long()?.to_owned(), !argument.get_action().takes_values())));
        options.collect()
    }

    /// The ways to give an option: every sample, or its name alone.
    fn ways(option: &str, is_switch: bool) -> Vec<String> {
        let values = samples(option);
        assert_eq!(is_switch, values.is_empty(), "--{option} needs samples here");
        if is_switch {
            vec![format!("--{option}")]
        } else {
            values.iter().map(|value| format!("--{option}={value}")).collect()
        }
    }

    #[test]
    fn a_resumed_run_takes_its_bounds_and_refuses_the_rest_by_name() {
        for (option, is_switch) in options_of_train() {
            for way in ways(&option, is_switch) {
                let command = Cli::command();
                let line = match option.as_str() {
                    "resume" => vec![],
                    // A text that was moved, and those beside it.
                    "valid" | "test" => vec![way.as_str(), "text.txt"],
                    _ => vec![way.as_str()],
                };
                let matches =
                    command.clone().get_matches_from([&["lstm", "train", "--resume=run"], &line[..]].concat());
                let said = refuse_idle(command.find_subcommand("train").unwrap(), matches.subcommand().unwrap().1);
                let lasting = ["resume", "valid", "test", "learning-rate", "threads", "json"];
                let taken = lasting.iter().chain(&["epochs", "steps", "budget", "patience"]).any(|one| *one == option);
                match said {
                    Ok(()) => assert!(taken, "{way}"),
                    Err(error) => assert!(
                        error.to_string().starts_with(&format!("--{option} has no part with --resume")),
                        "{error}"
                    ),
                }
            }
        }
    }
}
