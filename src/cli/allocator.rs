//! Sets the allocator up for a small container. jemalloc reads its settings only when the program starts, so the
//! program starts itself again, in the same process. The settings of the build are in `.cargo/config.toml`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::config::container;

/// The variable that jemalloc reads. If the user has set it, it is not changed.
const VARIABLE: &str = "_RJEM_MALLOC_CONF";

/// The settings apply below this many bytes of memory. jemalloc keeps freed memory for a second, which is too much
/// there: with 64 MB, requests within the memory budget could get the server killed (docs/size.md, "The allocator").
const SMALL: u64 = 192 << 20;

/// Returns freed blocks of 1 MiB and more to the system at once. This makes models with large tensors up to 1.4 times
/// slower.
const SETTINGS: &str = "oversize_threshold:1048576";

/// Starts the program again with [`SETTINGS`] if memory is small and the variable is not set. Then it does not return.
/// On an error it prints the error and returns, and the program runs with the settings of the build.
pub fn settle() {
    if container::memory() >= SMALL || std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| program.clone().into());
    // `exec` returns only on an error.
    let error = Command::new(&program).arg0(name).args(arguments).env(VARIABLE, SETTINGS).exec();
    eprintln!("onnxd: {} cannot be started with {VARIABLE}={SETTINGS}: {error}", program.display());
}
