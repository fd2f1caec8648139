//! The recurrent loop over a segment, forward and backward, as one call that a team of threads stays in.
//!
//! A step is a small product followed by the gates' non-linearities. Its weights are packed once a segment: for the
//! forward loop in blocks of units, `[block][k][gate][unit]`, so that the four gates of a block are computed together
//! and activated while they are in the first-level cache. Members of the team own rows, units, or both, see [`Grid`]:
//! rows never meet, so members that share none run without waiting; members that share rows meet once a step.

use std::ops::Range;

use crate::activation::{sigmoid, tanh};
use crate::pack::{Source, pack_panel};
use crate::product::share;
use crate::simd::{Kernel, Simd, dispatch};
use crate::team::{self, Member};
use crate::tile::{self, Ahead, FEW_ROWS, From, Left, Out, PANEL, Rows};

/// The most rows that go through a block of units before the next block: their pre-activations stay in the first-level
/// cache.
pub(crate) const ROWS: usize = 48;

/// The most k of a panel that rows go through before its next k: 128 KiB.
const DEPTH: usize = 1024;

/// The lanes of the widest vectors; a block of units is at most as wide.
const MOST_LANES: usize = 16;

/// The blocks of units that are computed before they are activated, for few rows.
const GROUP: usize = 4;

/// Consecutive units whose four gates are packed side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    /// The first unit.
    unit: usize,
    /// The units it has room for: a vector's lanes, a half or a quarter of them.
    width: usize,
    /// The panels before it.
    panel: usize,
}

/// The blocks of `hidden` units: whole vectors, then a half and a quarter as the rest needs them.
fn blocks(hidden: usize, lanes: usize) -> impl Iterator<Item = Block> + Clone {
    let (whole, rest) = (hidden / lanes, hidden % lanes);
    let (whole, rest) = if rest > 3 * lanes / 4 { (whole + 1, 0) } else { (whole, rest) };
    let half = rest > lanes / 4;
    let quarter = rest > if half { lanes / 2 } else { 0 };
    let tail = [(half, lanes / 2), (quarter, lanes / 4)].into_iter().filter(|(present, _)| *present);
    let widths = std::iter::repeat_n(lanes, whole).chain(tail.map(|(_, width)| width));
    widths.scan((0, 0), move |(unit, panel), width| {
        let block = Block { unit: *unit, width, panel: *panel };
        *unit += width;
        *panel += (4 * width).div_ceil(PANEL * lanes);
        Some(block)
    })
}

/// The vectors of columns of a block.
fn vectors(block: Block, lanes: usize) -> usize {
    4 * block.width / lanes
}

/// How members share a step: `rows · units` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    rows: usize,
    units: usize,
}

impl Grid {
    /// The grid that takes least time for steps of `batch` rows, products `[depth] · [depth, columns]` and the current
    /// number of threads. Only speed depends on it.
    fn choose(batch: usize, depth: usize, columns: usize) -> Self {
        // In cycles: what a core computes, what it reads of weights (from its second-level cache or beyond), what a
        // meeting costs. Rows go in tiles of at most 12; fewer than 4 rows take as long as 4.
        let cost = |grid: &Grid| {
            let rows = batch.div_ceil(grid.rows);
            let columns = columns.div_ceil(grid.units);
            let compute = rows.max(4) * depth * columns / 32;
            let bytes = 4 * depth * columns;
            let read = if bytes > 700 << 10 { bytes / 12 } else { bytes / 40 };
            let meeting = if grid.units > 1 { 1500 } else { 0 };
            // A segment's start, over some steps.
            let team = if grid.rows * grid.units > 1 { 400 } else { 0 };
            compute.max(read) + meeting + team
        };
        let threads = team::threads();
        let rows = (1..=threads.min(batch.max(1))).map(|rows| Grid { rows, units: threads / rows });
        let grids = std::iter::once(Grid { rows: 1, units: 1 }).chain(rows);
        grids.min_by_key(cost).unwrap_or(Grid { rows: 1, units: 1 })
    }

    fn members(self) -> usize {
        self.rows * self.units
    }
}

/// The recurrent weights, packed for one direction of the loop. The buffers are reused.
#[derive(Clone, Debug, Default)]
pub struct PackedRecurrence {
    recurrent: Vec<f32>,
    projection: Vec<f32>,
    /// The shares of units the backward loop's panels are cut into.
    units: usize,
}

/// The weights of a layer's recurrence.
#[derive(Clone, Copy, Debug)]
pub struct RecurrentWeights<'a> {
    /// `[4H, R]`.
    pub weight_hh: &'a [f32],
    /// `[P, H]`, if the hidden state is projected.
    pub weight_hr: Option<&'a [f32]>,
    /// H.
    pub hidden: usize,
    /// R: P with a projection, else H.
    pub recurrent: usize,
}

impl PackedRecurrence {
    /// Packs the weights for the forward loop.
    pub fn pack_forward(&mut self, weights: RecurrentWeights) {
        let RecurrentWeights { weight_hh, weight_hr, hidden, recurrent } = weights;
        pack_blocks(&mut self.recurrent, &[(weight_hh, recurrent)], hidden);
        self.units = 1;
        if let Some(weight_hr) = weight_hr {
            let source = Source { data: weight_hr.as_ptr(), row: 1, column: hidden };
            pack_columns(&mut self.projection, source, hidden, recurrent, 1);
        }
    }

    /// Packs the weights for the backward loop over `batch` rows.
    pub fn pack_backward(&mut self, weights: RecurrentWeights, batch: usize) {
        let RecurrentWeights { weight_hh, weight_hr, hidden, recurrent } = weights;
        self.units = Grid::choose(batch, 4 * hidden, recurrent).units;
        let source = Source { data: weight_hh.as_ptr(), row: recurrent, column: 1 };
        pack_columns(&mut self.recurrent, source, 4 * hidden, recurrent, self.units);
        if let Some(weight_hr) = weight_hr {
            let source = Source { data: weight_hr.as_ptr(), row: hidden, column: 1 };
            pack_columns(&mut self.projection, source, recurrent, hidden, self.units);
        }
    }
}

