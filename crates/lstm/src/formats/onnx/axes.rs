//! The axes of a value that flows through a graph, and the sizes that are computed from them.
//!
//! An axis is a row of factors, the slowest first: what `Reshape` joins are the factors of one axis, what it parts are several. A
//! size that is known only when the graph runs is the product of such factors and a number.

/// A factor of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Factor {
    /// Axis number n of the graph's input: steps, rows or features.
    Input(usize),
    /// The directions of an LSTM.
    Directions(usize),
    /// The values of one step and direction.
    Features(usize),
    /// LSTMs whose states were put one after the other, and directions among them.
    States(usize),
}

/// The factors of an axis; none is a size of one.
pub(super) type Axis = Vec<Factor>;

/// A size: a number times factors of the input's axes, in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dim {
    pub(super) number: i64,
    pub(super) inputs: Vec<usize>,
}

/// The sizes of the graph's input, where they are known.
pub(super) type InputSizes = Vec<Option<usize>>;

impl Dim {
    pub(super) fn number(number: i64) -> Self {
        Self { number, inputs: Vec::new() }
    }

    /// The size of an axis.
    pub(super) fn of(axis: &[Factor]) -> Self {
        let mut dim = Self::number(1);
        for factor in axis {
            match factor {
                Factor::Input(input) => dim.inputs.push(*input),
                Factor::Directions(size) | Factor::Features(size) | Factor::States(size) => {
                    dim.number = dim.number.saturating_mul(*size as i64);
                }
            }
        }
        dim.inputs.sort_unstable();
        dim
    }

    /// The product of two.
    pub(super) fn times(&self, other: &Self) -> Self {
        let mut inputs = [&self.inputs[..], &other.inputs].concat();
        inputs.sort_unstable();
        Self { number: self.number.saturating_mul(other.number), inputs }
    }

    /// Its number, where the file fixes every size in it.
    pub(super) fn known(&self, sizes: &InputSizes) -> Option<i64> {
        self.inputs
            .iter()
            .try_fold(self.number, |product, input| product.checked_mul(i64::try_from((*sizes.get(*input)?)?).ok()?))
    }

    /// Whether it is the size of an axis, in itself or in numbers.
    fn is(&self, axis: &[Factor], sizes: &InputSizes) -> bool {
        let own = Self::of(axis);
        *self == own || self.known(sizes).is_some() && self.known(sizes) == own.known(sizes)
    }
}

/// Whether an axis has one place.
pub(super) fn is_one(axis: &[Factor], sizes: &InputSizes) -> bool {
    Dim::of(axis).known(sizes) == Some(1)
}

/// Without the factors that are one.
pub(super) fn plain(axis: &[Factor], sizes: &InputSizes) -> Axis {
    axis.iter().copied().filter(|factor| !is_one(&[*factor], sizes)).collect()
}

/// The axes after a `Reshape` to `shape`: factors stay in their order, so each new axis takes the next ones that have its size.
/// keeps_zero: whether a 0 is a size and not the old axis of this place.
pub(super) fn reshape(axes: &[Axis], shape: &[Dim], keeps_zero: bool, sizes: &InputSizes) -> Option<Vec<Axis>> {
    let wanted: Vec<Option<Dim>> = shape
        .iter()
        .enumerate()
        .map(|(place, dim)| match (dim.inputs.is_empty(), dim.number) {
            (true, -1) => Some(None),
            (true, 0) if !keeps_zero => Some(Some(Dim::of(axes.get(place)?))),
            _ => Some(Some(dim.clone())),
        })
        .collect::<Option<_>>()?;
    let all: Vec<Factor> = axes.concat();
    let open = wanted.iter().filter(|dim| dim.is_none()).count();
    if open > 1 {
        return None;
    }
    // From the front up to the open one, and from the back down to it.
    let place = wanted.iter().position(Option::is_none).unwrap_or(wanted.len());
    let mut front = 0;
    let mut taken = Vec::new();
    for dim in wanted[..place].iter().flatten() {
        let (axis, next) = take(&all, front, dim, sizes, 1)?;
        taken.push(axis);
        front = next;
    }
    let mut back = all.len();
    let mut behind = Vec::new();
    for dim in wanted.iter().skip(place + 1).rev().flatten() {
        let rest: Vec<Factor> = all[front..back].iter().rev().copied().collect();
        let (mut axis, next) = take(&rest, 0, dim, sizes, 1)?;
        axis.reverse();
        behind.push(axis);
        back -= next;
    }
    if open == 1 {
        taken.push(all[front..back].to_vec());
    } else if all[front..].iter().any(|factor| !is_one(&[*factor], sizes)) {
        return None;
    }
    taken.extend(behind.into_iter().rev());
    Some(taken)
}

/// The next factors of `all` whose product is `dim`, and where they end. Factors of one go with what follows them.
fn take(all: &[Factor], from: usize, dim: &Dim, sizes: &InputSizes, least: usize) -> Option<(Axis, usize)> {
    if dim.is(&[], sizes) {
        // A size of one takes a factor of one if there is one, else nothing.
        let one = all.get(from).filter(|factor| is_one(&[**factor], sizes));
        return Some(one.map_or((vec![], from), |factor| (vec![*factor], from + 1)));
    }
    (from + least..=all.len()).find(|end| dim.is(&all[from..*end], sizes)).map(|end| (all[from..end].to_vec(), end))
}

#[cfg(test)]
mod tests {
    use super::Factor::{Directions, Features, Input};
    use super::*;

    fn dims(numbers: &[i64]) -> Vec<Dim> {
        numbers.iter().map(|number| Dim::number(*number)).collect()
    }

    #[test]
    fn a_reshape_joins_and_parts_factors_in_their_order() {
        let axes = [vec![Input(0)], vec![Input(1)], vec![Directions(2)], vec![Features(5)]];
        let joined = vec![vec![Input(0)], vec![Input(1)], vec![Directions(2), Features(5)]];
        let sizes = vec![None, None];
        let symbols = [Dim::of(&axes[0]), Dim::of(&axes[1]), Dim::number(10)];
        assert_eq!(reshape(&axes, &symbols, false, &sizes), Some(joined.clone()));
        assert_eq!(reshape(&axes, &dims(&[0, 0, -1]), false, &sizes), Some(joined.clone()));
        let flat = vec![vec![Input(0), Input(1)], vec![Directions(2), Features(5)]];
        assert_eq!(reshape(&joined, &dims(&[-1, 10]), false, &sizes), Some(flat.clone()));
        assert_eq!(reshape(&flat, &symbols, false, &sizes), Some(joined.clone()));
        // Sizes that the file fixes.
        assert_eq!(reshape(&axes, &dims(&[3, 2, 10]), false, &vec![Some(3), Some(2)]), Some(joined.clone()));
        // What would mix values of different steps, or part a vector.
        for wrong in [&dims(&[2, -1, 10])[..], &dims(&[0, 0, 2, 2, -1]), &dims(&[-1, -1])] {
            assert_eq!(reshape(&joined, wrong, false, &sizes), None);
        }
    }
}
