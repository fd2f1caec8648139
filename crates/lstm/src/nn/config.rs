//! The choices a model can make: sizes, wiring, readout, initialisation, validated once with clear errors.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::free_memory::{check_memory, sum, times};
use crate::named::{named, stored_as_text};
use crate::said::count;
pub use crate::setting::ConfigError;
pub(crate) use crate::setting::{above_zero, at_least_one, within};

/// The input of a layer after the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wiring {
    /// The hidden states of the layer below, as `nn.LSTM`.
    #[default]
    Stacked,
    /// The stack's own input joined to the hidden states of the layer below (Graves 2013): `concat(x, h)`.
    Skip,
    /// The scores of the layer below joined to its hidden states (the report's): `concat(W r + b, h)`, where `r` is
    /// the layer's readout.
    Scores,
}

named!(Wiring, "wiring", "stacked" => Stacked, "skip" => Skip, "scores" => Scores);

/// The part of the LSTM that is read out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Readout {
    /// The hidden state `h`.
    #[default]
    Hidden,
    /// The output gate `o` (the report's).
    OutputGate,
}

named!(Readout, "readout", "hidden" => Hidden, "output-gate" => OutputGate);

/// How the parameters start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Init {
    /// The distribution of weights and biases.
    pub scheme: InitScheme,
    /// The sum of the forget gate's two biases (Gers 2000; Jozefowicz 2015 suggests 1), in place of what
    /// the scheme gives them. `None` leaves the scheme's.
    pub forget_bias: Option<f32>,
}

impl Init {
    /// The bound of the uniform initial values of a linear map that sums `fan_in` values: a, or 1/√fan-in as `nn.Linear`.
    pub(crate) fn linear_bound(&self, fan_in: usize) -> f32 {
        match self.scheme {
            InitScheme::Uniform(a) => a,
            InitScheme::Torch | InitScheme::OnesBias => 1.0 / (fan_in as f32).sqrt(),
        }
    }
}

/// The distribution of the initial weights and biases.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum InitScheme {
    /// As PyTorch's `nn.LSTM`: uniform within ±1/√H.
    #[default]
    Torch,
    /// Uniform within ±a (Zaremba 2014).
    Uniform(f32),
    /// The report's: weights as `nn.Linear` (uniform within ±1/√fan-in), every bias one.
    OnesBias,
}

impl fmt::Display for InitScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torch => f.write_str("torch"),
            Self::Uniform(a) => write!(f, "uniform({a})"),
            Self::OnesBias => f.write_str("ones-bias"),
        }
    }
}

impl FromStr for InitScheme {
    type Err = ConfigError;

    fn from_str(value: &str) -> Result<Self, ConfigError> {
        let bound = value.strip_prefix("uniform(").and_then(|rest| rest.strip_suffix(')'));
        match (value, bound.map(str::parse::<f32>)) {
            ("torch", _) => Ok(Self::Torch),
            ("ones-bias", _) => Ok(Self::OnesBias),
            (_, Some(Ok(a))) if (1e-6..=10.0).contains(&a) => Ok(Self::Uniform(a)),
            _ => Err(ConfigError::Unknown {
                kind: "initialisation",
                value: value.to_owned(),
                choices: "torch, uniform(a) with a number a from 0.000001 to 10, ones-bias",
            }),
        }
    }
}

stored_as_text!(InitScheme);

/// The ways in which a cell differs from the plain LSTM's; by default in nothing. The equations are those of [`crate::cell::variant`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CellOptions {
    /// Whether every unit's gates see its cell: i and f the one before, o the new one (Gers & Schmidhuber 2000).
    pub peepholes: bool,
    /// Whether the input gate is what the forget gate leaves, i = 1 − f, and has no parameters (Greff et al. 2017).
    pub coupled: bool,
    /// Whether `W x`, `W h` and the cell state that is read are layer-normalised (Ba, Kiros & Hinton 2016).
    pub layer_norm: bool,
    /// How much of the states stays as it was (Krueger et al. 2017).
    pub zoneout: Zoneout,
    /// Whether it is an sLSTM's, whose input gate is exponential and whose cell state is a mean (Beck et al. 2024).
    pub exponential: bool,
    /// The rounds in which input and hidden state gate one another before a step (Melis et al. 2019); 0 for none.
    pub mogrify: usize,
    /// The rank of the rounds' matrices, each the product of two then; `None` for matrices of any rank.
    pub mogrify_rank: Option<usize>,
}

