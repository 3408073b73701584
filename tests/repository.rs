//! Several models and versions, and their reload under load: no request is lost, and replaced models free their memory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::Message;

use crate::support::*;

/// Puts the model that says `number` where `path` is, at once, as a deployment should.
fn put(path: &Path, number: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let draft = path.with_extension("draft");
    std::fs::copy(test_model(&format!("version{number}")).join("model.onnx"), &draft).unwrap();
    std::fs::rename(draft, path).unwrap();
}

const ASK: &str = r#"{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [7]}]}"#;

fn says(reply: &Value) -> u64 {
    reply["outputs"][0]["data"][0].as_f64().unwrap_or_else(|| panic!("{reply}")) as u64
}

fn ask_path(program: &Program, path: &str) -> Value {
    program.post(&format!("/v2/models/{path}/infer"), "", ASK.as_bytes()).json()
}

#[test]
fn versions_are_folders_and_the_newest_answers_unless_one_is_named() {
    let folder = folder("repository-versions");
    for (version, number) in [("2", 1), ("10", 2)] {
        put(&folder.join("m").join(version).join("model.onnx"), number);
    }
    put(&folder.join("other/model.onnx"), 1);
    let program = Program::serve(&folder, &[]);
    assert_eq!(says(&ask_path(&program, "m")), 2, "10 is newer than 2");
    assert_eq!(says(&ask_path(&program, "m/versions/2")), 1);
    assert_eq!(ask_path(&program, "m/versions/10")["model_version"], "10");
    let unknown = ask_path(&program, "m/versions/3");
    assert!(unknown["error"].as_str().unwrap().ends_with("this server has 2, 10"), "{unknown}");
    assert_eq!(program.get("/v2/models/m").json()["versions"], json!(["2", "10"]));
    assert_eq!(says(&ask_json(&mut program.connect("/v2/models/m/versions/2"), Message::text(ASK))), 1);
}

