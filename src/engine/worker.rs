//! The threads that run a model. A worker takes jobs, prepares their inputs, runs them and sends the replies.
//! Which jobs it takes is decided in [`intake`](super::intake).
//!
//! Invariants: a worker ends only after its queue is closed and empty. A failed run, or a panic inside the engine,
//! is an error for that request only: the worker drops its runner and creates a new one. A batch that failed is
//! run again, one job at a time. After a panic elsewhere, the jobs that the worker holds get error replies, their
//! sequences continue, and the worker starts again.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::intake::Intake;
use super::queue::{Inputs, Job};
use super::reply::Outputs;
use crate::clock::Clock;
use crate::error::{Code, RequestError};
use crate::memory::Share;
use crate::model::Tensor;
use crate::onnx::{Item, Runner, Session};
use crate::panics::panic_message;
use crate::processing::embedding::Embeddings;
use crate::processing::{Allowance, Prepared, Preprocessor};

/// The stack of a worker, in bytes. Graphs with deep sub-graphs need recursion.
const STACK: usize = 8 << 20;

/// The parts of a model that all its workers share.
#[derive(Debug)]
pub struct Workload {
    pub session: Session,
    pub preprocessor: Preprocessor,
    pub embeddings: Embeddings,
}

/// A worker's thread. The channel `alive` is disconnected when the thread has ended. One can wait for that with a
/// time-out, which a `JoinHandle` does not offer.
#[derive(Debug)]
pub struct WorkerThread {
    pub alive: Receiver<Infallible>,
    pub handle: JoinHandle<()>,
    pub pulse: Pulse,
}

impl WorkerThread {
    /// True when the thread has ended.
    pub fn has_ended(&self) -> bool {
        has_ended(&self.alive)
    }
}

/// Whether the thread of this `alive` has ended.
pub fn has_ended(alive: &Receiver<Infallible>) -> bool {
    matches!(alive.try_recv(), Err(TryRecvError::Disconnected))
}

/// The time since which a worker has been busy with one piece of work: decoding a request's files, one run of the
/// engine, or pooling. `None` inside means that it is not busy.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<Mutex<Option<Instant>>>);

impl Pulse {
    fn set(&self, busy: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = busy;
    }

    /// How long the current piece of work has taken; `None` when the worker is not busy.
    pub fn busy(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|since| since.elapsed())
    }

    /// Does one piece of work. A panic in the engine or in a file's decoder becomes the error `inference_failed`.
    fn during<T>(&self, work: impl FnOnce() -> Result<T, RequestError>) -> Result<T, RequestError> {
        self.set(Some(Instant::now()));
        let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let message = format!("the engine panicked on this input: {}", panic_message(panic.as_ref()));
            Err(RequestError::new(Code::InferenceFailed, message))
        });
        self.set(None);
        done
    }
}

/// The most workers that all models together may have. When the system has no memory for another thread's stack,
/// the whole program can end instead of returning an error. This limit stays far below that point.
pub const MOST_WORKERS: usize = 4096;

/// Counts the workers of all models.
#[derive(Debug, Clone, Default)]
pub struct Places(Arc<AtomicUsize>);

/// The place of one worker. Dropping it makes the place free again.
struct Place(Arc<AtomicUsize>);

impl Places {
    fn take(&self) -> std::io::Result<Place> {
        let fits = |taken: usize| (taken < MOST_WORKERS).then_some(taken + 1);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(Place(self.0.clone())),
            Err(_) => Err(std::io::Error::other(format!(
                "all models together may have {MOST_WORKERS} workers: give them fewer with `instance_group.count` in \
                 model.json, or with --workers"
            ))),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts worker `index` of the model `name`. It ends when the queue is closed and empty.
pub fn spawn(
    name: &str,
    index: usize,
    intake: Arc<Intake>,
    workload: Arc<Workload>,
    clock: Clock,
    places: &Places,
) -> std::io::Result<WorkerThread> {
    let (living, alive) = bounded(0);
    let (place, pulse) = (places.take()?, Pulse::default());
    let worker =
        Worker { workload, runner: None, clock, intake, overflow: VecDeque::new(), pulse: pulse.clone() };
    let builder = std::thread::Builder::new().name(format!("{name}-w{index}")).stack_size(STACK);
    let handle = builder.spawn(move || {
        let _living: (Sender<Infallible>, Place) = (living, place);
        // A run allocates for each operator. Workers are few, so each may keep some memory; conversations are many.
        if let Err(error) = onnxd_allocator::cache_on_this_thread() {
            log::debug!("a worker allocates without caches: {error}");
        }
        worker.work();
    })?;
    Ok(WorkerThread { alive, handle, pulse })
}

struct Worker {
    workload: Arc<Workload>,
    /// `None` before the first run and after a failed run, so that nothing of a failed run is used again.
    runner: Option<Runner>,
    clock: Clock,
    intake: Arc<Intake>,
    /// Steps of sequences that found no room in the queue.
    overflow: VecDeque<Job>,
    pulse: Pulse,
}

/// Whether the worker continues.
enum Turn {
    More,
    Over,
}

/// A job whose inputs are prepared.
struct Ready {
    job: Job,
    item: Item,
    /// The index of the family of plans that runs the job.
    family: usize,
}

impl Worker {
    fn work(mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(Turn::More) => {}
                Ok(Turn::Over) => return,
                Err(panic) => {
                    self.runner = None;
                    self.pulse.set(None);
                    log::error!("a worker panicked, and restarts: {}", panic_message(panic.as_ref()));
                }
            }
        }
    }

