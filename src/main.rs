//! The `trajformer` command.
fn main() {}
