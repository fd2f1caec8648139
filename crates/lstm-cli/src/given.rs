//! The options that were given: those that have no part in what is asked for are refused, each by its name and with the
//! reason, before anything is read.

use std::num::{IntErrorKind, ParseFloatError, ParseIntError};
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::ArgMatches;
use clap::error::ContextKind;
use clap::parser::ValueSource;
use lstm::run::TaskKind;

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
    /// Where the second, which has the like of the first itself, is not given either.
    WithoutBoth(&'static str, &'static str),
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

/// Those of a model that goes on learning while it packs.
const LEARNING: [&str; 3] = ["dynamic-rate", "dynamic-decay", "dynamic-segment"];

/// What there is of adaptation beside how.
const OF_ADAPTATION: [&str; 8] = [
    "tune",
    "cache-theta",
    "cache-weight",
    "cache-window",
    "dynamic-rate",
    "dynamic-decay",
    "dynamic-segment",
    "dynamic-columns",
];

/// `lstm train` of a task beside language.
const TRAIN_TASK: &str = "train --task";

/// What a search for a setting, which trains for a while and keeps nothing, has no use for.
const OF_A_WHOLE_RUN: Which = Which::These(&[
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
    "tensorboard",
    "keep-checkpoints",
    "members",
]);
const TRIES_RATES: &str =
    "it tries learning rates one after another until the loss grows, and keeps nothing; leave it out";
const MEASURES_NOISE: &str =
    "it trains some hundred steps at one rate, measures the gradient's noise, and keeps nothing; leave it out";