    /// Takes jobs and runs them. Returns [`Turn::Over`] when the queue is closed and empty.
    fn turn(&mut self) -> Turn {
        let jobs = match self.overflow.pop_front() {
            Some(job) => vec![job],
            None => {
                let session = &self.workload.session;
                let rows = |job: &Job| self.pulse.during(|| Ok(rows(session, job))).unwrap_or(1);
                match self.intake.take(|| session.largest_batch(), rows) {
                    Some(jobs) => jobs,
                    None => return Turn::Over,
                }
            }
        };
        self.serve(jobs);
        Turn::More
    }

    fn serve(&mut self, jobs: Vec<Job>) {
        let mut ready: Vec<Ready> = jobs.into_iter().filter_map(|job| self.prepare(job)).collect();
        // In most cases all jobs belong to one family.
        while let Some(family) = ready.first().map(|first| first.family) {
            let (together, others) = ready.into_iter().partition(|ready| ready.family == family);
            self.run_together(together, family);
            ready = others;
        }
    }

    /// Checks that a job is still needed, and prepares its inputs. When it is not needed or the inputs are
    /// invalid, it sends the error reply and returns `None`.
    fn prepare(&mut self, mut job: Job) -> Option<Ready> {
        if let Inputs::Newest(mailbox) = &job.inputs {
            job.deadline = mailbox.deadline().unwrap_or(job.deadline);
        }
        if let Err(error) = self.is_due(&job) {
            self.finish(job, Err(error));
            return None;
        }
        let inputs = std::mem::replace(&mut job.inputs, Inputs::Own(Vec::new()));
        let (cancelled, deadline, clock) = (job.cancelled.clone(), job.deadline, &self.clock);
        let is_due = || is_due(&cancelled, deadline, clock);
        let prepared = self.pulse.during(|| {
            let inputs = match inputs {
                Inputs::Own(inputs) => inputs,
                Inputs::Newest(mailbox) => {
                    let slot = job.reply.slot();
                    let (inputs, share) = mailbox.begin(slot).ok_or_else(|| no_frame(slot))?;
                    *job.reply.share() = share;
                    inputs
                }
            };
            let session = &self.workload.session;
            let mut allowance = Allowance { memory: job.reply.share(), is_due: &is_due };
            let Prepared { tensors, rows } =
                self.workload.preprocessor.prepare(inputs, session.signature(), &mut allowance)?;
            if !rows.is_empty() {
                job.rows = rows;
            }
            let family = session.family_of(&tensors)?;
            let states = job.sequence.as_ref().map(|step| step.sequence.states(step.restart));
            Ok((Item { tensors, states: states.unwrap_or_default() }, family))
        });
        match prepared {
            Ok((item, family)) => Some(Ready { job, item, family }),
            Err(error) => {
                self.finish(job, Err(error));
                None
            }
        }
    }

    fn is_due(&self, job: &Job) -> Result<(), RequestError> {
        is_due(&job.cancelled, job.deadline, &self.clock)
    }

    /// Runs jobs of one family.
    fn run_together(&mut self, jobs: Vec<Ready>, family: usize) {
        let (mut jobs, items): (Vec<Job>, Vec<Item>) =
            jobs.into_iter().map(|ready| (ready.job, ready.item)).unzip();
        if let [_] = items.as_slice() {
            return self.run_alone(jobs, items, family);
        }
        let mut memory = Share::none(jobs[0].reply.share().budget());
        match self.run(|runner| runner.run_together(family, &items, &mut memory)) {
            Ok(results) => {
                for ((job, item), result) in jobs.into_iter().zip(items).zip(results) {
                    let share = memory.split(result.memory());
                    self.finish_with(job, item, Ok(result), share);
                }
            }
            Err(error) => {
                drop(memory);
                log::debug!("a batch of {} failed and is run item by item: {error}", items.len());
                self.runner = None;
                self.run_alone(jobs, items, family);
            }
        }
    }

