//! AMX: registers of 16 rows of 64 bytes, and their products of bf16. By inline assembly, for the intrinsics are unstable.
//!
//! The bits are those of [`dot_of_tile`](super::words::dot_of_tile). Sums take four tiles, two of rows times two of columns; the two
//! others of each factor are loaded for every 32 values of k, so that four loads serve four products.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, __get_cpuid_max};
use std::cell::Cell;
use std::sync::OnceLock;

use super::words::{TILE_ROWS, TileProduct};

/// Whether the processor has tiles of bf16 and the system lets this process use them. Asked for once: threads inherit it.
pub(super) fn is_granted() -> bool {
    static GRANTED: OnceLock<bool> = OnceLock::new();
    *GRANTED.get_or_init(|| has_instructions() && permit())
}

/// The processor has the instructions, and the system saves their registers.
#[allow(unused_unsafe)]
fn has_instructions() -> bool {
    const BF16_AND_TILES: u32 = 1 << 22 | 1 << 24;
    const XGETBV: u32 = 1 << 27;
    const CONFIGURATION_AND_DATA: u32 = 1 << 17 | 1 << 18;
    // SAFETY: every processor of 64 bits has `cpuid`; leaves are asked for only where there are so many.
    let (has_leaves, has_xgetbv) = unsafe { (__get_cpuid_max(0).0 >= 0x1d, __cpuid(1).ecx & XGETBV != 0) };
    if !has_leaves || !has_xgetbv {
        return false;
    }
    // SAFETY: as above.
    let (features, palette) = unsafe { (__cpuid_count(7, 0).edx, __cpuid_count(0x1d, 1)) };
    let saved: u32;
    // SAFETY: the processor has the instruction.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") saved, out("edx") _, options(nostack, nomem)) };
    // Eight registers of at least 16 rows of 64 bytes.
    let is_large = palette.ebx & 0xffff >= 64 && palette.ebx >> 16 >= 8 && palette.ecx & 0xffff >= TILE_ROWS as u32;
    features & BF16_AND_TILES == BF16_AND_TILES && saved & CONFIGURATION_AND_DATA == CONFIGURATION_AND_DATA && is_large
}

