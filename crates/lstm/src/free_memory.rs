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
