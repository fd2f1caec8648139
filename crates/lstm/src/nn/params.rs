//! One flat buffer of parameters and the layout that names its slices.
//!
//! Parameters, gradients and optimizer moments share a [`Layout`]: clipping, an optimizer step or a checkpoint is one
//! pass over one slice. Names and shapes are PyTorch's, so a layout is a state dict.

use std::ops::{Deref, Range};
use std::sync::Arc;

use lstm_kernels::Aligned;

use crate::mapped::Mapped;
use crate::rng::{Purpose, Rng};

/// Where one named array lies in the flat buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    offset: usize,
    len: usize,
    /// Its number in the layout, where every array lies for itself.
    index: usize,
}

impl Slot {
    /// The places of its values in the buffer.
    pub(crate) fn range(self) -> Range<usize> {
        self.offset..self.offset + self.len
    }

    /// This slot's part of a buffer of the same layout.
    pub(crate) fn of(self, values: &[f32]) -> &[f32] {
        &values[self.range()]
    }

    /// This slot's part of a buffer of the same layout, to write.
    pub(crate) fn of_mut(self, values: &mut [f32]) -> &mut [f32] {
        &mut values[self.range()]
    }
}

/// One named array of a [`Layout`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, as in a PyTorch state dict.
    pub name: String,
    /// The shape, row-major.
    pub shape: Vec<usize>,
    /// Where it lies.
    pub slot: Slot,
    /// The matrices that lie in it one under another, such as the gates of a weight; none where it is a vector, or a table whose rows are
    /// vectors of their own.
    pub matrices: usize,
}

/// The names, shapes and places of a model's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    entries: Vec<Entry>,
    len: usize,
}

impl Layout {
    /// Appends an array; the slot is how the model finds it. A layout too large to count has `usize::MAX` values, so
    /// that its owner can refuse it before any memory is asked for.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize]) -> Slot {
        self.add_matrices(name, shape, 0)
    }

    /// The same for an array of so many matrices of one size one under another.
    pub fn add_matrices(&mut self, name: impl Into<String>, shape: &[usize], matrices: usize) -> Slot {
        let len = shape.iter().fold(1, |product: usize, size| product.saturating_mul(*size));
        let slot = Slot { offset: self.len, len, index: self.entries.len() };
        self.len = self.len.saturating_add(len);
        self.entries.push(Entry { name: name.into(), shape: shape.to_vec(), slot, matrices });
        slot
    }

    /// The arrays in the order of the buffer.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The number of values of all arrays together.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The place of the array `name`.
    pub fn slot(&self, name: &str) -> Option<Slot> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| entry.slot)
    }
}

/// Values in memory of their own, or in that of a mapped file until they are written.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    Own(Aligned),
    Mapped(Mapped),
}

impl Values {
    fn own(&mut self) -> &mut Aligned {
        if let Self::Mapped(mapped) = self {
            *self = Self::Own(Aligned::from(&mapped[..]));
        }
        match self {
            Self::Own(values) => values,
            Self::Mapped(_) => unreachable!("they were copied just now"),
        }
    }
}

impl Default for Values {
    fn default() -> Self {
        Self::Own(Aligned::new())
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Own(values) => values,
            Self::Mapped(values) => values,
        }
    }
}

/// Values laid out by a [`Layout`]: parameters or their gradients.
#[derive(Clone, Debug)]
pub struct Params {
    layout: Arc<Layout>,
    values: Values,
}

impl PartialEq for Params {
    fn eq(&self, other: &Self) -> bool {
        self.layout == other.layout && self.values() == other.values()
    }
}

impl Params {
    /// All zeros.
    pub fn zeros(layout: Arc<Layout>) -> Self {
        let values = Values::Own(Aligned::zeros(layout.len()));
        Self { layout, values }
    }

    /// These values, which lie as the layout says.
    pub(crate) fn of(layout: Arc<Layout>, values: Values) -> Self {
        assert_eq!(layout.len(), values.len(), "a value for every place");
        Self { layout, values }
    }

    /// Copies values that lie in a mapped file into memory of their own: a process that lives for long then depends on nobody's leaving
    /// the file as it is.
    pub fn detach(&mut self) {
        self.values.own();
    }

    /// The layout.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Every value, in the order of the layout.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Every value, to write.
    pub fn values_mut(&mut self) -> &mut [f32] {
        self.values.own()
    }

    /// One array.
    pub fn get(&self, slot: Slot) -> &[f32] {
        slot.of(&self.values)
    }

    /// One array, to write.
    pub fn get_mut(&mut self, slot: Slot) -> &mut [f32] {
        slot.of_mut(self.values_mut())
    }

    /// Two arrays, the second after the first, to write.
    pub(crate) fn pair_mut(&mut self, first: Slot, second: Slot) -> (&mut [f32], &mut [f32]) {
        let (before, after) = self.values_mut().split_at_mut(second.offset);
        (first.of_mut(before), &mut after[..second.len])
    }

    /// The array `name`, if the layout has it.
    pub fn by_name(&self, name: &str) -> Option<&[f32]> {
        self.layout.slot(name).map(|slot| slot.of(&self.values))
    }

