//! What units follow: where in a line the text is, whether within quotes or brackets, the number of a subject that waits for its verb,
//! or whatever labels say. Each is laid beside every cell (correlation), and read off all of them at once (a linear probe).
//!
//! The first part of the text chooses the unit and fits the probe, the rest judges both; so what is said of it was not fitted to it.

use serde::Serialize;

use super::Inspection;
use crate::run::error::TrainError;
use crate::run::saved::LoadedRun;
use crate::said::count;
use crate::text::builtin::Grammar;
use crate::text::tokenizer::TokenizerKind;

/// The share of the text that probes are fitted to.
const FITTED: f64 = 0.7;

/// The cells that a probe reads at most: those that correlate most.
const MOST_CELLS: usize = 96;

/// The ridge of a probe, as a share of the mean variance of its cells.
const RIDGE: f64 = 0.03;

/// The fewest tokens of which a feature has to say something, of either kind.
const FEWEST: usize = 8;

/// Something that a text has at each token, or has not: a number where it says something.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// Whether it is a yes or no, said as 1 or 0.
    pub binary: bool,
    /// Its value after each token that was read.
    pub values: Vec<Option<f32>>,
}

/// A unit that follows something.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Unit {
    /// The layer, from 1.
    pub layer: usize,
    /// The unit, from 0.
    pub unit: usize,
    /// The correlation of its cell with the feature, on the whole text.
    pub correlation: f64,
}

/// A feature and who follows it.
#[derive(Clone, Debug, Serialize)]
pub struct Followed {
    /// Its name.
    pub name: String,
    /// The units that follow it most closely, by their cells.
    pub units: Vec<Unit>,
    /// The best unit as a rule in one line: yes where its cell is above (or below) this value. Of features that are yes or no.
    pub rule: Option<String>,
    /// How often that rule is right on held-out tokens: the mean of where yes is right and where no is.
    pub rule_accuracy: Option<f64>,
    /// A linear probe of the closest cells on held-out tokens: how often it is right, likewise, or of a number its correlation.
    pub probe: f64,
    /// What saying always the same reaches there: a half, or 0.
    pub chance: f64,
    /// The held-out tokens.
    pub tokens: usize,
    /// The correlation of every cell of every layer, by which units are sorted.
    pub all: Vec<Vec<f32>>,
}

/// Lays every feature of the text beside every cell. `labels`: a word for each token, of which each kind is a feature.
///
/// # Errors
/// Labels that are not one for each token.
pub fn follow(
    run: &LoadedRun,
    inspection: &Inspection,
    labels: Option<&[String]>,
) -> Result<Vec<Followed>, TrainError> {
    let mut features = features(run, inspection);
    if let Some(labels) = labels {
        let tokens = inspection.read.iter().filter(|token| !token.begins).count();
        if labels.len() != tokens {
            return Err(TrainError::Unusable(format!(
                "there is not one label for each token: found {} for {}; give one for each, parted by white space",
                count(labels.len(), "label"),
                count(tokens, "token")
            )));
        }
        features.extend(of_labels(inspection, labels));
    }
    Ok(features.iter().filter_map(|feature| followed(inspection, feature)).collect())
}

/// The features that a text has by itself.
pub fn features(run: &LoadedRun, inspection: &Inspection) -> Vec<Feature> {
    let texts: Vec<&str> =
        inspection.read.iter().map(|token| if token.begins { "\n" } else { token.text.as_str() }).collect();
    let mut features = vec![
        place("position in the line, tokens", &texts, |_| 1.0),
        place("length of the line so far, characters", &texts, |text| text.chars().count() as f32),
    ];
    features.push(inside("inside brackets", &texts, &["(", "[", "{"], &[")", "]", "}"]));
    features.push(quoted("inside double quotes", &texts, '"'));
    if is_builtin(run) {
        // Elsewhere it is an apostrophe.
        features.push(quoted("inside single quotes", &texts, '\''));
        features.push(number(&texts));
    }
    features
}

/// Whether a model is of the built-in language: it knows all its words, and hardly another.
fn is_builtin(run: &LoadedRun) -> bool {
    let (grammar, tokenizer) = (Grammar::standard(), &run.tokenizer);
    tokenizer.kind() == TokenizerKind::Words
        && tokenizer.vocabulary_size() < grammar.words().len() + 10
        && grammar.words().iter().filter(|word| tokenizer.id(word).is_none()).count() < 10
}

