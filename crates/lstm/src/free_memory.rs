//! How much memory texts and models can be given.

use sysinfo::System;

/// The bytes of memory that this process can take, where the system says so: what the machine has left, within what the
/// container that it runs in may hold.
pub(crate) fn free_memory() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory();
    let of_machine = Some(system.available_memory()).filter(|_| system.total_memory() > 0);
    // Of what a container holds, files that the system keeps in memory give way; what its programs hold does not.
    let of_container = system.cgroup_limits().map(|limits| limits.total_memory.saturating_sub(limits.rss));
    [of_machine, of_container].into_iter().flatten().min()
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
    }
}
