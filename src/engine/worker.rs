//! The threads that run a model. A worker takes jobs, waits for a place among the model's [`runs`](super::runs), and
//! serves the jobs with its [`executor`](super::executor). Which jobs it takes is decided in
//! [`intake`](super::intake).
//!
//! Invariants: a worker ends only after its queue is closed and empty. After a panic that the executor does not catch,
//! the jobs that the worker holds get error replies, their sequences continue, and the worker starts again.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::executor::{Executor, Workload};
use super::intake::{Intake, Taken};
use super::places::{Place, Places};
use super::queue::{Inputs, Job};
use super::runs::{Pulse, Runs, caught};
use crate::clock::Clock;
use crate::onnx::{Help, Session};
use crate::panics::panic_message;

/// The stack of a worker, in bytes. Graphs with deep sub-graphs need recursion.
const STACK: usize = 8 << 20;

/// A worker's thread. The channel `alive` is disconnected when the thread has ended. One can wait for that with a
/// time-out, which a `JoinHandle` does not offer.
#[derive(Debug)]
pub struct WorkerThread {
    pub alive: Receiver<Infallible>,
    pub handle: JoinHandle<()>,
    /// That of one place of the model. Any worker or guest may be in it.
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

/// Starts worker `index` of the model `name`. It ends when the queue is closed and empty. `pulse` is that of one of the
/// places of `runs`.
pub fn spawn(
    name: &str,
    index: usize,
    intake: Arc<Intake>,
    (workload, runs, pulse): (&Arc<Workload>, &Arc<Runs>, Pulse),
    clock: Clock,
    places: &Places,
) -> std::io::Result<WorkerThread> {
    let (living, alive) = bounded(0);
    let place = places.take_worker()?;
    let executor = Executor::with_help(workload.clone(), runs.clone(), clock, intake.clone());
    let worker = Worker { intake, executor };
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
    intake: Arc<Intake>,
    executor: Executor,
}

/// Whether the worker continues.
enum Turn {
    More,
    Over,
}

impl Worker {
    fn work(mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(Turn::More) => {}
                Ok(Turn::Over) => return,
                Err(panic) => {
                    self.executor.reset();
                    log::error!("a worker panicked, and restarts: {}", panic_message(panic.as_ref()));
                }
            }
        }
    }

    /// Takes jobs and runs them. Returns [`Turn::Over`] when the queue is closed and empty.
    fn turn(&mut self) -> Turn {
        let jobs = match self.executor.overflow.pop_front() {
            Some(job) => vec![job],
            None => {
                let session = &self.executor.workload.session;
                let rows = |job: &Job| caught(|| Ok(rows(session, job))).unwrap_or(1);
                match self.intake.take(|| session.largest_batch(), rows) {
                    Some(Taken::Jobs(jobs)) => jobs,
                    Some(Taken::Call(help)) => {
                        self.help(&help);
                        return Turn::More;
                    }
                    None => return Turn::Over,
                }
            }
        };
        let run = self.executor.runs.begin();
        self.executor.serve(jobs, &run);
        Turn::More
    }
}

impl Worker {
    /// Helps another worker until its run ends or a job waits. That takes a place, like any other run.
    fn help(&self, help: &Help) {
        if let Some(_run) = self.executor.runs.try_help() {
            help.work(|| self.intake.has_jobs());
        }
    }
}

