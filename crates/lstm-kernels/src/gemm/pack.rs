//! Packing: the right factor of a product into panels, the left one into tiles where it lies across.

use std::ops::Range;

use crate::gemm::arithmetic::Format;
use crate::gemm::matrix::Source;
use crate::gemm::tile::{PANEL, tile_rows};
use crate::gemm::words::word_panel;
use crate::memory::Aligned;
use crate::simd::{Kernel, Simd, dispatch, dispatch_pairs, lanes};
use crate::team;
use crate::team::chunks::share;
use crate::team::shared::Shared;

/// A right factor that was packed once, in panels `[panel][k][PANEL · lanes]`: the one place that knows where its values lie.
#[derive(Clone, Copy)]
pub(crate) struct Panels {
    data: *const f32,
    depth: usize,
}

impl Panels {
    /// Panels of `depth` rows.
    #[inline(always)]
    pub(crate) fn new(packed: &Aligned, depth: usize) -> Self {
        Self { data: packed.as_ptr(), depth }
    }

    /// K.
    #[inline(always)]
    pub(crate) fn depth(self) -> usize {
        self.depth
    }

    /// The values of a panel.
    #[inline(always)]
    pub(crate) fn stride<S: Simd>(self, _: S) -> usize {
        self.depth * PANEL * S::LANES
    }

    /// Where row `k` of panel `index` begins.
    #[inline(always)]
    pub(crate) fn row<S: Simd>(self, simd: S, index: usize, k: usize) -> *const f32 {
        self.data.wrapping_add(index * self.stride(simd) + k * PANEL * S::LANES)
    }

    /// Those from panel `index` on.
    #[inline(always)]
    pub(crate) fn skip<S: Simd>(self, simd: S, index: usize) -> Self {
        Self { data: self.row(simd, index, 0), ..self }
    }
}

/// Packs rows `ks` and columns `columns` of `source`, one of whose strides is 1, as one panel `[k][PANEL · lanes]`, zero past the columns.
///
/// # Safety
/// `source` is readable there; `panel` is writable for `ks.len()` rows of a panel; `columns` fit a panel.
#[inline(always)]
pub(crate) unsafe fn pack_panel<S: Simd>(
    simd: S,
    source: Source,
    ks: Range<usize>,
    columns: Range<usize>,
    panel: *mut f32,
) {
    let source = source.at(ks.start, columns.start);
    // A call: inlined where `ks` is computed, the compiler divides for its bounds at every vector.
    simd.call(Panel { source, depth: ks.len(), columns: columns.len(), panel });
}

/// A panel to pack: the first `depth` rows and `columns` columns of `source`.
struct Panel {
    source: Source,
    depth: usize,
    columns: usize,
    panel: *mut f32,
}

impl Kernel for Panel {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { source, depth, columns, panel } = self;
        let width = PANEL * S::LANES;
        if source.column == 1 && columns == width {
            let (mut from, mut to) = (source.data, panel);
            for _ in 0..depth {
                for v in 0..PANEL {
                    // SAFETY: as the caller of `pack_panel` promises.
                    unsafe { simd.store(to.add(v * S::LANES), simd.load(from.add(v * S::LANES))) };
                }
                (from, to) = (from.wrapping_add(source.row), to.wrapping_add(width));
            }
            return;
        }
        for (v, first) in (0..width).step_by(S::LANES).enumerate() {
            let count = columns.saturating_sub(first).min(S::LANES);
            let source = Source { data: source.data.wrapping_add(first * source.column), ..source };
            let panel = panel.wrapping_add(v * S::LANES);
            // SAFETY: as the caller of `pack_panel` promises.
            unsafe { pack_vectors(simd, source, 0..depth, count, panel, width) };
        }
    }
}

/// Packs `count` columns of `source`, at most a vector of them, as vectors `stride` apart: `to[k · stride + column]`,
/// zero in the lanes past `count`.
///
/// # Safety
/// As for [`pack_panel`].
#[inline(always)]
pub(crate) unsafe fn pack_vectors<S: Simd>(
    simd: S,
    source: Source,
    ks: Range<usize>,
    count: usize,
    to: *mut f32,
    stride: usize,
) {
    let depth = ks.len();
    let from = source.data.wrapping_add(ks.start * source.row);
    // SAFETY: as the caller promises, for every access below.
    unsafe {
        if count == 0 {
            (0..depth).for_each(|k| simd.store(to.add(k * stride), simd.splat(0.0)));
        } else if source.column == 1 && count == S::LANES {
            for k in 0..depth {
                simd.store(to.add(k * stride), simd.load(from.add(k * source.row)));
            }
        } else if source.column == 1 {
            for k in 0..depth {
                simd.store(to.add(k * stride), simd.load_first(from.add(k * source.row), count));
            }
        } else {
            // Along k: whole squares are transposed in registers.
            let whole = if count == S::LANES { depth - depth % S::LANES } else { 0 };
            for k in (0..whole).step_by(S::LANES) {
                simd.transpose(from.add(k * source.row), source.column, to.add(k * stride), stride);
            }
            for k in whole..depth {
                for lane in 0..S::LANES {
                    let value = if lane < count { *from.add(k * source.row + lane * source.column) } else { 0.0 };
                    *to.add(k * stride + lane) = value;
                }
            }
        }
    }
}

