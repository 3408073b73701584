//! The program: everything is in the library.
#![forbid(unsafe_code)]

// Cargo.toml says why; its settings are in .cargo/config.toml.
#[global_allocator]
static ALLOCATOR: onnxd_allocator::Allocator = onnxd_allocator::Allocator;

fn main() -> std::process::ExitCode {
    onnxd::cli::run()
}