/// The rates of zoneout, each in `[0, 1)`: the probability with which a unit keeps its value in a step of training, and
/// the share of it that it keeps in evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Zoneout {
    /// Of the cell state.
    pub cell: f32,
    /// Of the hidden state.
    pub hidden: f32,
}

impl CellOptions {
    /// Whether nothing differs.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// K, the number of gates with parameters: i, f, g, o, or f, g, o if they are coupled.
    pub fn gates(&self) -> usize {
        if self.coupled { 3 } else { 4 }
    }

    /// What enters the cell of a unit and what stays in it, of a row of its activated gates: i and f; where they are coupled i = 1 − f, and of an
    /// exponential cell the shares of the newest and of all before.
    pub(crate) fn shares(&self, gates: &[f32], unit: usize) -> [f32; 2] {
        let first = gates[unit];
        match (self.coupled, self.exponential) {
            (true, _) => [1.0 - first, first],
            (_, true) => [first, 1.0 - first],
            _ => [first, gates[gates.len() / 4 + unit]],
        }
    }

    /// Checks the rates and the rounds.
    fn validate(&self) -> Result<(), ConfigError> {
        within("mogrify", self.mogrify, 0..=MOST_ROUNDS, "a number of rounds up to 100")?;
        if let Some(rank) = self.mogrify_rank {
            at_least_one("mogrify-rank", rank)?;
            if self.mogrify == 0 {
                let why = "`mogrify-rank` is of the matrices by which input and hidden state gate one another, and there are no rounds of \
                           that; give `mogrify` rounds, such as 5";
                return Err(ConfigError::Conflict(why.to_owned()));
            }
        }
        let Zoneout { cell, hidden } = self.zoneout;
        if self.exponential {
            let others = [
                (self.peepholes, "`peepholes`"),
                (self.coupled, "`coupled` gates"),
                (self.layer_norm, "`layer-norm`"),
                (cell > 0.0, "`zoneout` of its cell state"),
            ];
            if let Some((_, what)) = others.into_iter().find(|(chosen, _)| *chosen) {
                return Err(ConfigError::Conflict(format!(
                    "an `exponential` cell has gates and a cell state of its own, which {what} would change; leave one of them out"
                )));
            }
        }
        if cell == hidden {
            return rate("zoneout", cell);
        }
        rate("zoneout-cell", cell)?;
        rate("zoneout-hidden", hidden)
    }
}

impl fmt::Display for CellOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peepholes, coupled, layer_norm, zoneout, exponential, mogrify, mogrify_rank } = self;
        let rank = mogrify_rank.map_or(String::new(), |rank| format!(" of rank {rank}"));
        let rounds = if *mogrify == 1 { "round" } else { "rounds" };
        let mogrified = (*mogrify > 0).then(|| format!("a mogrifier of {mogrify} {rounds}{rank}"));
        let zoneout = match (zoneout.cell, zoneout.hidden) {
            (0.0, 0.0) => None,
            (cell, hidden) if cell == hidden => Some(format!("zoneout {cell}")),
            (cell, hidden) => Some(format!("zoneout of cells {cell}, of hidden states {hidden}")),
        };
        let named = [
            (peepholes, "peepholes"),
            (coupled, "coupled gates"),
            (layer_norm, "layer normalisation"),
            (exponential, "exponential input gates"),
        ];
        let named = named.into_iter().filter(|(chosen, _)| **chosen).map(|(_, name)| name.to_owned());
        let all: Vec<String> = named.chain(zoneout).chain(mogrified).collect();
        f.write_str(if all.is_empty() { "plain" } else { "" })?;
        f.write_str(&all.join(", "))
    }
}

/// Far more rounds than any have been of use.
const MOST_ROUNDS: usize = 100;

/// Refuses a rate outside `[0, 1)`, and one so small that it would never do anything.
pub(crate) fn rate(name: &'static str, rate: f32) -> Result<(), ConfigError> {
    let expected = match rate {
        0.0 => return Ok(()),
        rate if !(0.0..1.0).contains(&rate) => "at least 0 and below 1",
        rate if rate < 1e-6 => "0 or at least 0.000001",
        _ => return Ok(()),
    };
    Err(ConfigError::Range { name, value: rate.to_string(), expected })
}