/// How much of the line was read, by a measure of its tokens.
fn place(name: &str, texts: &[&str], of: impl Fn(&str) -> f32) -> Feature {
    let mut sum = 0.0;
    let values = texts.iter().map(|text| {
        sum = if text.contains('\n') || *text == "<eos>" { 0.0 } else { sum + of(text) };
        Some(sum)
    });
    Feature { name: name.to_owned(), binary: false, values: values.collect() }
}

/// Whether something is open that was not closed, within a line.
fn inside(name: &str, texts: &[&str], opens: &[&str], closes: &[&str]) -> Feature {
    let mut depth = 0_i32;
    let values = texts.iter().map(|text| {
        let count = |of: &[&str]| of.iter().map(|mark| text.matches(mark).count() as i32).sum::<i32>();
        depth = if text.contains('\n') || *text == "<eos>" { 0 } else { (depth + count(opens) - count(closes)).max(0) };
        Some(f32::from(u8::from(depth > 0)))
    });
    Feature { name: name.to_owned(), binary: true, values: values.collect() }
}

/// Whether a quote is open, within a line.
fn quoted(name: &str, texts: &[&str], mark: char) -> Feature {
    let mut open = false;
    let values = texts.iter().map(|text| {
        let odd = text.matches(mark).count() % 2 == 1;
        open = if text.contains('\n') || *text == "<eos>" { false } else { open ^ odd };
        Some(f32::from(u8::from(open)))
    });
    Feature { name: name.to_owned(), binary: true, values: values.collect() }
}

/// Of the built-in language: whether the subject that waits for its verb is many; nothing where none waits. What stands between
/// them (a place, a clause of "who" or "that") has nouns and verbs of its own, which are passed over.
fn number(texts: &[&str]) -> Feature {
    let grammar = Grammar::standard();
    #[derive(Clone, Copy, PartialEq)]
    enum Expected {
        Subject,
        Verb,
        /// The verb of a clause of "who", before the subject's own.
        InnerVerb,
        /// The end of a clause of "that".
        Comma,
        Nothing,
    }
    let (mut expected, mut many) = (Expected::Subject, false);
    let values = texts.iter().map(|text| {
        let class = grammar.class_of(text);
        match (*text, class) {
            ("\n" | "<eos>", _) => expected = Expected::Subject,
            ("\"" | "'" | "(" | "[", _) => expected = Expected::Subject,
            (")" | "]", _) => expected = Expected::Subject,
            // What was said is said by somebody, and no verb waits.
            ("." | "said", _) => expected = Expected::Nothing,
            ("who", _) if expected == Expected::Verb => expected = Expected::InnerVerb,
            ("that", _) if expected == Expected::Verb => expected = Expected::Comma,
            (",", _) if expected == Expected::Comma => expected = Expected::Verb,
            (_, Some(class)) => {
                let (kind, of) = class.split_once('.').unwrap_or((class, ""));
                match (expected, kind) {
                    (Expected::Subject, "noun" | "name") => (expected, many) = (Expected::Verb, of == "many"),
                    (Expected::Verb, "verb" | "rest") => expected = Expected::Nothing,
                    (Expected::InnerVerb, "verb") => expected = Expected::Verb,
                    _ => {}
                }
            }
            _ => {}
        }
        let waits = matches!(expected, Expected::Verb | Expected::InnerVerb | Expected::Comma);
        waits.then_some(f32::from(u8::from(many)))
    });
    let values = values.collect();
    Feature { name: "number agreement: the subject that waits for its verb is plural".to_owned(), binary: true, values }
}

/// A feature of every kind of label.
fn of_labels(inspection: &Inspection, labels: &[String]) -> Vec<Feature> {
    let mut kinds: Vec<&String> = labels.iter().collect();
    kinds.sort_unstable();
    kinds.dedup();
    let of_kind = |kind: &&String| {
        let mut next = labels.iter();
        let value =
            |begins: bool| if begins { None } else { next.next().map(|label| f32::from(u8::from(label == *kind))) };
        Feature {
            name: format!("label {kind}"),
            binary: true,
            values: inspection.read.iter().map(|token| token.begins).map(value).collect(),
        }
    };
    kinds.iter().map(of_kind).collect()
}

