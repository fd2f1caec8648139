//! Tiles on a processor that has none, for tests: the instructions trap, and are computed here from the bytes of the program. So the
//! assembly is proven wherever there is AVX512-BF16: its operands, strides and configurations, and that it gives its registers back.
//! Shapes that the processor would refuse are refused here.

use std::cell::RefCell;
use std::sync::Once;

use super::isa::Isa;
use super::words::{TILE_WORDS, dot_of_tile};
use super::x86::{Avx512, TILES};

/// The registers of a thread.
#[derive(Default)]
struct Tiles {
    /// The rows of each and the bytes of a row, while there is a configuration.
    shapes: Option<[(usize, usize); 8]>,
    rows: [[[f32; 16]; 16]; 8],
}

thread_local! {
    static REGISTERS: RefCell<Tiles> = RefCell::default();
}

/// AVX-512 with tiles that trap, where the processor has the first and not the second.
pub(crate) fn trapped() -> Option<Isa> {
    if Avx512::<TILES>::detect().is_some() {
        return None;
    }
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: the handler is a function of that shape, and what it does not know ends the process as before.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_illegal_instruction as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
            assert_eq!(libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()), 0);
        }
    });
    // SAFETY: the rest is detected, and tiles trap.
    unsafe { Avx512::<TILES>::assume() }.map(Isa::Amx)
}

/// Whether this thread holds registers.
pub(crate) fn holds_tiles() -> bool {
    REGISTERS.with_borrow(|tiles| tiles.shapes.is_some())
}

