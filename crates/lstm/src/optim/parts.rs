//! Parts of a model that are trained each in its own way: frozen, or at a share of the learning rate (discriminative fine-tuning,
//! Howard & Ruder 2018).

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::named::stored_as_text;
use crate::nn::config::{ConfigError, within};
use crate::nn::params::Layout;

/// A part of a language model, from the tokens up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The embedding; of a tied model the readout's weights too.
    Embedding,
    /// A layer, counted from 0.
    Layer(usize),
    /// The readout, with all between the last layer and the tokens.
    Readout,
}

impl Part {
    /// The part that a parameter of this name belongs to.
    fn of(name: &str) -> Self {
        let layer = name.strip_prefix("lstm.").and_then(|name| name.rsplit_once("_l"));
        let number = layer.and_then(|(_, number)| number.strip_suffix("_reverse").unwrap_or(number).parse().ok());
        match number {
            Some(layer) => Self::Layer(layer),
            None if name.starts_with("embedding.") => Self::Embedding,
            None => Self::Readout,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => f.write_str("embedding"),
            Self::Layer(number) => write!(f, "{number}"),
            Self::Readout => f.write_str("readout"),
        }
    }
}

/// Parts that are not trained: `embedding,0`, or `none`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frozen(Vec<Part>);

impl Frozen {
    /// These parts.
    pub fn new(mut parts: Vec<Part>) -> Self {
        parts.sort_unstable();
        parts.dedup();
        Self(parts)
    }

