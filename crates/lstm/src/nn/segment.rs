//! A segment: the time steps that a pass runs over, of several rows side by side.

/// The shape of a segment: T steps of B rows.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// T, the number of time steps.
    pub steps: usize,
    /// B, the number of rows.
    pub batch: usize,
    /// The length of each row, at most T; `None` when every row has T steps. A row stops at its length: its state is
    /// carried from its last real step, its later outputs are zero, and the reverse direction starts there.
    pub lengths: Option<&'a [usize]>,
    /// Of a packed segment, as PyTorch's `PackedSequence`: its rows are sorted by length, longest first, and step t has the rows
    /// that are longer than t and no others. Where each step's rows begin, and where the last's end: T + 1 numbers. An array
    /// `[T, B, ·]` is `[N, ·]` then, of N rows altogether, and nothing is computed of rows that are over. Only the plain cell
    /// runs one, `lengths` is `None`, and dropout is not locked.
    pub packed: Option<&'a [usize]>,
}

impl Segment<'_> {
    /// T·B, the rows of an array `[T, B, ·]`; N of a packed segment.
    pub(crate) fn rows(self) -> usize {
        self.packed.and_then(<[usize]>::last).copied().unwrap_or(self.steps * self.batch)
    }

    /// Zeroes the rows of `values: [T, B, ·]` past their lengths.
    pub(crate) fn clear_masked(self, values: &mut [f32]) {
        let Some(lengths) = self.lengths else { return };
        let width = values.len() / self.rows().max(1);
        if width == 0 {
            return;
        }
        for (row, values) in values.chunks_exact_mut(width).enumerate() {
            if row / self.batch >= lengths[row % self.batch] {
                values.fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_past_their_length_are_zeroed_and_no_others() {
        let mut values = [1.0; 3 * 2 * 2];
        Segment { steps: 3, batch: 2, lengths: None, packed: None }.clear_masked(&mut values);
        assert_eq!(values, [1.0; 12]);
        Segment { steps: 3, batch: 2, lengths: Some(&[3, 1]), packed: None }.clear_masked(&mut values);
        assert_eq!(values, [1., 1., 1., 1., 1., 1., 0., 0., 1., 1., 0., 0.]);
    }
}
