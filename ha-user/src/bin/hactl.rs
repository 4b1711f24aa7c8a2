//! `hactl`.
fn main() {}
