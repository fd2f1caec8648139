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