    /// The array `name`, to write.
    pub fn by_name_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        let slot = self.layout.slot(name)?;
        Some(self.get_mut(slot))
    }

    /// Fills one array with uniform values within ±`bound`, from the stream numbered by its place in the buffer.
    pub(crate) fn fill_uniform(&mut self, slot: Slot, bound: f32, seed: u64) {
        let mut rng = Rng::new(seed, Purpose::Init, slot.offset as u64);
        self.get_mut(slot).fill_with(|| rng.uniform_in(-bound, bound));
    }

    /// Fills one array with standard normal values, from the stream numbered by its place in the buffer.
    pub(crate) fn fill_normal(&mut self, slot: Slot, seed: u64) {
        let mut rng = Rng::new(seed, Purpose::Init, slot.offset as u64);
        self.get_mut(slot).fill_with(|| rng.normal());
    }
}

/// Parameters to read, wherever they lie: in one flat buffer, or every array for itself, in memory that is another program's.
#[derive(Clone, Copy, Debug)]
pub struct ParamsRef<'a>(Place<'a>);

#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    Flat(&'a [f32]),
    Apart(&'a [&'a [f32]]),
}

impl<'a> ParamsRef<'a> {
    /// Arrays that lie apart, one for each of `layout`, in its order.
    ///
    /// # Panics
    /// When there are not as many arrays, or one of them has another length.
    pub fn apart(layout: &Layout, arrays: &'a [&'a [f32]]) -> Self {
        check_lengths(layout, arrays.iter().map(|array| array.len()));
        Self(Place::Apart(arrays))
    }

    /// One array.
    pub(crate) fn get(self, slot: Slot) -> &'a [f32] {
        match self.0 {
            Place::Flat(values) => slot.of(values),
            Place::Apart(arrays) => arrays[slot.index],
        }
    }
}

impl<'a> From<&'a Params> for ParamsRef<'a> {
    fn from(params: &'a Params) -> Self {
        Self(Place::Flat(&params.values))
    }
}

/// Gradients to write, wherever they lie, as [`ParamsRef`].
#[derive(Debug)]
pub struct ParamsMut<'a>(PlaceMut<'a>);

#[derive(Debug)]
enum PlaceMut<'a> {
    Flat(&'a mut [f32]),
    Apart(Vec<&'a mut [f32]>),
}

impl<'a> ParamsMut<'a> {
    /// Arrays that lie apart, one for each of `layout`, in its order.
    ///
    /// # Panics
    /// When there are not as many arrays, or one of them has another length.
    pub fn apart(layout: &Layout, arrays: Vec<&'a mut [f32]>) -> Self {
        check_lengths(layout, arrays.iter().map(|array| array.len()));
        Self(PlaceMut::Apart(arrays))
    }

    /// All values of one buffer; none of arrays that lie apart.
    pub(crate) fn flat_mut(&mut self) -> &mut [f32] {
        match &mut self.0 {
            PlaceMut::Flat(values) => values,
            PlaceMut::Apart(_) => &mut [],
        }
    }

    /// One array.
    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut [f32] {
        match &mut self.0 {
            PlaceMut::Flat(values) => slot.of_mut(values),
            PlaceMut::Apart(arrays) => arrays[slot.index],
        }
    }

    /// Two arrays, the second after the first.
    pub(crate) fn pair_mut(&mut self, first: Slot, second: Slot) -> (&mut [f32], &mut [f32]) {
        match &mut self.0 {
            PlaceMut::Flat(values) => {
                let (before, after) = values.split_at_mut(second.offset);
                (first.of_mut(before), &mut after[..second.len])
            }
            PlaceMut::Apart(arrays) => {
                let (before, after) = arrays.split_at_mut(second.index);
                (before[first.index], after[0])
            }
        }
    }
}

impl<'a> From<&'a mut Params> for ParamsMut<'a> {
    fn from(params: &'a mut Params) -> Self {
        Self(PlaceMut::Flat(params.values_mut()))
    }
}

fn check_lengths(layout: &Layout, lengths: impl ExactSizeIterator<Item = usize>) {
    assert_eq!(lengths.len(), layout.entries.len(), "one array for each of the layout");
    for (entry, len) in layout.entries.iter().zip(lengths) {
        assert_eq!(len, entry.slot.len, "{} has as many values as its shape says", entry.name);
    }
}

/// Copies the rows `rows` of `table: [·, width]` to `to: [rows, width]`, which it sizes.
pub(crate) fn gather(table: &[f32], rows: &[u32], width: usize, to: &mut Aligned) {
    to.resize(rows.len() * width);
    for (to, &row) in to.chunks_exact_mut(width).zip(rows) {
        to.copy_from_slice(&table[row as usize * width..][..width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_found_by_slot_and_by_name() {
        let mut layout = Layout::default();
        let first = layout.add("first", &[2, 3]);
        let second = layout.add("second", &[4]);
        let mut params = Params::zeros(Arc::new(layout));
        params.get_mut(second).fill(1.0);
        assert_eq!(params.values(), [0., 0., 0., 0., 0., 0., 1., 1., 1., 1.]);
        assert_eq!(params.get(first).len(), 6);
        assert_eq!(params.by_name("second"), Some(&[1.0; 4][..]));
        assert_eq!(params.by_name("third"), None);
    }
}
