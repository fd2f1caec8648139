//! What the names in a state dict say: which array of which LSTM a tensor is, what wraps it, what is no part of a network.

use std::cmp::Ordering;

/// An array of one layer and direction of an LSTM, as its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LstmName {
    /// What is before it: the name of the LSTM, with its dot.
    pub(super) module: String,
    /// `weight_ih`, `weight_hh`, `weight_hr`, `bias_ih`, `bias_hh`.
    pub(super) array: &'static str,
    pub(super) layer: usize,
    pub(super) reverse: bool,
}

const ARRAYS: [&str; 5] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"];

/// The most layers that a name may speak of: names are not believed further than any network goes.
const LAYERS: usize = 10_000;

impl LstmName {
    /// Reads `rnn.weight_ih_l0_reverse`; `nn.LSTMCell`'s names have no layer.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let at = name.rfind('.').map_or(0, |dot| dot + 1);
        let (module, last) = name.split_at(at);
        let array = ARRAYS.into_iter().find(|array| last.starts_with(array))?;
        let rest = &last[array.len()..];
        let (rest, reverse) = rest.strip_suffix("_reverse").map_or((rest, false), |rest| (rest, true));
        let layer = match rest {
            "" if !reverse => 0,
            _ => rest.strip_prefix("_l")?.parse().ok().filter(|layer| *layer < LAYERS)?,
        };
        Some(Self { module: module.to_owned(), array, layer, reverse })
    }
}

/// The place of an array among those of a layer.
pub(super) fn place(array: &str) -> Option<usize> {
    ARRAYS.iter().position(|known| *known == array)
}

/// A name without what wrappers add, and which of several tensors of this name it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) name: String,
    pub(super) role: Role,
}

/// How a wrapper keeps a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// As it is.
    Itself,
    /// As what another tensor is computed from, which takes the place of one that is there as it is: what weight dropout
    /// drops from (`_raw`), what a parametrization is given (`original`).
    Source,
    /// Weight normalisation's length of each row (Salimans & Kingma 2016).
    Length,
    /// Its direction.
    Direction,
}

/// Takes off `module.` (of data parallelism and weight dropout), `_raw`, `parametrizations.*.original`, and the names of
/// weight normalisation.
pub(super) fn plain(name: &str) -> Plain {
    let parts: Vec<&str> = name.split('.').filter(|part| !["module", "_orig_mod"].contains(part)).collect();
    let (mut parts, mut role) = (parts, Role::Itself);
    if let [.., "parametrizations", _, last] = parts[..] {
        let found = match last {
            "original" => Some(Role::Source),
            "original0" => Some(Role::Length),
            "original1" => Some(Role::Direction),
            _ => None,
        };
        if let Some(found) = found {
            role = found;
            parts.pop();
            parts.remove(parts.len() - 2);
        }
    }
    let mut name = parts.join(".");
    for (suffix, found) in [("_raw", Role::Source), ("_g", Role::Length), ("_v", Role::Direction)] {
        if role == Role::Itself
            && let Some(short) = name.strip_suffix(suffix)
            && LstmName::parse(short).is_some()
        {
            (name, role) = (short.to_owned(), found);
        }
    }
    Plain { name, role }
}

/// Whether a tensor belongs to training and not to the network: an optimizer's moments, an average of the weights.
pub(super) fn is_of_training(name: &str) -> bool {
    const LAST: [&str; 8] = [
        "exp_avg",
        "exp_avg_sq",
        "max_exp_avg_sq",
        "momentum_buffer",
        "square_avg",
        "grad_avg",
        "sum",
        "num_batches_tracked",
    ];
    let mut parts = name.split('.').collect::<Vec<_>>();
    let last = parts.pop().unwrap_or("");
    let of_training = |part: &&str| {
        let part = part.to_ascii_lowercase();
        ["optim", "scheduler", "scaler", "callback"].iter().any(|word| part.contains(word))
            || ["loops", "ema", "rng"].contains(&part.as_str())
            || part.starts_with("ema_")
            || part.ends_with("_ema")
            || part.contains("rng_state")
    };
    LAST.contains(&last) || parts.iter().any(of_training) || of_training(&last) && !last.contains("weight")
}

