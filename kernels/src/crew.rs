//! Several threads for one run. A thread that runs a model opens a [`Shift`]; other threads, which have nothing to do, help
//! until it ends. Kernels split their work into parts with [`split`]: all threads of the shift take parts until none is left.
//! Without a shift, the calling thread does all parts.
//!
//! A thread that helps waits for the next part without sleeping, because waking it would often take longer than an operator.
//! This uses a core, so a thread helps only while a run lasts.
//!
//! Which threads help, and when, does not belong here.

use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Work with fewer multiplications than this is done by one thread: it takes about 10 µs, and sharing it costs as much.
const SMALL: usize = 400_000;

/// The fewest rows of a product for one thread. Each thread reads the whole matrix, which does not pay for fewer rows.
const FEW: usize = 4;

/// How often a waiting thread looks for news before it lets other threads run.
const LOOKS: usize = 2000;

thread_local! {
    /// The shift that this thread has opened.
    static OPEN: RefCell<Option<Arc<State>>> = const { RefCell::new(None) };
}

/// A run that other threads may help with. It ends when it is dropped.
#[derive(Debug)]
pub struct Shift {
    state: Arc<State>,
    /// It belongs to the thread that opened it, so it is not `Send`.
    thread: PhantomData<*const ()>,
}

/// The way to help with a shift from another thread.
#[derive(Debug, Clone)]
pub struct Help {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_over: AtomicBool,
    /// The threads that help now.
    helping: AtomicUsize,
    /// How often there was a new task.
    turn: AtomicUsize,
    task: Mutex<Option<Arc<Task>>>,
}

/// Work in parts.
#[derive(Debug)]
struct Task {
    work: Work,
    count: usize,
    /// The next part that nobody has taken.
    next: AtomicUsize,
    done: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// The function that does a part. It lives on the stack of the thread that splits the work, so it must not be called later.
struct Work(&'static (dyn Fn(usize) + Sync));

impl std::fmt::Debug for Work {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Work")
    }
}

impl Shift {
    /// Opens a shift for the calling thread. `None`: it has one already.
    pub fn open() -> Option<Shift> {
        OPEN.with_borrow_mut(|open| match open {
            Some(_) => None,
            None => {
                let state = Arc::<State>::default();
                *open = Some(state.clone());
                Some(Shift { state, thread: PhantomData })
            }
        })
    }

    /// What another thread needs to help.
    pub fn help(&self) -> Help {
        Help { state: self.state.clone() }
    }
}

impl Drop for Shift {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Release);
        OPEN.with_borrow_mut(|open| *open = None);
    }
}

impl Help {
    /// Takes parts of the shift's work until the shift ends, or `is_needed_elsewhere`. This is asked between parts.
    pub fn work(&self, is_needed_elsewhere: impl Fn() -> bool) {
        let state = &*self.state;
        state.helping.fetch_add(1, Ordering::Relaxed);
        let (mut seen, mut looks) = (0, 0);
        while !state.is_over.load(Ordering::Acquire) && !is_needed_elsewhere() {
            let turn = state.turn.load(Ordering::Acquire);
            if turn != seen {
                seen = turn;
                let task = lock(&state.task).clone();
                task.iter().for_each(|task| task.take_parts());
            }
            wait(&mut looks);
        }
        state.helping.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many threads do the work of [`split`] now.
pub fn threads() -> usize {
    OPEN.with_borrow(|open| 1 + open.as_ref().map_or(0, |open| open.helping.load(Ordering::Relaxed)))
}

/// Into how many parts to split work of so many multiplications.
pub fn parts(multiplications: usize) -> usize {
    if multiplications < SMALL { 1 } else { threads() }
}

/// How many rows of a product with a matrix `[depth, width]` one thread computes, so that all threads have a part.
pub(crate) fn rows(count: usize, depth: usize, width: usize) -> usize {
    let parts = parts(count * depth * width).min(count / FEW).max(1);
    count.div_ceil(parts)
}

/// Calls `work` once for each number below `count`, by all threads of the shift. Returns when all calls have ended.
///
/// Panics: a call has panicked.
pub fn split(count: usize, work: &(dyn Fn(usize) + Sync)) {
    let state = OPEN.with_borrow(|open| open.clone());
    let Some(state) = state.filter(|state| count > 1 && state.helping.load(Ordering::Relaxed) > 0) else {
        return (0..count).for_each(work);
    };
    // SAFETY: `Task::take_parts` calls the function only for a part that is not done, and this function returns after all parts
    // are done. It does not unwind before that: parts do not panic, because `take_parts` catches their panics.
    let work =
        unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(work) };
    let task = Arc::new(Task {
        work: Work(work),
        count,
        next: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
        panic: Mutex::new(None),
    });
    *lock(&state.task) = Some(task.clone());
    state.turn.fetch_add(1, Ordering::Release);
    task.take_parts();
    let mut looks = 0;
    while task.done.load(Ordering::Acquire) < count {
        wait(&mut looks);
    }
    *lock(&state.task) = None;
    if let Some(panic) = lock(&task.panic).take() {
        resume_unwind(panic);
    }
}

/// Splits numbers into chunks of `size`, at least one, and calls `work` for each with its index and its numbers, by all threads
/// of the shift.
///
/// Panics: a call has panicked.
pub fn split_chunks<T: Send>(numbers: &mut [T], size: usize, work: &(dyn Fn(usize, &mut [T]) + Sync)) {
    if numbers.len() <= size {
        return work(0, numbers);
    }
    let chunks: Vec<Mutex<&mut [T]>> = numbers.chunks_mut(size).map(Mutex::new).collect();
    // Only one call takes each lock.
    split(chunks.len(), &|at| work(at, &mut lock(&chunks[at])));
}

impl Task {
    /// Does parts until all are taken. A panic is kept for the thread that split the work.
    fn take_parts(&self) {
        loop {
            let part = self.next.fetch_add(1, Ordering::Relaxed);
            if part >= self.count {
                return;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.work.0)(part))) {
                *lock(&self.panic) = Some(panic);
            }
            self.done.fetch_add(1, Ordering::Release);
        }
    }
}