/// Packs gate matrices `[4H, K]`, joined along K, in blocks of units: `[block][k][gate][unit]`.
pub(crate) fn pack_blocks(packed: &mut Vec<f32>, parts: &[(&[f32], usize)], hidden: usize) {
    let depth: usize = parts.iter().map(|(_, k)| k).sum();
    parts.iter().for_each(|(weight, k)| assert_eq!(weight.len(), 4 * hidden * k, "a gate matrix is [4H, K]"));
    let lanes = dispatch(Lanes);
    let width = PANEL * lanes;
    let last = blocks(hidden, lanes).last();
    let panels = last.map_or(0, |block| block.panel + vectors(block, lanes).div_ceil(PANEL));
    packed.resize(panels * depth * width, 0.0);
    let shared = Shared::new(packed);
    let list = blocks(hidden, lanes);
    team::for_each(list.clone().count(), |index| {
        let Some(block) = list.clone().nth(index) else { return };
        let mut first = 0;
        for &(weight, k) in parts {
            // SAFETY: a block's panels are its own.
            unsafe { dispatch(PackBlock { weight, k, hidden, block, depth, first, packed: shared.at(0) }) };
            first += k;
        }
    });
}

/// One block of units of one gate matrix.
struct PackBlock<'a> {
    weight: &'a [f32],
    k: usize,
    hidden: usize,
    block: Block,
    depth: usize,
    first: usize,
    packed: *mut f32,
}

impl Kernel for PackBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { weight, k, hidden, block, depth, first, packed } = self;
        let width = PANEL * S::LANES;
        let units = block.width.min(hidden - block.unit);
        for gate in 0..4 {
            let column = gate * block.width;
            let panel = block.panel + column / width;
            let to = packed.wrapping_add(panel * depth * width + first * width + column % width);
            let from = weight[(gate * hidden + block.unit) * k..].as_ptr();
            if block.width == S::LANES {
                let source = Source { data: from, row: 1, column: k };
                // SAFETY: `units` rows of K from `from` are inside the matrix; the vectors lie in the block's panels.
                unsafe { crate::pack::pack_vectors(simd, source, 0..k, units, to, width) };
                continue;
            }
            for unit in 0..block.width {
                for k_at in 0..k {
                    // SAFETY: as above.
                    unsafe {
                        *to.add(k_at * width + unit) = if unit < units { *from.add(unit * k + k_at) } else { 0.0 };
                    }
                }
            }
        }
    }
}

/// Packs `[depth, columns]` in panels, `parts` shares of the columns one after the other, each from a panel of its own.
pub(crate) fn pack_columns(packed: &mut Vec<f32>, source: Source, depth: usize, columns: usize, parts: usize) {
    let width = PANEL * dispatch(Lanes);
    let all: usize = (0..parts).map(|part| column_share(columns, parts, part).len().div_ceil(width)).sum();
    packed.resize(all * depth * width, 0.0);
    let shared = Shared::new(packed);
    team::for_each(all, |panel| {
        let mut before = 0;
        for part in 0..parts {
            let own = column_share(columns, parts, part);
            let count = own.len().div_ceil(width);
            if panel < before + count {
                let first = own.start + (panel - before) * width;
                let columns = first..own.end.min(first + width);
                // SAFETY: a panel has room for `depth` rows; each is one task's.
                return dispatch(PackPanel {
                    source,
                    depth,
                    columns,
                    panel: unsafe { shared.at(panel * depth * width) },
                });
            }
            before += count;
        }
    });
}

struct PackPanel {
    source: Source,
    depth: usize,
    columns: Range<usize>,
    panel: *mut f32,
}

impl Kernel for PackPanel {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // SAFETY: as whoever made it promised.
        unsafe { pack_panel(simd, self.source, 0..self.depth, self.columns, self.panel) };
    }
}

/// The columns that the `part`-th of `parts` members owns: whole vectors, but for the last.
pub(crate) fn column_share(columns: usize, parts: usize, part: usize) -> Range<usize> {
    let lanes = dispatch(Lanes);
    let vectors = share(columns.div_ceil(lanes), parts, part);
    columns.min(vectors.start * lanes)..columns.min(vectors.end * lanes)
}

/// The number of lanes of a vector.
struct Lanes;

impl Kernel for Lanes {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        S::LANES
    }
}

/// An array of which every member reads and writes its own parts.
#[derive(Clone, Copy)]
pub(crate) struct Shared {
    data: *mut f32,
    len: usize,
}

// SAFETY: members write disjoint parts and meet before one reads what another wrote.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(data: &mut [f32]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len() }
    }

    /// For an array that nobody writes.
    fn read_only(data: &[f32]) -> Self {
        Self { data: data.as_ptr().cast_mut(), len: data.len() }
    }

    fn assert_holds(self, len: usize, what: &str) {
        assert!(self.len >= len, "{what} has {} values, but its shape needs {len}", self.len);
    }

    /// # Safety
    /// `offset` is at most the length, and what is accessed behind it is the caller's.
    #[inline(always)]
    pub(crate) unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: inside the array, as the caller promises.
        unsafe { self.data.add(offset) }
    }
}

/// One direction of one layer's recurrence over a segment.
#[derive(Clone, Copy, Debug)]
pub struct Recurrence<'a> {
    /// T, the steps.
    pub steps: usize,
    /// B, the rows.
    pub batch: usize,
    /// H, the hidden size.
    pub hidden: usize,
    /// R, the size of the recurrent state: P with a projection, else H.
    pub recurrent: usize,
    /// Whether the steps run from the last to the first.
    pub reverse: bool,
    /// The length of each row; `None` when all have T steps.
    pub lengths: Option<&'a [usize]>,
    /// The weights, packed for the pass at hand.
    pub packed: &'a PackedRecurrence,
    /// The number of steps after which the gradient through the states is cut.
    pub horizon: Option<usize>,
}