/// The order of names as people count: `rnns.2` before `rnns.10`.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match (digits(a), digits(b)) {
            (0, _) | (_, 0) => {
                let (Some((first_a, rest_a)), Some((first_b, rest_b))) = (a.split_first(), b.split_first()) else {
                    return a.len().cmp(&b.len());
                };
                match first_a.cmp(first_b) {
                    Ordering::Equal => (a, b) = (rest_a, rest_b),
                    order => return order,
                }
            }
            (of_a, of_b) => {
                let number = |text: &[u8]| {
                    let zeros = text.iter().take_while(|byte| **byte == b'0').count();
                    text[zeros..].to_vec()
                };
                let (number_a, number_b) = (number(&a[..of_a]), number(&b[..of_b]));
                match number_a.len().cmp(&number_b.len()).then(number_a.cmp(&number_b)) {
                    Ordering::Equal => (a, b) = (&a[of_a..], &b[of_b..]),
                    order => return order,
                }
            }
        }
    }
}

/// A name with every number taken out: members of a numbered series have the same.
pub(super) fn series(name: &str) -> String {
    name.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_lstms_are_read() {
        let read = |name| LstmName::parse(name).map(|n| (n.module, n.array, n.layer, n.reverse));
        assert_eq!(read("weight_ih_l0"), Some((String::new(), "weight_ih", 0, false)));
        assert_eq!(read("a.rnn.bias_hh_l12_reverse"), Some(("a.rnn.".to_owned(), "bias_hh", 12, true)));
        assert_eq!(read("cell.weight_hh"), Some(("cell.".to_owned(), "weight_hh", 0, false)));
        for name in ["weight", "weight_ih_l", "weight_ih_lx", "weight_ih_l0_g", "weight_ih_reverse", "my_weight_ih_l0"]
        {
            assert_eq!(read(name), None, "{name}");
        }
        assert_eq!(read("weight_ih_l99999999999999999999"), None);
    }

    #[test]
    fn wrappers_are_taken_off() {
        let cases = [
            ("module.rnn.weight_ih_l0", "rnn.weight_ih_l0", Role::Itself),
            ("rnns.0.module.weight_hh_l0_raw", "rnns.0.weight_hh_l0", Role::Source),
            ("rnn.parametrizations.weight_hh_l0.original", "rnn.weight_hh_l0", Role::Source),
            ("parametrizations.weight_hh_l0.original1", "weight_hh_l0", Role::Direction),
            ("rnn.weight_hh_l0_g", "rnn.weight_hh_l0", Role::Length),
            ("decoder.weight_g", "decoder.weight_g", Role::Itself),
            ("_orig_mod.emb.weight", "emb.weight", Role::Itself),
        ];
        for (name, expected, role) in cases {
            assert_eq!(plain(name), Plain { name: expected.to_owned(), role }, "{name}");
        }
    }

    #[test]
    fn numbers_count_in_order() {
        assert_eq!(natural("rnns.2.", "rnns.10."), Ordering::Less);
        assert_eq!(natural("a", "a.b"), Ordering::Less);
        assert_eq!(natural("l01", "l1"), Ordering::Equal);
        assert_eq!(series("rnns.2."), series("rnns.10."));
    }

    #[test]
    fn what_trains_is_no_network() {
        for name in
            ["optimizer_state.state.0.exp_avg", "optimizer_states.0.x", "ema_model.rnn.weight_ih_l0", "cpu_rng_state"]
        {
            assert!(is_of_training(name), "{name}");
        }
        for name in ["state_dict.model.rnn.weight_ih_l0", "schema.weight", "decoder.weight"] {
            assert!(!is_of_training(name), "{name}");
        }
    }
}
