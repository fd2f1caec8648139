//! The defaults that the help of `lstm train` shows. They are read from where they are, the presets, so that help cannot say
//! anything else than what a run gets.

use lstm::run::config::RunConfig;
use lstm::run::preset::Preset;
use serde_json::Value;

/// An option whose default is a value of the configuration.
pub struct Setting {
    /// Its long name.
    pub option: &'static str,
    /// Where the value is, as a JSON pointer into the configuration.
    pub at: &'static str,
    /// The word for no value.
    pub none: &'static str,
    /// Whether it is chosen for a text when no preset is.
    is_planned: bool,
}

const fn fixed(option: &'static str, at: &'static str, none: &'static str) -> Setting {
    Setting { option, at, none, is_planned: false }
}

const fn planned(option: &'static str, at: &'static str, none: &'static str) -> Setting {
    Setting { option, at, none, is_planned: true }
}

/// In the order of help.
pub const SETTINGS: [Setting; 71] = [
    planned("tokenizer", "/tokenizer", ""),
    fixed("min-count", "/vocabulary/min_count", "2 for words of a text without <unk>, else 1"),
    planned("vocab-size", "/vocabulary/max_size", "all (subwords: 8000)"),
    planned("layers", "/model/lstm/layers", ""),
    planned("hidden", "/model/lstm/hidden", ""),
    planned("embedding", "/model/lstm/input", ""),
    fixed("projection", "/model/lstm/projection", "none"),
    fixed("wiring", "/model/lstm/wiring", ""),
    planned("residual", "/model/lstm/residual", ""),
    fixed("peepholes", "/model/lstm/variant/peepholes", ""),
    fixed("coupled", "/model/lstm/variant/coupled", ""),
    fixed("exponential", "/model/lstm/variant/exponential", ""),
    fixed("layer-norm", "/model/lstm/variant/layer_norm", ""),
    fixed("mogrify", "/model/lstm/variant/mogrify", ""),
    fixed("mogrify-rank", "/model/lstm/variant/mogrify_rank", "any"),
    fixed("readout", "/model/lstm/readout", ""),
    planned("tied", "/model/tied", ""),
    fixed("softmaxes", "/model/softmaxes", ""),
    fixed("horizon", "/model/lstm/horizon", "segment"),
    fixed("init", "/training/init/scheme", ""),
    fixed("forget-bias", "/training/init/forget_bias", "as --init"),
    planned("unigram-bias", "/unigram_bias", ""),
    planned("spectral-embedding", "/spectral_embedding", ""),
    planned("dropout", "/model/dropout/input", ""),
    planned("dropout-input", "/model/dropout/input", ""),
    planned("dropout-hidden", "/model/dropout/hidden", ""),
    planned("dropout-output", "/model/dropout/output", ""),
    planned("dropout-kind", "/model/dropout/kind", ""),
    planned("dropout-embedding", "/model/dropout/embedding", ""),
    planned("dropout-weights", "/model/dropout/weights", ""),
    planned("dropout-start", "/model/dropout/start", ""),
    fixed("zoneout", "/model/lstm/variant/zoneout/cell", ""),
    fixed("zoneout-cell", "/model/lstm/variant/zoneout/cell", ""),
    fixed("zoneout-hidden", "/model/lstm/variant/zoneout/hidden", ""),
    fixed("ar", "/model/penalties/activation", ""),
    fixed("tar", "/model/penalties/temporal", ""),
    fixed("label-smoothing", "/model/penalties/label_smoothing", ""),
    fixed("vocabulary", "/fine_tuning/vocabulary", ""),
    fixed("freeze", "/fine_tuning/freeze", ""),
    fixed("layer-rate-decay", "/fine_tuning/layer_rate_decay", ""),
    fixed("batches", "/batching", ""),
    planned("batch", "/training/batch", ""),
    planned("segment", "/segment", ""),
    planned("precision", "/training/precision", ""),
    fixed("accumulate", "/training/accumulate", ""),
    fixed("shards", "/training/shards", "one gradient of all rows"),
    fixed("wire", "/training/wire", ""),
    fixed("variable-segment", "/variable_segment", ""),
    fixed("partial-shuffle", "/partial_shuffle", ""),
    planned("candidates", "/candidates", "all"),
    planned("candidates-until", "/candidates_until", ""),
    planned("optimizer", "/training/optimizer", ""),
    fixed("muon-rate", "/training/muon/rate", "muon: --learning-rate"),
    fixed("muon-momentum", "/training/muon/momentum", ""),
    fixed("beta1", "/training/adam/beta1", ""),
    fixed("beta2", "/training/adam/beta2", ""),
    fixed("epsilon", "/training/adam/epsilon", ""),
    planned("lazy", "/training/adam/lazy", ""),
    fixed("average", "/training/average", ""),
    planned("learning-rate", "/training/schedule/learning_rate", ""),
    planned("schedule", "/training/schedule/kind", ""),
    planned("warmup", "/training/schedule/warmup", ""),
    fixed("decay", "/training/schedule/decay", ""),
    fixed("decay-after", "/training/schedule/decay_after", ""),
    planned("clip", "/training/clip", "0"),
    planned("weight-decay", "/training/weight_decay", ""),
    fixed("weight-decay-shares", "/training/weight_decay_shares", "none"),
    fixed("seed", "/training/seed", ""),
    planned("epochs", "/training/epochs", "no bound"),
    planned("members", "/training/member", "1"),
    planned("patience", "/training/patience", "0"),
];