impl Recurrence<'_> {
    /// Runs the segment.
    ///
    /// gates `[T, B, 4H]`: in the input part of the pre-activations, biases included, out the activated i, f, g, o;
    /// h `[T + 1, B, R]` and c `[T + 1, B, H]`: slot 0 holds the initial state and step t writes slot t + 1 (reverse:
    /// slot T holds it, step t writes slot t); tanh_c `[T, B, H]`; raw `[T, B, H]`: `o ∘ tanh c` before projection,
    /// empty without one. A masked step copies its row's states and zeroes the rest.
    ///
    /// # Panics
    /// When an array is shorter than its shape.
    pub fn forward(&self, gates: &mut [f32], h: &mut [f32], c: &mut [f32], tanh_c: &mut [f32], raw: &mut [f32]) {
        let projected = !raw.is_empty();
        let arrays = ForwardArrays {
            gates: Shared::new(gates),
            h: Shared::new(h),
            c: Shared::new(c),
            tanh_c: Shared::new(tanh_c),
            raw: projected.then(|| Shared::new(raw)),
        };
        let (rows, hidden) = (self.steps * self.batch, self.hidden);
        arrays.gates.assert_holds(rows * 4 * hidden, "gates");
        arrays.h.assert_holds((rows + self.batch) * self.recurrent, "h");
        arrays.c.assert_holds((rows + self.batch) * hidden, "c");
        arrays.tanh_c.assert_holds(rows * hidden, "tanh_c");
        if let Some(raw) = arrays.raw {
            raw.assert_holds(rows * hidden, "raw");
        }
        let grid = Grid::choose(self.batch, self.recurrent, 4 * hidden);
        team::run(grid.members(), |member| {
            // A team of another size than asked for shares in one direction only; the result is the same.
            let grid = if member.count == grid.members() { grid } else { Grid { rows: 1, units: member.count } };
            dispatch(ForwardTask { recurrence: self, arrays, grid, member });
        });
    }

    /// Runs the segment backward.
    ///
    /// gates `[T, B, 4H]`: in the activated gates, out the gradients of their pre-activations (0 where masked); c and
    /// tanh_c as [`Recurrence::forward`] left them; d_h `[T, B, R]`: the gradient of `h` from above; d_o `[T, B, H]`:
    /// that of the activated output gate, if it is read; dh `[B, R]`, dc `[B, H]`: in the gradient of the final state,
    /// out that of the initial. With a projection, raw_gradient `[T, B, H]` and d_projected `[T, B, R]` receive the
    /// gradients before and after it; else both are empty.
    ///
    /// # Panics
    /// When an array is shorter than its shape.
    pub fn backward(
        &self,
        gates: &mut [f32],
        c: &[f32],
        tanh_c: &[f32],
        d_h: &[f32],
        d_o: Option<&[f32]>,
        dh: &mut [f32],
        dc: &mut [f32],
        raw_gradient: &mut [f32],
        d_projected: &mut [f32],
    ) {
        let projected = !d_projected.is_empty();
        let arrays = BackwardArrays {
            gates: Shared::new(gates),
            c: Shared::read_only(c),
            tanh_c: Shared::read_only(tanh_c),
            d_h: Shared::read_only(d_h),
            d_o: d_o.map(Shared::read_only),
            dh: Shared::new(dh),
            dc: Shared::new(dc),
            projected: projected.then(|| (Shared::new(raw_gradient), Shared::new(d_projected))),
        };
        let (rows, hidden, recurrent) = (self.steps * self.batch, self.hidden, self.recurrent);
        arrays.gates.assert_holds(rows * 4 * hidden, "gates");
        arrays.c.assert_holds((rows + self.batch) * hidden, "c");
        arrays.tanh_c.assert_holds(rows * hidden, "tanh_c");
        arrays.d_h.assert_holds(rows * recurrent, "d_h");
        arrays.dh.assert_holds(self.batch * recurrent, "dh");
        arrays.dc.assert_holds(self.batch * hidden, "dc");
        if let Some(d_o) = arrays.d_o {
            d_o.assert_holds(rows * hidden, "d_o");
        }
        if let Some((raw_gradient, d_projected)) = arrays.projected {
            raw_gradient.assert_holds(rows * hidden, "raw_gradient");
            d_projected.assert_holds(rows * recurrent, "d_projected");
        }
        // The panels were cut for this many shares of units.
        let units = self.packed.units.max(1);
        let grid = Grid { rows: (team::threads() / units).clamp(1, self.batch.max(1)), units };
        let grid = match Grid::choose(self.batch, 4 * hidden, recurrent) {
            chosen if chosen.units == units => chosen,
            _ => grid,
        };
        team::run(grid.members(), |member| {
            if member.count == grid.members() {
                return dispatch(BackwardTask { recurrence: self, arrays, grid, member, part: member.index % units });
            }
            // Too few members: each step's parts one after the other, in a single member.
            if member.index == 0 {
                dispatch(BackwardAlone { recurrence: self, arrays, units, member });
            }
        });
    }

    /// The n-th step to run, and the slots of the states it reads and writes.
    fn step(&self, n: usize) -> (usize, usize, usize) {
        let t = if self.reverse { self.steps - 1 - n } else { n };
        if self.reverse { (t, t + 1, t) } else { (t, t, t + 1) }
    }

    fn masked(&self, t: usize, row: usize) -> bool {
        self.lengths.is_some_and(|lengths| t >= lengths[row])
    }

    /// Whether the gradient is cut between the n-th step and the one before it.
    fn cut(&self, n: usize) -> bool {
        n > 0 && self.horizon.is_some_and(|horizon| n % horizon == 0)
    }
}

#[derive(Clone, Copy)]
struct ForwardArrays {
    gates: Shared,
    h: Shared,
    c: Shared,
    tanh_c: Shared,
    raw: Option<Shared>,
}

