//! oxy
fn main() {}
