//! jemalloc, the program's allocator: how it makes zeros, and its settings that apply to one thread. What belongs here: calls
//! of it that are unsafe. What does not: the settings of the build, which are in `.cargo/config.toml`.
//!
//! In a program with another allocator, such as a test, the settings change a jemalloc that nobody uses.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::CStr;
use std::io;
use std::ptr::null_mut;

use tikv_jemalloc_sys::mallctl;
use tikv_jemallocator::Jemalloc;

/// jemalloc, with another way to make blocks of zeros.
///
/// jemalloc makes a block of 16 KiB or more zero by giving its pages back to the system, which hands out new ones when they are
/// used: a page fault for each 4 KiB, in each run of a model. Writing the zeros takes a small part of that time. Blocks
/// above 4 MiB are made in jemalloc's way, because often only a part of them is used.
#[derive(Debug)]
pub struct Allocator;

/// The largest block whose zeros are written.
const WRITTEN: usize = 4 << 20;

// SAFETY: all blocks come from jemalloc and go back to it, with the layout that the caller gave.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { Jemalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { Jemalloc.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > WRITTEN {
            // SAFETY: the caller's promise.
            return unsafe { Jemalloc.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise. A block that is not null has the size of its layout.
        unsafe {
            let block = Jemalloc.alloc(layout);
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { Jemalloc.realloc(block, layout, size) }
    }
}

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
    fn blocks_of_zeros_are_zero_also_where_there_was_something_else() {
        for size in [1, 100, 16 << 10, 100_000, WRITTEN, WRITTEN + 1] {
            for align in [1, 64, 4096] {
                let layout = Layout::from_size_align(size, align).unwrap();
                for _ in 0..3 {
                    // SAFETY: the layout has a size, and the block is given back once, after its last use.
                    unsafe {
                        let block = Allocator.alloc_zeroed(layout);
                        assert!(!block.is_null() && block.addr().is_multiple_of(align));
                        let numbers = std::slice::from_raw_parts_mut(block, size);
                        assert!(numbers.iter().all(|number| *number == 0), "{size} {align}");
                        numbers.fill(7);
                        Allocator.dealloc(block, layout);
                    }
                }
            }
        }
    }

    #[test]
    fn a_block_keeps_its_numbers_when_it_grows() {
        let layout = Layout::from_size_align(1000, 8).unwrap();
        // SAFETY: as above; the numbers that are read were written before.
        unsafe {
            let block = Allocator.alloc(layout);
            block.write_bytes(5, 1000);
            let block = Allocator.realloc(block, layout, 50_000);
            assert!(std::slice::from_raw_parts(block, 1000).iter().all(|number| *number == 5));
            Allocator.dealloc(block, Layout::from_size_align(50_000, 8).unwrap());
        }
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