struct ForwardTask<'a> {
    recurrence: &'a Recurrence<'a>,
    arrays: ForwardArrays,
    grid: Grid,
    member: &'a Member<'a>,
}

/// Pre-activations of a block, or of a group of blocks of few rows, on their way to the non-linearities.
pub(crate) type Scratch = [f32; SCRATCH];

pub(crate) const SCRATCH: usize = ROWS * 4 * MOST_LANES;

impl Kernel for ForwardTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { recurrence, arrays, grid, member } = self;
        let (batch, hidden, recurrent) = (recurrence.batch, recurrence.hidden, recurrence.recurrent);
        let rows = share(batch, grid.rows, member.index / grid.units);
        let part = member.index % grid.units;
        let own = own_blocks(hidden, S::LANES, grid.units, part);
        let projected = column_share(recurrent, grid.units, part);
        let mut scratch: Scratch = [0.0; SCRATCH];
        for n in 0..recurrence.steps {
            let (t, before, after) = recurrence.step(n);
            let mut first = rows.start;
            while first < rows.end {
                let count = (rows.end - first).min(ROWS);
                // SAFETY: rows and steps inside the arrays, which were checked; this member's rows and units alone are
                // written, and what others wrote of the step before was met for.
                unsafe {
                    let gates = arrays.gates.at((t * batch + first) * 4 * hidden);
                    let cells = Cells {
                        pre: (gates, 4 * hidden),
                        gates,
                        c_before: arrays.c.at((before * batch + first) * hidden),
                        c: arrays.c.at((after * batch + first) * hidden),
                        tanh_c: arrays.tanh_c.at((t * batch + first) * hidden),
                        h: match arrays.raw {
                            Some(raw) => (raw.at((t * batch + first) * hidden), hidden),
                            None => (arrays.h.at((after * batch + first) * recurrent), recurrent),
                        },
                        hidden,
                    };
                    let h_before = arrays.h.at((before * batch + first) * recurrent);
                    let left = Left { data: h_before, row: recurrent, depth: 1 };
                    let weights = recurrence.packed.recurrent.as_ptr();
                    blocks_of_rows(simd, count, recurrent, left, weights, &own, hidden, &cells, &mut scratch);
                }
                first += count;
            }
            if let Some(raw) = arrays.raw {
                if grid.units > 1 {
                    member.meet();
                }
                // SAFETY: as above; the columns of `h` are this member's.
                unsafe {
                    let left = Left { data: raw.at((t * batch + rows.start) * hidden), row: hidden, depth: 1 };
                    let h = arrays.h.at((after * batch + rows.start) * recurrent + projected.start);
                    let out = Out { data: h, row: recurrent, from: From::Zero };
                    let width = PANEL * S::LANES;
                    // Shares begin at whole vectors; the forward panels are cut as one share.
                    let panels = recurrence.packed.projection.as_ptr();
                    columns_of_rows(simd, rows.len(), hidden, left, panels, projected.clone(), width, out);
                }
            }
            if recurrence.lengths.is_some() {
                for row in rows.clone().filter(|row| recurrence.masked(t, *row)) {
                    let units = own.units.clone();
                    let columns = if arrays.raw.is_some() { projected.clone() } else { units.clone() };
                    // SAFETY: as above.
                    unsafe {
                        let h = |slot: usize| arrays.h.at((slot * batch + row) * recurrent + columns.start);
                        std::ptr::copy_nonoverlapping(h(before), h(after), columns.len());
                        let c = |slot: usize| arrays.c.at((slot * batch + row) * hidden + units.start);
                        std::ptr::copy_nonoverlapping(c(before), c(after), units.len());
                        let at = t * batch + row;
                        for gate in 0..4 {
                            zero(arrays.gates.at(at * 4 * hidden + gate * hidden + units.start), units.len());
                        }
                        zero(arrays.tanh_c.at(at * hidden + units.start), units.len());
                        if let Some(raw) = arrays.raw {
                            zero(raw.at(at * hidden + units.start), units.len());
                        }
                    }
                }
            }
            if grid.units > 1 {
                member.meet();
            }
        }
    }
}

#[inline(always)]
unsafe fn zero(at: *mut f32, len: usize) {
    // SAFETY: writable, as the caller promises.
    unsafe { std::ptr::write_bytes(at, 0, len) };
}

/// The blocks a member owns.
pub(crate) struct OwnBlocks {
    /// At which block they begin, and how many they are.
    first: usize,
    count: usize,
    /// Their units.
    pub(crate) units: Range<usize>,
}

pub(crate) fn own_blocks(hidden: usize, lanes: usize, parts: usize, part: usize) -> OwnBlocks {
    let all: usize = blocks(hidden, lanes).map(|block| vectors(block, lanes)).sum();
    // A block belongs to the part its middle lies in.
    let owner = |before: usize, block: Block| (2 * before + vectors(block, lanes)) * parts / (2 * all.max(1));
    let (mut own, mut before) = (OwnBlocks { first: 0, count: 0, units: 0..0 }, 0);
    for (index, block) in blocks(hidden, lanes).enumerate() {
        if owner(before, block) == part {
            if own.count == 0 {
                (own.first, own.units.start) = (index, block.unit);
            }
            own.count += 1;
            own.units.end = hidden.min(block.unit + block.width);
        }
        before += vectors(block, lanes);
    }
    own
}

/// Where the gates and states of some rows lie: gates `[·, 4H]`, states `[·, H]`.
pub(crate) struct Cells {
    /// What the recurrent part is added to, and the values from one row to the next.
    pub(crate) pre: (*const f32, usize),
    pub(crate) gates: *mut f32,
    pub(crate) c_before: *const f32,
    pub(crate) c: *mut f32,
    pub(crate) tanh_c: *mut f32,
    /// `o ∘ tanh c`, and the values from one row to the next.
    pub(crate) h: (*mut f32, usize),
    pub(crate) hidden: usize,
}

