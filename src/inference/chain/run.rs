//! A request's way through a chain. The thread that has run the last job of a step puts the jobs of the next step into their
//! queue; no thread waits for another one.
//!
//! Invariants: exactly one reply is sent. No lock is held while a job is put into a queue or dropped, because it is then
//! answered at once, and the answer takes the lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use serde_json::json;
use serde_json::value::to_raw_value;

use super::parts::{self, StepResult};
use super::{Chain, Source, Step};
use crate::engine::reply::Continue;
use crate::engine::sequence::Sequence;
use crate::engine::{Inputs, Job, Outcome, Outputs, ReplyTo};
use crate::error::{Code, RequestError};
use crate::memory::Share;
use crate::model::{Input, Tensor};
use crate::processing::results::MadeResult;

/// The windows of a conversation. Its requests go through the chain one after the other, because each one needs the windows
/// that the one before has left.
#[derive(Debug)]
pub struct ChainSequence {
    order: Sequence<Arc<Run>>,
    windows: Mutex<Vec<Option<Tensor>>>,
}

impl ChainSequence {
    /// Begins without windows.
    pub fn new(chain: &Chain) -> Arc<ChainSequence> {
        let windows = Mutex::new(vec![None; chain.windows]);
        Arc::new(ChainSequence { order: Sequence::new(Arc::default()), windows })
    }
}

/// One request.
#[derive(Debug)]
pub struct Run {
    chain: Arc<Chain>,
    sequence: Option<Arc<ChainSequence>>,
    /// Is told of each step that has ended; `None` for requests of clients.
    watcher: Option<Sender<Seen>>,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    /// The request as it came. Its reply is that of the whole chain. `None` when it was sent.
    job: Option<Job>,
    tensors: Vec<Option<Input>>,
    /// The step that runs now.
    step: usize,
    /// The jobs of this step that have ended.
    parts: Vec<Option<Part>>,
    /// The results of steps.
    results: Vec<Option<StepResult>>,
    windows: Vec<Option<Tensor>>,
    /// When the step began.
    begun: Instant,
}

/// A step that has ended.
#[derive(Debug)]
pub struct Seen {
    /// Its number, from 0.
    pub step: usize,
    pub took: Duration,
    /// How often its model ran.
    pub runs: usize,
    /// The shapes of the tensors that it made.
    pub shapes: Vec<Vec<usize>>,
}

/// What a job of a step has made.
#[derive(Debug)]
struct Part {
    tensors: Vec<Tensor>,
    result: Option<MadeResult>,
    /// Why it failed, for a part of an image: the other parts do not fail with it.
    error: Option<RequestError>,
}

/// What is done after the lock is released.
#[allow(clippy::large_enum_variant, reason = "it is made once for each step, and taken apart at once")]
enum Next {
    Wait,
    /// These jobs go to the model of this step.
    Submit(usize, Vec<Job>),
    End(Job, Result<Outputs, RequestError>),
}

/// Begins a request.
// The error is as large as the job because it returns the job to the caller.
#[allow(clippy::result_large_err)]
pub fn begin(
    chain: &Arc<Chain>,
    mut job: Job,
    sequence: Option<&Arc<ChainSequence>>,
    watcher: Option<Sender<Seen>>,
) -> Result<(), (Job, RequestError)> {
    let Inputs::Own(inputs) = std::mem::replace(&mut job.inputs, Inputs::Own(Vec::new())) else {
        let error = RequestError::invalid("a chain does not take stream=last: connect without it");
        return Err((job, error));
    };
    let mut tensors: Vec<Option<Input>> = inputs.into_iter().map(Some).collect();
    tensors.resize(chain.tensors, None);
    let windows = vec![None; chain.windows];
    let begun = Instant::now();
    let results = (0..chain.results).map(|_| None).collect();
    let progress = Progress { job: Some(job), tensors, step: 0, parts: Vec::new(), results, windows, begun };
    let (chain, sequence_of_run) = (chain.clone(), sequence.cloned());
    let run = Run { chain, sequence: sequence_of_run, watcher, progress: Mutex::new(progress) };
    let run = Arc::new(run);
    let Some(sequence) = sequence else {
        run.start();
        return Ok(());
    };
    let mut first = None;
    let put = |run| {
        first = Some(run);
        Ok::<(), (Job, RequestError)>(())
    };
    sequence.order.submit(run, put)?;
    // Outside of the sequence's lock, because the run may end at once.
    if let Some(run) = first {
        run.start();
    }
    Ok(())
}