/// Who follows a feature; `None` where it says the same everywhere, or nearly nothing.
fn followed(inspection: &Inspection, feature: &Feature) -> Option<Followed> {
    let rows: Vec<(usize, f64)> =
        feature.values.iter().enumerate().filter_map(|(row, value)| Some((row, f64::from((*value)?)))).collect();
    let cut = (rows.len() as f64 * FITTED) as usize;
    let (fitted, held) = rows.split_at(cut);
    for part in [fitted, held] {
        let first = part.first()?.1;
        let enough = match feature.binary {
            true => [0.0, 1.0].iter().all(|of| part.iter().filter(|(_, value)| value == of).count() >= FEWEST),
            false => part.len() >= FEWEST && part.iter().any(|(_, value)| *value != first),
        };
        if !enough {
            return None;
        }
    }
    let mut all = Vec::new();
    let mut units = Vec::new();
    for (number, layer) in inspection.layers.iter().enumerate() {
        let cell = |unit: usize| move |row: usize| f64::from(layer.c[row * layer.hidden + unit]);
        let of_layer: Vec<f32> = (0..layer.hidden).map(|unit| correlation(&rows, cell(unit)) as f32).collect();
        units.extend((0..layer.hidden).map(|unit| {
            // Chosen by the first part, said of the whole.
            (
                correlation(fitted, cell(unit)).abs(),
                Unit { layer: number + 1, unit, correlation: f64::from(of_layer[unit]) },
            )
        }));
        all.push(of_layer);
    }
    units.sort_by(|a, b| b.0.total_cmp(&a.0));
    let value = |unit: &Unit, row: usize| {
        let layer = &inspection.layers[unit.layer - 1];
        f64::from(layer.c[row * layer.hidden + unit.unit])
    };
    let best = units.first()?.1;
    let rule = feature.binary.then(|| threshold(fitted, |row| value(&best, row)));
    let rule_accuracy = rule.map(|(at, above)| balanced(held, |row| (value(&best, row) > at) == above));
    let read: Vec<Unit> = units.iter().take(MOST_CELLS).map(|(_, unit)| *unit).collect();
    let probe = Probe::fit(fitted, read.len(), |row, cell| value(&read[cell], row));
    let said = |row: usize| probe.of(|cell| value(&read[cell], row));
    let (probe, chance) = match feature.binary {
        true => {
            let (at, above) = threshold(fitted, said);
            (balanced(held, |row| (said(row) > at) == above), 0.5)
        }
        false => (correlation(held, said), 0.0),
    };
    Some(Followed {
        name: feature.name.clone(),
        units: units.iter().take(5).map(|(_, unit)| *unit).collect(),
        rule: rule.map(|(at, above)| {
            format!("cell {} of layer {} {} {at:.2}", best.unit, best.layer, if above { "above" } else { "below" })
        }),
        rule_accuracy,
        probe,
        chance,
        tokens: held.len(),
        all,
    })
}