/// Product, non-linearities and state update of `rows` rows for some blocks of units.
#[inline(always)]
pub(crate) unsafe fn blocks_of_rows<S: Simd>(
    simd: S,
    rows: usize,
    depth: usize,
    left: Left,
    weights: *const f32,
    own: &OwnBlocks,
    hidden: usize,
    cells: &Cells,
    scratch: &mut Scratch,
) {
    let width = PANEL * S::LANES;
    let list = blocks(hidden, S::LANES).skip(own.first).take(own.count);
    let scratch = scratch.as_mut_ptr();
    // SAFETY: the scratch holds the blocks of a group of few rows, or one block of `ROWS` rows; the rest as the caller
    // promises.
    unsafe {
        if rows <= FEW_ROWS {
            let mut group = list.clone();
            let mut first = list;
            loop {
                let mut panels = 0;
                let Some(begin) = first.clone().next() else { return };
                for block in group.by_ref().take(GROUP) {
                    panels = block.panel + vectors(block, S::LANES).div_ceil(PANEL) - begin.panel;
                }
                let weights = weights.add(begin.panel * depth * width);
                let out = Out { data: scratch, row: panels * width, from: From::Zero };
                few_rows(simd, rows, depth, panels, left, weights, out);
                for block in first.by_ref().take(GROUP) {
                    let scratch = scratch.add((block.panel - begin.panel) * width);
                    activate(simd, rows, block, scratch, panels * width, cells);
                }
            }
        }
        for block in list {
            let columns = 4 * block.width;
            for panel in 0..columns.div_ceil(width) {
                let weights = weights.add((block.panel + panel) * depth * width);
                let out = Out { data: scratch.add(panel * width), row: columns, from: From::Zero };
                streamed(simd, rows, depth, columns.min(width), left, weights, out);
            }
            activate(simd, rows, block, scratch, columns, cells);
        }
    }
}

/// One panel of weights that streams from the second-level cache or beyond: as many k at a time as stay near until the
/// last rows have met them, while the next ones are on their way.
#[inline(always)]
unsafe fn streamed<S: Simd>(
    simd: S,
    rows: usize,
    depth: usize,
    columns: usize,
    left: Left,
    panel: *const f32,
    mut out: Out,
) {
    let blocks = depth.div_ceil(DEPTH).max(1);
    for block in 0..blocks {
        let ks = share(depth, blocks, block);
        // SAFETY: as the caller promises.
        unsafe {
            let panel = panel.add(ks.start * PANEL * S::LANES);
            let left = Rows::Strided(left.at(0, ks.start));
            tile::panel(simd, rows, ks.len(), columns, left, panel, out, Ahead::Stream);
        }
        out.from = From::Out;
    }
}

/// As [`streamed`], for few rows and several panels.
#[inline(always)]
unsafe fn few_rows<S: Simd>(
    simd: S,
    rows: usize,
    depth: usize,
    panels: usize,
    left: Left,
    weights: *const f32,
    mut out: Out,
) {
    // The blocks of k are those of more rows: members of other teams have other numbers of rows.
    let (blocks, width) = (depth.div_ceil(DEPTH).max(1), PANEL * S::LANES);
    for block in 0..blocks {
        let ks = share(depth, blocks, block);
        // SAFETY: as the caller promises.
        unsafe {
            let weights = (weights.add(ks.start * width), depth * width);
            tile::few_rows(simd, rows, ks.len(), panels, left.at(0, ks.start), weights, out);
        }
        out.from = From::Out;
    }
}

/// The gates' non-linearities and the state update of one block of units. sums: `[rows, stride]`, the recurrent part
/// of the pre-activations.
#[inline(always)]
unsafe fn activate<S: Simd>(simd: S, rows: usize, block: Block, sums: *const f32, stride: usize, cells: &Cells) {
    let Block { unit, width, .. } = block;
    let hidden = cells.hidden;
    let count = width.min(hidden - unit);
    for row in 0..rows {
        // SAFETY: as the caller promises; `count` units from `unit` are inside a row.
        unsafe {
            let gates = cells.gates.add(row * 4 * hidden + unit);
            let from = cells.pre.0.add(row * cells.pre.1 + unit);
            let h = cells.h.0.add(row * cells.h.1 + unit);
            let sums = sums.add(row * stride);
            if count == S::LANES {
                let pre = |gate: usize| simd.add(simd.load(from.add(gate * hidden)), simd.load(sums.add(gate * width)));
                let at = row * hidden + unit;
                let step = cell_step(simd, [pre(0), pre(1), pre(2), pre(3)], simd.load(cells.c_before.add(at)));
                for (gate, value) in step.gates.into_iter().enumerate() {
                    simd.store(gates.add(gate * hidden), value);
                }
                simd.store(cells.c.add(at), step.c);
                simd.store(cells.tanh_c.add(at), step.tanh_c);
                simd.store(h, step.h);
            } else {
                let pre = |gate: usize| {
                    let sum = simd.load_first(sums.add(gate * width), count);
                    simd.add(simd.load_first(from.add(gate * hidden), count), sum)
                };
                let at = row * hidden + unit;
                let c_before = simd.load_first(cells.c_before.add(at), count);
                let step = cell_step(simd, [pre(0), pre(1), pre(2), pre(3)], c_before);
                for (gate, value) in step.gates.into_iter().enumerate() {
                    simd.store_first(gates.add(gate * hidden), count, value);
                }
                simd.store_first(cells.c.add(at), count, step.c);
                simd.store_first(cells.tanh_c.add(at), count, step.tanh_c);
                simd.store_first(h, count, step.h);
            }
        }
    }
}

struct CellStep<V> {
    gates: [V; 4],
    c: V,
    tanh_c: V,
    h: V,
}

