//! The allocator's settings in a small container. jemalloc reads them when the program begins, so the program begins once
//! more, as the same process.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::config::container;

/// What jemalloc reads. A user's own settings are left as they are.
const VARIABLE: &str = "_RJEM_MALLOC_CONF";

/// Below so many bytes of memory, what jemalloc keeps for a second is too much: in 64 MB clients could get the server
/// killed, although their requests were within the budget (docs/size.md, "The allocator").
const SMALL: u64 = 192 << 20;

/// Blocks of 1 MiB and more go back to the system at once. It makes models with large tensors up to 1.4 times slower.
const SETTINGS: &str = "oversize_threshold:1048576";

/// Begins anew with other settings, where they are needed and not there yet.
pub fn settle() {
    if container::memory() >= SMALL || std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| program.clone().into());
    // It comes back only with an error.
    let error = Command::new(&program).arg0(name).args(arguments).env(VARIABLE, SETTINGS).exec();
    eprintln!("onnxd: {} cannot be started with {VARIABLE}={SETTINGS}: {error}", program.display());
}