const IDLE: [Idle; 25] = [
    Idle {
        command: TRAIN_TASK,
        when: When::With("resume"),
        options: Which::AllBut(&[
            "resume",
            "FILE",
            "valid",
            "test",
            "learning-rate",
            "epochs",
            "steps",
            "budget",
            "patience",
            "keep-checkpoints",
            "tensorboard",
            "threads",
            "json",
        ]),
        why: "a run goes on as its config.toml says, in its own folder; leave it out, or start a new run",
    },
    Idle {
        command: TRAIN_TASK,
        when: When::With("split"),
        options: Which::These(&["valid", "test"]),
        why: "--split holds validation and test out of the training data; leave one of them out",
    },
    Idle {
        command: TRAIN_TASK,
        when: When::Without("out"),
        options: Which::These(&["force"]),
        why: "a run that is not given a folder takes a free one and replaces none; name the one to replace",
    },
    Idle {
        command: TRAIN_TASK,
        when: When::With("from"),
        options: Which::These(&["tokenizer", "layers", "hidden", "embedding", "wiring"]),
        why: "a run starts with the embedding, the layers and the tokens of the language model as they are; leave it out, or train a new model",
    },
    Idle {
        command: TRAIN_TASK,
        when: When::Without("from"),
        options: Which::These(&["vocabulary", "freeze", "layer-rate-decay", "unfreeze"]),
        why: "it is of the language model that a run starts from; give that, or leave it out",
    },
    Idle {
        command: "train",
        when: When::With("resume"),
        options: Which::AllBut(&[
            "resume",
            "TEXT",
            "valid",
            "test",
            "teach",
            "learning-rate",
            "epochs",
            "steps",
            "budget",
            "patience",
            "tensorboard",
            "keep-checkpoints",
            "members",
            "threads",
            "json",
        ]),
        why: "a run goes on as its config.toml says, in its own folder; leave it out, or start a new run",
    },
    Idle { command: "train", when: When::With("find-lr"), options: OF_A_WHOLE_RUN, why: TRIES_RATES },
    Idle { command: "train", when: When::With("find-lr"), options: Which::These(&["learning-rate"]), why: TRIES_RATES },
    Idle { command: "train", when: When::With("find-batch"), options: OF_A_WHOLE_RUN, why: MEASURES_NOISE },
    Idle { command: "train", when: When::With("find-batch"), options: Which::These(&["find-lr"]), why: MEASURES_NOISE },
    Idle {
        command: "train",
        when: When::With("find-lr"),
        options: Which::These(&["unigram-bias", "spectral-embedding"]),
        why: "it starts from random numbers, for of what counting leaves to be learned the few steps at a rate show nothing; leave it out",
    },
    Idle {
        command: "train",
        // A run that goes on has texts, of which these may have been moved.
        when: When::WithoutBoth("TEXT", "resume"),
        options: Which::These(&["valid", "test", "split", "text-limit", "lossy", "shuffle", "line-ends", "documents"]),
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
        when: When::With("from"),
        options: Which::These(&[
            "tokenizer",
            "layers",
            "hidden",
            "embedding",
            "projection",
            "wiring",
            "residual",
            "peepholes",
            "coupled",
            "exponential",
            "layer-norm",
            "mogrify",
            "mogrify-rank",
            "readout",
            "tied",
            "softmaxes",
            "init",
            "forget-bias",
            "unigram-bias",
            "spectral-embedding",
        ]),
        why: "a run goes on with the model as it is, its shape, its values and its tokens; leave it out, or train a new model",
    },
    Idle {
        command: "train",
        when: When::Without("from"),
        options: Which::These(&["vocabulary"]),
        why: "it says what becomes of the vocabulary of the model that a run goes on from; give that, or leave it out",
    },
    Idle {
        command: "train",
        when: When::Without("teach"),
        options: Which::These(&["teach-weight"]),
        why: "it says how much is learned from teachers; name them, or leave it out",
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
        command: "generate",
        when: When::Without("with"),
        options: Which::These(&["shares"]),
        why: "one model alone has no share; name the others, or leave it out",
    },
    Idle {
        command: "score",
        when: When::Without("with"),
        options: Which::These(&["shares"]),
        why: "one model alone has no share; name the others, or leave it out",
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
        options: Which::These(&OF_ADAPTATION),
        why: "the model alone is measured; say how it shall follow the text, such as --adapt cache",
    },
    Idle {
        command: "pack",
        when: When::With("tune"),
        options: Which::These(&LEARNING),
        why: "tuning finds every setting of the adaptation; leave one of them out",
    },
    Idle {
        command: "pack",
        when: When::Without("adapt"),
        options: Which::These(&["tune", "dynamic-rate", "dynamic-decay", "dynamic-segment"]),
        why: "the model packs as it is; let it go on learning by --adapt dynamic, or leave it out",
    },
];

/// Options that only models of one task have.
struct OfTask {
    /// The subcommand.
    command: &'static str,
    task: TaskKind,
    options: &'static [&'static str],
}

const OF_TASK: [OfTask; 3] = [
    OfTask { command: "eval", task: TaskKind::Forecast, options: &["backtest"] },
    OfTask { command: "eval", task: TaskKind::Language, options: &["lossy", "baseline", "adapt", "weights"] },
    OfTask { command: "eval", task: TaskKind::Language, options: &OF_ADAPTATION },
];

/// Refuses an option that is of models of another task than the one that is given as `run`.
fn refuse_of_task(command: &clap::Command, matches: &ArgMatches, is_given: impl Fn(&str) -> bool) -> Result<()> {
    let of_command: Vec<&OfTask> = OF_TASK.iter().filter(|of| of.command == command.get_name()).collect();
    let any = of_command.iter().any(|of| of.options.iter().any(|option| is_given(option)));
    let Some(run) = matches.try_get_one::<PathBuf>("run").ok().flatten().filter(|_| any) else { return Ok(()) };
    let task = TaskKind::of(run)?;
    for OfTask { task: of, options, .. } in of_command.into_iter().filter(|of| of.task != task) {
        if let Some(option) = options.iter().find(|option| is_given(option)) {
            bail!(
                "--{option} has no part in a model of the task {task}: it is of models of the task {of}; leave it out"
            );
        }
    }
    Ok(())
}