    fn run_alone(&mut self, jobs: Vec<Job>, items: Vec<Item>, family: usize) {
        for (mut job, item) in jobs.into_iter().zip(items) {
            let mut memory = job.reply.share().beside();
            let result =
                self.is_due(&job).and_then(|()| self.run(|runner| runner.run(family, &item, &mut memory)));
            self.finish_with(job, item, result, memory);
        }
    }

    /// Releases the memory of the inputs and replies with the result. `memory` is the memory of the result.
    fn finish_with(&mut self, mut job: Job, item: Item, result: Result<Item, RequestError>, memory: Share) {
        let result = result.and_then(|result| self.embed(&item, result));
        drop(item);
        *job.reply.share() = memory;
        self.finish(job, result);
    }

    /// Runs the engine. It creates a runner when there is none, and drops it after a failed run.
    fn run<T>(
        &mut self,
        work: impl FnOnce(&mut Runner) -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        let (session, runner) = (&self.workload.session, &mut self.runner);
        let result = self.pulse.during(|| work(runner.get_or_insert_with(|| session.runner())));
        if result.as_ref().is_err_and(|error| error.code == Code::InferenceFailed) {
            self.runner = None;
        }
        result
    }

    /// Pools and normalises the outputs for which `model.json` asks this. The mask is one of the inputs.
    fn embed(&self, item: &Item, result: Item) -> Result<Item, RequestError> {
        let Item { tensors, states } = result;
        let tensors = self.pulse.during(|| self.workload.embeddings.finish(&item.tensors, tensors))?;
        Ok(Item { tensors, states })
    }

    /// Ends the job's step of its sequence, and sends the reply.
    fn finish(&mut self, job: Job, result: Result<Item, RequestError>) {
        let Job { sequence, rows, mut reply, .. } = job;
        let (outcome, states) = match result {
            Ok(Item { tensors, states }) => (Ok(Outputs { tensors, rows }), Some(states)),
            Err(error) => (Err(error), None),
        };
        if let Some(step) = sequence {
            // When a step with `restart` fails, the sequence must not keep the states from before it.
            let anew = step.last || step.restart && states.is_none();
            let states = if anew { Some(step.sequence.states(true)) } else { states };
            // `end` queues the next step. When the queue is full, this worker runs the step itself: a sequence
            // must not lose an accepted step.
            self.overflow.extend(step.end(states));
        }
        let bytes = outcome.as_ref().map_or(0, |outputs| outputs.tensors.iter().map(Tensor::memory).sum());
        reply.share().shrink_to(bytes);
        reply.send(outcome);
    }
}

/// Returns an error when the job's connection has ended or its deadline has passed.
fn is_due(cancelled: &AtomicBool, deadline: Instant, clock: &Clock) -> Result<(), RequestError> {
    if cancelled.load(Ordering::Relaxed) {
        return Err(RequestError::new(Code::Unavailable, "the connection is gone"));
    }
    if clock.now() > deadline {
        let message = "the deadline passed before the request was run";
        return Err(RequestError::new(Code::DeadlineExceeded, message));
    }
    Ok(())
}

/// The number of rows of a job. A file counts as one row.
fn rows(session: &Session, job: &Job) -> usize {
    match &job.inputs {
        Inputs::Own(inputs) => session.rows(inputs),
        Inputs::Newest(_) => 1,
    }
}

