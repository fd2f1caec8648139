//! The measures of a model that says numbers of sequences, with the baselines beside every figure.

use std::io::Write;
use std::time::Instant;

use anyhow::Result;
use lstm::measures::numbers::{NumberMeasures, NumberScore};
use lstm::report::Results;
use lstm::sequence::baseline::regressions;
use lstm::sequence::data::{Examples, SequenceDataset};
use lstm::sequence::saved::LoadedSequence;
use serde_json::{Map, Value, json};

use crate::output::count;

/// A model on some examples, and what the baselines reach on them.
pub struct MeasuredNumbers {
    /// The names of the numbers.
    names: Vec<String>,
    model: Vec<NumberScore>,
    /// None where the training data are not at hand.
    baselines: Option<Vec<(String, Vec<NumberScore>)>>,
    examples: usize,
    seconds: f64,
}

impl MeasuredNumbers {
    /// Measures a model, and baselines of its training data where those are at hand.
    pub fn of(run: &LoadedSequence, examples: &Examples, data: Option<&SequenceDataset>) -> Self {
        let started = Instant::now();
        let said: Vec<Vec<f64>> =
            run.predict_sequences(&examples.sequences).iter().map(|prediction| run.said(prediction)).collect();
        let seconds = started.elapsed().as_secs_f64();
        let names = run.config.labels.clone();
        let scores = |said: &[Vec<f64>]| -> Vec<NumberScore> {
            let of = |number: usize| {
                let mut measures = NumberMeasures::default();
                let pairs = said.iter().zip(&examples.targets);
                pairs.for_each(|(said, right)| measures.add(said[number], right[number]));
                measures.score()
            };
            (0..names.len()).map(of).collect()
        };
        let baselines = data.map(|data| {
            let baselines = regressions(&run.config, data, examples);
            baselines.into_iter().map(|(name, said)| (name, scores(&said))).collect()
        });
        Self { model: scores(&said), baselines, examples: examples.sequences.len(), seconds, names }
    }

    /// The baselines whose squared errors are no more, of all numbers together, each by the variance of its own.
    fn unbeaten(&self) -> Vec<&str> {
        let share =
            |scores: &[NumberScore]| -> f64 { scores.iter().map(|score| score.r2.unwrap_or(-score.rmse)).sum() };
        let own = share(&self.model);
        let baselines = self.baselines.iter().flatten();
        baselines.filter(|(_, scores)| share(scores) >= own).map(|(name, _)| name.as_str()).collect()
    }

    /// As a JSON object.
    pub fn json(&self) -> Value {
        let named = |scores: &[NumberScore]| -> Map<String, Value> {
            self.names.iter().zip(scores).map(|(name, score)| (name.clone(), json!(score))).collect()
        };
        let baselines = self.baselines.as_ref().map(|baselines| {
            baselines.iter().map(|(name, scores)| (name.clone(), json!(named(scores)))).collect::<Map<_, _>>()
        });
        json!({
            "numbers": named(&self.model),
            "examples": self.examples,
            "seconds": self.seconds,
            "baselines": baselines,
            "beats_baselines": self.baselines.as_ref().map(|_| self.unbeaten().is_empty()),
        })
    }

    /// The same for the page of a run: on its part `name`, of several numbers each in rows of its own.
    pub fn results(&self, name: &str) -> Results {
        let several = self.names.len() > 1;
        let mut rows = Vec::new();
        for (at, number) in self.names.iter().enumerate() {
            let who = |who: &str| if several { format!("{number}: {who}") } else { who.to_owned() };
            let row = |name: &str, score: NumberScore| [who(name)].into_iter().chain(cells(score)).collect();
            rows.push(row("model", self.model[at]));
            rows.extend(self.baselines.iter().flatten().map(|(name, scores)| row(name, scores[at])));
        }
        let unbeaten = self.unbeaten();
        let mean = self.model.iter().map(|score| score.mae).sum::<f64>() / self.model.len().max(1) as f64;
        let headline = match &self.model[..] {
            [only] => ("RMSE", digits(only.rmse)),
            _ => ("mean MAE", digits(mean)),
        };
        Results {
            part: name.to_owned(),
            headline: (headline.0.to_owned(), headline.1),
            head: HEAD.map(str::to_owned).to_vec(),
            rows,
            said: match unbeaten.is_empty() {
                true => String::new(),
                false => format!("The model does not beat the baseline: {}.", unbeaten.join(", ")),
            },
        }
    }

    /// A table of the model and the baselines on the data `name`.
    pub fn print(&self, out: &mut impl Write, name: &str) -> Result<()> {
        let title = format!("{name}, {}", count(self.examples as u64, "example"));
        let [mae, rmse, r2] = HEAD;
        writeln!(out, "{title:<25} {mae:>12} {rmse:>12} {r2:>8}")?;
        for (at, number) in self.names.iter().enumerate() {
            if self.names.len() > 1 {
                writeln!(out, " {number}")?;
            }
            let mut row = |who: &str, score: NumberScore| {
                let [mae, rmse, r2] = cells(score);
                writeln!(out, "{:<25} {mae:>12} {rmse:>12} {r2:>8}", format!("  {who}"))
            };
            row("model", self.model[at])?;
            for (who, scores) in self.baselines.iter().flatten() {
                row(who, scores[at])?;
            }
        }
        let unbeaten = self.unbeaten();
        if !unbeaten.is_empty() {
            writeln!(out, "  the model does not beat the baseline: {}", unbeaten.join(", "))?;
        }
        Ok(())
    }
}

/// The names of the figures, and the figures as they are read.
const HEAD: [&str; 3] = ["MAE", "RMSE", "R2"];

fn cells(score: NumberScore) -> [String; 3] {
    [digits(score.mae), digits(score.rmse), score.r2.map_or("-".to_owned(), |r2| format!("{r2:.3}"))]
}

/// A number with five digits that count.
fn digits(value: f64) -> String {
    let before = if value.abs() >= 1.0 { value.abs().log10().floor() as i32 + 1 } else { 0 };
    match before {
        0..=9 => format!("{value:.*}", (5 - before).max(0) as usize),
        _ => format!("{value:.4e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_shown_with_the_digits_that_count() {
        let shown = [0.0, 0.123456, 12.3456, 123456.7, 1.5e12].map(digits);
        assert_eq!(shown, ["0.00000", "0.12346", "12.346", "123457", "1.5000e12"]);
    }
}
