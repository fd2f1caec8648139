//! The `lstm` command.
fn main() {}