/// H, the hidden size: one for all layers, or one for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "hidden is a size, or a list with one for each layer")]
pub enum HiddenSizes {
    /// The same for all layers.
    Same(usize),
    /// One for each layer, from the first.
    Each(Vec<usize>),
}

impl HiddenSizes {
    /// The size of layer `layer`; 0 past the end of a list.
    pub fn of(&self, layer: usize) -> usize {
        match self {
            Self::Same(size) => *size,
            Self::Each(sizes) => sizes.get(layer).copied().unwrap_or(0),
        }
    }

    /// Refuses a list that is not one for each of `layers`, and sizes of zero.
    fn validate(&self, layers: usize) -> Result<(), ConfigError> {
        match self {
            Self::Each(sizes) if sizes.len() != layers => Err(ConfigError::Conflict(format!(
                "`hidden` gives {} for {}; give one for each layer, or one for all",
                count(sizes.len(), "size"),
                count(layers, "layer")
            ))),
            Self::Each(sizes) => sizes.iter().try_for_each(|&size| at_least_one("hidden", size)),
            Self::Same(size) => at_least_one("hidden", *size),
        }
    }

    /// The smallest of all.
    fn least(&self) -> usize {
        match self {
            Self::Each(sizes) => sizes.iter().copied().min().unwrap_or(0),
            Self::Same(size) => *size,
        }
    }
}

impl From<usize> for HiddenSizes {
    fn from(size: usize) -> Self {
        Self::Same(size)
    }
}

impl From<Vec<usize>> for HiddenSizes {
    fn from(sizes: Vec<usize>) -> Self {
        Self::Each(sizes)
    }
}

impl fmt::Display for HiddenSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(size) => write!(f, "{size}"),
            Self::Each(sizes) => {
                for (index, size) in sizes.iter().enumerate() {
                    write!(f, "{}{size}", if index > 0 { "," } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for HiddenSizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes: Result<Vec<usize>, _> = text.split(',').map(|size| size.trim().parse()).collect();
        let sizes = sizes.map_err(|e| format!("{e}; give a size, or one for each layer such as 1150,1150,400"))?;
        Ok(if let [size] = sizes[..] { Self::Same(size) } else { Self::Each(sizes) })
    }
}

/// The shape of an LSTM of any number of layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LstmConfig {
    /// I, the size of the input at every step.
    pub input: usize,
    /// H, the hidden size.
    pub hidden: HiddenSizes,
    /// L, the number of layers.
    pub layers: usize,
    /// P, the size the hidden state is projected to (Sak 2014), `None` for no projection.
    pub projection: Option<usize>,
    /// Whether every layer also runs from the last step to the first; outputs are joined, forward first.
    #[serde(default)]
    pub bidirectional: bool,
    /// The input of a layer after the first.
    pub wiring: Wiring,
    /// S, the number of scores of a layer in the wiring `scores`: the vocabulary in a language model. Else 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub scores: usize,
    /// The part of the last layer that is the output.
    pub readout: Readout,
    /// The number of steps after which the gradient through `h` and `c` is cut; `None` for the whole segment.
    /// The report cuts it at every step: 1.
    pub horizon: Option<usize>,
    /// Whether every layer after the first adds its input to its hidden states where the sizes agree (He 2016; Wu 2016):
    /// what it gives on is `h + x`, what recurs stays `h`.
    #[serde(default)]
    pub residual: bool,
    /// The ways in which the cells differ from the plain LSTM's.
    #[serde(default)]
    pub variant: CellOptions,
}

fn is_zero(scores: &usize) -> bool {
    *scores == 0
}

impl LstmConfig {
    /// One layer of `hidden` units over inputs of size `input`, everything else as `nn.LSTM` has it.
    pub fn new(input: usize, hidden: impl Into<HiddenSizes>) -> Self {
        Self {
            input,
            hidden: hidden.into(),
            layers: 1,
            projection: None,
            bidirectional: false,
            wiring: Wiring::Stacked,
            scores: 0,
            readout: Readout::Hidden,
            horizon: None,
            residual: false,
            variant: CellOptions::default(),
        }
    }

    /// S, the values of a row's cell state in layer `layer`: H, or 2H of exponential cells, which keep their normaliser beside it.
    pub fn cell_state(&self, layer: usize) -> usize {
        self.hidden.of(layer).saturating_mul(1 + usize::from(self.variant.exponential))
    }