/// The equations of a step, of a vector of units.
#[inline(always)]
fn cell_step<S: Simd>(simd: S, [i, f, g, o]: [S::V; 4], c_before: S::V) -> CellStep<S::V> {
    let (i, f, g, o) = (sigmoid(simd, i), sigmoid(simd, f), tanh(simd, g), sigmoid(simd, o));
    let c = simd.mul_add(f, c_before, simd.mul(i, g));
    let tanh_c = tanh(simd, c);
    CellStep { gates: [i, f, g, o], c, tanh_c, h: simd.mul(o, tanh_c) }
}

/// out `[rows, columns]` = left · panels, for a range of columns that begins with a whole vector. out begins at
/// the first of them; `panels` at column 0, from where panels are `width` wide.
#[inline(always)]
pub(crate) unsafe fn columns_of_rows<S: Simd>(
    simd: S,
    rows: usize,
    depth: usize,
    left: Left,
    panels: *const f32,
    columns: Range<usize>,
    width: usize,
    out: Out,
) {
    let mut first = columns.start;
    if rows <= FEW_ROWS && first % width == 0 {
        let whole = columns.len() / width;
        // SAFETY: whole panels, as the caller promises.
        unsafe {
            few_rows(simd, rows, depth, whole, left, panels.add(first / width * depth * width), out);
        }
        first += whole * width;
    }
    while first < columns.end {
        // A share may begin in the middle of a panel.
        let inside = first % width;
        let count = (width - inside).min(columns.end - first);
        // SAFETY: vectors inside the panel, as the caller promises; two of them only from its beginning.
        unsafe {
            let panel = panels.add(first / width * depth * width + inside);
            streamed(simd, rows, depth, count, left, panel, out.at(0, first - columns.start));
        }
        first += count;
    }
}

#[derive(Clone, Copy)]
struct BackwardArrays {
    gates: Shared,
    c: Shared,
    tanh_c: Shared,
    d_h: Shared,
    d_o: Option<Shared>,
    dh: Shared,
    dc: Shared,
    /// The gradients before and after a projection.
    projected: Option<(Shared, Shared)>,
}

struct BackwardTask<'a> {
    recurrence: &'a Recurrence<'a>,
    arrays: BackwardArrays,
    grid: Grid,
    member: &'a Member<'a>,
    part: usize,
}

impl Kernel for BackwardTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { recurrence, arrays, grid, member, part } = self;
        let rows = share(recurrence.batch, grid.rows, member.index / grid.units);
        let backward = Backward { recurrence, arrays: &arrays, rows };
        for n in (0..recurrence.steps).rev() {
            for phase in 0..Backward::PHASES {
                // SAFETY: members take different rows or different parts, and meet after every phase that others read.
                let shared = unsafe { backward.phase(simd, phase, n, grid.units, part) };
                if shared && grid.units > 1 {
                    member.meet();
                }
            }
        }
    }
}

/// Every part in one member.
struct BackwardAlone<'a> {
    recurrence: &'a Recurrence<'a>,
    arrays: BackwardArrays,
    units: usize,
    member: &'a Member<'a>,
}

impl Kernel for BackwardAlone<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { recurrence, arrays, units, member } = self;
        debug_assert_eq!(member.index, 0);
        let backward = Backward { recurrence, arrays: &arrays, rows: 0..recurrence.batch };
        for n in (0..recurrence.steps).rev() {
            for phase in 0..Backward::PHASES {
                for part in 0..units {
                    // SAFETY: nobody else is at work.
                    unsafe { backward.phase(simd, phase, n, units, part) };
                }
            }
        }
    }
}

/// A step backward in phases; after each, what its parts wrote may be read by all.
struct Backward<'a> {
    recurrence: &'a Recurrence<'a>,
    arrays: &'a BackwardArrays,
    rows: Range<usize>,
}