/// Refuses `-` as the place of what is written, which would be a file of that name: only what is one stream of bytes goes to standard
/// output.
fn refuse_standard_output(command: &clap::Command, matches: &ArgMatches) -> Result<()> {
    /// The options and arguments that say where something is written.
    const PLACES: [&str; 4] = ["out", "output", "npz", "tensorboard"];
    let name = command.get_name();
    if ["pack", "unpack"].contains(&name) {
        return Ok(());
    }
    let is_place = |argument: &&clap::Arg| PLACES.contains(&argument.get_id().as_str());
    for argument in command.get_arguments().filter(is_place) {
        let id = argument.get_id().as_str();
        if matches.get_raw(id).is_some_and(|mut given| given.any(|value| value == "-")) {
            let place = argument.get_long().map_or(id.to_uppercase(), |long| format!("--{long}"));
            bail!(
                "{place} is -, which is no name: lstm {name} writes no standard output there; give a name, or ./- for that one"
            );
        }
    }
    Ok(())
}

/// Refuses the first option of a subcommand that has no part in what is asked for. `task`: that of `lstm train`.
pub fn refuse_idle(task: TaskKind, command: &clap::Command, matches: &ArgMatches) -> Result<()> {
    let given: Vec<String> = command
        .get_arguments()
        .filter(|argument| matches.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine))
        .map(|argument| match argument.get_long() {
            Some(long) => long.to_owned(),
            None => argument.get_id().as_str().to_uppercase(),
        })
        .collect();
    let is_given = |name: &str| given.iter().any(|given| given == name);
    refuse_of_task(command, matches, is_given)?;
    refuse_standard_output(command, matches)?;
    let name = match command.get_name() {
        "train" if task != TaskKind::Language => TRAIN_TASK,
        name => name,
    };
    for Idle { when, options, why, .. } in IDLE.iter().filter(|idle| idle.command == name) {
        let (applies, decides, with) = match when {
            When::With(option) => (is_given(option), option, "with"),
            When::Without(option) => (!is_given(option), option, "without"),
            When::WithoutBoth(option, other) => (!is_given(option) && !is_given(other), option, "without"),
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

/// The same error, where it is about a value that is no number, in words about numbers.
pub fn plainly(error: clap::Error) -> clap::Error {
    let source = std::error::Error::source(&error);
    let whole = source.and_then(|source| source.downcast_ref::<ParseIntError>()).map(ParseIntError::kind);
    let why = match whole {
        Some(IntErrorKind::PosOverflow) => "it is too large",
        Some(_) => "it must be a whole number, 0 or more",
        None if source.is_some_and(|source| source.is::<ParseFloatError>()) => "it must be a number",
        None => return error,
    };
    let context = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let (option, value) = (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue));
    clap::Error::raw(error.kind(), format!("invalid value '{value}' for '{option}': {why}\n"))
}

/// Puts what was given in the place of what there was.
pub fn set<T: Copy>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

/// An option as it is written; an argument as help names it.
fn shown(option: &str) -> String {
    if option.chars().all(|c| c.is_uppercase()) { format!("a {option}") } else { format!("--{option}") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::{CommandFactory, FromArgMatches};
    use lstm::run::config::RunConfig;

    use super::*;
    use crate::train::read;
    use crate::train_options::Train;
    use crate::{Cli, Command};

    #[test]
    fn every_option_of_the_table_exists() {
        for Idle { command, when, options, .. } in &IDLE {
            let root = Cli::command();
            let tasks = crate::tasks::train_commands();
            let command = if *command == TRAIN_TASK { &tasks[0] } else { root.find_subcommand(command).unwrap() };
            let (When::With(decides) | When::Without(decides) | When::WithoutBoth(decides, _)) = when;
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
            "documents" => &["BLANK"],
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
            "residual" | "tied" | "unigram-bias" | "spectral-embedding" | "variable-segment" | "partial-shuffle"
            | "lazy" => &["true", "false"],
            "mogrify" => &["3"],
            "mogrify-rank" => &["4"],
            "readout" => &["output-gate", "hidden"],
            "precision" => &["bf16", "bf16x3"],
            "wire" => &["bf16"],
            "softmaxes" | "accumulate" | "shards" => &["2"],
            "horizon" => &["3"],
            "init" => &["uniform(0.02)"],
            "forget-bias" => &["0.5"],
            "batches" => &["lines"],
            "batch" => &["3"],
            "segment" => &["9"],
            "candidates" => &["5"],
            "candidates-until" => &["0.5"],
            "optimizer" => &["adamw", "sgd"],
            "muon-rate" => &["0.02"],
            "muon-momentum" => &["0.8"],
            "beta1" | "beta2" => &["0.8"],
            "epsilon" => &["1e-6"],
            "non-monotone" => &["2"],
            "average" => &["ema(0.9)", "non-monotone(3)", "tail(0.3)"],
            "learning-rate" => &["0.07"],
            "schedule" => &["linear", "wsd", "plateau"],
            "warmup" => &["0.2"],
            "decay" => &["3"],
            "decay-after" => &["3"],
            "clip" => &["0.7"],
            "weight-decay" => &["0.001"],
            "weight-decay-shares" => &["vectors=0"],
            "seed" => &["7"],
            "epochs" => &["4"],
            "steps" => &["50"],
            "budget" => &["5m"],
            "patience" => &["2"],
            "dropout" => &["0.15"],
            "dropout-input" | "dropout-hidden" | "dropout-output" | "dropout-embedding" | "dropout-weights" => {
                &["0.07", "0.33"]
            }
            "dropout-kind" => &["locked", "standard"],
            "dropout-start" => &["0.5"],
            "zoneout" => &["0.05"],
            "zoneout-cell" | "zoneout-hidden" => &["0.06"],
            "ar" | "tar" | "label-smoothing" => &["0.03"],
            "from" => &["run"],
            "vocabulary" => &["extend"],
            "freeze" => &["embedding,0"],
            "layer-rate-decay" => &["0.5"],
            "teach" => &["run"],
            "teach-weight" => &["0.3"],
            "out" => &["other"],
            "resume" => &["run"],
            "tensorboard" => &["curves"],
            "threads" => &["1"],
            "keep-checkpoints" => &["2"],
            "members" => &["2"],
            "task" => &["language"],
            _ => &[],
        }
    }

    /// Options that change where a run lies and how it is shown.
    const OF_THE_COMMAND: [&str; 11] = [
        "task",
        "from",
        "vocabulary",
        "out",
        "force",
        "resume",
        "find-lr",
        "find-batch",
        "tensorboard",
        "threads",
        "json",
    ];

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

    /// What a command line comes to: the run, or what is said.
    fn resolved(folder: &Path, line: &[&str]) -> Result<(RunConfig, Train), String> {
        let command = Cli::command();
        let line = ["lstm", "train"]
            .iter()
            .chain(line)
            .map(|word| word.replace("text.txt", folder.join("text.txt").to_str().unwrap()));
        let matches = command.clone().try_get_matches_from(line).map_err(|error| error.to_string())?;
        refuse_idle(TaskKind::Language, command.find_subcommand("train").unwrap(), matches.subcommand().unwrap().1)
            .map_err(|error| error.to_string())?;
        let Command::Train(options) = Cli::from_arg_matches(&matches).unwrap().command else { unreachable!() };
        let checked = || -> Result<RunConfig> {
            let mut config = options.config()?;
            config.validate()?;
            if options.is_planned() {
                read(&options, &mut config, None)?;
            }
            lstm::model::LanguageModel::new(config.model.clone())?;
            Ok(config)
        };
        Ok((checked().map_err(|error| error.to_string())?, *options))
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
        let text: String =
            (0..4000).map(|i| format!("{}{}", words[i * i % 9], ["\n", " "][usize::from(i % 5 > 0)])).collect();
        std::fs::write(folder.path().join("text.txt"), text).unwrap();
        folder
    }

    /// An option names itself in what is said, as the command's or as the library's setting.
    fn names(said: &str, option: &str) -> bool {
        said.contains(&format!("--{option}")) || said.contains(&option.replace('-', " ")) || said.contains(option)
    }

    #[test]
    fn every_option_changes_the_run_or_is_refused_by_name_in_every_mode() {
        let folder = folder();
        let modes: [&[&str]; 5] = [
            &[],
            &["text.txt", "--preset=small"],
            &["text.txt", "--epochs=3"],
            &["text.txt", "--find-lr", "--preset=small"],
            &["text.txt", "--find-batch", "--preset=small"],
        ];
        for mode in modes {
            let (base, _) = resolved(folder.path(), mode).unwrap();
            for (option, is_switch) in options_of_train() {
                if mode.iter().any(|given| given.trim_start_matches("--").split('=').next() == Some(&option)) {
                    continue;
                }
                let outcomes =
                    ways(&option, is_switch).into_iter().map(|way| resolved(folder.path(), &[mode, &[&way]].concat()));
                let outcomes: Vec<_> = outcomes.collect();
                for said in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
                    assert!(names(said, &option), "{mode:?} --{option}: {said}");
                }
                let changes =
                    outcomes.iter().any(|outcome| outcome.as_ref().map_or(true, |(config, _)| *config != base));
                assert!(changes || OF_THE_COMMAND.contains(&option.as_str()), "{mode:?} --{option} is ignored");
            }
        }
    }

    #[test]
    fn a_resumed_run_takes_its_bounds_and_refuses_the_rest_by_name() {
        for (option, is_switch) in options_of_train() {
            for way in ways(&option, is_switch) {
                let command = Cli::command();
                let line = match option.as_str() {
                    "resume" => vec![],
                    _ => vec![way.as_str()],
                };
                let matches =
                    command.clone().get_matches_from([&["lstm", "train", "--resume=run"], &line[..]].concat());
                let said = refuse_idle(
                    TaskKind::Language,
                    command.find_subcommand("train").unwrap(),
                    matches.subcommand().unwrap().1,
                );
                let lasting = ["resume", "valid", "test", "teach", "learning-rate", "tensorboard", "threads", "json"];
                let taken = lasting
                    .iter()
                    .chain(&["epochs", "steps", "budget", "patience", "keep-checkpoints", "members"])
                    .any(|one| *one == option);
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

    /// A second option that would have changed the run alone, but changes nothing beside the first, is ignored.
    #[test]
    fn no_option_makes_another_one_go_unheard() {
        /// The second is what the first means anyway, or all it changes is what the first says: of awd, sgd takes the average.
        const SAME: [(&str, &str); 6] = [
            ("--tokenizer=bytes", "--line-ends=keep"),
            ("--batches=lines", "--variable-segment=false"),
            ("--batches=lines", "--partial-shuffle=false"),
            ("--average=ema(0.9)", "--optimizer=sgd"),
            ("--average=non-monotone(3)", "--optimizer=sgd"),
            ("--average=tail(0.3)", "--optimizer=sgd"),
        ];
        let folder = folder();
        let ways: Vec<(String, String)> = options_of_train()
            .into_iter()
            .filter(|(option, _)| !OF_THE_COMMAND.contains(&option.as_str()) && option != "preset")
            .flat_map(|(option, is_switch)| ways(&option, is_switch).into_iter().map(move |way| (option.clone(), way)))
            .collect();
        for mode in
            [&["text.txt", "--preset=small"][..], &["text.txt", "--preset=awd"], &["text.txt", "--preset=textlstm"]]
        {
            let with = |given: &[&str]| resolved(folder.path(), &[mode, given].concat()).map(|(config, _)| config);
            let base = with(&[]).unwrap();
            let mut unheard = Vec::new();
            let alone: Vec<_> = ways.iter().map(|(_, way)| with(&[way]).ok()).collect();
            for (first, of_first) in ways.iter().zip(&alone) {
                let Some(of_first) = of_first else { continue };
                for (second, of_second) in ways.iter().zip(&alone) {
                    let heard = of_second.as_ref().is_some_and(|config| *config != base && config != of_first);
                    if first.0 == second.0 || !heard {
                        continue;
                    }
                    let both = with(&[&first.1, &second.1]);
                    if both.as_ref() == Ok(of_first) && !SAME.contains(&(first.1.as_str(), second.1.as_str())) {
                        unheard.push(format!("{} beside {}", second.1, first.1));
                    }
                }
            }
            assert_eq!(unheard, [""; 0], "{mode:?}");
        }
    }

    /// Every option that takes a number, with numbers that make no sense for most: refused by name, or among those that
    /// make sense all the same.
    #[test]
    fn numbers_beyond_sense_are_refused_by_name() {
        const BEYOND: [&str; 11] = [
            "nan",
            "inf",
            "-inf",
            "-1",
            "0",
            "1e-40",
            "1e40",
            "4294967296",
            "9223372036854775807",
            "18446744073709551615",
            "99999999999999999999",
        ];
        let folder = folder();
        let mut taken = Vec::new();
        for (option, is_switch) in options_of_train() {
            let is_number = samples(&option).first().is_some_and(|sample| sample.parse::<f64>().is_ok());
            if is_switch || !is_number || option == "threads" {
                continue;
            }
            // Beside what the option is of.
            let beside: &[&str] = match option.as_str() {
                "non-monotone" => &["--optimizer=nt-asgd", "--learning-rate=30"],
                "beta1" | "beta2" | "epsilon" => &["--optimizer=adam", "--learning-rate=0.01"],
                "mogrify-rank" => &["--mogrify=2"],
                "muon-rate" | "muon-momentum" => &["--optimizer=muon", "--learning-rate=0.01"],
                "decay" | "decay-after" => &["--schedule=step"],
                "candidates-until" => &["--candidates=5"],
                "teach-weight" => &["--teach=run"],
                _ => &[],
            };
            for number in BEYOND {
                let given = format!("--{option}={number}");
                let mode = ["text.txt", "--preset=small", "--layers=2"];
                let mode: Vec<&str> =
                    mode.into_iter().filter(|other| !other.starts_with(&format!("--{option}="))).collect();
                match resolved(folder.path(), &[&mode[..], beside, &[&given]].concat()) {
                    Ok(_) => taken.push(format!("{option}={number}")),
                    Err(said) => assert!(names(&said, &option), "{given}: {said}"),
                }
            }
        }
        let sensible = SENSIBLE.split_whitespace().collect::<Vec<_>>();
        assert_eq!(taken, sensible);
    }

    /// Zeros that turn something off, seeds, and sizes that are compared with the text or the memory where both are known.
    const SENSIBLE: &str = "
        text-limit=4294967296 min-count=4294967296 min-count=9223372036854775807 mogrify=0 horizon=4294967296
        horizon=9223372036854775807 horizon=18446744073709551615 forget-bias=-1 forget-bias=0
        forget-bias=1e-40 dropout=0 dropout-input=0 dropout-hidden=0 dropout-output=0 dropout-embedding=0
        dropout-weights=0 dropout-start=0 zoneout=0 zoneout-cell=0 zoneout-hidden=0 ar=0 tar=0 label-smoothing=0 batch=4294967296
        batch=9223372036854775807 batch=18446744073709551615 segment=4294967296 segment=9223372036854775807
        segment=18446744073709551615 accumulate=4294967296 accumulate=9223372036854775807
        accumulate=18446744073709551615 candidates=4294967296 candidates=9223372036854775807
        candidates=18446744073709551615 muon-momentum=0 beta1=0 beta2=0 warmup=0 clip=0 weight-decay=0 seed=0
        seed=4294967296 seed=9223372036854775807 steps=4294967296 patience=0 keep-checkpoints=0
    ";
}
