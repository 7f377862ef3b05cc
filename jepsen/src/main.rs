//! The program `jepsen`; what it does is in the library beside it.

fn main() {}