/// The explanation under the options.
const EXPLANATION: &str = "\
Defaults: \"planned\" is chosen for the text, its time (--budget, 10 minutes if nothing bounds the run) and this machine, \
and said before training begins. \"No text\" is the built-in language; the rest are the presets' values, of \"others\" for those \
that are not named.";

/// The command `train` with the defaults of its options in their help.
pub fn shown(train: clap::Command) -> clap::Command {
    let configurations = Configurations::all();
    train.after_help(EXPLANATION).mut_args(|argument| {
        let setting = argument.get_long().and_then(|long| SETTINGS.iter().find(|setting| setting.option == long));
        let Some(setting) = setting else { return argument };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let defaults = configurations.describe(setting);
        argument.help(format!("{help} [default: {defaults}]"))
    })
}

/// The command `train` of another task with the defaults of its options in their help: `settings` says where each is in `config`.
pub fn shown_by(train: clap::Command, config: &Value, settings: &[(&str, &str)]) -> clap::Command {
    train.mut_args(|argument| {
        let place = argument.get_long().and_then(|long| settings.iter().find(|(option, _)| *option == long));
        let Some((_, at)) = place else { return argument };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let default = config.pointer(at).filter(|value| !value.is_null()).map_or("none".to_owned(), written);
        argument.help(format!("{help} [default: {default}]"))
    })
}

/// The configurations without options: with a text, without one, and with each preset.
struct Configurations {
    text: Value,
    none: Value,
    presets: Vec<(&'static str, Value)>,
}

impl Configurations {
    fn all() -> Self {
        let presets = Preset::NAMED.map(|(name, preset)| (name, resolved(preset.config())));
        Self {
            text: serde_json::to_value(Preset::Default.config()).unwrap_or_default(),
            none: resolved(Preset::Builtin.config()),
            presets: presets.into(),
        }
    }

