//! Weight decay by group: some parameters may decay faster than others, or not at all.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::named::{named, stored_as_text};
use crate::nn::config::{ConfigError, within};
use crate::nn::params::{Entry, Layout};

/// Parameters that do the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The embedding; of a tied model the readout's weights too.
    Embedding,
    /// The layers' matrices that their input meets.
    Input,
    /// The layers' matrices that their hidden states meet, projections too.
    Recurrent,
    /// The matrices between the last layer and what is predicted.
    Readout,
    /// Everything that is no matrix: biases, gains, peepholes.
    Vectors,
}

named!(Group, "group of parameters",
    "embedding" => Embedding, "input" => Input, "recurrent" => Recurrent, "readout" => Readout, "vectors" => Vectors);

impl Group {
    const ALL: [Self; 5] = [Self::Embedding, Self::Input, Self::Recurrent, Self::Readout, Self::Vectors];

    /// The group of a parameter.
    fn of(entry: &Entry) -> Self {
        let named = |starts: &[&str]| starts.iter().any(|start| entry.name.contains(start));
        match () {
            () if entry.shape.len() < 2 => Self::Vectors,
            () if entry.name.starts_with("embedding.") => Self::Embedding,
            () if named(&["weight_ih_l", "weight_mogrify_input"]) => Self::Input,
            () if named(&["weight_hh_l", "weight_hr_l", "weight_mogrify_hidden"]) => Self::Recurrent,
            () => Self::Readout,
        }
    }
}

/// The share of the weight decay that groups have: `embedding=0.1,vectors=0`; 1 of those that are not named, and `none` for all alike.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DecayShares([Option<f32>; Group::ALL.len()]);

impl DecayShares {
    /// Whether all have the same.
    pub fn is_none(&self) -> bool {
        self.named().next().is_none()
    }

    /// The groups that are named, with their shares.
    fn named(&self) -> impl Iterator<Item = (Group, f32)> {
        Group::ALL.into_iter().zip(self.0).filter_map(|(group, share)| Some((group, share?)))
    }

    /// The largest that a group has.
    pub(crate) fn largest(&self) -> f32 {
        self.named().fold(1.0, |most, (_, share)| most.max(share))
    }

    /// Checks every share.
    ///
    /// # Errors
    /// A sentence naming the setting.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        self.named().try_for_each(|(_, share)| within("weight-decay-shares", share, 0.0..=1e3, "shares from 0 to 1000"))
    }

    /// The stretches of a layout with their shares, in order and without a gap; empty where all have the same.
    pub(crate) fn stretches(&self, layout: &Layout) -> Vec<(Range<usize>, f32)> {
        let mut stretches: Vec<(Range<usize>, f32)> = Vec::new();
        for entry in layout.entries().iter().filter(|_| !self.is_none()) {
            let (range, share) = (entry.slot.range(), self.0[Group::of(entry) as usize].unwrap_or(1.0));
            match stretches.last_mut() {
                Some((last, of_last)) if *of_last == share => last.end = range.end,
                _ => stretches.push((range, share)),
            }
        }
        stretches
    }
}

impl fmt::Display for DecayShares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("none");
        }
        for (place, (group, share)) in self.named().enumerate() {
            write!(f, "{}{group}={share}", if place > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for DecayShares {
    type Err = ConfigError;

    fn from_str(value: &str) -> Result<Self, ConfigError> {
        let unknown = || ConfigError::Unknown {
            kind: "list of shares of the weight decay",
            value: value.to_owned(),
            choices: "embedding, input, recurrent, readout and vectors, each once with its share and with commas between them, such as \
                      embedding=0.1,vectors=0; or none",
        };
        let mut shares = Self::default();
        for part in value.split(',').filter(|_| value != "none") {
            let (group, share) = part.split_once('=').ok_or_else(unknown)?;
            let group: Group = group.parse().map_err(|_| unknown())?;
            if shares.0[group as usize].replace(share.parse().map_err(|_| unknown())?).is_some() {
                return Err(unknown());
            }
        }
        Ok(shares)
    }
}

stored_as_text!(DecayShares);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_written_read_and_refused() {
        for (given, written) in [
            ("none", "none"),
            ("vectors=0", "vectors=0"),
            ("vectors=0,embedding=0.1,recurrent=30", "embedding=0.1,recurrent=30,vectors=0"),
        ] {
            let shares = given.parse::<DecayShares>().unwrap();
            assert_eq!(shares.to_string(), written);
            assert!(shares.validate().is_ok());
        }
        for given in ["", "vectors", "vectors=", "biases=0", "vectors=0,vectors=1", "vectors=0,", "none,vectors=0"] {
            let error = given.parse::<DecayShares>().unwrap_err().to_string();
            assert!(error.contains("embedding=0.1,vectors=0"), "{error}");
        }
        for given in ["input=-1", "input=NaN", "input=1e9"] {
            let error = given.parse::<DecayShares>().unwrap().validate().unwrap_err().to_string();
            assert!(error.contains("`weight-decay-shares`"), "{error}");
        }
    }

    #[test]
    fn every_parameter_has_the_share_of_its_group() {
        let mut layout = Layout::default();
        for (name, shape) in [
            ("embedding.weight", &[5, 2][..]),
            ("lstm.weight_ih_l0", &[5, 2]),
            ("lstm.weight_mogrify_input_l0", &[5, 2]),
            ("lstm.weight_hh_l0", &[5, 2]),
            ("lstm.weight_hr_l0_reverse", &[5, 2]),
            ("lstm.bias_ih_l0", &[10]),
            ("lstm.gain_cell_l1_reverse", &[10]),
            ("readout.weight", &[5, 2]),
            ("readout.bias", &[10]),
        ] {
            layout.add(name, shape);
        }
        let of = |given: &str| given.parse::<DecayShares>().unwrap().stretches(&layout);
        assert_eq!(of("none"), []);
        assert_eq!(of("vectors=0"), [(0..50, 1.0), (50..70, 0.0), (70..80, 1.0), (80..90, 0.0)]);
        assert_eq!(of("embedding=0.1,readout=3"), [(0..10, 0.1), (10..70, 1.0), (70..80, 3.0), (80..90, 1.0)]);
        assert_eq!(of("input=2,recurrent=3"), [(0..10, 1.0), (10..30, 2.0), (30..50, 3.0), (50..90, 1.0)]);
    }
}