    /// D, the number of directions.
    pub fn directions(&self) -> usize {
        1 + usize::from(self.bidirectional)
    }

    /// R, the size of the recurrent state `h` of layer `layer`: P with a projection, else H.
    pub fn recurrent(&self, layer: usize) -> usize {
        self.projection.unwrap_or(self.hidden.of(layer))
    }

    /// The size of the readout of layer `layer`: D·H for the output gate, else D·R.
    pub fn layer_output(&self, layer: usize) -> usize {
        let size = match self.readout {
            Readout::Hidden => self.recurrent(layer),
            Readout::OutputGate => self.hidden.of(layer),
        };
        self.directions() * size
    }

    /// The size of the last layer's readout.
    pub fn output(&self) -> usize {
        self.layer_output(self.layers.saturating_sub(1))
    }

    /// Whether layer `layer` adds its input to its hidden states.
    pub fn adds_input(&self, layer: usize) -> bool {
        self.residual && layer > 0 && self.layer_input(layer) == self.directions() * self.recurrent(layer)
    }

    /// The input size of layer `layer`.
    pub fn layer_input(&self, layer: usize) -> usize {
        let below = self.directions() * self.recurrent(layer.saturating_sub(1));
        match (layer, self.wiring) {
            (0, _) => self.input,
            (_, Wiring::Stacked) => below,
            (_, Wiring::Skip) => self.input + below,
            (_, Wiring::Scores) => self.scores.saturating_add(below),
        }
    }

    /// Refuses a projection that makes nothing smaller.
    fn check_projection(&self) -> Result<(), ConfigError> {
        if let Some(projection) = self.projection {
            at_least_one("projection", projection)?;
            if projection >= self.hidden.least() {
                return Err(ConfigError::Range {
                    name: "projection",
                    value: projection.to_string(),
                    expected: "smaller than the hidden size",
                });
            }
        }
        Ok(())
    }