/// Packs `rows` rows of a left factor that is contiguous along its rows' direction: for each of its tiles
/// `[k][rows of the tile]`. The value at (r, k) is `from[r + k · stride]`.
///
/// # Safety
/// `from` is readable there, `to` writable for `rows · depth` values.
#[inline(always)]
pub(crate) unsafe fn pack_tiles<S: Simd>(
    simd: S,
    from: *const f32,
    stride: usize,
    rows: usize,
    depth: usize,
    to: *mut f32,
) {
    // A few k together: each is a stretch of memory of its own, which is read from its beginning to its end, and their
    // values fill whole cache lines of a tile.
    const TOGETHER: usize = 4;
    for k in (0..depth).step_by(TOGETHER) {
        let ks = k..depth.min(k + TOGETHER);
        let mut first = 0;
        while first < rows {
            let tile = tile_rows(rows - first, S::TILE_ROWS);
            for k in ks.clone() {
                let to = to.wrapping_add(first * depth + k * tile);
                let mut lane = 0;
                while lane < tile {
                    let at = first + lane;
                    // SAFETY: rows below `rows` are read. What a whole vector writes past its k is written again by
                    // the k after it; it never reaches past the tile.
                    unsafe {
                        let value = simd.load_first(from.wrapping_add(at + k * stride), (rows - at).min(S::LANES));
                        if (k * tile + lane) + S::LANES <= depth * tile {
                            simd.store(to.add(lane), value);
                        } else {
                            simd.store_first(to.add(lane), tile - lane, value);
                        }
                    }
                    lane += S::LANES;
                }
            }
            first += tile;
        }
    }
}

/// The columns that the `part`-th of `parts` members owns: whole vectors, but for the last.
pub(crate) fn column_share(columns: usize, parts: usize, part: usize) -> Range<usize> {
    let lanes = lanes();
    let vectors = share(columns.div_ceil(lanes), parts, part);
    columns.min(vectors.start * lanes)..columns.min(vectors.end * lanes)
}

/// The panels before those of a part, when shares of columns are packed one after the other.
#[inline(always)]
pub(crate) fn panels_before(columns: usize, parts: usize, part: usize, width: usize) -> usize {
    (0..part).map(|part| column_share(columns, parts, part).len().div_ceil(width)).sum()
}

/// The values whose packing is worth a thread: some microseconds of one core, as it takes to wake another.
pub(crate) const WORTH_A_THREAD: usize = 1 << 15;

/// Packs `[depth, columns]` in panels of a format, `parts` shares of the columns one after the other, each from a panel of its own.
pub(crate) fn pack_columns(
    packed: &mut Aligned,
    format: Format,
    source: Source,
    (depth, columns): (usize, usize),
    parts: usize,
) {
    let width = PANEL * lanes();
    let all: usize = (0..parts).map(|part| column_share(columns, parts, part).len().div_ceil(width)).sum();
    let len = format.len(depth) * width;
    packed.resize(all * len);
    let shared = Shared::new(packed);
    team::for_each_on(depth * columns / WORTH_A_THREAD, all, |panel| {
        let mut before = 0;
        for part in 0..parts {
            let own = column_share(columns, parts, part);
            let count = own.len().div_ceil(width);
            if panel < before + count {
                let first = own.start + (panel - before) * width;
                let columns = first..own.end.min(first + width);
                // SAFETY: a panel has room for `depth` rows; each is one task's.
                let panel = unsafe { shared.at(panel * len) };
                let panel = PackPanel { format, source, depth, columns, panel };
                return match format {
                    Format::Values => dispatch(panel),
                    Format::Words(_) => dispatch_pairs(panel),
                };
            }
            before += count;
        }
    });
}

struct PackPanel {
    format: Format,
    source: Source,
    depth: usize,
    columns: Range<usize>,
    panel: *mut f32,
}

impl Kernel for PackPanel {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { format, source, depth, columns, panel } = self;
        // SAFETY: as whoever made it promised.
        unsafe {
            match format {
                Format::Values => pack_panel(simd, source, 0..depth, columns, panel),
                Format::Words(words) => word_panel(simd, words, source, 0..depth, columns, panel),
            }
        }
    }
}
