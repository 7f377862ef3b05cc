//! The `leasehold` program; everything is in the library.

fn main() -> std::process::ExitCode {
    node::program::main()
}