impl Backward<'_> {
    const PHASES: usize = 3;

    /// Runs one phase of the n-th step for one of `units` parts; gives whether other parts read what it wrote.
    #[inline(always)]
    unsafe fn phase<S: Simd>(&self, simd: S, phase: usize, n: usize, units: usize, part: usize) -> bool {
        let hidden = column_share(self.recurrence.hidden, units, part);
        let recurrent = column_share(self.recurrence.recurrent, units, part);
        // SAFETY: as the caller promises.
        unsafe {
            match (phase, self.arrays.projected) {
                (0, None) => false,
                (0, Some((_, d_projected))) => {
                    self.collect(simd, n, recurrent, d_projected);
                    true
                }
                (1, _) => {
                    if let Some((raw_gradient, d_projected)) = self.arrays.projected {
                        self.unproject(simd, n, units, part, hidden.clone(), d_projected, raw_gradient);
                    }
                    self.differentiate(simd, n, hidden);
                    true
                }
                _ => {
                    self.carry(simd, n, units, part, recurrent);
                    // The next step's phase 0 or 1 reads this part's own columns of dh alone.
                    false
                }
            }
        }
    }

    /// The gradient of the projected state: what is carried plus what comes from above.
    #[inline(always)]
    unsafe fn collect<S: Simd>(&self, simd: S, n: usize, columns: Range<usize>, total: Shared) {
        let (batch, recurrent) = (self.recurrence.batch, self.recurrence.recurrent);
        let (t, ..) = self.recurrence.step(n);
        for row in self.rows.clone() {
            let at = (t * batch + row) * recurrent;
            for first in columns.clone().step_by(S::LANES) {
                let count = S::LANES.min(columns.end - first);
                // SAFETY: inside the arrays, this part's columns.
                unsafe {
                    let sum = if self.recurrence.masked(t, row) {
                        simd.splat(0.0)
                    } else {
                        let carried = simd.load_first(self.arrays.dh.at(row * recurrent + first), count);
                        simd.add(carried, simd.load_first(self.arrays.d_h.at(at + first), count))
                    };
                    simd.store_first(total.at(at + first), count, sum);
                }
            }
        }
    }

    /// d_raw `[rows, H]` = d_projected `[rows, P]` · weight_hr, for this part's units.
    #[inline(always)]
    unsafe fn unproject<S: Simd>(
        &self,
        simd: S,
        n: usize,
        units: usize,
        part: usize,
        columns: Range<usize>,
        d_projected: Shared,
        raw_gradient: Shared,
    ) {
        let Recurrence { batch, hidden, recurrent, .. } = *self.recurrence;
        let (t, ..) = self.recurrence.step(n);
        let at = t * batch + self.rows.start;
        // SAFETY: inside the arrays, this part's columns.
        unsafe {
            let left = Left { data: d_projected.at(at * recurrent), row: recurrent, depth: 1 };
            let out = Out { data: raw_gradient.at(at * hidden + columns.start), row: hidden, from: From::Zero };
            let width = PANEL * S::LANES;
            let before = panels_before(hidden, units, part, width);
            let panels = self.recurrence.packed.projection.as_ptr().add(before * recurrent * width);
            columns_of_rows(simd, self.rows.len(), recurrent, left, panels, 0..columns.len(), width, out);
        }
    }

    /// The gradients of the gates' pre-activations, and of the previous cell state.
    #[inline(always)]
    unsafe fn differentiate<S: Simd>(&self, simd: S, n: usize, units: Range<usize>) {
        let (batch, hidden) = (self.recurrence.batch, self.recurrence.hidden);
        let (t, before, _) = self.recurrence.step(n);
        let cut = self.recurrence.cut(n);
        for row in self.rows.clone() {
            let at = t * batch + row;
            // SAFETY: inside the arrays, this part's units, for every access below.
            unsafe {
                let gates = self.arrays.gates.at(at * 4 * hidden);
                if self.recurrence.masked(t, row) {
                    (0..4).for_each(|gate| zero(gates.add(gate * hidden + units.start), units.len()));
                    continue;
                }
                let unit = UnitGradients {
                    gates,
                    c_before: self.arrays.c.at((before * batch + row) * hidden),
                    tanh_c: self.arrays.tanh_c.at(at * hidden),
                    dh: match self.arrays.projected {
                        Some((raw_gradient, _)) => [Some(raw_gradient.at(at * hidden).cast_const()), None],
                        None => {
                            let carried = self.arrays.dh.at(row * hidden).cast_const();
                            [Some(carried), Some(self.arrays.d_h.at(at * hidden).cast_const())]
                        }
                    },
                    d_o: self.arrays.d_o.map(|d_o| d_o.at(at * hidden).cast_const()),
                    dc: self.arrays.dc.at(row * hidden),
                    hidden,
                };
                let mut first = units.start;
                while first < units.end {
                    let count = S::LANES.min(units.end - first);
                    if count == S::LANES {
                        unit.differentiate(simd, first, WholeVector, cut);
                    } else {
                        unit.differentiate(simd, first, FirstLanes(count), cut);
                    }
                    first += count;
                }
            }
        }
    }

    /// dh `[rows, R]` = d_gates `[rows, 4H]` · weight_hh, for this part's columns.
    #[inline(always)]
    unsafe fn carry<S: Simd>(&self, simd: S, n: usize, units: usize, part: usize, columns: Range<usize>) {
        let Recurrence { batch, hidden, recurrent, .. } = *self.recurrence;
        let (t, ..) = self.recurrence.step(n);
        let masked = |row: usize| self.recurrence.masked(t, row);
        let cut = self.recurrence.cut(n);
        let width = PANEL * S::LANES;
        // SAFETY: inside the arrays, this part's columns, for every access below.
        unsafe {
            let dh = |row: usize| self.arrays.dh.at(row * recurrent + columns.start);
            let mut out = Out { data: dh(self.rows.start), row: recurrent, from: From::Zero };
            if self.recurrence.lengths.is_some() || cut {
                // A masked step hands its gradient on untouched: it is no step, so there is nothing to cut either. The
                // gradients of its gates are zero, so they may be added.
                self.rows.clone().filter(|row| !masked(*row)).for_each(|row| zero(dh(row), columns.len()));
                out.from = From::Out;
            }
            if !cut {
                let gates = self.arrays.gates.at((t * batch + self.rows.start) * 4 * hidden);
                let left = Left { data: gates, row: 4 * hidden, depth: 1 };
                let before = panels_before(recurrent, units, part, width);
                let panels = self.recurrence.packed.recurrent.as_ptr().add(before * 4 * hidden * width);
                columns_of_rows(simd, self.rows.len(), 4 * hidden, left, panels, 0..columns.len(), width, out);
            }
        }
    }
}

/// The panels before those of a part, when shares of columns are packed one after the other.
#[inline(always)]
fn panels_before(columns: usize, parts: usize, part: usize, width: usize) -> usize {
    (0..part).map(|part| column_share(columns, parts, part).len().div_ceil(width)).sum()
}

/// How many lanes of a vector are meant.
trait Lane: Copy {
    unsafe fn load<S: Simd>(self, simd: S, at: *const f32) -> S::V;
    unsafe fn store<S: Simd>(self, simd: S, at: *mut f32, value: S::V);
}

#[derive(Clone, Copy)]
struct WholeVector;

#[derive(Clone, Copy)]
struct FirstLanes(usize);

