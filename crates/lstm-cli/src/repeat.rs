//! The command that repeats a run.

use clap::{CommandFactory, FromArgMatches};
use lstm::run::config::RunConfig;
use lstm::run::preset::Preset;
use serde_json::Value;

use crate::defaults::{SETTINGS, resolved, written};
use crate::{Cli, Command};

/// The command line as it was given, for a shell.
pub fn given(arguments: impl Iterator<Item = String>) -> String {
    let words: Vec<String> =
        ["lstm".to_owned()].into_iter().chain(arguments.skip(1).map(|word| quoted(&word))).collect();
    words.join(" ")
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The shortest command with every choice of a run named, over a preset; `None` where no options say them all.
pub fn chosen(config: &RunConfig) -> Option<String> {
    let commands = Preset::NAMED.iter().filter_map(|(name, preset)| of_preset(config, name, *preset));
    commands.min_by_key(String::len)
}

fn of_preset(config: &RunConfig, name: &str, preset: Preset) -> Option<String> {
    let text = config.data.train.as_ref()?.display().to_string();
    let mut words = vec!["lstm".to_owned(), "train".to_owned(), text, "--preset".to_owned(), name.to_owned()];
    let [wanted, base] = [serde_json::to_value(config).ok()?, resolved(preset.config())];
    let texts = &config.data;
    for (option, path) in [("valid", &texts.valid), ("test", &texts.test)] {
        words.extend(path.as_ref().map(|path| format!("--{option}={}", path.display())));
    }
    if let Some(shares) = &texts.split {
        words.push(format!("--split={}", shares.iter().map(u32::to_string).collect::<Vec<_>>().join("/")));
    }
    words.extend(texts.lossy.then(|| "--lossy".to_owned()));
    words.extend(config.training.steps.map(|steps| format!("--steps={steps}")));
    let command = Cli::command();
    let command = command.find_subcommand("train")?;
    // Those that stand for several others say nothing that these do not.
    for setting in SETTINGS.iter().filter(|setting| !["dropout", "zoneout"].contains(&setting.option)) {
        let [now, before] = [&wanted, &base].map(|config| config.pointer(setting.at).cloned().unwrap_or(Value::Null));
        if now == before {
            continue;
        }
        let takes_value = command.get_arguments().find(|argument| argument.get_long() == Some(setting.option))?;
        let option = setting.option;
        words.push(match &now {
            Value::Bool(true) if !takes_value.get_action().takes_values() => format!("--{option}"),
            Value::Bool(yes) => format!("--{option}={yes}"),
            Value::Null => format!("--{option}={}", setting.none),
            value => format!("--{option}={}", written(value)),
        });
    }
    // It is not said unless it comes out as the run that it is said of.
    let matches = Cli::command().try_get_matches_from(&words).ok()?;
    let Command::Train(options) = Cli::from_arg_matches(&matches).ok()?.command else { return None };
    let mut again = options.over(preset.config()).ok()?;
    (again.model.vocabulary, again.segment) = (config.model.vocabulary, config.segment);
    let (mut again, mut config) = (again, config.clone());
    // What the text alone decides, and a time that it no longer depends on.
    for config in [&mut again, &mut config] {
        (config.training.budget, config.training.epochs) = (None, config.training.epochs.or(Some(0)));
        (config.data.crlf, config.data.inline_documents, config.training.lengthened) = (None, None, None);
    }
    let same = serde_json::to_value(&again).ok()? == serde_json::to_value(&config).ok()?;
    same.then(|| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_said_as_a_shell_takes_it() {
        let words = ["target/lstm", "train", "my text.txt", "--documents", "<|end|>", "it's"];
        assert_eq!(
            given(words.iter().map(|w| (*w).to_owned())),
            "lstm train 'my text.txt' --documents '<|end|>' 'it'\\''s'"
        );
    }

    #[test]
    fn every_choice_of_a_run_is_named() {
        let mut config = Preset::Medium.config();
        config.data.train = Some("/tmp/text.txt".into());
        config.model.lstm.hidden = 96.into();
        config.model.tied = true;
        config.model.lstm.variant.peepholes = true;
        config.training.schedule.learning_rate = 12.5;
        config.training.clip = None;
        config.training.epochs = Some(4);
        let command = chosen(&config).unwrap();
        assert!(command.starts_with("lstm train /tmp/text.txt --preset medium"), "{command}");
        for option in ["--hidden=96", "--tied=true", "--peepholes", "--learning-rate=12.5", "--clip=0", "--epochs=4"] {
            assert!(command.contains(option), "{command}");
        }
    }
}