/// Waits for a moment. After some moments it lets other threads run, which may be what is waited for.
fn wait(looks: &mut usize) {
    *looks += 1;
    match looks.is_multiple_of(LOOKS) {
        true => std::thread::yield_now(),
        false => std::hint::spin_loop(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` in a shift with this many threads that help, after all of them have come.
#[cfg(test)]
pub fn with_help<T>(count: usize, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let shift = Shift::open().expect("there is no other one");
        for _ in 0..count {
            let help = shift.help();
            scope.spawn(move || help.work(|| false));
        }
        while threads() < count + 1 {
            std::thread::yield_now();
        }
        work()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_done_once() {
        for helping in [0, 1, 3] {
            with_help(helping, || {
                for count in [0, 1, 2, 7, 100] {
                    let done: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                    split(count, &|part| {
                        done[part].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1), "{helping} {count}");
                }
            });
        }
    }

    #[test]
    fn threads_that_help_take_parts() {
        with_help(1, || {
            let both = std::sync::Barrier::new(2);
            // Each part waits for the other one, so two threads must do them.
            split(2, &|_| {
                both.wait();
            });
        });
    }

    #[test]
    fn chunks_are_those_of_the_numbers() {
        with_help(2, || {
            let mut numbers = vec![0.0; 10];
            split_chunks(&mut numbers, 4, &|at, chunk| chunk.fill(at as f32));
            assert_eq!(numbers, [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0]);
        });
    }

    #[test]
    fn a_panic_of_a_part_reaches_the_thread_that_split_the_work_after_all_parts_have_ended() {
        for helping in [0, 2] {
            with_help(helping, || {
                let ended = AtomicUsize::new(0);
                let parts = AssertUnwindSafe(|| {
                    split(8, &|part| {
                        assert!(part != 7, "part 7");
                        ended.fetch_add(1, Ordering::Relaxed);
                    });
                });
                let panic = catch_unwind(parts).expect_err("a part panics");
                assert_eq!(panic.downcast_ref::<&str>(), Some(&"part 7"), "{helping} helping");
                assert_eq!(ended.load(Ordering::Relaxed), 7);
                // The next work is done as usual.
                split(3, &|_| {});
            });
        }
    }

    #[test]
    fn a_thread_that_is_needed_elsewhere_leaves() {
        let shift = Shift::open().expect("there is no other one");
        shift.help().work(|| true);
        assert_eq!(threads(), 1);
    }

    #[test]
    fn a_thread_has_one_shift_at_a_time_and_those_that_help_leave_at_its_end() {
        let shift = Shift::open().expect("there is no other one");
        assert!(Shift::open().is_none());
        let help = shift.help();
        drop(shift);
        help.work(|| false);
        assert!(Shift::open().is_some());
    }
}