/// The number of rows of a job. A file counts as one row.
fn rows(session: &Session, job: &Job) -> usize {
    match &job.inputs {
        Inputs::Own(inputs) => session.rows(inputs),
        Inputs::Newest(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::engine::Outcome;
    use crate::engine::queue::{JobSequence, Queue, SequenceStep};
    use crate::engine::reply::{Reply, ReplyTo, Wake};
    use crate::error::Code;
    use crate::memory::{Budget, Share};
    use crate::model::manifest::Pooling;
    use crate::model::{Elements, Input, Tensor};
    use crate::onnx::{Graph, Options, Shift, StateOption};
    use crate::processing::Preprocessor;
    use crate::processing::embedding::{Embedding, Embeddings, Mask};
    use std::path::Path;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    /// One or more workers of a test model.
    struct Bench {
        queue: Queue,
        intake: Arc<Intake>,
        replies: (Sender<Reply>, Receiver<Reply>),
        thread: WorkerThread,
        others: Vec<WorkerThread>,
    }

    impl Bench {
        fn start(model: &str, options: Options, embeddings: Embeddings) -> Bench {
            Bench::with_workers(1, model, options, embeddings)
        }

        /// Several workers help each other.
        fn with_workers(count: usize, model: &str, options: Options, embeddings: Embeddings) -> Bench {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(model);
            let options = Options { max_tensor_bytes: 1 << 20, ..options };
            let graph = Graph::read(&path.join("model.onnx")).unwrap();
            let (session, _) = Session::load(&graph, &options).unwrap();
            let preprocessor = Preprocessor::new(vec![None], vec![]);
            let workload = Arc::new(Workload { session, preprocessor, embeddings, result: None });
            let (queue, jobs) = Queue::new(8);
            let intake = Arc::new(Intake::new(jobs, Duration::ZERO));
            let pulses = vec![Pulse::default(); count];
            let runs = Runs::new(pulses.clone(), workload.session.families());
            workload.session.assume_threads(count);
            let worker = |(index, pulse)| {
                let part = (&workload, &runs, pulse);
                spawn(model, index, intake.clone(), part, Clock::system(), &Places::default()).unwrap()
            };
            let mut others: Vec<_> = pulses.into_iter().enumerate().map(worker).collect();
            let thread = others.pop().unwrap();
            Bench { queue, intake, replies: bounded(8), thread, others }
        }

        fn submit(&self, inputs: Vec<Tensor>, sequence: Option<SequenceStep>) {
            let share = Share::none(&Budget::unbounded());
            let reply = ReplyTo::new(0, self.replies.0.clone(), Arc::new(Nobody), share);
            let (arrived, deadline) = (Instant::now(), Instant::now() + Duration::from_secs(60));
            let job = Job {
                inputs: Inputs::Own(inputs.into_iter().map(Input::Tensor).collect()),
                rows: vec![],
                result: None,
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
    fn a_request_whose_rows_cannot_be_counted_is_answered_and_the_next_is_served() {
        let options = Options { max_batch_size: Some(4), ..Options::default() };
        let bench = Bench::start("affine", options, Embeddings::default());
        bench.submit(vec![], None);
        assert_eq!(bench.answer().unwrap_err().code, Code::InferenceFailed);
        bench.submit(row(&[1.0, 2.0, 3.0]), None);
        assert_eq!(bench.answer().unwrap().tensors[0].as_ref().unwrap().shape(), [1, 2]);
        assert!(!bench.thread.has_ended());
    }

    #[test]
    fn an_idle_worker_helps_with_a_run_and_leaves_it_for_a_job() {
        let bench = Bench::start("affine", Options::default(), Embeddings::default());
        let until = Instant::now() + Duration::from_secs(60);
        let wait = |what: &str, holds: &dyn Fn() -> bool| {
            while !holds() {
                assert!(Instant::now() < until, "{what}");
                std::thread::yield_now();
            }
        };
        let shift = Shift::open().unwrap();
        wait("the worker waits for jobs", &|| bench.intake.has_help());
        bench.intake.call(&shift.help(), 1);
        wait("it helps", &|| onnxd_kernels::crew::threads() == 2);
        bench.submit(row(&[1.0, 2.0, 3.0]), None);
        assert!(bench.answer().is_ok());
        wait("it does not help any more", &|| onnxd_kernels::crew::threads() == 1);
    }

    #[test]
    fn workers_that_help_each_other_answer_each_request_once_and_do_not_end() {
        let bench = Bench::with_workers(3, "affine", Options::default(), Embeddings::default());
        let ask = |bench: &Bench| bench.submit(row(&[1.0, 2.0, 3.0]), None);
        ask(&bench);
        let expected = bench.answer().unwrap().tensors;
        for at in 0..300 {
            // One request alone, and several at once.
            let together = at % 3 + 1;
            (0..together).for_each(|_| ask(&bench));
            for _ in 0..together {
                assert_eq!(bench.answer().unwrap().tensors, expected);
            }
        }
        bench.submit(vec![], None);
        assert_eq!(bench.answer().unwrap_err().code, Code::InferenceFailed);
        ask(&bench);
        assert_eq!(bench.answer().unwrap().tensors, expected);
        assert!(!bench.thread.has_ended() && bench.others.iter().all(|other| !other.has_ended()));
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
        let last = bench.answer().unwrap().tensors.remove(0).unwrap();
        assert_eq!(last.elements(), &Elements::Fp32(vec![11.0, 22.0]));
    }
}
