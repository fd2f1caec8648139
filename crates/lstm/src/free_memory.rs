//! How much memory texts and models can be given, and the one check of what is asked for.

use sysinfo::System;

use crate::setting::ConfigError;

/// The bytes of memory that this process can take, where the system says so: what the machine has left, within what the
/// container that it runs in may hold.
pub(crate) fn free_memory() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory();
    // `sysinfo` reads /proc, and its limits of a container are an assertion that it could.
    if system.total_memory() == 0 {
        return without_proc();
    }
    // Of what a container holds, files that the system keeps in memory give way; what its programs hold does not.
    let of_container = system.cgroup_limits().map(|limits| limits.total_memory.saturating_sub(limits.rss));
    [Some(system.available_memory()), of_container].into_iter().flatten().min()
}

/// What the kernel itself says to a process that sees no /proc: free memory without what caches would give back.
#[cfg(target_os = "linux")]
fn without_proc() -> Option<u64> {
    let info = rustix::system::sysinfo();
    Some((info.freeram as u64).saturating_mul(info.mem_unit.into()))
}

#[cfg(not(target_os = "linux"))]
fn without_proc() -> Option<u64> {
    None
}

/// Refuses what needs more than the free memory: `what` needs `bytes`; `smaller` names the settings that make it smaller.
/// Where the system does not say how much is free, what no address space holds is refused.
///
/// # Errors
/// A sentence with both numbers.
pub(crate) fn check_memory(what: impl FnOnce() -> String, bytes: u128, smaller: &str) -> Result<(), ConfigError> {
    let free = free_memory().unwrap_or(isize::MAX as u64);
    if bytes <= u128::from(free) {
        return Ok(());
    }
    Err(ConfigError::Conflict(format!(
        "{} needs {} of memory, but {} are free; choose a smaller {smaller}",
        what(),
        size(bytes),
        size(free.into())
    )))
}

/// Bytes as people say them.
pub(crate) fn size(bytes: u128) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 1e6 { format!("{value:.1} {}", units[unit]) } else { format!("{value:.1e} {}", units[unit]) }
}

/// A product of sizes that does not wrap round.
pub(crate) fn times(sizes: &[usize]) -> u128 {
    sizes.iter().fold(1, |product: u128, &size| product.saturating_mul(size as u128))
}

/// A sum that does not wrap round.
pub(crate) fn sum(values: impl IntoIterator<Item = u128>) -> u128 {
    values.into_iter().fold(0, u128::saturating_add)
}

/// The bytes of arrays of floats of these sizes, each the product of three, together; at most `usize::MAX`.
pub(crate) fn bytes_of(arrays: &[[usize; 3]]) -> usize {
    let sizes = arrays.iter().map(|sizes| sizes.iter().fold(size_of::<f32>(), |all, size| all.saturating_mul(*size)));
    sizes.fold(0, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_memory_is_free_and_not_more_than_there_is() {
        let mut system = System::new();
        system.refresh_memory();
        let free = free_memory().expect("systems that tests run on tell");
        assert!(free > 1 << 20 && free <= system.total_memory(), "{free} of {}", system.total_memory());
        #[cfg(target_os = "linux")]
        assert!(without_proc().is_some_and(|free| free > 0 && free <= system.total_memory()));
    }

    #[test]
    fn sizes_beyond_counting_are_refused_and_small_ones_not() {
        let check = |bytes| check_memory(|| "this".to_owned(), bytes, "`that`");
        assert_eq!(check(1024), Ok(()));
        for bytes in [1 << 62, times(&[usize::MAX; 3]), sum([u128::MAX, 1])] {
            let error = check(bytes).unwrap_err().to_string();
            assert!(error.contains("this needs") && error.contains("choose a smaller `that`"), "{error}");
        }
        assert_eq!([1536, 3 << 40, 1 << 100].map(size), ["1.5 KiB", "3.0 TiB", "1.2e18 TiB"].map(str::to_owned));
    }
}