    /// Refuses a part that a model of so many layers has not, one that its tied readout shares with a part that is trained, and all of it.
    ///
    /// # Errors
    /// A sentence naming the part.
    pub(crate) fn validate(&self, layers: usize, tied: bool) -> Result<(), ConfigError> {
        let missing = self.0.iter().find(|part| matches!(part, Part::Layer(number) if *number >= layers));
        if let Some(part) = missing {
            let most = layers.saturating_sub(1);
            return Err(ConfigError::Conflict(format!(
                "`freeze` names layer {part}, but the model has the layers 0 to {most}; name one of them, embedding or readout"
            )));
        }
        let has = |part| self.0.contains(&part);
        if tied && has(Part::Readout) && !has(Part::Embedding) {
            return Err(ConfigError::Conflict(
                "`freeze` names the readout, whose weights are the embedding's in a tied model; name both, or neither"
                    .to_owned(),
            ));
        }
        if self.0.len() == layers.saturating_add(2) {
            let why = "`freeze` names every part of the model, so nothing would be trained; leave one out";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        Ok(())
    }

    /// Whether none of so many layers is trained.
    pub(crate) fn holds_every_layer(&self, layers: usize) -> bool {
        (0..layers).all(|number| self.0.contains(&Part::Layer(number)))
    }

    /// The same of parts that became the lower part of another model, whose head is new.
    ///
    /// # Errors
    /// A sentence naming the part.
    pub(crate) fn validate_taken(&self, layers: usize) -> Result<(), ConfigError> {
        if self.0.contains(&Part::Readout) {
            let why = "`freeze` names the readout, but the labels have a head of their own, which has yet to be trained; name the \
                       embedding or layers";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        self.validate(layers, false)
    }
}

impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (place, part) in self.0.iter().enumerate() {
            write!(f, "{}{part}", if place > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for Frozen {
    type Err = ConfigError;

    fn from_str(value: &str) -> Result<Self, ConfigError> {
        let part = |name: &str| match (name, name.parse()) {
            ("embedding", _) => Some(Part::Embedding),
            ("readout", _) => Some(Part::Readout),
            (_, Ok(number)) => Some(Part::Layer(number)),
            _ => None,
        };
        let parts: Option<Vec<Part>> = match value {
            "none" => Some(Vec::new()),
            _ => value.split(',').map(part).collect(),
        };
        parts.map(Self::new).ok_or_else(|| ConfigError::Unknown {
            kind: "list of parts to freeze",
            value: value.to_owned(),
            choices: "embedding, readout, the numbers of layers from 0 on, with commas between them, such as embedding,0; or none",
        })
    }
}

stored_as_text!(Frozen);

/// Refuses a share of the rate that is none.
pub(crate) fn check_decay(decay: f32) -> Result<(), ConfigError> {
    within("layer-rate-decay", decay, 0.01..=1.0, "a share from 0.01 to 1")
}

/// A stretch of the parameters with the share of the learning rate that it is trained at; 0 where it is frozen.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// The places in the flat buffer.
    pub range: Range<usize>,
    /// The share.
    pub rate: f32,
    /// The steps that were taken before its first: Adam's moments, which begin at zero, are corrected by its own.
    pub since: u64,
}

/// The shares of a model's parameters, in order and without a gap: readout and top layer have the whole rate, each layer below, and the
/// embedding below them all, `decay` times that of the one above. Empty where all of them have the whole rate.
pub(crate) fn shares(layout: &Layout, layers: usize, frozen: &Frozen, decay: f32) -> Vec<Share> {
    if frozen.0.is_empty() && decay == 1.0 {
        return Vec::new();
    }
    let rate = |part: Part| {
        let below_the_top = match part {
            Part::Readout => 0,
            Part::Layer(number) => layers - 1 - number.min(layers - 1),
            Part::Embedding => layers,
        };
        if frozen.0.contains(&part) { 0.0 } else { f64::from(decay).powi(below_the_top as i32) as f32 }
    };
    shares_by(layout, |name| (rate(Part::of(name)), 0))
}

/// The shares of parameters whose rate, and the steps before their first, `of` says by their names.
pub(crate) fn shares_by(layout: &Layout, of: impl Fn(&str) -> (f32, u64)) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    for entry in layout.entries() {
        let (range, (rate, since)) = (entry.slot.range(), of(&entry.name));
        match shares.last_mut() {
            Some(last) if (last.rate, last.since) == (rate, since) => last.range.end = range.end,
            _ => shares.push(Share { range, rate, since }),
        }
    }
    shares
}

/// How the parts of a language model are trained that became the lower part of another model (Howard & Ruder 2018): what is new at the
/// whole rate from the start, each part below it at `decay` times the rate of the one above, and later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken<'a> {
    /// The number of layers.
    pub(crate) layers: usize,
    /// The parts that are never trained.
    pub(crate) frozen: &'a Frozen,
    /// What the rate of a part is of that of the part above it.
    pub(crate) decay: f32,
    /// The epochs by which a part begins later than the one above it; 0 for all at once.
    pub(crate) unfreeze: usize,
}

impl Taken<'_> {
    /// The share of the rate of a parameter of this name in `epoch`, from 0, and the steps before its first, where an epoch has so many
    /// `steps`.
    pub(crate) fn share(&self, name: &str, epoch: usize, steps: usize) -> (f32, u64) {
        // The layers that run backward are new, as the head is.
        let part = if name.ends_with("_reverse") { Part::Readout } else { Part::of(name) };
        let depth = match part {
            Part::Readout => 0,
            Part::Layer(number) => self.layers.saturating_sub(number).max(1),
            Part::Embedding => self.layers + 1,
        };
        let first = depth.saturating_mul(self.unfreeze);
        if self.frozen.0.contains(&part) || epoch < first {
            return (0.0, 0);
        }
        (f64::from(self.decay).powi(depth as i32) as f32, first.saturating_mul(steps) as u64)
    }
}

