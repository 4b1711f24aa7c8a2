//! `had`.
fn main() {}
