//! `onnxd check`: prints the inputs, outputs and speed of a model, or why it does not load. It loads and measures with
//! the same code as the server; only the text of the report belongs here.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use super::logging;
use crate::config::{FetchFlags, Limits, LogFlags};
use crate::fetch::Fetcher;
use crate::inference::chain::trial;
use crate::inference::{self, Loaded, Sample, Suggestion, planning};
use crate::memory::{Budget, Share};
use crate::model::repository::find_all;
use crate::model::{ModelFiles, ModelSource, Store, TensorMetadata};
use crate::onnx::Session;
use crate::onnx::{Finding, Planner};
use crate::transfer::progress::Lines;
use crate::wire::example::{example, whole_example};

#[derive(Debug, Args)]
pub struct CheckFlags {
    /// An .onnx file, a folder with model.json or model.onnx, a URL, or a folder of such folders
    /// [default: the folder `model`; where there is none, the digits model that is part of this program]
    #[arg(env = "ONNXD_MODEL")]
    model: Option<PathBuf>,

    /// Print the whole example request, even if it is long
    #[arg(long)]
    example: bool,

    /// Print one line for each model below a folder, .onnx files too
    #[arg(long, conflicts_with_all = ["model", "example"], value_name = "FOLDER")]
    all: Option<PathBuf>,

    /// Write the model.json that the report suggests into the model's folder, if there is none
    #[arg(long, conflicts_with = "all")]
    write: bool,

    #[command(flatten)]
    fetch: FetchFlags,

    #[command(flatten)]
    log: LogFlags,
}

/// The latency is measured for this time, or for this number of runs, whichever ends first.
const MEASURE: Duration = Duration::from_secs(1);
const MOST_RUNS: usize = 200;

/// Bytes of the longest example request that is printed whole without `--example`: about one screen.
const LONGEST_EXAMPLE: usize = 2000;