impl Lane for WholeVector {
    #[inline(always)]
    unsafe fn load<S: Simd>(self, simd: S, at: *const f32) -> S::V {
        // SAFETY: as the caller promises.
        unsafe { simd.load(at) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(self, simd: S, at: *mut f32, value: S::V) {
        // SAFETY: as the caller promises.
        unsafe { simd.store(at, value) }
    }
}

impl Lane for FirstLanes {
    #[inline(always)]
    unsafe fn load<S: Simd>(self, simd: S, at: *const f32) -> S::V {
        // SAFETY: as the caller promises.
        unsafe { simd.load_first(at, self.0) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(self, simd: S, at: *mut f32, value: S::V) {
        // SAFETY: as the caller promises.
        unsafe { simd.store_first(at, self.0, value) }
    }
}

/// Where the values of one row lie at one step, each `[H]` but the gates `[4H]`.
struct UnitGradients {
    gates: *mut f32,
    c_before: *const f32,
    tanh_c: *const f32,
    /// The gradient of `o ∘ tanh c`, in one part or two.
    dh: [Option<*const f32>; 2],
    d_o: Option<*const f32>,
    dc: *mut f32,
    hidden: usize,
}

impl UnitGradients {
    /// The gradients of the pre-activations of a vector of units, into the gates, and of the previous cell state.
    #[inline(always)]
    unsafe fn differentiate<S: Simd>(&self, simd: S, unit: usize, lanes: impl Lane, cut: bool) {
        let one = simd.splat(1.0);
        let read = |at: *const f32| {
            // SAFETY: as the caller promises.
            unsafe { lanes.load(simd, at.add(unit)) }
        };
        let gate = |gate: usize| read(self.gates.wrapping_add(gate * self.hidden));
        let (i, f, g, o) = (gate(0), gate(1), gate(2), gate(3));
        let tanh_c = read(self.tanh_c);
        let dh = match self.dh {
            [Some(a), Some(b)] => simd.add(read(a), read(b)),
            [Some(a), None] => read(a),
            _ => simd.splat(0.0),
        };
        let through_tanh = simd.neg_mul_add(tanh_c, tanh_c, one);
        let d_cell = simd.mul_add(simd.mul(dh, o), through_tanh, read(self.dc));
        let mut d_out = simd.mul(dh, tanh_c);
        if let Some(d_o) = self.d_o {
            d_out = simd.add(d_out, read(d_o));
        }
        // y' = y (1 - y) for the logistic function, 1 - y² for tanh.
        let logistic = |y: S::V| simd.neg_mul_add(y, y, y);
        let gradients = [
            simd.mul(simd.mul(d_cell, g), logistic(i)),
            simd.mul(simd.mul(d_cell, read(self.c_before)), logistic(f)),
            simd.mul(simd.mul(d_cell, i), simd.neg_mul_add(g, g, one)),
            simd.mul(d_out, logistic(o)),
        ];
        let d_before = if cut { simd.splat(0.0) } else { simd.mul(d_cell, f) };
        // SAFETY: as the caller promises.
        unsafe {
            for (gate, gradient) in gradients.into_iter().enumerate() {
                lanes.store(simd, self.gates.add(gate * self.hidden + unit), gradient);
            }
            lanes.store(simd, self.dc.add(unit), d_before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::tests::values;

    /// Teams of other sizes cut rows and units elsewhere; H is beyond one block of k in the backward product.
    #[test]
    fn the_same_bits_for_any_number_of_threads() {
        for (steps, batch, hidden, projection) in
            [(3, 6, 300, None), (2, 1, 40, None), (2, 50, 24, Some(10)), (2, 5, 129, Some(40))]
        {
            let recurrent = projection.unwrap_or(hidden);
            let (weight_hh, weight_hr) = (values(4 * hidden * recurrent, 1), values(recurrent * hidden, 2));
            let weight_hr = projection.map(|_| &weight_hr[..]);
            let weights = RecurrentWeights { weight_hh: &weight_hh, weight_hr, hidden, recurrent };
            let lengths: Vec<usize> = (0..batch).map(|row| 1 + row % steps).collect();
            let run = |threads| {
                crate::with_threads(threads, || {
                    let rows = steps * batch;
                    let mut packed = PackedRecurrence::default();
                    packed.pack_forward(weights);
                    let mut gates = values(rows * 4 * hidden, 3);
                    let (mut h, mut c) = (values((rows + batch) * recurrent, 4), values((rows + batch) * hidden, 5));
                    let (mut tanh_c, mut raw) = (vec![0.0; rows * hidden], vec![0.0; rows * hidden]);
                    if projection.is_none() {
                        raw.clear();
                    }
                    let recurrence = Recurrence {
                        steps,
                        batch,
                        hidden,
                        recurrent,
                        reverse: false,
                        lengths: Some(&lengths),
                        packed: &packed,
                        horizon: None,
                    };
                    recurrence.forward(&mut gates, &mut h, &mut c, &mut tanh_c, &mut raw);
                    let forward = (gates.clone(), h, c.clone(), raw.clone());
                    let mut packed = PackedRecurrence::default();
                    packed.pack_backward(weights, batch);
                    let (d_h, mut dh, mut dc) =
                        (values(rows * recurrent, 6), values(batch * recurrent, 7), values(batch * hidden, 8));
                    let mut d_projected = vec![0.0; if projection.is_some() { rows * recurrent } else { 0 }];
                    Recurrence { packed: &packed, ..recurrence }.backward(
                        &mut gates,
                        &c,
                        &tanh_c,
                        &d_h,
                        None,
                        &mut dh,
                        &mut dc,
                        &mut raw,
                        &mut d_projected,
                    );
                    (forward, gates, dh, dc, d_projected)
                })
            };
            let one = run(1);
            for threads in [2, 3, 5] {
                assert!(one == run(threads), "T {steps}, B {batch}, H {hidden}, P {projection:?}, {threads} threads");
            }
        }
    }

    #[test]
    fn blocks_cover_the_units_once() {
        for lanes in [4, 8, 16] {
            for hidden in 1..100 {
                let list: Vec<Block> = blocks(hidden, lanes).collect();
                let mut unit = 0;
                for block in &list {
                    assert_eq!(block.unit, unit);
                    unit += block.width;
                }
                assert!(unit >= hidden && unit < hidden + lanes.div_ceil(4), "{hidden} units in {list:?}");
                for parts in 1..5 {
                    let own: Vec<OwnBlocks> = (0..parts).map(|part| own_blocks(hidden, lanes, parts, part)).collect();
                    assert_eq!(own.iter().map(|own| own.count).sum::<usize>(), list.len());
                    assert_eq!(own.iter().map(|own| own.units.len()).sum::<usize>(), hidden);
                }
            }
        }
    }
}