#[test]
fn a_version_policy_chooses_what_is_served_and_a_shared_manifest_speaks_for_all() {
    for (test, policy, served) in [
        ("policy-latest", r#"{"latest": {"num_versions": 2}}"#, json!(["2", "3"])),
        ("policy-specific", r#"{"specific": {"versions": [1, 3]}}"#, json!(["1", "3"])),
        ("policy-all", r#"{"all": {}}"#, json!(["1", "2", "3"])),
    ] {
        let folder = folder(test);
        for version in ["1", "2", "3"] {
            put(&folder.join("m").join(version).join("model.onnx"), 1);
        }
        let manifest = format!(
            r#"{{"name": "named", "version_policy": {policy}, "outputs": [{{"name": "y", "activation": "sigmoid"}}]}}"#
        );
        std::fs::write(folder.join("m/model.json"), manifest).unwrap();
        let program = Program::serve(&folder, &[]);
        assert_eq!(program.get("/v2/models/named").json()["versions"], served);
        let reply = ask_path(&program, "named");
        assert!((reply["outputs"][0]["data"][0].as_f64().unwrap() - 0.731).abs() < 0.001, "{reply}");
    }
}

#[test]
fn a_model_that_does_not_load_stops_no_other_and_readiness_tells() {
    let folder = folder("repository-broken");
    put(&folder.join("good/model.onnx"), 1);
    std::fs::create_dir(folder.join("bad")).unwrap();
    std::fs::write(folder.join("bad/model.onnx"), "rubbish").unwrap();
    std::fs::create_dir(folder.join("worse")).unwrap();
    std::fs::write(folder.join("worse/model.json"), r#"{"nam": "x"}"#).unwrap();
    let mut program = Program::serve(&folder, &[]);
    program.says("model bad version 1 is not loaded: ");
    program.says("did you mean `name`?");
    assert_eq!(says(&ask_path(&program, "good")), 1);
    let bad = ask_path(&program, "bad");
    assert_eq!(bad["code"], "unavailable", "{bad}");
    let ready = program.get("/v2/health/ready");
    assert_eq!(
        (ready.status, ready.json()),
        (503, json!({"ready": false, "failed": ["bad version 1", "worse version 1"]}))
    );
    assert_eq!(program.get("/health").status, 503);
    assert_eq!(program.get("/v2/models/good/ready").status, 200);
    assert_eq!(program.get("/v2/models/bad/ready").status, 503);
    assert_eq!(program.get("/v2/health/live").status, 200);
    // Mended, it is loaded, and all is well.
    put(&folder.join("bad/model.onnx"), 2);
    std::fs::remove_dir_all(folder.join("worse")).unwrap();
    program.signal(Signal::HUP);
    program.says("models reloaded: 1 loaded, 0 replaced or gone, 1 unchanged, 0 failed");
    assert_eq!(says(&ask_path(&program, "bad")), 2);
    assert_eq!(program.get("/v2/health/ready").status, 200);
}

#[test]
fn without_a_single_model_that_loads_the_server_does_not_start() {
    let folder = folder("repository-nothing");
    std::fs::write(folder.join("model.onnx"), "rubbish").unwrap();
    let output = onnxd().args(["serve", "--listen", "127.0.0.1:0"]).arg(&folder).output().unwrap();
    let log = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success() && log.contains("no model could be loaded"), "{log}");
}

#[test]
fn a_reload_serves_what_is_new_and_a_conversation_keeps_what_it_began_with() {
    let folder = folder("reload-keeps");
    put(&folder.join("model.onnx"), 1);
    let mut program = Program::serve(&folder, &[]);
    let mut old = program.connect("/");
    assert_eq!(says(&ask_json(&mut old, Message::text(ASK))), 1);
    put(&folder.join("model.onnx"), 2);
    program.signal(Signal::HUP);
    program.says("models reloaded: 1 loaded, 1 replaced or gone, 0 unchanged, 0 failed");
    assert_eq!(says(&ask_json(&mut program.connect("/"), Message::text(ASK))), 2);
    assert_eq!(says(&ask_json(&mut old, Message::text(ASK))), 1);
    // What cannot be loaded changes nothing.
    std::fs::write(folder.join("model.onnx"), "rubbish").unwrap();
    program.signal(Signal::HUP);
    program.says("is not loaded; what was served before stays: ");
    assert_eq!(says(&ask_json(&mut program.connect("/"), Message::text(ASK))), 2);
    assert_eq!(program.get("/v2/health/ready").status, 200);
}

#[test]
fn after_the_reload_drain_conversations_with_the_old_model_are_closed_with_1012() {
    let folder = folder("reload-drain");
    put(&folder.join("model.onnx"), 1);
    let program = Program::serve(&folder, &["--reload-drain", "100ms"]);
    let mut idle = program.connect("/");
    assert_eq!(says(&ask_json(&mut idle, Message::text(ASK))), 1);
    put(&folder.join("model.onnx"), 2);
    program.signal(Signal::HUP);
    assert_eq!(close_code(&mut idle), 1012);
    assert_eq!(says(&ask_json(&mut program.connect("/"), Message::text(ASK))), 2);
}

#[test]
fn with_watch_a_changed_file_is_served_without_a_signal() {
    let folder = folder("reload-watch");
    put(&folder.join("m/1/model.onnx"), 1);
    let mut program = Program::serve(&folder, &["--watch", "20ms"]);
    assert_eq!(says(&ask_path(&program, "m")), 1);
    put(&folder.join("m/2/model.onnx"), 2);
    program.says("models reloaded: 1 loaded, 0 replaced or gone, 1 unchanged, 0 failed");
    assert_eq!(says(&ask_path(&program, "m")), 2);
    std::fs::remove_dir_all(folder.join("m/2")).unwrap();
    program.wait_for("models reloaded: 0 loaded, 1 replaced or gone, 1 unchanged, 0 failed");
    assert_eq!(says(&ask_path(&program, "m")), 1);
}

#[test]
fn a_hundred_reloads_under_load_lose_no_request_and_keep_no_memory() {
    let folder = folder("reload-hundred");
    put(&folder.join("model.onnx"), 1);
    let mut program = Program::serve(&folder, &["--workers", "2"]);
    let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let address = program.address;
    let clients: Vec<_> = (0..6)
        .map(|at| {
            let (over, asked) = (over.clone(), asked.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let stream = std::net::TcpStream::connect(address).unwrap();
                    let (mut client, _) = tungstenite::client(format!("ws://{address}/"), stream).unwrap();
                    // Some hold their conversation over several reloads, some are always new.
                    for _ in 0..if at % 2 == 0 { 500 } else { 5 } {
                        let reply = ask_json(&mut client, Message::text(ASK));
                        assert!(matches!(says(&reply), 1 | 2), "{reply}");
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                    client.close(None).unwrap();
                    while client.read().is_ok() {}
                }
            })
        })
        .collect();
    let mut after_ten = 0;
    for round in 0..100 {
        put(&folder.join("model.onnx"), 2 - round % 2);
        let before = asked.load(Ordering::Relaxed);
        program.signal(Signal::HUP);
        program.wait_for("models reloaded: 1 loaded, 1 replaced or gone, 0 unchanged, 0 failed");
        while asked.load(Ordering::Relaxed) < before + 20 {
            std::thread::yield_now();
        }
        if round == 10 {
            after_ten = program.resident();
        }
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("a client lost a request");
    }
    let grown = program.resident().saturating_sub(after_ten);
    assert!(grown < 8 << 20, "{grown} bytes more after 90 reloads, of {after_ten}");
    program.signal(Signal::TERM);
    assert!(program.wait().success());
}

/// A folder with the model whose weights lie in a file of their own.
fn put_outside(folder: &Path) -> std::path::PathBuf {
    std::fs::create_dir_all(folder.join("weights")).unwrap();
    for file in ["weights/w.bin", "model.onnx"] {
        std::fs::copy(test_model("outside").join(file), folder.join(file)).unwrap();
    }
    folder.join("weights/w.bin")
}

const ASK_OUTSIDE: &str =
    r#"{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 0, 0, 0]}]}"#;

fn second_weight(program: &Program, name: &str) -> f64 {
    let reply = program.post(&format!("/v2/models/{name}/infer"), "", ASK_OUTSIDE.as_bytes()).json();
    reply["outputs"][0]["data"][1].as_f64().unwrap_or_else(|| panic!("{reply}"))
}

/// Writes weights over the old ones, in the same file and of the same length.
fn overwrite(weights: &Path, second: f32) {
    let mut bytes = std::fs::read(weights).unwrap();
    bytes[4..8].copy_from_slice(&second.to_le_bytes());
    std::fs::write(weights, bytes).unwrap();
}

#[test]
fn changed_weights_beside_the_model_are_noticed_in_every_layout() {
    let folder = folder("watch-weights");
    let bare = folder.join("bare");
    let models = folder.join("models");
    let mut layouts = vec![(bare.join("model.onnx"), "bare", put_outside(&bare))];
    for name in ["plain", "described", "versions/3"] {
        let weights = put_outside(&models.join(name));
        layouts.push((models.clone(), name.split('/').next().unwrap(), weights));
    }
    std::fs::write(models.join("described/model.json"), "{}").unwrap();
    for flags in [&[][..], &["--watch", "20ms"]] {
        for (argument, name, weights) in &layouts {
            overwrite(weights, 1.0);
            let mut program = Program::serve(argument, flags);
            assert_eq!(second_weight(&program, name), 1.0);
            overwrite(weights, 5.0);
            if flags.is_empty() {
                program.signal(Signal::HUP);
            }
            program.wait_for("models reloaded: 1 loaded, 1 replaced or gone");
            assert_eq!(second_weight(&program, name), 5.0, "{name} {flags:?}");
        }
    }
}

#[test]
fn weights_that_are_cut_short_or_gone_are_a_load_error_and_the_old_ones_are_served() {
    let folder = folder("reload-cut-weights");
    let weights = put_outside(&folder);
    let mut program = Program::serve(&folder.join("model.onnx"), &[]);
    let name = "reload-cut-weights";
    std::fs::write(&weights, [0; 3]).unwrap();
    program.signal(Signal::HUP);
    program.wait_for("has 3 bytes, but 32 bytes from 0 on are wanted: it is cut short");
    assert_eq!(second_weight(&program, name), 1.0);
    std::fs::remove_file(&weights).unwrap();
    program.signal(Signal::HUP);
    let line = program.wait_for("is not loaded; what was served before stays: ");
    assert!(
        line.contains("weights/w.bin: No such file") && line.contains("export the model as one file"),
        "{line}"
    );
    assert_eq!(second_weight(&program, name), 1.0);
}

#[test]
fn weights_that_are_written_over_and_over_while_they_are_loaded_never_end_the_server() {
    let folder = folder("reload-torn-weights");
    let (model, weights) = (folder.join("m/model.onnx"), folder.join("m/w.bin"));
    put(&folder.join("other/model.onnx"), 1);
    std::fs::create_dir(folder.join("m")).unwrap();
    let whole: Vec<u8> = 1.0_f32.to_le_bytes().repeat(1 << 24);
    std::fs::write(&weights, &whole).unwrap();
    let again = || {
        let draft = model.with_extension("draft");
        std::fs::copy(test_model("heavy").join("model.onnx"), &draft).unwrap();
        std::fs::rename(draft, &model).unwrap();
    };
    again();
    let mut program = Program::serve(&folder, &["--workers", "1"]);
    let over = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let over = over.clone();
        move || {
            // Emptied first, then written.
            while !over.load(Ordering::Relaxed) {
                std::fs::write(&weights, &whole).unwrap();
            }
        }
    });
    for _ in 0..10 {
        again();
        program.signal(Signal::HUP);
        program.wait_for("models reloaded: ");
        assert_eq!(second_weight(&program, "m"), 0.0, "of the row 1, 0, 0, 0");
    }
    over.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    again();
    program.signal(Signal::HUP);
    program.wait_for("models reloaded: 1 loaded, 1 replaced or gone, 1 unchanged, 0 failed");
}