/// Prints a report for each model to standard output. Fails when one of them does not load.
pub fn run(flags: &CheckFlags) -> ExitCode {
    // The report has all errors, so the log is off unless the user chose a level.
    let quiet = LogFlags { log: "off".into(), ..flags.log.clone() };
    let log = if flags.log.log == "info" { &quiet } else { &flags.log };
    if let Err(error) = logging::start(log, Limits::default().max_log_bytes) {
        eprintln!("onnxd: {error}");
        return ExitCode::FAILURE;
    }
    if let Some(folder) = &flags.all {
        return all(folder);
    }
    let models = match models(flags) {
        Ok(models) => models,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut code = ExitCode::SUCCESS;
    let all = models.clone();
    for files in models {
        println!("model    {} (version {})", files.name, files.version);
        if files.manifest.ensemble_scheduling.is_some() {
            if !chain(&files, &all) {
                code = ExitCode::FAILURE;
            }
            continue;
        }
        match files.store {
            Store::Disk => println!("file     {}", files.onnx.display()),
            Store::Program => println!("file     part of this program; for your own: onnxd check PATH"),
        }
        let begun = Instant::now();
        match inference::load(files, &Limits::default()) {
            Ok(loaded) => {
                let suggested = suggested(&loaded);
                report(loaded, begun.elapsed(), flags.example);
                if let Some((folder, manifest)) = suggested
                    && !suggest(&folder, &manifest, flags.write)
                {
                    code = ExitCode::FAILURE;
                }
            }
            Err(error) => {
                println!("loads    no\n         {error}\n");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// Prints the report of a chain. Returns false when it does not load, or when a request through it fails.
fn chain(files: &ModelFiles, all: &[ModelFiles]) -> bool {
    let tried = match trial::load(files, all, &Limits::default()) {
        Ok(tried) => tried,
        Err(error) => {
            println!("loads    no\n         {error}\n");
            return false;
        }
    };
    let signature = &tried.model.signature;
    in_lines("takes", signature.inputs.iter().map(|input| describe(input, &signature.inputs)));
    in_lines("gives", signature.outputs.iter().map(|output| describe(output, &[])));
    if let Some(result) = tried.model.result() {
        println!("result   {}", result.describe(signature));
    }
    if let Some(stream) = &tried.model.audio {
        println!("stream   {}", stream.describe());
    }
    let Some(chain) = tried.model.chain() else { return false };
    for (at, (model, seen)) in chain.models().zip(&tried.steps).enumerate() {
        let took = match seen {
            None => format!("has not run: no window was complete after {} requests", tried.requests),
            Some(seen) => {
                let made = chain.made_by(at).iter().zip(&seen.shapes);
                let made: Vec<String> = made.map(|(name, shape)| format!("{name} {shape:?}")).collect();
                let runs = if seen.runs == 1 { String::new() } else { format!(", {} runs", seen.runs) };
                format!("{:.3} ms{runs}; makes {}", seen.took.as_secs_f64() * 1e3, made.join(", "))
            }
        };
        println!("step {}   {} (version {}): {took}", at + 1, model.name, model.version);
    }
    if let Some(error) = &tried.error {
        println!("fails    a request of zeros: {}", error.message);
    }
    println!("example  {}\n", example(signature));
    tried.error.is_none()
}

/// Prints lines, the first one behind `word`.
fn in_lines(word: &str, lines: impl Iterator<Item = String>) {
    for (at, line) in lines.enumerate() {
        println!("{:<9}{line}", if at == 0 { word } else { "" });
    }
}

/// The folder of a model without model.json, and the model.json that it looks like.
fn suggested(loaded: &Loaded) -> Option<(PathBuf, Suggestion)> {
    let files = &loaded.files;
    let has_none = files.manifest_file.is_none() && files.store == Store::Disk && loaded.result.is_none();
    let folder = files.onnx.parent().map(Path::to_owned).unwrap_or_default();
    let signature = loaded.workload.session.signature();
    has_none.then(|| inference::suggestion(files, signature)).flatten().map(|manifest| (folder, manifest))
}

/// Prints a suggested model.json, and writes it to the model's folder if `is_wanted`. Returns false when it cannot be
/// written.
fn suggest(folder: &Path, Suggestion { reason, manifest }: &Suggestion, is_wanted: bool) -> bool {
    let text = format!("{manifest:#}\n");
    println!(
        "looks    like a model with a result: {reason}. If that is right, serve it with this model.json"
    );
    println!(
        "         (docs/results.md), and add `\"labels\": \"labels.txt\"` to its result if it has classes:"
    );
    print!("{text}");
    if !is_wanted {
        println!("         `onnxd check --write` writes it beside the ONNX file\n");
        return true;
    }
    let path = folder.join("model.json");
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    match &written {
        Ok(()) => println!("         written to {}\n", path.display()),
        Err(error) => println!("         not written to {}: {error}\n", path.display()),
    }
    written.is_ok()
}

/// Prints a line for each model below a folder: what it takes and gives, or why it cannot be served.
fn all(folder: &Path) -> ExitCode {
    let found = match find_all(folder) {
        Ok(found) if !found.is_empty() => found,
        Ok(_) => {
            println!("{} holds no model: expected .onnx files or model folders", folder.display());
            return ExitCode::FAILURE;
        }
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = 0;
    let count = found.len();
    for model in found {
        let place = match &model {
            Ok(files) if files.onnx.is_absolute() || files.onnx.starts_with(folder) => files.onnx.clone(),
            Ok(files) => files.home.clone(),
            Err(broken) => broken.home.clone(),
        };
        let place = place.strip_prefix(folder).unwrap_or(&place).display().to_string();
        let loaded = model
            .map_err(|broken| broken.error.to_string())
            .and_then(|files| inference::load(files, &Limits::default()).map_err(|error| error.message));
        match loaded {
            Ok(loaded) => println!("ok    {place}: {}", line(&loaded)),
            Err(error) => {
                failed += 1;
                println!("fails {place}: {}", error.replace('\n', " "));
            }
        }
    }
    println!("{} of {count} models can be served", count - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a model takes and gives, its time, and the notes for its owner, in one line.
fn line(loaded: &Loaded) -> String {
    let signature = loaded.workload.session.signature();
    let tensors = |tensors: &[TensorMetadata]| {
        let all: Vec<String> = tensors.iter().map(|tensor| describe(tensor, &[])).collect();
        all.join(", ")
    };
    let mut line = format!("{} → {}", tensors(&signature.inputs), tensors(&signature.outputs));
    if let Some(least) = loaded.warm_up.times.iter().min() {
        line.push_str(&format!("; {:.3} ms", least.as_secs_f64() * 1e3));
    }
    for note in &loaded.warm_up.notes {
        line.push_str(&format!("; note: {}", note.replace('\n', " ")));
    }
    line
}

fn models(flags: &CheckFlags) -> Result<Vec<ModelFiles>, String> {
    let fetcher = Fetcher::new(flags.fetch.fetching()?, Lines::StandardError);
    fetcher.models(&ModelSource::chosen(flags.model.as_deref())).map_err(|error| error.to_string())
}

fn report(mut loaded: Loaded, took: Duration, whole: bool) {
    let planner = loaded.planner.take();
    let loaded = &loaded;
    let session = &loaded.workload.session;
    println!("loads    in {} ms", took.as_millis());
    tensors(loaded);
    shapes(session);
    for note in &loaded.warm_up.notes {
        println!("note     {note}");
    }
    if let Some(sample) = &loaded.warm_up.sample {
        latency(session, sample);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = loaded.files.manifest.instance_group.count.unwrap_or(cores).min(cores);
    if let Some((count, sample)) = loaded.threads(workers).zip(loaded.warm_up.sample.as_ref())
        && let Ok(finding) = session.measure_threads(count, &sample.item)
    {
        println!("threads  {}", planning::describe_threads(&finding));
    }
    if let Some(planner) = planner {
        batches(planner, session);
    }
    let all = whole_example(session.signature());
    if whole || all.len() <= LONGEST_EXAMPLE {
        println!("example  {all}\n");
    } else {
        println!("example  {}\n         (cut; --example prints it whole)\n", example(session.signature()));
    }
}

/// Prints what the model takes and gives: tensors, states, the stream, and the labels of classes.
fn tensors(loaded: &Loaded) {
    let session = &loaded.workload.session;
    let signature = session.signature();
    in_lines("takes", signature.inputs.iter().map(|input| describe(input, &signature.inputs)));
    in_lines("gives", signature.outputs.iter().map(|output| describe(output, &[])));
    for state in session.states() {
        println!("state    {}, kept from request to request", describe(state, &[]));
    }
    if let Some(result) = &loaded.result {
        println!("result   {}", result.describe(signature));
    }
    if let Some(stream) = loaded.workload.preprocessor.stream() {
        println!("stream   {}", stream.describe());
    }
    for known in &loaded.class_labels {
        let labels = known.labels.join(", ");
        println!(
            "labels   {}: {labels} (its ZipMap is left out, the tensor before it is served)",
            known.output
        );
    }
}

/// Prints how many rows a request may have, which shapes are admitted, and the notes about them.
fn shapes(session: &Session) {
    let signature = session.signature();
    match signature.max_batch_size {
        _ if signature.has_state => println!("rows     one per request: each is a step of a sequence"),
        Some(most) => println!("rows     up to {most} a request (max_batch_size)"),
        None if signature.inputs.iter().all(|input| input.shape.iter().all(|dim| dim.fixed().is_some())) => {}
        None if session.listed_shapes().is_some() => {}
        None => println!(
            "shapes   -1 is any length; fix what never changes with `shape` in model.json: it runs faster"
        ),
    }
    if let Some(shapes) = session.listed_shapes() {
        println!("shapes   {}: those of model.json, and no others", shapes.join(", or "));
    }
    for note in session.notes() {
        println!("batch    {note}");
    }
}

/// Measures the batch sizes, as a server does in the background, and prints each finding.
fn batches(planner: Planner, session: &Session) {
    let mut findings: Vec<Finding> = Vec::new();
    planner.run(|finding| {
        let begin = if findings.is_empty() { "batches  " } else { "         " };
        println!("{begin}{}", planning::describe(finding, &findings));
        findings.push(finding.clone());
    });
    let bytes = session.batch_plan_bytes();
    if bytes > 0 {
        println!("         their plans have {bytes} bytes of weights");
    }
}

/// Measures runs of a sample in one thread, and prints the median. Prints nothing when a run fails.
fn latency(session: &Session, sample: &Sample) {
    let mut runner = session.runner();
    let budget = Budget::unbounded();
    let mut times = Vec::new();
    let begun = Instant::now();
    while times.len() < MOST_RUNS && (begun.elapsed() < MEASURE || times.is_empty()) {
        let run = Instant::now();
        if runner.run(sample.family, &sample.item, &mut Share::none(&budget)).is_err() {
            return;
        }
        times.push(run.elapsed());
    }
    times.sort_unstable();
    let median = times[times.len() / 2];
    println!(
        "latency  {:.3} ms, median of {} runs on {}, one thread",
        median.as_secs_f64() * 1e3,
        times.len(),
        sample.name
    );
}

/// One line about a tensor: name, datatype, shape, and for an input the other forms that it accepts.
fn describe(tensor: &TensorMetadata, inputs: &[TensorMetadata]) -> String {
    let dims: Vec<String> = tensor
        .shape
        .iter()
        .map(|dim| match dim {
            crate::model::Dim::Fixed(length) => length.to_string(),
            crate::model::Dim::Open(Some(name)) => format!("-1 ({name})"),
            crate::model::Dim::Open(None) => "-1".into(),
        })
        .collect();
    let files = match tensor.filled_by.and_then(|source| inputs.get(source)) {
        Some(source) => format!(", or made of the text in {}", source.name),
        None if tensor.accepts.is_empty() => String::new(),
        None => format!(", or BYTES [n]: {}", tensor.accepts.join(", ")),
    };
    format!("{}: {} [{}]{files}", tensor.name, tensor.datatype, dims.join(", "))
}