/// Puts the parts of `ranges` that lie in `within` into `to`. Both are in order.
pub(crate) fn cut(ranges: &[Range<usize>], within: &Range<usize>, to: &mut Vec<Range<usize>>) {
    let parts = ranges.iter().map(|range| range.start.max(within.start)..range.end.min(within.end));
    to.extend(parts.filter(|range| !range.is_empty()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_read_and_refused() {
        for (given, written) in
            [("none", "none"), ("embedding,0", "embedding,0"), ("readout,1,embedding,1", "embedding,1,readout")]
        {
            assert_eq!(given.parse::<Frozen>().unwrap().to_string(), written);
        }
        for given in ["", "embeding", "embedding,", "-1", "all", "none,0"] {
            let error = given.parse::<Frozen>().unwrap_err().to_string();
            assert!(error.contains("embedding,0"), "{error}");
        }
        let said = |frozen: &str, tied| {
            frozen
                .parse::<Frozen>()
                .unwrap()
                .validate(2, tied)
                .map_or_else(|error| error.to_string(), |()| String::new())
        };
        assert!(said("2", false).contains("layer 2, but the model has the layers 0 to 1"));
        assert!(said("embedding,0,1,readout", false).contains("every part"));
        assert!(said("readout", true).contains("name both, or neither"));
        assert_eq!([said("readout", false), said("embedding", true), said("none", true)], ["", "", ""]);
    }

    #[test]
    fn every_parameter_has_the_share_of_its_part() {
        let mut layout = Layout::default();
        for name in [
            "embedding.weight",
            "lstm.weight_ih_l0",
            "lstm.bias_hh_l0",
            "lstm.weight_ih_l1",
            "lstm.gain_cell_l1_reverse",
        ] {
            layout.add(name, &[10]);
        }
        layout.add("readout.weight", &[10]);
        let of = |frozen: &str, decay| {
            let shares = shares(&layout, 2, &frozen.parse().unwrap(), decay);
            shares.into_iter().map(|share| (share.range, share.rate)).collect::<Vec<_>>()
        };
        assert_eq!(of("none", 1.0), []);
        assert_eq!(of("embedding,0", 1.0), [(0..30, 0.0), (30..60, 1.0)]);
        assert_eq!(of("none", 0.5), [(0..10, 0.25), (10..30, 0.5), (30..60, 1.0)]);
        assert_eq!(of("1", 0.5), [(0..10, 0.25), (10..30, 0.5), (30..50, 0.0), (50..60, 1.0)]);
        let mut parts = Vec::new();
        cut(&[0..4, 8..12, 20..25], &(2..21), &mut parts);
        assert_eq!(parts, [2..4, 8..12, 20..21]);
    }

    #[test]
    fn parts_that_were_taken_begin_one_after_the_other_from_the_top() {
        let mut layout = Layout::default();
        for name in ["embedding.weight", "lstm.bias_ih_l0", "lstm.bias_ih_l0_reverse", "lstm.bias_ih_l1", "head.bias"] {
            layout.add(name, &[10]);
        }
        let of = |frozen: &str, unfreeze, epoch| {
            let frozen = frozen.parse().unwrap();
            let taken = Taken { layers: 2, frozen: &frozen, decay: 0.5, unfreeze };
            let shares = shares_by(&layout, |name| taken.share(name, epoch, 7));
            shares.into_iter().map(|share| (share.range, share.rate, share.since)).collect::<Vec<_>>()
        };
        let (reverse, head) = ((20..30, 1.0, 0), (40..50, 1.0, 0));
        let frozen = |range| (range, 0.0, 0);
        assert_eq!(of("none", 1, 0), [frozen(0..20), reverse.clone(), frozen(30..40), head.clone()]);
        assert_eq!(of("none", 1, 1), [frozen(0..20), reverse.clone(), (30..40, 0.5, 7), head.clone()]);
        let all = [(0..10, 0.125, 21), (10..20, 0.25, 14), reverse.clone(), (30..40, 0.5, 7), head.clone()];
        assert_eq!(of("none", 1, 3), all);
        assert_eq!(of("none", 1, 9), all);
        assert_eq!(of("embedding,0", 0, 0), [frozen(0..20), reverse, (30..40, 0.5, 0), head]);
    }
}