impl Run {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>) {
        let next = self.first_step();
        self.act(next);
    }

    fn first_step(self: &Arc<Self>) -> Next {
        if let Some(sequence) = &self.sequence {
            let windows = sequence.windows.lock().unwrap_or_else(PoisonError::into_inner);
            self.progress().windows.clone_from(&windows);
        }
        self.next_step(&mut self.progress())
    }

    /// Does what comes next, also for the requests that waited behind this one. It is a loop, because many of them may be
    /// refused one after the other, and each call inside another one takes a part of the stack.
    fn act(self: &Arc<Self>, mut next: Next) {
        let mut run = self.clone();
        loop {
            next = match next {
                Next::Wait => return,
                Next::Submit(step, jobs) => run.put(step, jobs),
                Next::End(job, outcome) => match run.end(job, outcome) {
                    None => return,
                    Some(waiting) => {
                        run = waiting;
                        run.first_step()
                    }
                },
            };
        }
    }

    /// Puts jobs into the queue of the model of a step.
    fn put(self: &Arc<Self>, step: usize, jobs: Vec<Job>) -> Next {
        for job in jobs {
            if let Err((refused, error)) = self.chain.steps[step].model.enqueue(job) {
                let (part, share) = (refused.reply.slot() as usize, refused.reply.forget());
                let next = self.took(&mut self.progress(), part, Err(error), share);
                if !matches!(next, Next::Wait) {
                    return next;
                }
            }
        }
        Next::Wait
    }

    /// Sends the reply. Returns the next request of the conversation.
    fn end(&self, mut job: Job, outcome: Result<Outputs, RequestError>) -> Option<Arc<Run>> {
        let next = self.sequence.as_ref().and_then(|sequence| {
            if outcome.is_ok() {
                let windows = std::mem::take(&mut self.progress().windows);
                *sequence.windows.lock().unwrap_or_else(PoisonError::into_inner) = windows;
            }
            sequence.order.end_step(None)
        });
        if outcome.is_err() {
            job.reply.share().shrink_to(0);
        }
        job.reply.send(outcome);
        next
    }

    /// Ends the request with an error, or does nothing when it has ended.
    fn fail(progress: &mut Progress, error: RequestError) -> Next {
        match progress.job.take() {
            Some(job) => Next::End(job, Err(error)),
            None => Next::Wait,
        }
    }

    /// Makes the jobs of the next step, or the answer.
    fn next_step(self: &Arc<Self>, progress: &mut Progress) -> Next {
        loop {
            let Some(step) = self.chain.steps.get(progress.step) else { return self.finish(progress) };
            let jobs = match self.jobs(step, progress) {
                Ok(jobs) => jobs,
                Err(error) => return Run::fail(progress, self.within(progress.step, error)),
            };
            if !jobs.is_empty() {
                progress.parts = (0..jobs.len()).map(|_| None).collect();
                return Next::Submit(progress.step, jobs);
            }
            // No window is complete yet, or no region was found, so the step has nothing to do.
            if let Some(result) = step.result {
                progress.results[result] = Some(StepResult::default());
            }
            for (output, at) in &step.outputs {
                let metadata = &step.model.signature.outputs[*output];
                let mut shape = metadata.shape_with_open(1);
                if let Some(first) = shape.first_mut() {
                    *first = 0;
                }
                match Tensor::zeros(metadata.datatype, shape) {
                    Ok(none) => progress.tensors[*at] = Some(Input::Tensor(none)),
                    Err(error) => return Run::fail(progress, RequestError::invalid(error)),
                }
            }
            progress.step += 1;
        }
    }

    fn within(&self, step: usize, error: RequestError) -> RequestError {
        let name = &self.chain.steps[step].model.name;
        error.within(&format!("step {} (`{name}`)", step + 1))
    }

    /// The jobs of a step: one, or one for each window; none when no window is complete.
    fn jobs(self: &Arc<Self>, step: &Step, progress: &mut Progress) -> Result<Vec<Job>, RequestError> {
        let invalid = |message: String| RequestError::new(Code::InferenceFailed, message);
        let Some(job) = &mut progress.job else { return Ok(Vec::new()) };
        let mut count = None;
        let mut inputs: Vec<Vec<Input>> = Vec::new();
        for (at, source) in step.inputs.iter().enumerate() {
            let name = &step.model.signature.inputs[at].name;
            let (given, mapping, window) = match source {
                Source::FilledBy(source) => {
                    inputs.push(vec![Input::FilledBy(*source)]);
                    continue;
                }
                Source::Crop(crop) => {
                    let parts = parts::cut(
                        crop,
                        &progress.tensors,
                        &progress.results,
                        self.chain.max_pixels,
                        job.reply.share(),
                    )?;
                    count = Some(parts.len());
                    inputs.push(parts);
                    continue;
                }
                Source::Tensor { at, mapping, window } => (&progress.tensors[*at], mapping, window),
            };
            let given = given.clone().ok_or_else(|| invalid(format!("input `{name}` was not made")))?;
            let Input::Tensor(tensor) = given else {
                inputs.push(vec![given]);
                continue;
            };
            let is_empty = tensor.elements().is_empty();
            let tensor = mapping.leveled(tensor).map_err(invalid)?;
            let windows = match window {
                None => vec![tensor],
                Some(number) => {
                    let before = progress.windows[*number].take();
                    let cut = mapping.cut(before, tensor).map_err(invalid)?;
                    let cut = cut.ok_or_else(|| invalid(format!("input `{name}` has no window")))?;
                    progress.windows[*number] = Some(cut.rest);
                    cut.windows
                }
            };
            // A tensor without rows comes of a step that had nothing to do.
            let own = if window.is_some() { windows.len() } else { usize::from(!is_empty) };
            if window.is_some() || is_empty {
                match count {
                    Some(other) if other != own => {
                        return Err(invalid(format!(
                            "input `{name}` has {own} windows, but another input has {other}"
                        )));
                    }
                    _ => count = Some(own),
                }
            }
            let shaped = windows.into_iter().map(|window| mapping.shaped(window).map(Input::Tensor));
            inputs.push(shaped.collect::<Result<_, _>>().map_err(invalid)?);
        }
        let count = count.unwrap_or(1);
        let of_part = |part: usize| -> Result<(Vec<Input>, Share), RequestError> {
            let own: Vec<Input> =
                inputs.iter().map(|inputs| inputs.get(part).unwrap_or(&inputs[0]).clone()).collect();
            let bytes = own.iter().map(Input::memory).sum();
            let share = job.reply.share().take_beside(bytes)?;
            Ok((own, share))
        };
        // All memory is taken before the first job is made: a job that is dropped answers, and an answer takes the lock.
        let parts = (0..count).map(of_part).collect::<Result<Vec<_>, _>>()?;
        let jobs = parts.into_iter().enumerate().map(|(part, (own, share))| Job {
            inputs: Inputs::Own(own),
            rows: Vec::new(),
            result: step.result.and_then(|_| step.model.whole_result()),
            sequence: None,
            arrived: job.arrived,
            deadline: job.deadline,
            cancelled: job.cancelled.clone(),
            reply: ReplyTo::chain(part as u64, self.clone(), share),
        });
        Ok(jobs.collect())
    }

    /// Takes the outputs of a job. When all jobs of the step have ended, goes on.
    fn took(self: &Arc<Self>, progress: &mut Progress, part: usize, outcome: Outcome, share: Share) -> Next {
        let Some(job) = &mut progress.job else { return Next::Wait };
        let step = &self.chain.steps[progress.step];
        let made = outcome.and_then(|outputs| {
            job.reply.share().absorb(share);
            let Outputs { mut tensors, result, .. } = outputs;
            let taken = step.outputs.iter().map(|(at, _)| {
                let tensor = tensors.get_mut(*at).and_then(Option::take);
                let tensor =
                    tensor.ok_or_else(|| RequestError::new(Code::InferenceFailed, "an output is missing"))?;
                // The chain gets what a client of the model would get as a tensor.
                step.model.postprocessor(*at).finish(tensor, Some(0))
            });
            Ok(Part { tensors: taken.collect::<Result<_, RequestError>>()?, result, error: None })
        });
        let is_part = step.inputs.iter().any(|source| matches!(source, Source::Crop(_)));
        progress.parts[part] = Some(match made {
            Ok(made) => made,
            // Without a connection or time, the other parts fail too.
            Err(error) if is_part && !matches!(error.code, Code::Unavailable | Code::DeadlineExceeded) => {
                Part { tensors: Vec::new(), result: None, error: Some(error) }
            }
            Err(error) => return Run::fail(progress, self.within(progress.step, error)),
        });
        if progress.parts.iter().any(Option::is_none) {
            return Next::Wait;
        }
        let runs = progress.parts.len();
        if let Err(error) = self.join_parts(progress) {
            return Run::fail(progress, self.within(progress.step, error));
        }
        self.tell(progress, runs);
        progress.step += 1;
        progress.begun = Instant::now();
        self.next_step(progress)
    }

    /// Tells the watcher of the step that has ended.
    fn tell(&self, progress: &Progress, runs: usize) {
        let Some(watcher) = &self.watcher else { return };
        let made = self.chain.steps[progress.step].outputs.iter().map(|(_, at)| &progress.tensors[*at]);
        let shapes = made.flatten().map(|tensor| tensor.known_shape().into_owned()).collect();
        // It does not matter when nobody receives it any more, or when the channel is full.
        let _ = watcher.try_send(Seen { step: progress.step, took: progress.begun.elapsed(), runs, shapes });
    }

    /// Joins what the jobs of a step have made, and counts the memory of what is kept.
    fn join_parts(&self, progress: &mut Progress) -> Result<(), RequestError> {
        let parts: Vec<Part> = std::mem::take(&mut progress.parts).into_iter().flatten().collect();
        let step = &self.chain.steps[progress.step];
        let failed = |error: String| RequestError::new(Code::InferenceFailed, error);
        let Some(good) = parts.iter().find(|part| part.error.is_none()) else {
            let error = parts.into_iter().find_map(|part| part.error);
            return Err(error.unwrap_or_else(|| failed("none of its runs has ended".into())));
        };
        for (number, (_, at)) in step.outputs.iter().enumerate() {
            // A part that failed has zeros, so that the others keep their rows.
            let like = &good.tensors[number];
            let zeros = Tensor::zeros(like.datatype(), like.shape().to_vec()).map_err(failed)?;
            let all: Vec<&Tensor> =
                parts.iter().map(|part| part.tensors.get(number).unwrap_or(&zeros)).collect();
            let joined = match all.as_slice() {
                [only] => (*only).clone(),
                several => {
                    Tensor::concat(0, several).map_err(|error| failed(format!("its runs: {error}")))?
                }
            };
            progress.tensors[*at] = Some(Input::Tensor(joined));
        }
        if let Some(result) = step.result {
            let mut whole = StepResult::default();
            for part in parts {
                match (part.result, part.error) {
                    (Some(MadeResult { rows, coordinates, non_finite }), _) => {
                        whole.rows.extend(rows);
                        whole.coordinates = coordinates;
                        whole.non_finite += non_finite;
                    }
                    (None, error) => {
                        let message = error.map_or("it has no result".into(), |error| error.message);
                        whole.rows.push(
                            to_raw_value(&json!({ "error": message }))
                                .map_err(|error| failed(error.to_string()))?,
                        );
                    }
                }
            }
            progress.results[result] = Some(whole);
        }
        let (next, chain) = (progress.step + 1, &self.chain);
        for (at, tensor) in progress.tensors.iter_mut().enumerate() {
            let is_used =
                chain.steps[next..].iter().flat_map(|step| &step.inputs).any(|source| source.uses(at));
            if !is_used && !chain.outputs.contains(&at) && self.watcher.is_none() {
                *tensor = None;
            }
        }
        let kept = progress.tensors.iter().flatten().map(Input::memory).sum();
        match &mut progress.job {
            Some(job) => job.reply.share().resize(kept),
            None => Ok(()),
        }
    }

    /// The answer of the chain.
    fn finish(&self, progress: &mut Progress) -> Next {
        let Some(mut job) = progress.job.take() else { return Next::Wait };
        let outputs: Option<Vec<Option<Tensor>>> = self
            .chain
            .outputs
            .iter()
            .map(|at| match progress.tensors[*at].take() {
                Some(Input::Tensor(tensor)) => Some(Some(tensor)),
                _ => None,
            })
            .collect();
        let Some(mut tensors) = outputs else {
            return Next::End(job, Err(RequestError::new(Code::InferenceFailed, "the chain made no output")));
        };
        let rows = std::mem::take(&mut job.rows);
        if let Some(answer) = self.chain.answer {
            return match parts::answer(answer, &mut progress.results) {
                Ok(result) => Next::End(job, Ok(Outputs { tensors, rows, result: Some(result) })),
                Err(error) => Next::End(job, Err(error)),
            };
        }
        let result = match (&self.chain.result, &job.result) {
            (Some(maker), Some(wanted)) => match maker.finish(&mut tensors, &rows, wanted, job.reply.share())
            {
                Ok(result) => Some(result),
                Err(error) => return Next::End(job, Err(error)),
            },
            _ => None,
        };
        Next::End(job, Ok(Outputs { tensors, rows, result }))
    }
}

impl Drop for Run {
    /// A panic may have ended a step. Its client gets an error, and the next request of the conversation begins.
    fn drop(&mut self) {
        let job = self.progress().job.take();
        if let Some(job) = job {
            let error = RequestError::new(Code::InferenceFailed, "a step of the chain was given up");
            if let Some(next) = self.end(job, Err(error)) {
                next.start();
            }
        }
    }
}

impl Continue for Run {
    fn take(self: Arc<Self>, part: u64, outcome: Outcome, share: Share) {
        let next = self.took(&mut self.progress(), part as usize, outcome, share);
        self.act(next);
    }
}