    /// Refuses rounds between inputs of a layer that is never whole, and a rank that makes nothing smaller.
    fn check_mogrifier(&self) -> Result<(), ConfigError> {
        if self.variant.mogrify > 0 && self.wiring == Wiring::Scores {
            let why = "`mogrify` gates the whole input of a layer, but the wiring scores never has all of a layer's scores at once; choose \
                       `wiring` stacked or skip";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        // The input of a layer after the first is no smaller than the hidden state of the one below.
        let least = self.input.min(self.projection.unwrap_or(self.hidden.least()));
        match self.variant.mogrify_rank {
            Some(rank) if rank >= least => Err(ConfigError::Range {
                name: "mogrify-rank",
                value: rank.to_string(),
                expected: "smaller than the input and the hidden state of every layer",
            }),
            _ => Ok(()),
        }
    }

    /// The bytes of the parameters, and of what names and finds them, in numbers that do not wrap round: what an LSTM takes
    /// at least.
    ///
    /// # Errors
    /// Hidden sizes that are not one for each layer, or settings of its cells that make no sense.
    pub(crate) fn bytes(&self) -> Result<u128, ConfigError> {
        /// The names and slots of a layer, and a parameter's buffers elsewhere, however small it is.
        const LAYER: u128 = 4096;
        // Zero layers have no sizes to check.
        self.hidden.validate(self.layers.max(1))?;
        self.check_projection()?;
        self.variant.validate()?;
        self.check_mogrifier()?;
        let layer = |layer: usize| {
            let (hidden, recurrent) = (self.hidden.of(layer), self.recurrent(layer));
            let below = times(&[self.directions(), self.recurrent(layer.saturating_sub(1))]);
            let (input, scores) = match (layer, self.wiring) {
                (0, _) => (self.input as u128, 0),
                (_, Wiring::Stacked) => (below, 0),
                (_, Wiring::Skip) => (sum([self.input as u128, below]), 0),
                (_, Wiring::Scores) => (sum([self.scores as u128, below]), below.saturating_mul(self.scores as u128)),
            };
            let columns = sum([input, recurrent as u128, 2]);
            let CellOptions { mogrify, mogrify_rank, .. } = self.variant;
            let of_round = match mogrify_rank {
                None => input.saturating_mul(recurrent as u128),
                Some(rank) => sum([input, recurrent as u128]).saturating_mul(rank as u128),
            };
            let rounds = of_round.saturating_mul(mogrify as u128);
            let gates = times(&[hidden, self.variant.gates()]).saturating_mul(columns);
            let projection = times(&[self.projection.unwrap_or(0), hidden]);
            let values = sum([gates, projection, rounds]).saturating_mul(self.directions() as u128);
            sum([sum([values, scores]).saturating_mul(4), LAYER])
        };
        Ok(match &self.hidden {
            HiddenSizes::Each(sizes) => sum((0..sizes.len()).map(layer)),
            HiddenSizes::Same(_) => sum([layer(0), layer(1).saturating_mul((self.layers.max(1) - 1) as u128)]),
        })
    }

    /// Refuses sizes that do not fit the free memory, before any of it is asked for.
    pub(crate) fn check_memory(&self) -> Result<(), ConfigError> {
        let what = || format!("an LSTM of {} of {}", count(self.layers, "layer"), self.hidden);
        check_memory(what, self.bytes()?, "`hidden`, `layers` or `input`")
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// A sentence naming the setting that cannot be built.
    pub fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("input", self.input)?;
        // Zero layers have no sizes to check.
        self.hidden.validate(self.layers.max(1))?;
        at_least_one("layers", self.layers)?;
        self.check_projection()?;
        if self.wiring == Wiring::Scores {
            at_least_one("scores", self.scores)?;
        }
        if self.horizon == Some(0) {
            return Err(ConfigError::Zero { name: "horizon" });
        }
        self.variant.validate()?;
        if self.variant.layer_norm && self.hidden.least() == 1 {
            let why = "layer normalisation takes the mean of a layer's cells from each, which leaves nothing of one cell; give \
                       `hidden` of at least 2, or no `layer-norm`";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        self.check_mogrifier()?;
        if self.residual {
            let agrees = (1..self.layers).any(|layer| self.adds_input(layer));
            let why = match (self.wiring, self.readout) {
                (Wiring::Skip | Wiring::Scores, _) => {
                    "residual connections add what the layer below gives; the wirings skip and scores join other values to \
                     it, so use the wiring stacked"
                }
                (_, Readout::OutputGate) => {
                    "residual connections change the hidden states, which the readout output-gate does not read; use the \
                     readout hidden"
                }
                _ if agrees => return Ok(()),
                _ => {
                    "residual connections add a layer's input to its hidden states, but no layer after the first has the \
                     size of the one below; give `layers` of at least 2 and `hidden` sizes that agree"
                }
            };
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in ["torch", "uniform(0.1)", "ones-bias"] {
            assert_eq!(name.parse::<InitScheme>().unwrap().to_string(), name);
        }
        for name in ["hidden", "output-gate"] {
            assert_eq!(name.parse::<Readout>().unwrap().to_string(), name);
        }
        assert!("uniform(x)".parse::<InitScheme>().unwrap_err().to_string().contains("uniform(x)"));
    }

    #[test]
    fn what_cannot_be_built_is_refused_by_name() {
        let valid = LstmConfig::new(3, 4);
        assert_eq!(valid.validate(), Ok(()));
        let zero = LstmConfig { hidden: 0.into(), ..valid.clone() };
        assert_eq!(zero.validate(), Err(ConfigError::Zero { name: "hidden" }));
        let sizes = |sizes: &[usize]| LstmConfig { layers: 2, hidden: sizes.to_vec().into(), ..valid.clone() };
        assert_eq!(sizes(&[5, 6]).validate(), Ok(()));
        assert_eq!(sizes(&[5, 0]).validate(), Err(ConfigError::Zero { name: "hidden" }));
        assert!(sizes(&[5, 6, 7]).validate().unwrap_err().to_string().contains("3 sizes for 2 layers"));
        let residual = |config| LstmConfig { residual: true, ..config };
        assert_eq!(residual(sizes(&[5, 5])).validate(), Ok(()));
        for config in [
            valid.clone(),
            sizes(&[5, 6]),
            LstmConfig { wiring: Wiring::Skip, ..sizes(&[5, 5]) },
            LstmConfig { readout: Readout::OutputGate, ..sizes(&[5, 5]) },
        ] {
            assert!(residual(config).validate().unwrap_err().to_string().contains("residual"));
        }
        let wide = LstmConfig { projection: Some(4), ..valid };
        assert!(wide.validate().unwrap_err().to_string().contains("smaller than the hidden size"));
    }

    #[test]
    fn variants_are_written_read_and_refused() {
        let zoneout = Zoneout { cell: 0.5, hidden: 0.25 };
        let all = CellOptions {
            peepholes: true,
            coupled: true,
            layer_norm: true,
            zoneout,
            mogrify: 5,
            mogrify_rank: Some(3),
            exponential: false,
        };
        assert_eq!(toml::from_str::<CellOptions>(&toml::to_string(&all).unwrap()).unwrap(), all);
        assert_eq!(toml::from_str::<CellOptions>("coupled = true").unwrap().gates(), 3);
        assert_eq!(
            all.to_string(),
            "peepholes, coupled gates, layer normalisation, zoneout of cells 0.5, of hidden states 0.25, a mogrifier of 5 rounds of rank 3"
        );
        assert_eq!(CellOptions::default().to_string(), "plain");
        let refused = |variant, hidden: usize| {
            LstmConfig { variant, ..LstmConfig::new(2, hidden) }.validate().unwrap_err().to_string()
        };
        let exponential = CellOptions { exponential: true, ..CellOptions::default() };
        assert_eq!(exponential.to_string(), "exponential input gates");
        for (variant, what) in [
            (CellOptions { peepholes: true, ..exponential }, "`peepholes`"),
            (CellOptions { coupled: true, ..exponential }, "`coupled`"),
            (CellOptions { layer_norm: true, ..exponential }, "`layer-norm`"),
            (CellOptions { zoneout, ..exponential }, "`zoneout` of its cell state"),
        ] {
            assert!(refused(variant, 4).contains(what));
        }
        let normalised = CellOptions { layer_norm: true, ..CellOptions::default() };
        assert!(refused(normalised, 1).contains("nothing of one cell"));
        assert!(refused(all, 3).contains("`mogrify-rank` is 3"));
        assert!(refused(CellOptions { mogrify: 0, ..all }, 4).contains("give `mogrify` rounds"));
        assert!(refused(CellOptions { mogrify: 101, ..all }, 4).contains("`mogrify` is 101"));
        let scores = LstmConfig { layers: 2, wiring: Wiring::Scores, scores: 9, ..LstmConfig::new(4, 5) };
        let variant = CellOptions { mogrify: 2, ..CellOptions::default() };
        let scores = LstmConfig { variant, ..scores }.validate().unwrap_err().to_string();
        assert!(scores.contains("`wiring` stacked or skip"));
        let zoneout = |cell, hidden| CellOptions { zoneout: Zoneout { cell, hidden }, ..CellOptions::default() };
        assert!(refused(zoneout(1.0, 1.0), 4).contains("`zoneout` is 1"));
        assert!(refused(zoneout(0.0, -0.5), 4).contains("`zoneout-hidden` is -0.5"));
        assert!(refused(zoneout(f32::NAN, 0.0), 4).contains("`zoneout-cell` is NaN"));
    }

    #[test]
    fn hidden_sizes_are_written_and_read() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Model {
            hidden: HiddenSizes,
        }
        for text in ["200", "1150,1150,400"] {
            let hidden: HiddenSizes = text.parse().unwrap();
            assert_eq!(hidden.to_string(), text);
            let model = Model { hidden };
            assert_eq!(toml::from_str::<Model>(&toml::to_string(&model).unwrap()).unwrap(), model);
        }
        assert!("5,".parse::<HiddenSizes>().unwrap_err().contains("one for each layer"));
        let config = LstmConfig { layers: 3, ..LstmConfig::new(2, vec![5, 6, 7]) };
        assert_eq!((0..3).map(|layer| config.layer_input(layer)).collect::<Vec<_>>(), [2, 5, 6]);
        assert_eq!(config.output(), 7);
    }

    #[test]
    fn layer_inputs_follow_the_wiring() {
        let mut config = LstmConfig { bidirectional: true, layers: 2, ..LstmConfig::new(3, 4) };
        assert_eq!((config.layer_input(0), config.layer_input(1)), (3, 8));
        config.wiring = Wiring::Skip;
        assert_eq!(config.layer_input(1), 11);
        (config.wiring, config.scores) = (Wiring::Scores, 5);
        assert_eq!(config.layer_input(1), 13);
    }
}