    /// `planned; no text: 128; small: 200, …`; one value alone, if it is everyone's.
    fn describe(&self, setting: &Setting) -> String {
        let of_text = if setting.is_planned { "planned".to_owned() } else { value(&self.text, setting) };
        let without = value(&self.none, setting);
        let presets: Vec<(&str, String)> =
            self.presets.iter().map(|(name, config)| (*name, value(config, setting))).collect();
        let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
        for (name, value) in &presets {
            match groups.iter_mut().find(|(known, _)| known == value) {
                Some((_, names)) => names.push(*name),
                None => groups.push((value.clone(), vec![*name])),
            }
        }
        // The value of most is said of the others, last.
        groups.sort_by_key(|(_, names)| names.len());
        let most = groups.pop().map_or(String::new(), |(value, _)| value);
        let mut parts = vec![of_text.clone()];
        if without != of_text {
            parts.push(format!("no text: {without}"));
        }
        let named = groups.iter().map(|(value, names)| format!("{}: {value}", names.join(", ")));
        parts.extend(named);
        if most != of_text {
            parts.push(if groups.is_empty() { format!("presets: {most}") } else { format!("others: {most}") });
        }
        parts.join("; ")
    }
}

/// A preset's configuration with what windows decide.
pub fn resolved(mut config: RunConfig) -> Value {
    config.fit(1, 1);
    serde_json::to_value(config).unwrap_or_default()
}

/// A value of the configuration as its option takes it.
fn value(config: &Value, setting: &Setting) -> String {
    match config.pointer(setting.at) {
        None | Some(Value::Null) => setting.none.to_owned(),
        Some(value) => written(value),
    }
}

/// A value as an option takes it, but for `yes` and `no`.
pub fn written(value: &Value) -> String {
    match value {
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(written).collect::<Vec<_>>().join(","),
        // As the 32 bits that they come from are written.
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or(String::new(), |number| (number as f32).to_string())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use clap::{CommandFactory, FromArgMatches};
    use lstm::run::folder::Existing;
    use lstm::train::trainer::Trainer;

    use super::*;
    use crate::train::read;
    use crate::train_options::Train;
    use crate::{Cli, Command};

    /// The options whose default is no value of the configuration.
    const OTHERS: [&str; 26] = [
        "teach",
        "teach-weight",
        "task",
        "from",
        "tensorboard",
        "non-monotone",
        "shuffle",
        "line-ends",
        "documents",
        "preset",
        "valid",
        "test",
        "split",
        "text-limit",
        "lossy",
        "steps",
        "budget",
        "out",
        "force",
        "resume",
        "find-lr",
        "find-batch",
        "keep-checkpoints",
        "threads",
        "json",
        "help",
    ];

    fn command() -> clap::Command {
        Cli::command().mut_subcommand("train", shown)
    }

    /// What help says of each option, by option and by whose default it is: a preset, "text", "no text".
    fn said() -> BTreeMap<(String, String), String> {
        let mut command = command();
        let mut said = BTreeMap::new();
        let names = Preset::NAMED.map(|(name, _)| name);
        for argument in command.find_subcommand_mut("train").unwrap().get_arguments() {
            let Some(option) = argument.get_long() else { continue };
            let help = argument.get_help().unwrap().to_string();
            let Some(defaults) = help.split_once(" [default: ").filter(|_| !OTHERS.contains(&option)) else { continue };
            let defaults = defaults.1.strip_suffix(']').unwrap();
            let mut put =
                |whose: &str, value: &str| said.insert((option.to_owned(), whose.to_owned()), value.to_owned());
            let (text, rest) = defaults.split_once("; ").unwrap_or((defaults, ""));
            for whose in names.iter().chain(&["text", "no text"]) {
                put(whose, text);
            }
            let parts: Vec<(&str, &str)> = rest.split("; ").filter_map(|part| part.split_once(": ")).collect();
            for (whose, value) in parts.iter().rev() {
                match *whose {
                    "presets" | "others" => names.iter().for_each(|name| drop(put(name, value))),
                    whose => whose.split(", ").for_each(|name| drop(put(name, value))),
                }
            }
        }
        said
    }

    /// The config.toml that a command writes.
    fn config(folder: &Path, arguments: &str) -> toml::Table {
        let out = folder.join("run");
        let line = format!("lstm train {arguments} --out {} --force", out.display());
        let matches = command().try_get_matches_from(line.split_whitespace()).unwrap();
        let Command::Train(options) = Cli::from_arg_matches(&matches).unwrap().command else { unreachable!() };
        let options: Train = *options;
        let mut config = options.config().unwrap();
        let data = read(&options, &mut config, None).unwrap();
        Trainer::create(config, data, &out, Existing::Replace).unwrap();
        std::fs::read_to_string(out.join("config.toml")).unwrap().parse().unwrap()
    }

    /// A text of seven words in lines of five.
    fn text(folder: &Path) -> String {
        let words = ["one", "two", "three", "four", "five", "six", "seven"];
        let text: String =
            (0..6000).map(|i| format!("{}{}", words[i * i % 7], ["\n", " "][usize::from(i % 5 > 0)])).collect();
        let path = folder.join("text.txt");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// A value as [`value`] says it.
    fn found(config: &toml::Table, setting: &Setting) -> String {
        value(&serde_json::to_value(config).unwrap(), setting)
    }

    #[test]
    fn every_option_of_a_run_says_its_default() {
        let command = command();
        for argument in command.find_subcommand("train").unwrap().get_arguments() {
            let Some(option) = argument.get_long() else { continue };
            let listed = SETTINGS.iter().any(|setting| setting.option == option);
            assert!(listed != OTHERS.contains(&option), "--{option}");
            let help = argument.get_help().unwrap().to_string();
            assert_eq!(
                help.matches("[default: ").count(),
                usize::from(option != "help" && option != "resume"),
                "{help}"
            );
        }
        let config = resolved(Preset::Small.config());
        for setting in SETTINGS {
            assert!(config.pointer(setting.at).is_some(), "{} is nowhere in {config}", setting.at);
            assert!(
                command.find_subcommand("train").unwrap().get_arguments().any(|a| a.get_long() == Some(setting.option))
            );
        }
    }

    #[test]
    fn defaults_in_help_are_those_in_the_config_toml_of_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let (said, text) = (said(), text(folder.path()));
        let runs = Preset::NAMED.map(|(name, _)| (name, format!("{text} --preset {name}")));
        let runs = runs.into_iter().chain([
            ("no text", String::new()),
            ("text", format!("{text} --epochs 1")),
            ("text", format!("{text} --epochs 20 --tokenizer chars")),
        ]);
        for (whose, arguments) in runs {
            let config = config(folder.path(), &arguments);
            for setting in &SETTINGS {
                let said = &said[&(setting.option.to_owned(), whose.to_owned())];
                if said == "planned" {
                    assert!(whose == "text" && setting.is_planned, "--{}, {whose}", setting.option);
                } else {
                    assert_eq!(*said, found(&config, setting), "--{}, {arguments}", setting.option);
                }
            }
        }
    }
}