unsafe extern "C" fn on_illegal_instruction(signal: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system gives the context of the instruction; what cannot be computed is not returned from.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let at = registers[libc::REG_RIP as usize] as *const u8;
        match REGISTERS.with_borrow_mut(|tiles| tiles.execute(at, registers)) {
            Some(length) => registers[libc::REG_RIP as usize] += length as i64,
            None => {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}

/// The general registers by their numbers.
const NUMBERED: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

impl Tiles {
    /// Executes the instruction at `at`, and gives its length; `None` if it is another one, or one that is refused.
    unsafe fn execute(&mut self, at: *const u8, registers: &[i64; 23]) -> Option<usize> {
        // SAFETY: an instruction of this program, and the memory that it names.
        unsafe {
            let byte = |i: usize| usize::from(*at.add(i));
            // Three bytes of VEX, of the map 0F 38, 128 bits.
            if byte(0) != 0xc4 || byte(1) & 0x1f != 2 || byte(2) & 0x84 != 0 {
                return None;
            }
            let (vvvv, prefix, opcode, modrm) = (!byte(2) >> 3 & 15, byte(2) & 3, byte(3), byte(4));
            let (mode, reg, rm) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
            if mode == 3 {
                match (opcode, prefix) {
                    (0x49, 0) => self.shapes = None,
                    (0x49, 3) => {
                        self.shapes?;
                        self.rows[reg] = Default::default();
                    }
                    (0x5c, 2) => self.multiply(reg, rm, vvvv)?,
                    _ => return None,
                }
                return Some(5);
            }
            let value = |number: usize| registers[NUMBERED[number] as usize] as usize;
            let (x, b) = ((!byte(1) >> 6 & 1) << 3, (!byte(1) >> 5 & 1) << 3);
            let (base, stride, mut length) = match rm {
                4 => {
                    let sib = byte(5);
                    let index = sib >> 3 & 7 | x;
                    (sib & 7 | b, if index == 4 { 0 } else { value(index) << (sib >> 6) }, 6)
                }
                _ => (rm | b, 0, 5),
            };
            let displacement = match mode {
                0 if base & 7 == 5 => return None,
                0 => 0,
                1 => {
                    length += 1;
                    isize::from(*at.add(length - 1).cast::<i8>())
                }
                _ => {
                    length += 4;
                    at.add(length - 4).cast::<i32>().read_unaligned() as isize
                }
            };
            let memory = (value(base) as *mut u8).offset(displacement);
            match (opcode, prefix) {
                (0x49, 0) => {
                    let config = *memory.cast::<[u8; 64]>();
                    let is_valid = config[0] == 1 && config[1..16].iter().chain(&config[56..]).all(|byte| *byte == 0);
                    let shapes = std::array::from_fn(|t| {
                        (
                            usize::from(config[48 + t]),
                            usize::from(u16::from_le_bytes([config[16 + 2 * t], config[17 + 2 * t]])),
                        )
                    });
                    if !is_valid
                        || shapes.iter().any(|(rows, bytes)| !(1..=16).contains(rows) || !(4..=64).contains(bytes))
                    {
                        return None;
                    }
                    self.shapes = Some(shapes);
                    self.rows = Default::default();
                }
                (0x4b, 2 | 3) => {
                    let (rows, bytes) = self.shapes?[reg];
                    for row in 0..rows {
                        let (at, values) = (memory.add(row * stride).cast::<f32>(), self.rows[reg][row].as_mut_ptr());
                        match prefix {
                            2 => std::ptr::copy_nonoverlapping(values, at, bytes / 4),
                            _ => std::ptr::copy_nonoverlapping(at, values, bytes / 4),
                        }
                    }
                }
                _ => return None,
            }
            Some(length)
        }
    }

    /// `tdpbf16ps`.
    fn multiply(&mut self, sums: usize, left: usize, right: usize) -> Option<()> {
        let shapes = self.shapes?;
        let ((rows, bytes), (left_rows, left_bytes), (right_rows, right_bytes)) =
            (shapes[sums], shapes[left], shapes[right]);
        if rows != left_rows || bytes != right_bytes || left_bytes / 4 != right_rows || right_rows != TILE_WORDS {
            return None;
        }
        for row in 0..rows {
            for column in 0..bytes / 4 {
                let words = std::array::from_fn(|k| (self.rows[left][row][k], self.rows[right][k][column]));
                self.rows[sums][row][column] = dot_of_tile(words, self.rows[sums][row][column]);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Kernel, Simd, TileProduct};
    use crate::testing::values;

    #[derive(Clone, Copy)]
    struct Multiply(TileProduct);

    impl Kernel for Multiply {
        type Output = usize;

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> usize {
            // SAFETY: as whoever made it promised.
            unsafe { simd.multiply_tiles(self.0) };
            S::LANES
        }
    }

    struct Chain;

    impl Kernel for Chain {
        type Output = usize;

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> usize {
            simd.chain_tiles(3)
        }
    }

    /// Where the processor has tiles, the instructions themselves; else as they trap.
    #[test]
    fn the_instructions_compute_their_definition_and_touch_nothing_else() {
        let with_tiles = crate::simd::available().into_iter().find(|isa| isa.has_tiles());
        let Some(isa) = with_tiles.or_else(trapped) else { return };
        let random = |len: usize, seed| -> Vec<f32> {
            // Words of two numbers of a moderate size.
            let halves = values(2 * len, seed);
            halves.chunks_exact(2).map(|two| crate::simd::word(two[0], two[1])).collect()
        };
        let (panel_row, out_row) = (32, 37);
        let shapes =
            [(1, 1, 1), (16, 2, 1), (3, 5, 2), (16, 1, 2), (17, 3, 1), (32, 2, 2), (20, 5, 2), (31, 4, 2), (7, 0, 2)];
        for ((rows, steps, vectors), goes_on) in shapes.into_iter().flat_map(|shape| [(shape, false), (shape, true)]) {
            let (left, panel) = (random(steps.max(1) * 32 * 16, 1), random(steps.max(1) * 16 * panel_row, 2));
            let run = |isa: Isa| {
                let mut out = vec![7.0; rows * out_row];
                let product = TileProduct {
                    rows,
                    steps,
                    vectors,
                    left: left.as_ptr(),
                    panel: (panel.as_ptr(), panel_row),
                    out: (out.as_mut_ptr(), out_row),
                    goes_on,
                };
                assert_eq!(isa.run_tiles(Multiply(product)), 16);
                out
            };
            let expected = {
                let mut out = vec![7.0; rows * out_row];
                let (left, panel) = (left.as_ptr(), (panel.as_ptr(), panel_row));
                let product =
                    TileProduct { rows, steps, vectors, left, panel, out: (out.as_mut_ptr(), out_row), goes_on };
                // SAFETY: the buffers hold these rows.
                unsafe { product.by_definition(16) };
                out
            };
            assert_eq!(run(isa), expected, "{rows} rows, {steps} steps, {vectors} vectors");
            assert!(!holds_tiles(), "registers were given back");
        }
        assert_eq!(isa.run_tiles(Chain), 4 * 16 * 16 * 32);
    }
}