/// Pearson's correlation of a feature with a value of each row; 0 where either is the same everywhere.
fn correlation(rows: &[(usize, f64)], of: impl Fn(usize) -> f64) -> f64 {
    let n = rows.len() as f64;
    let (mut x, mut y, mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for &(row, value) in rows {
        let cell = of(row);
        (x, y) = (x + value, y + cell);
        (xx, yy, xy) = (xx + value * value, yy + cell * cell, xy + value * cell);
    }
    let spread = ((xx - x * x / n) * (yy - y * y / n)).sqrt();
    if spread > 1e-12 { (xy - x * y / n) / spread } else { 0.0 }
}

/// The share of right answers where yes is right and where no is, in the mean of both: a half for who always says the same, however rare
/// either is.
fn balanced(rows: &[(usize, f64)], says: impl Fn(usize) -> bool) -> f64 {
    let share = |of: bool| {
        let (mut right, mut all) = (0, 0);
        for (row, value) in rows.iter().filter(|(_, value)| (*value > 0.5) == of) {
            right += usize::from(says(*row) == (*value > 0.5));
            all += 1;
        }
        right as f64 / all.max(1) as f64
    };
    (share(true) + share(false)) / 2.0
}

/// The value that parts yes from no best, both weighing the same, and whether yes is above it.
fn threshold(rows: &[(usize, f64)], of: impl Fn(usize) -> f64) -> (f64, bool) {
    let mut sorted: Vec<(f64, bool)> = rows.iter().map(|(row, value)| (of(*row), *value > 0.5)).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all = |of: bool| sorted.iter().filter(|(_, yes)| *yes == of).count().max(1) as f64;
    let (yes, no) = (all(true), all(false));
    // So good is "yes above" with all above; "yes below" is as good as the rest to one.
    let (mut above, mut best) = (0.5, (0.5, f64::NEG_INFINITY, true));
    for (at, (value, is_yes)) in sorted.iter().enumerate() {
        above += if *is_yes { -0.5 / yes } else { 0.5 / no };
        if sorted.get(at + 1).is_some_and(|next| next.0 == *value) {
            continue;
        }
        let between = sorted.get(at + 1).map_or(*value, |next| (value + next.0) / 2.0);
        for (share, is_above) in [(above, true), (1.0 - above, false)] {
            if share > best.0 {
                best = (share, between, is_above);
            }
        }
    }
    (best.1, best.2)
}

/// A linear probe: least squares with a ridge.
struct Probe {
    means: Vec<f64>,
    weights: Vec<f64>,
    mean: f64,
}

impl Probe {
    fn fit(rows: &[(usize, f64)], cells: usize, of: impl Fn(usize, usize) -> f64) -> Self {
        let n = rows.len() as f64;
        let mean = rows.iter().map(|(_, value)| value).sum::<f64>() / n;
        // Of a yes or no the rarer answer weighs as much as the other.
        let weight = |value: f64| if value > mean { (1.0 - mean).abs().max(1e-3) } else { mean.abs().max(1e-3) };
        let is_binary = rows.iter().all(|(_, value)| *value == 0.0 || *value == 1.0);
        let values: Vec<Vec<f64>> =
            rows.iter().map(|(row, _)| (0..cells).map(|cell| of(*row, cell)).collect()).collect();
        let means: Vec<f64> = (0..cells).map(|cell| values.iter().map(|row| row[cell]).sum::<f64>() / n).collect();
        let (mut square, mut with) = (vec![0.0; cells * cells], vec![0.0; cells]);
        let mut centred = vec![0.0; cells];
        for (row, (_, value)) in values.iter().zip(rows) {
            (0..cells).for_each(|cell| centred[cell] = row[cell] - means[cell]);
            let weight = if is_binary { weight(*value) } else { 1.0 };
            for a in 0..cells {
                with[a] += weight * centred[a] * (value - mean);
                for b in 0..=a {
                    square[a * cells + b] += weight * centred[a] * centred[b];
                }
            }
        }
        let ridge = RIDGE * (0..cells).map(|a| square[a * cells + a]).sum::<f64>() / cells.max(1) as f64 + 1e-9;
        (0..cells).for_each(|a| square[a * cells + a] += ridge);
        Self { weights: solve(&mut square, with, cells), means, mean }
    }

    fn of(&self, cell: impl Fn(usize) -> f64) -> f64 {
        let terms = self.weights.iter().zip(&self.means).enumerate();
        self.mean + terms.map(|(at, (weight, mean))| weight * (cell(at) - mean)).sum::<f64>()
    }
}

/// Solves a symmetric, positive definite system, of which the lower half is given, by Cholesky's method.
fn solve(square: &mut [f64], mut with: Vec<f64>, n: usize) -> Vec<f64> {
    for a in 0..n {
        for b in 0..=a {
            let sum: f64 = (0..b).map(|k| square[a * n + k] * square[b * n + k]).sum();
            let rest = square[a * n + b] - sum;
            square[a * n + b] = if a == b { rest.max(1e-300).sqrt() } else { rest / square[b * n + b] };
        }
        let sum: f64 = (0..a).map(|k| square[a * n + k] * with[k]).sum();
        with[a] = (with[a] - sum) / square[a * n + a];
    }
    for a in (0..n).rev() {
        let sum: f64 = (a + 1..n).map(|k| square[k * n + a] * with[k]).sum();
        with[a] = (with[a] - sum) / square[a * n + a];
    }
    with
}
