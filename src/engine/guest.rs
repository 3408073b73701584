//! Runs short jobs in the thread of a conversation, without the queue and without a worker.
//!
//! A hand-over to a worker and back costs two wake-ups and two changes between threads, about as much as a run of a small
//! model. So a conversation that has sent some requests becomes a guest of the model. Its jobs run in its own thread if all
//! of this holds:
//! - the last run that did the same work was shorter than the caller's patience;
//! - a place of [`Runs`] is free: there are never more runs at the same time than workers;
//! - few other guests have jobs: for many conversations, workers are faster;
//! - the inputs are tensors: files and texts are decoded by workers, because nobody knows how long that takes;
//! - the model has no states, makes no results such as boxes, and does not wait for batches. A result may take longer than
//!   the run, and how long depends on the outputs.
//!
//! All other jobs go to the workers.
//!
//! Invariants: a guest stays in one thread. At most [`MOST_GUESTS`](super::places::MOST_GUESTS) run jobs, because a thread
//! that has run a model keeps the pages of its stack, and tract keeps memory for each such thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::executor::{Executor, Ready, Workload};
use super::places::{Place, Places};
use super::queue::{Inputs, Job};
use super::runs::{Runs, Visit};
use crate::clock::Clock;
use crate::model::{Datatype, Input};
use crate::panics::panic_message;

/// What makes guests of one model.
#[derive(Debug)]
pub struct Guests {
    /// `None` when the model is not fit for guests.
    made_from: Option<(Arc<Workload>, Arc<Runs>, Clock)>,
    places: Places,
}

impl Guests {
    /// `delay` is how long a job may wait for others to join its batch.
    pub fn new(
        workload: &Arc<Workload>,
        runs: &Arc<Runs>,
        clock: &Clock,
        places: &Places,
        delay: Duration,
    ) -> Guests {
        let signature = workload.session.signature();
        let has_texts = signature.inputs.iter().any(|input| input.datatype == Datatype::Bytes);
        let is_fit = delay.is_zero() && !signature.has_state && !has_texts && workload.result.is_none();
        let made_from = is_fit.then(|| (workload.clone(), runs.clone(), clock.clone()));
        Guests { made_from, places: places.clone() }
    }

    /// Makes no guests.
    pub fn none(places: &Places) -> Guests {
        Guests { made_from: None, places: places.clone() }
    }

    /// Makes a guest for the calling thread. `None` when no run of the model is as short as `patience`.
    pub fn admit(&self, patience: Duration) -> Option<Guest> {
        let (workload, runs, clock) = self.made_from.as_ref()?;
        if runs.shortest() > patience {
            return None;
        }
        let executor = Executor::new(workload.clone(), runs.clone(), clock.clone());
        Some(Guest { executor, visit: Visit::default(), places: self.places.clone(), place: None })
    }
}

/// A thread that may run short jobs itself.
pub struct Guest {
    executor: Executor,
    visit: Visit,
    places: Places,
    /// Its place among all guests. It is taken before the first run, and kept because that run leaves memory in the thread.
    place: Option<Place>,
}

impl Guest {
    /// Runs the job and sends its reply, if the run probably takes at most `patience`. Otherwise the job is returned, and
    /// the caller must queue it.
    // The error is as large as the job because it returns the job to the caller.
    #[allow(clippy::result_large_err)]
    pub fn run(&mut self, job: Job, patience: Duration) -> Result<(), Job> {
        let has_tensors = match &job.inputs {
            Inputs::Own(inputs) => inputs.iter().all(|input| matches!(input, Input::Tensor(_))),
            Inputs::Newest(_) => false,
        };
        if !has_tensors || job.sequence.is_some() || self.executor.runs.shortest() > patience {
            return Err(job);
        }
        let Some(run) = self.executor.runs.try_begin(&mut self.visit) else { return Err(job) };
        self.executor.enter(&run);
        catch_unwind(AssertUnwindSafe(|| self.run_if_short(job, patience))).unwrap_or_else(|panic| {
            // The job was dropped, and so its client got an error.
            self.executor.reset();
            log::error!("a run in a conversation's thread panicked: {}", panic_message(panic.as_ref()));
            Ok(())
        })
    }

    #[allow(clippy::result_large_err)]
    fn run_if_short(&mut self, job: Job, patience: Duration) -> Result<(), Job> {
        let Some(Ready { mut job, item, family }) = self.executor.prepare(job) else { return Ok(()) };
        let Executor { workload, runs, .. } = &self.executor;
        let is_short =
            workload.session.does_equal_work(family, &item.tensors) && runs.is_short(family, patience);
        if is_short && self.has_place() {
            self.executor.run_one(Ready { job, item, family });
            return Ok(());
        }
        job.inputs = Inputs::Own(item.tensors.into_iter().map(Input::Tensor).collect());
        Err(job)
    }

