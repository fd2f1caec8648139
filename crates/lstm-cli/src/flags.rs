//! The library names settings, the command flags: `batch` in a sentence of the library is --batch here.

use std::sync::LazyLock;

use lstm::formats::FormatError;
use lstm::run::error::TrainError;

/// The sentence of an error, as the command says it.
pub fn sentence(error: &anyhow::Error, commands: &clap::Command) -> String {
    let said = error.to_string();
    let about_a_file = |error: &FormatError| !matches!(error, FormatError::Conflict { .. });
    match (error.downcast_ref::<TrainError>(), error.downcast_ref::<FormatError>()) {
        (Some(TrainError::NoModel { folder }), _) => format!("{said}: lstm train --resume {}", folder.display()),
        // What stands in a file has its own names there.
        (Some(TrainError::Format(file)), _) | (_, Some(file)) if about_a_file(file) => said,
        _ => with_flags(&said, commands),
    }
}

/// The sentence with the flag of every setting that it names in backticks, if that has one.
pub fn with_flags(said: &str, commands: &clap::Command) -> String {
    let parts: Vec<&str> = said.split('`').collect();
    let mut sentence = String::new();
    for (place, part) in parts.iter().enumerate() {
        // Every second part stands between two backticks, but for one that nothing closes.
        let is_quoted = place % 2 == 1 && place + 1 < parts.len();
        match is_quoted {
            true if is_flag(part, commands) => sentence.extend(["--", part]),
            true => sentence.extend(["`", part, "`"]),
            false if place % 2 == 1 => sentence.extend(["`", part]),
            false => sentence.push_str(part),
        }
    }
    sentence
}

/// Whether a subcommand has a flag of this name.
fn is_flag(name: &str, commands: &clap::Command) -> bool {
    static OF_TASKS: LazyLock<Vec<clap::Command>> = LazyLock::new(crate::tasks::train_commands);
    let all = commands.get_subcommands().chain(OF_TASKS.iter());
    all.flat_map(clap::Command::get_arguments).any(|flag| flag.get_long() == Some(name))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use clap::CommandFactory;

    use super::*;
    use crate::Cli;

    /// The files of the library, without their tests.
    fn library() -> Vec<(PathBuf, String)> {
        let files = files_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../lstm/src"));
        assert!(files.len() > 80);
        files
    }

    /// The files in a folder, without their tests.
    fn files_of(folder: &Path) -> Vec<(PathBuf, String)> {
        let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|of| of == "rs") && !path.ends_with("tests.rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    files.push((path, text.split("#[cfg(test)]\nmod ").next().unwrap().to_owned()));
                }
            }
        }
        files
    }

    /// The lines of code, without documentation and comments.
    fn code(text: &str) -> impl Iterator<Item = &str> {
        text.lines().filter(|line| !line.trim_start().starts_with("//"))
    }

    #[test]
    fn sentences_of_the_library_name_settings_that_have_a_flag() {
        // Of the library alone, or no settings.
        const NO_FLAGS: [&str; 6] = ["input", "vocabulary", "scores", "model", "expand", "lstm train"];
        let commands = Cli::command();
        let mut found = 0;
        for (path, text) in library() {
            // That of an error stands in its line or in the next.
            let refused = text
                .split("ConfigError::Range {")
                .skip(1)
                .filter_map(|rest| rest.trim_start().strip_prefix("name: \"")?.split('"').next());
            let lines = code(&text).flat_map(|line| {
                assert!(!line.contains("--"), "{}: {line}", path.display());
                let checked = ["at_least_one(\"", "within(\"", "above_zero(\"", "rate(\""];
                let checked = checked.into_iter().filter_map(|check| line.split_once(check)?.1.split('"').next());
                line.split('`').skip(1).step_by(2).chain(checked)
            });
            for name in lines.chain(refused).filter(|name| !name.is_empty() && !name.starts_with('{')) {
                assert!(is_flag(name, &commands) || NO_FLAGS.contains(&name), "{}: `{name}`", path.display());
                found += 1;
            }
        }
        assert!(found > 80, "{found}");
    }

    /// "1 arrays" was said where one was there.
    #[test]
    fn what_files_and_requests_hold_is_counted_in_singular_and_plural() {
        const COUNTED: [&str; 14] = [
            "arrays",
            "cells",
            "columns",
            "layers",
            "nodes",
            "parameters",
            "prompts",
            "rows",
            "sizes",
            "tensors",
            "texts",
            "tokens",
            "units",
            "values",
        ];
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let rooms = ["lstm/src/formats", "lstm-serve/src", "lstm-python/src"].map(|room| files_of(&root.join(room)));
        let mut found = 0;
        for (path, text) in rooms.into_iter().flatten() {
            found += text.matches("count(").count();
            // A number that is put in, and a plural behind it; of a number of millions it may be.
            for line in code(&text).filter(|line| !line.contains("holds 2 GiB")) {
                for behind in line.split("} ").skip(1) {
                    let word = behind.split(|letter: char| !letter.is_alphabetic()).next().unwrap_or_default();
                    let before = line[..line.len() - behind.len() - 2].rsplit('{').next().unwrap_or_default();
                    let is_number = before.chars().all(|letter| letter.is_lowercase() || letter == '_');
                    assert!(!(is_number && COUNTED.contains(&word)), "{}: {line}", path.display());
                }
            }
        }
        assert!(found > 15, "{found}");
    }

    /// A sentence about a setting of a run names the option that decides it.
    #[test]
    fn settings_of_config_toml_are_called_as_their_flags() {
        // What follows from others, or says where a schedule goes on.
        const NO_FLAGS: [&str; 6] =
            ["bidirectional", "parameters", "vocabulary", "line-markers", "lengthened", "planned-epochs"];
        fn names(value: &serde_json::Value, at: &str, found: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(settings) => {
                    for (name, value) in settings {
                        names(value, &if at.is_empty() { name.clone() } else { format!("{at}.{name}") }, found);
                    }
                }
                _ => found.push(at.to_owned()),
            }
        }
        let (mut found, commands) = (Vec::new(), Cli::command());
        names(&serde_json::to_value(lstm::run::preset::Preset::Small.config()).unwrap(), "", &mut found);
        // Where the texts lie has its own names.
        for name in found.iter().filter(|name| !name.starts_with("data.")) {
            let said = lstm::run::settings::said_name(name);
            assert!(is_flag(&said, &commands) || NO_FLAGS.contains(&&said[..]), "{name}: {said}");
        }
        assert!(found.len() > 60, "{}", found.len());
    }

    #[test]
    fn settings_become_flags_where_they_have_one() {
        let said = |sentence| with_flags(sentence, &Cli::command());
        assert_eq!(said("`batch` is 0; it must be at least 1"), "--batch is 0; it must be at least 1");
        assert_eq!(said("choose `batches` stream, not `this`"), "choose --batches stream, not `this`");
        assert_eq!(said("one ` alone"), "one ` alone");
        assert_eq!(said(""), "");
    }
}