/// Asks Linux for the registers' 8 KiB of state (since 5.16); other systems are not asked.
fn permit() -> bool {
    #[cfg(target_os = "linux")]
    {
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const TILE_DATA: libc::c_long = 18;
        // SAFETY: the request changes nothing but what this process may use.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    first_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Configuration {
    /// Sums in registers 0 to 3 (two of rows times two of columns), the left factor in 4 and 5, the panel in 6 and 7; of `first` and
    /// `second` rows.
    const fn new(first: u8, second: u8) -> Self {
        let mut row_bytes = [0; 16];
        let mut tile = 0;
        while tile < 8 {
            row_bytes[tile] = 64;
            tile += 1;
        }
        let rows = [first, first, second, second, first, second, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0];
        Self { palette: 1, first_row: 0, reserved: [0; 14], row_bytes, rows }
    }
}

thread_local! {
    /// The rows that the registers of this thread are configured for; 0 for none.
    static CONFIGURED: Cell<usize> = const { Cell::new(0) };
}

/// Configures the registers for so many rows, if they are not.
///
/// # Safety
/// The processor has tiles.
unsafe fn configure(rows: usize) {
    // A second register that is not used is whole, for one of no rows would be refused.
    let (first, second) = if rows <= TILE_ROWS { (rows, TILE_ROWS) } else { (TILE_ROWS, rows - TILE_ROWS) };
    let key = (TILE_ROWS + 1) * first + second;
    if CONFIGURED.get() != key {
        let configuration = Configuration::new(first as u8, second as u8);
        // SAFETY: as the caller promises; 64 bytes.
        unsafe { asm!("ldtilecfg [{0}]", in(reg) &configuration, options(nostack, readonly)) };
        CONFIGURED.set(key);
    }
}

/// Gives the registers back: their state would travel with every switch of threads.
///
/// # Safety
/// The processor has tiles.
pub(super) unsafe fn release() {
    if CONFIGURED.replace(0) != 0 {
        // SAFETY: as the caller promises.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Assembly that may change every register of tiles.
macro_rules! tile_asm {
    ($($argument:tt)*) => {
        asm!($($argument)*,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack))
    };
}

/// Computes a product of words of 16 lanes; the configuration stays until [`release`].
///
/// # Safety
/// The processor has tiles; the rest as [`TileProduct`] says.
#[inline(always)]
pub(super) unsafe fn multiply(product: TileProduct) {
    let TileProduct { rows, steps, vectors, left, panel, out, goes_on } = product;
    let goes_on = usize::from(goes_on);
    // Bytes from one row to the next; a step of the panel is 16 rows, one of the left factor two tiles of 1 KiB.
    let (left_row, panel_row, out_row) = (64_usize, 4 * panel.1, 4 * out.1);
    let step = TILE_ROWS * panel_row;
    let lower = out.0.wrapping_add(TILE_ROWS * out.1);
    // SAFETY: as the caller promises: rows are as many as the registers are configured for.
    unsafe {
        configure(rows);
        match (rows > TILE_ROWS, vectors) {
            (true, 2) => tile_asm!(
                "test {goes_on}, {goes_on}", "jnz 4f",
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", "jmp 5f",
                "4:", "tileloadd tmm0, [{c} + {c_row}]", "tileloadd tmm1, [{c} + {c_row} + 64]", "tileloadd tmm2, [{c_lower} + {c_row}]", "tileloadd tmm3, [{c_lower} + {c_row} + 64]",
                "5:",
                "test {n}, {n}", "jz 3f",
                "2:",
                "tileloadd tmm6, [{b} + {b_row}]",
                "tileloadd tmm4, [{a} + {a_row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {b_row} + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a} + {a_row} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 2048", "add {b}, {step}",
                "dec {n}", "jnz 2b",
                "3:",
                "tilestored [{c} + {c_row}], tmm0", "tilestored [{c} + {c_row} + 64], tmm1",
                "tilestored [{c_lower} + {c_row}], tmm2", "tilestored [{c_lower} + {c_row} + 64], tmm3",
                n = inout(reg) steps => _, a = inout(reg) left => _,
                b = inout(reg) panel.0 => _, a_row = in(reg) left_row, b_row = in(reg) panel_row, step = in(reg) step,
                c = in(reg) out.0, c_lower = in(reg) lower, c_row = in(reg) out_row, goes_on = in(reg) goes_on
            ),
            (true, _) => tile_asm!(
                "test {goes_on}, {goes_on}", "jnz 4f",
                "tilezero tmm0", "tilezero tmm2", "jmp 5f",
                "4:", "tileloadd tmm0, [{c} + {c_row}]", "tileloadd tmm2, [{c_lower} + {c_row}]",
                "5:",
                "test {n}, {n}", "jz 3f",
                "2:",
                "tileloadd tmm6, [{b} + {b_row}]",
                "tileloadd tmm4, [{a} + {a_row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{a} + {a_row} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "add {a}, 2048", "add {b}, {step}",
                "dec {n}", "jnz 2b",
                "3:",
                "tilestored [{c} + {c_row}], tmm0", "tilestored [{c_lower} + {c_row}], tmm2",
                n = inout(reg) steps => _, a = inout(reg) left => _,
                b = inout(reg) panel.0 => _, a_row = in(reg) left_row, b_row = in(reg) panel_row, step = in(reg) step,
                c = in(reg) out.0, c_lower = in(reg) lower, c_row = in(reg) out_row, goes_on = in(reg) goes_on
            ),
            (false, 2) => tile_asm!(
                "test {goes_on}, {goes_on}", "jnz 4f",
                "tilezero tmm0", "tilezero tmm1", "jmp 5f",
                "4:", "tileloadd tmm0, [{c} + {c_row}]", "tileloadd tmm1, [{c} + {c_row} + 64]",
                "5:",
                "test {n}, {n}", "jz 3f",
                "2:",
                "tileloadd tmm4, [{a} + {a_row}]",
                "tileloadd tmm6, [{b} + {b_row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {b_row} + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "add {a}, 2048", "add {b}, {step}",
                "dec {n}", "jnz 2b",
                "3:",
                "tilestored [{c} + {c_row}], tmm0", "tilestored [{c} + {c_row} + 64], tmm1",
                n = inout(reg) steps => _, a = inout(reg) left => _, b = inout(reg) panel.0 => _,
                a_row = in(reg) left_row, b_row = in(reg) panel_row, step = in(reg) step,
                c = in(reg) out.0, c_row = in(reg) out_row, goes_on = in(reg) goes_on
            ),
            _ => tile_asm!(
                "test {goes_on}, {goes_on}", "jnz 4f",
                "tilezero tmm0", "jmp 5f",
                "4:", "tileloadd tmm0, [{c} + {c_row}]",
                "5:",
                "test {n}, {n}", "jz 3f",
                "2:",
                "tileloadd tmm4, [{a} + {a_row}]",
                "tileloadd tmm6, [{b} + {b_row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "add {a}, 2048", "add {b}, {step}",
                "dec {n}", "jnz 2b",
                "3:",
                "tilestored [{c} + {c_row}], tmm0",
                n = inout(reg) steps => _, a = inout(reg) left => _, b = inout(reg) panel.0 => _,
                a_row = in(reg) left_row, b_row = in(reg) panel_row, step = in(reg) step,
                c = in(reg) out.0, c_row = in(reg) out_row, goes_on = in(reg) goes_on
            ),
        }
    }
}

/// `rounds` of four products of whole registers that do not wait for each other; gives the multiply-adds of a round.
///
/// # Safety
/// The processor has tiles.
pub(super) unsafe fn chain(rounds: usize) -> usize {
    // SAFETY: as the caller promises.
    unsafe {
        configure(2 * TILE_ROWS);
        tile_asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
            "test {n}, {n}", "jz 3f",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {n}", "jnz 2b",
            "3:",
            n = inout(reg) rounds => _
        );
    }
    4 * TILE_ROWS * TILE_ROWS * 32
}
