//! Measures which batch sizes are faster than single rows, and whether several threads make one run faster, while the model
//! already serves requests. It logs the results. The measurements themselves are in [`onnx`](crate::onnx).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::process::setpriority_process;

use super::warmup::Sample;
use crate::engine::executor::Workload;
use crate::onnx::{Finding, Planner, ThreadFinding, Verdict};
use crate::panics::panic_message;

/// The lowest priority (nice 19), so that requests run first.
const LOW: i32 = 19;

/// The stack of the thread in bytes, the same as for a worker.
const STACK: usize = 8 << 20;

/// What is measured.
pub struct Trials {
    /// Makes the plans for batches; `None` when the model uses no batches.
    pub planner: Option<Planner>,
    /// The number of threads for one run, and the sample that is run. `None`: only one thread may work on a request.
    pub threads: Option<(usize, Sample)>,
}

/// Does the trials in a thread of its own. No other thread waits for it. It ends when it is done, or soon after the model
/// is dropped. Returns an error when the thread cannot be started.
pub fn start(name: &str, trials: Trials, workload: &Arc<Workload>) -> std::io::Result<()> {
    if trials.planner.is_none() && trials.threads.is_none() {
        return Ok(());
    }
    let (model, workload) = (name.to_owned(), Arc::downgrade(workload));
    let builder = std::thread::Builder::new().name(format!("{name}-plan")).stack_size(STACK);
    builder.spawn(move || {
        // On Linux each thread has its own priority. When it cannot be lowered, the plans are made at the normal
        // one.
        if let Err(error) = setpriority_process(None, LOW) {
            log::debug!("planning keeps its priority: {error}");
        }
        let planning = catch_unwind(AssertUnwindSafe(|| {
            if let Some((count, sample)) = trials.threads {
                measure_threads(&model, count, &sample, &workload);
            }
            if let Some(planner) = trials.planner {
                measure(&model, planner, &workload);
            }
        }));
        if let Err(panic) = planning {
            let panic = panic_message(panic.as_ref());
            log::error!("model {model}: planning panicked, only the batches found before are used: {panic}");
        }
    })?;
    Ok(())
}

fn measure(model: &str, planner: Planner, workload: &Weak<Workload>) {
    let mut findings = Vec::new();
    planner.run(|finding| {
        if matches!(finding.verdict, Verdict::Differs(_)) {
            log::warn!("model {model}: {}", describe(finding, &findings));
        } else {
            log::debug!("model {model}: {}", describe(finding, &findings));
        }
        findings.push(finding.clone());
    });
    if !findings.is_empty() {
        log::info!("model {model}: {}", summary(&findings, workload));
    }
}

fn measure_threads(model: &str, count: usize, sample: &Sample, workload: &Weak<Workload>) {
    let Some(workload) = workload.upgrade() else { return };
    match workload.session.measure_threads(count, &sample.item) {
        Ok(finding) => log::info!("model {model}: {}", describe_threads(&finding)),
        Err(error) => log::warn!("model {model}: a request is run by one thread: {error}"),
    }
}

/// Describes in words whether several threads make one run faster.
pub fn describe_threads(finding: &ThreadFinding) -> String {
    let ThreadFinding { threads, alone, together } = finding;
    let verdict = if finding.helps() { "used when no other request waits" } else { "not used" };
    format!("{threads} threads a run: {together:.3} ms instead of {alone:.3} ms: {verdict}")
}

fn summary(findings: &[Finding], workload: &Weak<Workload>) -> String {
    let used = findings.iter().filter(|finding| finding.verdict == Verdict::Used);
    let used: Vec<String> = used.map(|finding| finding.rows.to_string()).collect();
    if used.is_empty() {
        return "batches do not pay: rows are run one by one".into();
    }
    let bytes = workload.upgrade().map_or(0, |workload| workload.session.batch_plan_bytes());
    format!("batches of {} are used; their plans have {bytes} bytes of weights", used.join(", "))
}

/// Describes one finding in words. The first of `others` must be the finding for a single row.
pub fn describe(finding: &Finding, others: &[Finding]) -> String {
    let rows = finding.rows;
    let time = finding.per_row.map(|time| {
        let gain = others.first().and_then(|single| single.per_row).map(|single| gain(single, time));
        let gain = gain.map(|gain| format!(", {gain:.2} times a single row's rate")).unwrap_or_default();
        format!("{:.4} ms a row{gain}", time.as_secs_f64() * 1e3)
    });
    let time = time.unwrap_or_default();
    match &finding.verdict {
        Verdict::Single => format!("1 row: {time}"),
        Verdict::Used if time.is_empty() => format!("{rows} rows: used, as model.json says"),
        Verdict::Used => format!("{rows} rows: {time}: used"),
        Verdict::Slower => format!("{rows} rows: {time}: not used"),
        Verdict::TooLarge { bytes } => {
            format!(
                "{rows} rows: not tried, the plans would have {bytes} bytes of weights (--max-plan-bytes)"
            )
        }
        Verdict::Failed(error) => format!("{rows} rows: no such plan: {error}"),
        Verdict::Differs(error) => {
            format!("{rows} rows: not used, rows are not independent or the engine is wrong: {error}")
        }
    }
}

fn gain(single: Duration, time: Duration) -> f64 {
    single.as_secs_f64() / time.as_secs_f64().max(1e-12)
}
