//! `onnxd check`: what a model takes and gives, and how fast; or why it does not load.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use super::logging;
use crate::config::{Limits, LogFlags};
use crate::inference::{self, Loaded};
use crate::model::{TensorMetadata, repository};
use crate::wire::example::{example, whole_example};

#[derive(Debug, Args)]
pub struct CheckFlags {
    /// An .onnx file, a folder with model.json or model.onnx, or a folder of such folders
    #[arg(default_value = "model", env = "ONNXD_MODEL")]
    model: PathBuf,

    /// Print the example request whole, however long it is
    #[arg(long)]
    example: bool,

    #[command(flatten)]
    log: LogFlags,
}

/// How long the latency is measured, and how many runs at most.
const MEASURE: Duration = Duration::from_secs(1);
const MOST_RUNS: usize = 200;

/// Bytes of an example that is printed without being asked for.
const LONGEST_EXAMPLE: usize = 2000;

pub fn run(flags: &CheckFlags) -> ExitCode {
    // What goes wrong is in the report.
    let quiet = LogFlags { log: "off".into(), ..flags.log.clone() };
    let log = if flags.log.log == "info" { &quiet } else { &flags.log };
    if let Err(error) = logging::start(log) {
        eprintln!("onnxd: {error}");
        return ExitCode::FAILURE;
    }
    let models = match repository::find(&flags.model) {
        Ok(models) => models,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut code = ExitCode::SUCCESS;
    for files in models {
        println!("model    {} (version {})", files.name, files.version);
        println!("file     {}", files.onnx.display());
        let begun = Instant::now();
        match inference::load(files, &Limits::default()) {
            Ok(loaded) => report(&loaded, begun.elapsed(), flags.example),
            Err(error) => {
                println!("loads    no\n         {error}\n");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

fn report(loaded: &Loaded, took: Duration, whole: bool) {
    let session = &loaded.workload.session;
    let signature = session.signature();
    println!("loads    in {} ms", took.as_millis());
    for (at, input) in signature.inputs.iter().enumerate() {
        println!("{}{}", if at == 0 { "takes    " } else { "         " }, describe(input, &signature.inputs));
    }
    for (at, output) in signature.outputs.iter().enumerate() {
        println!("{}{}", if at == 0 { "gives    " } else { "         " }, describe(output, &[]));
    }
    match signature.max_batch_size {
        Some(most) => println!("rows     up to {most} a request (max_batch_size)"),
        None if signature.inputs.iter().all(|input| input.shape.iter().all(|dim| dim.fixed().is_some())) => {}
        None => println!(
            "shapes   -1 is any length; fix what never changes with `shape` in model.json: it runs faster"
        ),
    }
    match &loaded.warmup_error {
        Some(error) => {
            println!("warm-up  failed on {}, which some models cannot take: {error}", sample_of(loaded))
        }
        None => latency(loaded),
    }
    // Up to a screenful it can be pasted as it is.
    let all = whole_example(signature);
    if whole || all.len() <= LONGEST_EXAMPLE {
        println!("example  {all}\n");
    } else {
        println!("example  {}\n         (cut; --example prints it whole)\n", example(signature));
    }
}

fn latency(loaded: &Loaded) {
    let session = &loaded.workload.session;
    let Ok(inputs) = inference::sample(&loaded.workload) else { return };
    let mut runner = session.runner();
    let mut times = Vec::new();
    let begun = Instant::now();
    while times.len() < MOST_RUNS && (begun.elapsed() < MEASURE || times.is_empty()) {
        let run = Instant::now();
        if runner.run(&inputs).is_err() {
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
        sample_of(loaded)
    );
}

/// What was run, in a word.
fn sample_of(loaded: &Loaded) -> &'static str {
    if loaded.workload.preprocessor.takes_text() { "the sentence below" } else { "zeros" }
}

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
