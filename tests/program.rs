//! The program as its user sees it: commands, exit codes, logs, signals.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use crate::support::*;
use rustix::process::Signal;
use serde_json::Value;
use tungstenite::Message;

fn run(arguments: &[&str]) -> Output {
    onnxd().args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn check_tells_inputs_outputs_latency_and_an_example_that_the_server_takes() {
    let output = run(&["check", "tests/models/affine"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for part in [
        "model    affine (version 1)",
        "takes    x: FP32 [-1 (N), 3]",
        "gives    y: FP32 [-1 (N), 2]",
        "latency  ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for model in ["affine", "pair", "types", "open", "slow200"] {
        let path = test_model(model);
        let output = run(&["check", path.to_str().unwrap()]);
        let example = example(&output);
        let reply = ask_json(&mut Program::serve(&path, &[]).connect("/"), Message::text(example.clone()));
        assert!(reply["outputs"].is_array(), "{model}: {example}: {reply}");
    }
    let reply = ask_json(&mut Program::digits().connect("/"), Message::text(example(&run(&["check"]))));
    assert!(reply["outputs"].is_array(), "an image input's example is a whole file: {reply}");
}

fn example(output: &Output) -> String {
    let said = said(output);
    said.lines()
        .find_map(|line| line.strip_prefix("example  "))
        .unwrap_or_else(|| panic!("{said}"))
        .to_owned()
}

#[test]
fn check_names_the_operator_or_the_shape_that_does_not_load_and_what_to_do() {
    for (model, parts) in [
        (
            "tests/models/unsupported",
            ["`ImageDecoder` (node `decode`)", "send the decoded pixels or let the server decode the image"],
        ),
        (
            "tests/models/foreign",
            ["the engine has no operator `ScaledTanh` (node `scaled`)", "cut the graph before it"],
        ),
        ("tests/models/never", ["it fails on every sample that fits its inputs", "cannot divide by zero"]),
        (
            "tests/models/quantlstm",
            ["`DynamicQuantizeLSTM` (node `lstm`)", "its input 8 (`scale`, counted from 0) is missing"],
        ),
        (
            "tests/models/badshape",
            ["`MatMul` (node `product`)", "the first factor has 3 columns, and the second 4 rows"],
        ),
        ("tests/lockfile.rs", ["reading the model", "expected an ONNX file"]),
        ("tests/data", ["holds no model", "a folder with `model.onnx` or `model.json`"]),
        ("tests/none.onnx", ["tests/none.onnx", "No such file"]),
    ] {
        let output = run(&["check", model]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        for part in parts {
            assert!(said(&output).contains(part), "{model}: expected {part} in {}", said(&output));
        }
    }
}

#[test]
fn healthcheck_says_by_its_exit_code_whether_the_server_is_ready() {
    let mut program = Program::digits();
    let address = program.address.to_string();
    assert_eq!(run(&["healthcheck", "--listen", &address]).status.code(), Some(0));
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
    let output = run(&["healthcheck", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("refused"), "{}", said(&output));
}

#[test]
fn healthcheck_has_one_time_for_all_and_gives_a_server_up_that_answers_byte_by_byte() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let slow = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Its slowness: each byte comes in time for itself.
        stream.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        let mut request = [0; 64];
        let mut answer = b"HTTP/1.1 200 OK\r\n".iter().chain(std::iter::repeat(&b'x'));
        loop {
            let gone = matches!(stream.read(&mut request), Ok(0));
            if gone || stream.write_all(&[*answer.next().unwrap()]).is_err() {
                return;
            }
        }
    });
    let begun = std::time::Instant::now();
    let output = run(&["healthcheck", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("was not answered within 3s"), "{}", said(&output));
    assert!(begun.elapsed() < PATIENCE);
    slow.join().unwrap();
}

#[test]
fn too_few_descriptors_for_conversations_that_wait_are_told_at_start() {
    let binary = program().display().to_string();
    for (most, warns) in [(1500, true), (2400, false)] {
        let line = format!("ulimit -n {most} && exec {binary} serve model --listen 127.0.0.1:0");
        let program =
            Program::start(std::process::Command::new("sh").arg("-c").arg(line).current_dir(root()));
        let warned = program
            .seen
            .iter()
            .any(|line| line.contains("need 2304 file descriptors") && line.contains("1500"));
        assert_eq!(warned, warns, "{most}: {:?}", program.seen);
    }
}

#[test]
fn a_wrong_setting_is_an_error_and_never_a_fallback() {
    for (arguments, part) in [
        (&["--listen", "nowhere"][..], "expected HOST:PORT"),
        (&["--workers", "0"], "0 is not in 1.."),
        (&["--head-timeout", "soon"], "expected a number and a unit"),
        (&["--log", "loud"], "`loud` is no level"),
        (&["--max-in-flight", "0"], "--max-in-flight is 0"),
        (
            &["--default-model", "none", "--listen", "127.0.0.1:0"],
            "the default model `none` is not there: the repository has `digits`",
        ),
        (&["--max-in-flihgt", "1"], "--max-in-flight"),
    ] {
        let output = run(&[&["serve"], arguments].concat());
        assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?}");
        assert!(said(&output).contains(part), "{arguments:?}: {}", said(&output));
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["serve", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains(&format!("cannot listen on {address}")), "{}", said(&output));
}

#[test]
fn the_environment_sets_what_flags_set() {
    let output = onnxd().args(["serve"]).env("ONNXD_LISTEN", "nowhere").output().unwrap();
    assert!(said(&output).contains("expected HOST:PORT"), "{}", said(&output));
}

#[test]
fn log_lines_are_json_when_asked_for_and_hold_no_payload() {
    let mut program = Program::serve(Path::new("model"), &["--log-format", "json", "--log", "debug"]);
    let mut client = program.connect("/?classification=2&secret=hush");
    client.send(Message::text("a payload to be kept quiet")).unwrap();
    answer(&mut client);
    drop(client);
    program.wait_for("conversation ended");
    program.signal(Signal::TERM);
    program.wait_for("stopped");
    for line in &program.seen {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for field in ["time", "level", "thread", "target", "message"] {
            assert!(entry[field].is_string(), "{field}: {line}");
        }
        assert!(!line.contains("hush") && !line.contains("payload to be"), "{line}");
    }
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn an_idle_server_stops_at_sigint_with_exit_code_0() {
    let mut program = Program::digits();
    program.signal(Signal::INT);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn running_out_of_file_descriptors_ends_nothing_and_is_over_when_some_are_free() {
    let binary = program().display().to_string();
    let mut program = Program::start(
        std::process::Command::new("sh")
            .arg("-c")
            .arg(format!("ulimit -n 40 && exec {binary} serve model --listen 127.0.0.1:0"))
            .current_dir(root()),
    );
    let crowd: Vec<_> = (0..40).map(|_| program.tcp()).collect();
    assert!(program.wait_for("a connection is refused").contains("Too many open files"));
    drop(crowd);
    assert_eq!(best(&ask_json(&mut program.connect("/"), Message::binary(png(&held_out(1).1)))), 1);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn a_standard_output_that_nobody_reads_blocks_nothing() {
    let mut command = onnxd();
    command.arg("serve").arg(root().join("model"));
    command.args(["--listen", "127.0.0.1:0", "--log", "debug", "--max-log-bytes", "10000"]);
    let mut program = Program::start_unread(&mut command);
    let mut client = program.connect("/");
    // Each is a line and more; a pipe holds 64 KiB.
    for index in 0..1000 {
        assert_eq!(program.get("/health").status, 200);
        if index % 100 == 0 {
            let (digit, pixels) = held_out(index);
            assert_eq!(best(&ask_json(&mut client, Message::binary(png(&pixels)))), digit);
        }
    }
    program.signal(Signal::TERM);
    assert_eq!(close_code(&mut client), 1001);
    assert!(program.wait().success());
}

#[test]
fn the_program_alone_serves_digits_in_an_empty_folder_and_says_how_to_serve_your_own() {
    let empty = folder("alone");
    let mut command = onnxd();
    command.current_dir(&empty).args(["--listen", "127.0.0.1:0"]);
    let mut program = Program::start(&mut command);
    program.says("serving digits, which is part of this program; to serve your own: onnxd serve PATH");
    for index in 0..3 {
        let (digit, pixels) = held_out(index);
        assert_eq!(best(&ask_json(&mut program.connect("/"), Message::binary(png(&pixels)))), digit);
    }
    program.signal(Signal::HUP);
    program.wait_for("reloaded");
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
    let output = onnxd().current_dir(&empty).arg("check").output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("model    digits (version 1)\nfile     part of this program"), "{said}");
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0, "nothing is written");
}

#[test]
fn a_wrong_path_is_an_error_that_says_what_is_there_instead() {
    let models = folder("instead");
    std::fs::write(models.join("resnet.onnx"), "").unwrap();
    std::fs::create_dir(models.join("small")).unwrap();
    std::fs::write(models.join("small/model.json"), r#"{"file":"tiny.onnx"}"#).unwrap();
    std::fs::write(models.join("small/other.onnx"), "").unwrap();
    let models = models.to_str().unwrap();
    let there = format!("in `{models}` there is `resnet.onnx`, `small`");
    for (path, parts) in [
        (format!("{models}/resnet50.onnx"), [format!("{models}/resnet50.onnx: No such file"), there.clone()]),
        (format!("{models}/none/none"), ["No such file or directory".into(), there]),
        (
            format!("{models}/small"),
            ["`tiny.onnx` is not there".into(), format!("in `{models}/small` there is `other.onnx`")],
        ),
        ("src".into(), ["src holds no model: expected an .onnx file".into(), "in `src` there is no".into()]),
        ("tests/models/none".into(), ["in `tests/models` there is `affine`, `".into(), "more".into()]),
    ] {
        for output in [
            run(&["serve", &path, "--listen", "127.0.0.1:0"]),
            onnxd().args(["--listen", "127.0.0.1:0"]).env("ONNXD_MODEL", &path).output().unwrap(),
            run(&["check", &path]),
        ] {
            assert_eq!(output.status.code(), Some(1), "{path}");
            for part in &parts {
                assert!(said(&output).contains(part), "{path}: expected {part} in {}", said(&output));
            }
        }
    }
    // What is there and named by nobody is still not passed over.
    let folder = folder("no_model_inside");
    std::fs::create_dir(folder.join("model")).unwrap();
    let output = onnxd().current_dir(&folder).args(["--listen", "127.0.0.1:0"]).output().unwrap();
    assert!(said(&output).contains("model holds no model"), "{}", said(&output));
}

#[test]
fn what_a_file_or_a_server_says_cannot_control_the_terminal() {
    // Its input `x` becomes an escape character.
    let affine = std::fs::read(test_model("affine").join("model.onnx")).unwrap();
    let mut model = affine.clone();
    for at in 1..model.len() {
        if affine[at - 1..=at] == *b"\x01x" {
            model[at] = 0x1b;
        }
    }
    let path = folder("escapes").join("model.onnx");
    std::fs::write(&path, model).unwrap();
    let output = run(&["check", path.to_str().unwrap()]);
    assert!(said(&output).contains(r"takes    \u{1b}: FP32"), "{}", said(&output));
    assert!(!said(&output).contains('\u{1b}'), "{}", said(&output));
    let mut program = Program::serve(&test_model("affine"), &["--log", "debug"]);
    let mut client = program.connect("/");
    client.send(Message::text("{\"a\\u001b[2J\":1}")).unwrap();
    answer(&mut client);
    client
        .close(Some(tungstenite::protocol::CloseFrame {
            code: tungstenite::protocol::frame::coding::CloseCode::Normal,
            reason: "bye\u{1b}[2J\nERROR forged".into(),
        }))
        .unwrap();
    program.wait_for("conversation ended");
    assert!(program.seen.iter().all(|line| !line.contains('\u{1b}') && !line.starts_with("ERROR")));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        Read::read(&mut stream, &mut [0; 1024]).unwrap();
        Write::write_all(&mut stream, b"HTTP/1.1 \x1b[2J503 no\r\n\r\n").unwrap();
    });
    let output = run(&["healthcheck", "--listen", &address]);
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!said(&output).contains('\u{1b}') && said(&output).contains("[2J"), "{}", said(&output));
}

#[test]
fn a_byte_order_mark_in_front_of_model_json_is_no_part_of_it() {
    let model = with_manifest("affine", "marked", "\u{feff}{\"version\":\"7\"}");
    let output = run(&["check", model.to_str().unwrap()]);
    assert!(said(&output).contains("(version 7)"), "{}", said(&output));
}

#[test]
fn backtraces_are_warned_of_where_they_cost_something_and_nowhere_else() {
    let mut check = onnxd();
    check.args(["check", "tests/models/affine", "--log", "warn"]).env("RUST_BACKTRACE", "1");
    let output = check.output().unwrap();
    assert!(!said(&output).contains("RUST_BACKTRACE"), "{}", said(&output));
    let mut command = onnxd();
    command.args(["serve", "tests/models/affine", "--listen", "127.0.0.1:0"]).env("RUST_BACKTRACE", "1");
    Program::start(&mut command).says("RUST_BACKTRACE is set");
}
