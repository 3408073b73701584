//! Results that are made after the run: each item of a batch has its own, an error or a panic concerns only one request, and
//! the reply has only the memory of what travels on.

use std::path::Path;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::*;
use crate::engine::intake::Taken;
use crate::engine::places::Places;
use crate::engine::queue::{JobSequence, Queue, SequenceStep};
use crate::engine::reply::{Reply, ReplyTo, Wake};
use crate::engine::{Guests, Mailbox};
use crate::memory::Budget;
use crate::model::choices::Choices;
use crate::model::manifest::ResultManifest;
use crate::model::{Elements, Input};
use crate::onnx::{Graph, Options, StateOption};
use crate::processing::results::{Canvas, Declared, Settled, WantedResult};

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// A model whose results are lines of text, and one place for runs.
struct Bench {
    executor: Executor,
    budget: Arc<Budget>,
    replies: (Sender<Reply>, Receiver<Reply>),
}

impl Bench {
    fn new(model: &str, options: Options) -> Bench {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(model).join("model.onnx");
        let options = Options { max_tensor_bytes: 1 << 20, ..options };
        let (session, _) = Session::load(&Graph::read(&path).unwrap(), &options).unwrap();
        let preprocessor = Preprocessor::new(vec![None], vec![]);
        let spec: ResultManifest = serde_json::from_str(r#"{"kind": "text"}"#).unwrap();
        let declared = Declared { name: "scores".into(), shape: vec![None, None, Some(4)] };
        let labels = vec!["a".into(), "é".into()];
        let maker = ResultMaker::new(&spec, &[declared], labels, Canvas::Unknown, None).unwrap();
        let (embeddings, result) = (Embeddings::default(), Some(Arc::new(maker)));
        let workload = Arc::new(Workload { session, preprocessor, embeddings, result });
        let runs = Runs::new(vec![Pulse::default()], workload.session.families());
        let executor = Executor::new(workload, runs, Clock::system());
        Bench { executor, budget: Budget::new(1 << 20), replies: bounded(8) }
    }

    /// A model that gives back the scores of characters that it gets.
    fn letters() -> Bench {
        Bench::new("letters", Options { max_batch_size: Some(4), ..Options::default() })
    }

    fn job(&self, slot: u64, inputs: Inputs, result: Option<WantedResult>) -> Job {
        let share = Share::none(&self.budget).take_beside(64).unwrap();
        Job {
            inputs,
            rows: vec![],
            result,
            sequence: None,
            arrived: Instant::now(),
            deadline: Instant::now() + Duration::from_secs(3600),
            cancelled: Arc::default(),
            reply: ReplyTo::new(slot, self.replies.0.clone(), Arc::new(Nobody), share),
        }
    }

    fn serve(&mut self, jobs: Vec<Job>) {
        let run = self.executor.runs.begin();
        self.executor.serve(jobs, &run);
    }

    fn reply(&self) -> Reply {
        self.replies.1.try_recv().expect("the executor has replied")
    }

    fn wanted(&self, steps: bool) -> WantedResult {
        let mut choices = Choices::default();
        assert!(choices.take("steps", &steps.to_string()));
        let settled = self.executor.workload.result.as_ref().unwrap().settle(&choices).unwrap();
        WantedResult { settled, rows: 1, canvas: None, with_outputs: false }
    }
}

/// Settings that cannot come from a request: reading them panics.
fn broken() -> WantedResult {
    WantedResult { settled: Settled::default(), rows: 1, canvas: None, with_outputs: false }
}

/// The scores of one step, at which one class is certain.
fn certain(class: usize) -> Tensor {
    let mut scores = vec![0.0; 4];
    scores[class] = 1.0;
    Tensor::new(vec![1, 1, 4], Elements::Fp32(scores)).unwrap()
}

fn letter(class: usize) -> Inputs {
    Inputs::Own(vec![Input::Tensor(certain(class))])
}

/// The JSON of the only row.
fn line(reply: &Reply) -> &str {
    let result = reply.outcome.as_ref().as_ref().unwrap().result.as_ref().unwrap();
    assert_eq!(result.rows.len(), 1);
    result.rows[0].get()
}

#[test]
fn each_item_of_a_batch_has_its_own_result_and_a_panic_while_one_is_made_fails_only_that_one() {
    let mut bench = Bench::letters();
    for _ in 0..2 {
        let wanted = [Some(bench.wanted(false)), Some(broken()), Some(bench.wanted(true)), None];
        let jobs = wanted.into_iter().zip([1, 1, 2, 2]).enumerate();
        let jobs =
            jobs.map(|(slot, (wanted, class))| bench.job(slot as u64, letter(class), wanted)).collect();
        bench.serve(jobs);
        let replies: Vec<Reply> = (0..4).map(|_| bench.reply()).collect();
        assert_eq!(replies.iter().map(|reply| reply.slot).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(line(&replies[0]), r#"{"text":"a","score":1.0}"#);
        let error = replies[1].outcome.as_ref().as_ref().unwrap_err();
        assert!(error.code == Code::InferenceFailed && error.message.contains("panicked"), "{error}");
        let steps = r#"{"text":"é","score":1.0,"steps":[{"character":"é","score":1.0,"at":0}]}"#;
        assert_eq!(line(&replies[2]), steps);
        let outputs = replies[3].outcome.as_ref().as_ref().unwrap();
        assert!(outputs.result.is_none() && outputs.tensors == [Some(certain(2))], "it wants no result");
        drop(replies);
        assert_eq!(bench.budget.used(), 0);
    }
}

#[test]
fn a_reply_has_the_memory_of_its_result_and_the_output_is_gone_unless_the_request_wants_both() {
    let mut bench = Bench::letters();
    let wanted = bench.wanted(false);
    bench.serve(vec![bench.job(0, letter(1), Some(wanted.clone()))]);
    let reply = bench.reply();
    let text = line(&reply).len() + size_of::<Box<str>>();
    assert_eq!(reply.outcome.as_ref().as_ref().unwrap().tensors, [None]);
    assert_eq!((reply.share.bytes(), bench.budget.used()), (text, text));
    drop(reply);
    bench.serve(vec![bench.job(0, letter(1), Some(WantedResult { with_outputs: true, ..wanted }))]);
    let reply = bench.reply();
    assert_eq!(reply.outcome.as_ref().as_ref().unwrap().tensors, [Some(certain(1))]);
    assert_eq!(reply.share.bytes(), text + certain(1).memory());
}

#[test]
fn no_result_is_made_for_a_connection_that_has_ended_during_the_run() {
    let bench = Bench::letters();
    let mut job = bench.job(0, letter(1), Some(broken()));
    job.cancelled.store(true, Ordering::Relaxed);
    let outputs = bench.executor.outputs(&mut job, vec![certain(1)]).unwrap();
    assert!(outputs.result.is_none() && outputs.tensors.is_empty());
}

#[test]
fn a_frame_of_a_mailbox_brings_its_own_settings_or_its_own_error() {
    let mut bench = Bench::letters();
    let refused = RequestError::invalid("no such setting");
    for result in [Ok(Some(bench.wanted(true))), Err(refused.clone())] {
        let mailbox = Arc::new(Mailbox::default());
        let share = Share::none(&bench.budget);
        let deadline = Instant::now() + Duration::from_secs(3600);
        let Inputs::Own(inputs) = letter(1) else { unreachable!() };
        let is_refused = result.is_err();
        mailbox.put(crate::engine::Frame { pending: (), inputs, result, deadline, share });
        bench.serve(vec![bench.job(0, Inputs::Newest(mailbox), None)]);
        let reply = bench.reply();
        match is_refused {
            false => assert!(line(&reply).contains("steps")),
            true => assert_eq!(reply.outcome.unwrap_err().message, refused.message),
        }
    }
}

#[test]
fn a_step_whose_result_cannot_be_made_changes_no_state() {
    let state = StateOption { input: "state".into(), output: "state_out".into(), batch_axis: None };
    // The sums have no axis of steps, so no text can be read from them.
    let mut bench = Bench::new("running", Options { states: vec![state], ..Options::default() });
    let (queue, jobs) = Queue::new(8);
    let initial = vec![Tensor::new(vec![1, 1, 2], Elements::Fp32(vec![0.0; 2])).unwrap()];
    let sequence = JobSequence::new(Arc::new(initial), queue.clone());
    let mut step = |number: f32, wanted: Option<WantedResult>| {
        let row = Tensor::new(vec![1, 2], Elements::Fp32(vec![number; 2])).unwrap();
        let mut job = bench.job(0, Inputs::Own(vec![Input::Tensor(row)]), wanted);
        job.sequence = Some(SequenceStep::new(sequence.clone(), false, false));
        queue.submit(job).unwrap();
        bench.serve(vec![jobs.try_recv().unwrap()]);
        bench.reply().outcome
    };
    assert!(step(1.0, None).is_ok());
    let error = step(10.0, Some(broken())).unwrap_err();
    assert!(error.message.starts_with("result: "), "{error}");
    let sums = step(100.0, None).unwrap().tensors.remove(0).unwrap();
    assert_eq!(sums.elements(), &Elements::Fp32(vec![101.0; 2]));
}

#[test]
fn conversations_make_no_results_in_their_own_thread() {
    let Bench { executor: Executor { workload, runs, .. }, .. } = Bench::letters();
    runs.took(0, Duration::from_nanos(1));
    let guests = Guests::new(&workload, &runs, &Clock::system(), &Places::default(), Duration::ZERO);
    assert!(guests.admit(Duration::from_secs(3600)).is_none());
}

#[test]
fn a_lone_request_calls_a_worker_that_waits_if_several_threads_are_faster() {
    for threads in [1, 2] {
        let bench = Bench::letters();
        let Executor { workload, runs, clock, .. } = bench.executor;
        workload.session.assume_threads(threads);
        let (queue, jobs) = Queue::new(8);
        let intake = Arc::new(Intake::new(jobs, Duration::ZERO));
        let executor = Executor::with_help(workload, runs, clock, intake.clone());
        let mut bench = Bench { executor, ..bench };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| intake.take(|| 1, |_| 1));
            while !intake.has_help() {
                std::thread::yield_now();
            }
            bench.serve(vec![bench.job(0, letter(1), None)]);
            assert!(bench.reply().outcome.is_ok());
            let until = Instant::now() + Duration::from_secs(60);
            while threads > 1 && intake.has_help() && Instant::now() < until {
                std::thread::yield_now();
            }
            // Without a call, the worker waits until the queue is closed.
            drop(queue);
            let is_called = matches!(waiting.join().unwrap(), Some(Taken::Call(_)));
            assert_eq!(is_called, threads > 1);
        });
    }
}
