//! Learns which of two labels a text has, keeps the model in a run folder, and asks it: `cargo run --release --example classify`.

use lstm::run::TaskKind;
use lstm::run::folder::{Claim, Existing};
use lstm::sequence::config::SequenceConfig;
use lstm::sequence::data::SequenceDataset;
use lstm::sequence::saved::LoadedSequence;
use lstm::{LstmConfig, Trainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Lines of a label and a text; CSV, JSON lines and folders are read by the same settings.
    let folder = std::env::temp_dir().join(format!("lstm-classify-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (good, bad) = (["good", "fine", "lovely"], ["bad", "dull", "poor"]);
    let line = |i: usize| match i % 2 {
        0 => format!("pos a {} film {}\n", good[i % 3], ["of it", "again"][i / 3 % 2]),
        _ => format!("neg the {} story {}\n", bad[i % 3], ["is on", "goes"][i / 3 % 2]),
    };
    std::fs::write(folder.join("train.txt"), (0..300).map(line).collect::<String>())?;

    let mut config = SequenceConfig::usual(TaskKind::Classify);
    config.data.train = Some(folder.join("train.txt"));
    config.model.lstm = LstmConfig { bidirectional: true, ..LstmConfig::new(16, 16) };
    (config.training.epochs, config.training.schedule.learning_rate) = (Some(5), 0.01);
    let data = SequenceDataset::read(&mut config, None)?;

    let run = folder.join("run");
    let mut trainer = Trainer::begin_sequences(config, data, Claim::new(&run, Existing::Replace)?)?;
    let outcome = trainer.run(&mut |_| (), None)?;
    println!("validation loss {:.4} after {} epochs", outcome.valid.unwrap_or_default().mean(), outcome.epochs);
    drop(trainer);

    let model = LoadedSequence::open(&run)?;
    for (text, prediction) in
        ["a lovely story", "the dull film"].iter().zip(model.predict(&["a lovely story", "the dull film"])?)
    {
        let best = prediction.best();
        println!("{text}: {} ({:.2})", model.config.labels[best], prediction.probabilities[best]);
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
