//! The program: everything is in the library.
#![forbid(unsafe_code)]

// musl's own takes one lock for all threads, and models of convolutions allocate for each operator.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    onnxd::cli::run()
}
