//! Settings of jemalloc, the program's allocator, that apply to one thread. What belongs here: calls of its control
//! interface, which are unsafe. What does not: the settings of the build, which are in `.cargo/config.toml`.
//!
//! In a program with another allocator, such as a test, these calls change a jemalloc that nobody uses.

use std::ffi::CStr;
use std::io;
use std::ptr::null_mut;

use tikv_jemalloc_sys::mallctl;

/// Whether the calling thread has caches of freed memory.
const CACHES: &CStr = c"thread.tcache.enabled";

/// Gives the calling thread caches of freed memory, which the build turns off for all threads. With them, most
/// allocations need no lock. They can keep some MiB, so they are not for threads of which there may be thousands.
///
/// Errors: jemalloc has no memory for the caches, or was built without them.
pub fn cache_on_this_thread() -> io::Result<()> {
    let mut is_on = true;
    // SAFETY: the name ends with a zero byte. jemalloc's manual gives the setting the type `bool`, which is what the fourth
    // argument points to and the fifth one has the size of. jemalloc reads it before it returns. It writes nothing,
    // because the second and the third argument are null.
    let status = unsafe {
        mallctl(CACHES.as_ptr(), null_mut(), null_mut(), (&raw mut is_on).cast(), size_of::<bool>())
    };
    match status {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_cached() -> bool {
        let mut is_on = false;
        let mut size = size_of::<bool>();
        // SAFETY: as above, but jemalloc writes the value, which is initialised and not longer than `size` says.
        let status =
            unsafe { mallctl(CACHES.as_ptr(), (&raw mut is_on).cast(), &raw mut size, null_mut(), 0) };
        assert_eq!(status, 0);
        is_on
    }

    #[test]
    fn only_the_thread_that_asks_has_caches() {
        assert!(!is_cached(), "the build turns them off for all threads");
        std::thread::spawn(|| {
            cache_on_this_thread().unwrap();
            assert!(is_cached());
        })
        .join()
        .unwrap();
        assert!(!is_cached());
        std::thread::spawn(|| assert!(!is_cached())).join().unwrap();
    }
}