    /// Whether it has a place, or gets one now.
    fn has_place(&mut self) -> bool {
        self.place = self.place.take().or_else(|| self.places.take_guest());
        self.place.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use crossbeam_channel::{Receiver, bounded};

    use super::*;
    use crate::engine::places::MOST_GUESTS;
    use crate::engine::reply::{Reply, ReplyTo, Wake};
    use crate::engine::runs::Pulse;
    use crate::error::Code;
    use crate::memory::{Budget, Share};
    use crate::model::{Elements, Tensor};
    use crate::onnx::{Graph, Options, Session};
    use crate::processing::Preprocessor;
    use crate::processing::embedding::Embeddings;

    const SHORT: Duration = Duration::from_micros(50);
    const PATIENCE: Duration = Duration::from_secs(3600);

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    /// A model without a worker, in most tests with one place.
    struct Bench {
        runs: Arc<Runs>,
        guests: Guests,
    }

    impl Bench {
        fn new(path: &str, max_batch_size: Option<usize>, delay: Duration) -> Bench {
            Bench::with_places(1, path, max_batch_size, delay)
        }

        fn with_places(places: usize, path: &str, max_batch_size: Option<usize>, delay: Duration) -> Bench {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            let options = Options { max_tensor_bytes: 1 << 20, max_batch_size, ..Options::default() };
            let (session, _) = Session::load(&Graph::read(&path).unwrap(), &options).unwrap();
            let preprocessor = Preprocessor::new(vec![None], vec![]);
            let embeddings = Embeddings::default();
            let workload = Arc::new(Workload { session, preprocessor, embeddings, result: None });
            let runs = Runs::new(vec![Pulse::default(); places], workload.session.families());
            let guests = Guests::new(&workload, &runs, &Clock::system(), &Places::default(), delay);
            Bench { runs, guests }
        }

        /// A model that takes three numbers, and was measured to be short.
        fn short() -> Bench {
            let bench = Bench::new("tests/models/affine/model.onnx", None, Duration::ZERO);
            bench.runs.took(0, SHORT);
            bench
        }
    }

    fn job(inputs: Vec<Tensor>) -> (Job, Receiver<Reply>) {
        let (replies, inbox) = bounded(1);
        let share = Share::none(&Budget::unbounded());
        let job = Job {
            inputs: Inputs::Own(inputs.into_iter().map(Input::Tensor).collect()),
            rows: vec![],
            result: None,
            sequence: None,
            arrived: Instant::now(),
            deadline: Instant::now() + Duration::from_secs(3600),
            cancelled: Arc::default(),
            reply: ReplyTo::new(0, replies, Arc::new(Nobody), share),
        };
        (job, inbox)
    }

    fn rows(shape: &[usize]) -> Vec<Tensor> {
        let count = shape.iter().product::<usize>();
        let values = (0..count).map(|at| at as f32).collect();
        vec![Tensor::new(shape.to_vec(), Elements::Fp32(values)).unwrap()]
    }

    #[test]
    fn a_short_job_is_run_and_answered_before_the_call_returns() {
        let bench = Bench::short();
        let mut guest = bench.guests.admit(PATIENCE).unwrap();
        for _ in 0..3 {
            let (job, inbox) = job(rows(&[1, 3]));
            guest.run(job, PATIENCE).unwrap();
            assert_eq!(
                inbox.try_recv().unwrap().outcome.unwrap().tensors[0].as_ref().unwrap().shape(),
                [1, 2]
            );
        }
        bench.runs.took(0, Duration::from_nanos(1));
        guest.run(job(rows(&[1, 3])).0, PATIENCE).unwrap();
        assert!(!bench.runs.is_short(0, Duration::from_nanos(1)), "its own runs are measured too");
    }

    #[test]
    fn a_job_that_may_take_longer_is_returned_with_its_inputs() {
        let bench = Bench::short();
        let mut guest = bench.guests.admit(PATIENCE).unwrap();
        let too_long = guest.run(job(rows(&[1, 3])).0, SHORT / 2).unwrap_err();
        // Two rows are run by another plan, for any number of rows.
        let of_unknown_work = guest.run(job(rows(&[2, 3])).0, PATIENCE).unwrap_err();
        for (returned, expected) in [(too_long, rows(&[1, 3])), (of_unknown_work, rows(&[2, 3]))] {
            let Inputs::Own(inputs) = &returned.inputs else { panic!("it had tensors") };
            assert!(matches!(&inputs[..], [Input::Tensor(tensor)] if *tensor == expected[0]));
        }
        let batched = Bench::new("tests/models/affine/model.onnx", Some(4), Duration::ZERO);
        batched.runs.took(0, SHORT);
        let mut guest = batched.guests.admit(PATIENCE).unwrap();
        assert!(guest.run(job(rows(&[2, 3])).0, PATIENCE).is_err());
        assert!(guest.run(job(rows(&[1, 3])).0, PATIENCE).is_ok());
    }

    #[test]
    fn a_job_is_returned_while_as_many_runs_are_under_way_as_there_are_workers() {
        let bench = Bench::short();
        let mut guest = bench.guests.admit(PATIENCE).unwrap();
        let busy = bench.runs.begin();
        assert!(guest.run(job(rows(&[1, 3])).0, PATIENCE).is_err());
        drop(busy);
        assert!(guest.run(job(rows(&[1, 3])).0, PATIENCE).is_ok());
    }

    #[test]
    fn a_run_that_panics_fails_only_that_job() {
        let bench = Bench::short();
        let mut guest = bench.guests.admit(PATIENCE).unwrap();
        let family = 0;
        for _ in 0..2 {
            let (job, inbox) = job(rows(&[1, 3]));
            let item = crate::onnx::Item::default();
            let run = bench.runs.try_begin(&mut guest.visit).unwrap();
            guest.executor.enter(&run);
            guest.executor.run_one(Ready { job, item, family });
            drop(run);
            assert_eq!(inbox.try_recv().unwrap().outcome.unwrap_err().code, Code::InferenceFailed);
        }
        let (job, inbox) = job(rows(&[1, 3]));
        guest.run(job, PATIENCE).unwrap();
        assert!(inbox.try_recv().unwrap().outcome.is_ok());
    }

    #[test]
    fn a_job_after_its_deadline_is_answered_without_a_run() {
        let bench = Bench::short();
        let mut guest = bench.guests.admit(PATIENCE).unwrap();
        let (job, inbox) = job(rows(&[1, 3]));
        let late = Job { deadline: Instant::now() - Duration::from_secs(1), ..job };
        guest.run(late, PATIENCE).unwrap();
        assert_eq!(inbox.try_recv().unwrap().outcome.unwrap_err().code, Code::DeadlineExceeded);
    }

    #[test]
    fn only_short_models_have_guests_and_only_so_many() {
        let affine = "tests/models/affine/model.onnx";
        let unknown = Bench::new(affine, None, Duration::ZERO);
        assert!(unknown.guests.admit(PATIENCE).is_none(), "it has not run yet");
        let patient = Bench::new(affine, None, Duration::from_micros(1));
        patient.runs.took(0, SHORT);
        assert!(patient.guests.admit(PATIENCE).is_none(), "its jobs wait for others");
        let bench = Bench::with_places(MOST_GUESTS, affine, None, Duration::ZERO);
        bench.runs.took(0, SHORT);
        let runs = |guest: &mut Guest| guest.run(job(rows(&[1, 3])).0, PATIENCE).is_ok();
        let mut all: Vec<Guest> =
            (0..MOST_GUESTS + 1).map(|_| bench.guests.admit(PATIENCE).unwrap()).collect();
        let mut last = all.pop().unwrap();
        assert!(all.iter_mut().all(runs));
        assert!(!runs(&mut last), "there are as many as there may be");
        drop(all);
        assert!(runs(&mut last));
    }

    #[test]
    fn a_run_uses_a_small_part_of_a_conversations_stack() {
        // A conversation has 544 KiB. Much of the rest is for other compilers and for larger models.
        let stack = 96 << 10;
        let digits = Bench::new("model/digits/model.onnx", Some(1), Duration::ZERO);
        let affine = Bench::short();
        let run = move || {
            for (bench, shape) in [(affine, &[1, 3][..]), (digits, &[1, 1, 28, 28])] {
                bench.runs.took(0, SHORT);
                let mut guest = bench.guests.admit(PATIENCE).unwrap();
                guest.run(job(rows(shape)).0, PATIENCE).unwrap();
            }
        };
        // When a thread overflows its stack, the whole test program ends with SIGSEGV.
        std::thread::Builder::new().stack_size(stack).spawn(run).unwrap().join().unwrap();
    }
}