fn no_frame(slot: u64) -> RequestError {
    RequestError::new(Code::InferenceFailed, format!("the frame of request {slot} is gone"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Outcome;
    use crate::engine::queue::{JobSequence, Queue, SequenceStep};
    use crate::engine::reply::{Reply, ReplyTo, Wake};
    use crate::memory::{Budget, Share};
    use crate::model::manifest::Pooling;
    use crate::model::{Elements, Input, Tensor};
    use crate::onnx::{Graph, Options, StateOption};
    use crate::processing::embedding::{Embedding, Mask};
    use std::path::Path;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    /// One worker of a test model.
    struct Bench {
        queue: Queue,
        replies: (Sender<Reply>, Receiver<Reply>),
        thread: WorkerThread,
    }

    impl Bench {
        fn start(model: &str, options: Options, embeddings: Embeddings) -> Bench {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(model);
            let options = Options { max_tensor_bytes: 1 << 20, ..options };
            let graph = Graph::read(&path.join("model.onnx")).unwrap();
            let (session, _) = Session::load(&graph, &options).unwrap();
            let preprocessor = Preprocessor::new(vec![None], vec![]);
            let workload = Arc::new(Workload { session, preprocessor, embeddings });
            let (queue, jobs) = Queue::new(8);
            let intake = Arc::new(Intake::new(jobs, Duration::ZERO));
            let thread = spawn(model, 0, intake, workload, Clock::system(), &Places::default()).unwrap();
            Bench { queue, replies: bounded(8), thread }
        }

        fn submit(&self, inputs: Vec<Tensor>, sequence: Option<SequenceStep>) {
            let share = Share::none(&Budget::unbounded());
            let reply = ReplyTo::new(0, self.replies.0.clone(), Arc::new(Nobody), share);
            let (arrived, deadline) = (Instant::now(), Instant::now() + Duration::from_secs(60));
            let job = Job {
                inputs: Inputs::Own(inputs.into_iter().map(Input::Tensor).collect()),
                rows: vec![],
                sequence,
                arrived,
                deadline,
                cancelled: Arc::default(),
                reply,
            };
            self.queue.submit(job).unwrap();
        }

        fn answer(&self) -> Outcome {
            let reply = self.replies.1.recv_timeout(Duration::from_secs(60));
            *reply.expect("the worker is gone, and its client was not answered").outcome
        }
    }

    fn row(values: &[f32]) -> Vec<Tensor> {
        vec![Tensor::new(vec![1, values.len()], Elements::Fp32(values.to_vec())).unwrap()]
    }

    #[test]
    fn a_panic_during_work_is_an_error_of_the_request_and_the_worker_is_free_again() {
        let pulse = Pulse::default();
        let error = pulse.during::<()>(|| panic!("out of bounds")).unwrap_err();
        assert_eq!(error.code, Code::InferenceFailed);
        assert_eq!(error.message, "the engine panicked on this input: out of bounds");
        assert_eq!(pulse.busy(), None);
        assert!(pulse.during(|| Ok(pulse.busy().is_some())).unwrap());
    }

    #[test]
    fn a_request_whose_rows_cannot_be_counted_is_answered_and_the_next_is_served() {
        let options = Options { max_batch_size: Some(4), ..Options::default() };
        let bench = Bench::start("affine", options, Embeddings::default());
        bench.submit(vec![], None);
        assert_eq!(bench.answer().unwrap_err().code, Code::InferenceFailed);
        bench.submit(row(&[1.0, 2.0, 3.0]), None);
        assert_eq!(bench.answer().unwrap().tensors[0].shape(), [1, 2]);
        assert!(!bench.thread.has_ended());
    }

    #[test]
    fn a_panic_in_pooling_fails_only_that_request() {
        let pooled = Embedding { pooling: Some(Pooling::Mean), normalize: None };
        // A mask that is not among the inputs.
        let embeddings = Embeddings::new(Mask::Input(9), vec![pooled]);
        let bench = Bench::start("cube", Options::default(), embeddings);
        for _ in 0..2 {
            bench.submit(vec![Tensor::new(vec![1, 2, 2], Elements::Fp32(vec![1.0; 4])).unwrap()], None);
            let error = bench.answer().unwrap_err();
            assert!(error.message.contains("panicked"), "{error}");
        }
        assert!(!bench.thread.has_ended());
    }

    #[test]
    fn a_step_that_panics_changes_no_state_and_the_next_step_runs() {
        let state = StateOption { input: "state".into(), output: "state_out".into(), batch_axis: None };
        let options = Options { states: vec![state], ..Options::default() };
        let bench = Bench::start("running", options, Embeddings::default());
        let initial = vec![Tensor::new(vec![1, 1, 2], Elements::Fp32(vec![0.0; 2])).unwrap()];
        let sequence = JobSequence::new(Arc::new(initial), bench.queue.clone());
        let step = || Some(SequenceStep::new(sequence.clone(), false, false));
        bench.submit(row(&[1.0, 2.0]), step());
        bench.submit(vec![], step());
        bench.submit(row(&[10.0, 20.0]), step());
        assert!(bench.answer().is_ok());
        assert_eq!(bench.answer().unwrap_err().code, Code::InferenceFailed);
        assert_eq!(bench.answer().unwrap().tensors[0].elements(), &Elements::Fp32(vec![11.0, 22.0]));
    }

    #[test]
    fn places_are_bounded_and_can_be_used_again() {
        let places = Places::default();
        let taken: Vec<Place> = (0..MOST_WORKERS).map(|_| places.take().unwrap()).collect();
        let error = places.take().err().expect("there is one too many").to_string();
        assert!(error.contains("instance_group.count"), "{error}");
        drop(taken);
        assert!(places.take().is_ok());
    }
}