/// Makes loading take as long as a test needs: so many runs of a model of 0.2 s.
fn slow_to_load(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::copy(test_model("slow200").join("model.onnx"), folder.join("model.onnx")).unwrap();
    std::fs::write(folder.join("model.json"), r#"{"warmup": 10000}"#).unwrap();
}

#[test]
fn a_signal_to_stop_during_a_slow_reload_drains_at_once() {
    let folder = folder("reload-stopped");
    put(&folder.join("m/model.onnx"), 1);
    let mut program = Program::serve(&folder, &["--drain-timeout", "20s"]);
    slow_to_load(&folder.join("slow"));
    // The one that is loaded beside it tells that the reload has begun.
    put(&folder.join("n/model.onnx"), 2);
    program.signal(Signal::HUP);
    program.wait_for("model n version 1: loaded in");
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
    program.says("stopped");
}

#[test]
fn a_file_that_changes_while_others_are_loaded_is_loaded_next() {
    let folder = folder("reload-meanwhile");
    put(&folder.join("m/model.onnx"), 1);
    put(&folder.join("n/model.onnx"), 1);
    let mut program = Program::serve(&folder, &["--watch", "20ms"]);
    // Some hundred runs: the change below comes while they are under way.
    std::fs::create_dir(folder.join("slow")).unwrap();
    std::fs::write(folder.join("slow/model.json"), r#"{"warmup": 10}"#).unwrap();
    std::fs::copy(test_model("slow200").join("model.onnx"), folder.join("slow/draft")).unwrap();
    put(&folder.join("n/model.onnx"), 2);
    std::fs::rename(folder.join("slow/draft"), folder.join("slow/model.onnx")).unwrap();
    program.wait_for("model n version 1: loaded in");
    put(&folder.join("m/model.onnx"), 2);
    program.wait_for("model slow version 1: loaded in");
    program.wait_for("model m version 1: loaded in");
    program.wait_for("models reloaded: ");
    assert_eq!(says(&ask_path(&program, "m")), 2);
}

#[test]
fn a_new_model_that_does_not_load_leaves_the_server_ready_and_says_so_at_its_own_path() {
    let folder = folder("reload-broken-new");
    put(&folder.join("good/model.onnx"), 1);
    let mut program = Program::serve(&folder, &[]);
    std::fs::create_dir(folder.join("bad")).unwrap();
    std::fs::write(folder.join("bad/model.onnx"), "rubbish").unwrap();
    program.signal(Signal::HUP);
    program.wait_for("model bad version 1 is not loaded: ");
    program.wait_for("models reloaded: 0 loaded, 0 replaced or gone, 1 unchanged, 1 failed");
    assert_eq!(program.get("/v2/health/ready").status, 200);
    assert_eq!(program.get("/health").status, 200);
    assert_eq!(program.get("/v2/models/good/ready").status, 200);
    assert_eq!(program.get("/v2/models/bad/ready").status, 503);
}

#[test]
fn a_model_that_is_gone_for_a_moment_is_served_on_and_one_that_stays_away_is_withdrawn() {
    let folder = folder("reload-gone");
    put(&folder.join("m/model.onnx"), 1);
    put(&folder.join("n/model.onnx"), 1);
    let mut program = Program::serve(&folder, &[]);
    std::fs::remove_dir_all(folder.join("m")).unwrap();
    program.signal(Signal::HUP);
    let line = program
        .wait_for("model m version 1 is not in the repository: it is served until it is missing again");
    assert!(line.contains("WARN"), "{line}");
    program.wait_for("models reloaded: ");
    assert_eq!(says(&ask_path(&program, "m")), 1);
    let line = program.wait_for("model m version 1 is withdrawn");
    assert!(line.contains("WARN"), "{line}");
    program.wait_for("models reloaded: 0 loaded, 1 replaced or gone, 1 unchanged, 0 failed");
    assert_eq!(ask_path(&program, "m")["code"], "unknown_model");
    assert_eq!(says(&ask_path(&program, "n")), 1);
}

#[test]
fn a_model_that_cannot_be_read_is_not_taken_for_removed() {
    let folder = folder("reload-unreadable");
    let (m, named) = (folder.join("m"), folder.join("named"));
    put(&m.join("1/model.onnx"), 1);
    put(&m.join("2/model.onnx"), 2);
    put(&named.join("model.onnx"), 1);
    std::fs::write(named.join("model.json"), r#"{"name": "other"}"#).unwrap();
    let mut program = Program::serve(&folder, &[]);
    // Whoever may read everything, as these tests may in a container, cannot follow this.
    std::fs::remove_dir_all(&m).unwrap();
    std::os::unix::fs::symlink("m", &m).unwrap();
    // And what cannot be understood is no reason either to take away the model that it spoke of.
    std::fs::write(named.join("model.json"), r#"{"name": "#).unwrap();
    for _ in 0..2 {
        program.signal(Signal::HUP);
        program.wait_for("what was served before stays");
        program.wait_for("models reloaded: 0 loaded, 0 replaced or gone, 0 unchanged, 3 failed");
        assert_eq!(says(&ask_path(&program, "m/versions/1")), 1);
        assert_eq!(says(&ask_path(&program, "m")), 2);
        assert_eq!(says(&ask_path(&program, "other")), 1);
        assert_eq!(program.get("/v2/health/ready").status, 200);
    }
}

#[test]
fn nothing_that_a_model_json_says_stops_a_running_server_or_its_next_reload() {
    let folder = folder("reload-absurd");
    put(&folder.join("m/model.onnx"), 1);
    let mut program = Program::serve(&folder, &[]);
    std::fs::create_dir(folder.join("absurd")).unwrap();
    std::fs::copy(test_model("open/model.onnx"), folder.join("absurd/model.onnx")).unwrap();
    for (manifest, words) in [
        (r#"{"inputs": [{"name": "x", "shape": [4611686018427387904, 3]}]}"#, "at most 2147483647"),
        (r#"{"inputs": [{"name": "x", "shape": [2147483647, 2147483647]}]}"#, "--max-tensor-bytes"),
        (r#"{"shapes": [{"x": [1, 2147483647]}]}"#, "--max-tensor-bytes"),
        (r#"{"instance_group": {"count": 100000}}"#, "instance_group.count is 100000: expected 1 to 1024"),
        (r#"{"max_batch_size": 4611686018427387904}"#, "max_batch_size is 4611686018427387904"),
    ] {
        std::fs::write(folder.join("absurd/model.json"), manifest).unwrap();
        program.signal(Signal::HUP);
        let line = program.wait_for("model absurd version 1 is not loaded: ");
        assert!(line.contains(words), "{manifest}: {line}");
        program.wait_for("models reloaded: 0 loaded, 0 replaced or gone, 1 unchanged, 1 failed");
    }
    std::fs::write(folder.join("absurd/model.json"), "{}").unwrap();
    program.signal(Signal::HUP);
    program.wait_for("models reloaded: 1 loaded, 0 replaced or gone, 1 unchanged, 0 failed");
    assert_eq!(says(&ask_path(&program, "m")), 1);
}
