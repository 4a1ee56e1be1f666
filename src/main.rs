//! The program; everything is in the library, so that tests can use it.

fn main() -> std::process::ExitCode {
    couplet::cli::main()
}
