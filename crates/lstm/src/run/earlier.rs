//! Configurations as earlier versions wrote them, brought into the form of this one.

use serde_json::{Map, Value};

/// The settings of the loop, which stood at the top before they had the table `[training]`.
const TRAINING: [&str; 15] = [
    "seed",
    "batch",
    "accumulate",
    "epochs",
    "steps",
    "budget",
    "patience",
    "lengthened",
    "clip",
    "optimizer",
    "adam",
    "average",
    "weight_decay",
    "schedule",
    "init",
];

/// The settings of a model's layers, which stood among those of the model before they had the table `[model.lstm]`; the size of an
/// embedding is that of the layers' input.
const LSTM: [(&str, &str); 8] = [
    ("embedding", "input"),
    ("hidden", "hidden"),
    ("layers", "layers"),
    ("projection", "projection"),
    ("wiring", "wiring"),
    ("readout", "readout"),
    ("horizon", "horizon"),
    ("residual", "residual"),
];

/// The settings as they are written now, of any version; what is not of version 1 stays as it is.
pub(super) fn as_now(mut settings: Value) -> Value {
    let Some(all) = settings.as_object_mut().filter(|all| !all.contains_key("training")) else { return settings };
    let training: Map<String, Value> = TRAINING.iter().filter_map(|name| all.remove_entry(*name)).collect();
    all.insert("training".to_owned(), Value::Object(training));
    if let Some(model) = all.get_mut("model").and_then(Value::as_object_mut) {
        let moved = LSTM.iter().chain(&[("variant", "variant")]);
        let lstm: Map<String, Value> =
            moved.filter_map(|(before, now)| Some(((*now).to_owned(), model.remove(*before)?))).collect();
        model.insert("lstm".to_owned(), Value::Object(lstm));
    }
    settings
}

/// An older configuration, whose optimizer nt-asgd was SGD with a non-monotone average, as it was written after that. Lines keep
/// their numbers.
pub(super) fn without_nt_asgd(settings: &str) -> String {
    const KEY: &str = "non_monotone = ";
    let Some(left_out) = settings.lines().find_map(|line| line.strip_prefix(KEY)) else { return settings.to_owned() };
    let averaged = settings.lines().any(|line| line == "optimizer = \"nt-asgd\"");
    let line = |line: &str| match line {
        "optimizer = \"nt-asgd\"" => "optimizer = \"sgd\"".to_owned(),
        "average = \"none\"" if averaged => String::new(),
        line if line.starts_with(KEY) && averaged => format!("average = \"non-monotone({left_out})\""),
        line if line.starts_with(KEY) => String::new(),
        line => line.to_owned(),
    };
    settings.lines().map(|each| line(each) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use crate::optim::averaging::Averaging;
    use crate::run::config::RunConfig;
    use crate::run::folder::RunFolder;
    use crate::run::preset::Preset;
    use crate::run::settings::Settings;

    /// A configuration as the first version wrote it.
    fn first(config: &RunConfig) -> String {
        let mut all = toml::Table::try_from(config).unwrap();
        let table = |of: &mut toml::Table, name| match of.remove(name) {
            Some(toml::Value::Table(table)) => table,
            other => panic!("{name}: {other:?}"),
        };
        let mut training = table(&mut all, "training");
        // Which there were none of then.
        ["precision", "wire", "muon"].iter().for_each(|name| drop(training.remove(*name)));
        all.extend(training);
        let model = all["model"].as_table_mut().unwrap();
        let mut lstm = table(model, "lstm");
        lstm.remove("bidirectional");
        model.extend([("embedding".to_owned(), lstm.remove("input").unwrap())]);
        model.extend(lstm);
        format!("version = 1\n{}", toml::to_string(&all).unwrap())
    }

    /// A folder with this `config.toml`, read.
    fn read(text: &str) -> Result<RunConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), text).unwrap();
        RunConfig::load(&RunFolder(folder.path().to_owned())).map_err(|error| error.to_string())
    }

    #[test]
    fn a_configuration_of_the_first_version_says_the_same() {
        for preset in [Preset::Builtin, Preset::Awd, Preset::TextLstm] {
            let config = preset.config();
            assert_eq!(read(&first(&config)), Ok(config));
        }
        let error = read(&first(&Preset::Awd.config()).replace("tied", "tide")).unwrap_err();
        assert!(error.contains("tide") && error.contains("config.toml"), "{error}");
    }

    /// The optimizer nt-asgd was written so before its average had a name of its own.
    #[test]
    fn a_run_by_nt_asgd_of_an_earlier_version_is_sgd_with_a_non_monotone_average() {
        let config = Preset::Awd.config();
        let written = first(&config);
        let earlier = written
            .replace("optimizer = \"sgd\"", "optimizer = \"nt-asgd\"\nnon_monotone = 5")
            .replace("average = \"non-monotone(5)\"", "average = \"none\"");
        assert!(earlier.contains("nt-asgd") && earlier.contains("average = \"none\""), "{earlier}");
        assert_eq!(read(&earlier), Ok(config));
        let sgd = written.replace("optimizer = \"sgd\"", "optimizer = \"sgd\"\nnon_monotone = 3");
        let sgd = sgd.replace("average = \"non-monotone(5)\"", "average = \"none\"");
        assert_eq!(read(&sgd).map(|config| config.training.average), Ok(Averaging::None));
    }
}
