//! Streams: sound that is cut into windows, and video with only the newest frame.

use serde_json::Value;
use tungstenite::Message;

use crate::support::*;

const AUDIO: &str = r#"{"inputs": [{"name": "x", "audio": {"encoding": "pcm_s16le", "sample_rate": 8000,
    "window": 4, "hop": 3, "context": 2}}]}"#;

fn pcm(samples: impl IntoIterator<Item = i16>) -> Vec<u8> {
    samples.into_iter().flat_map(i16::to_le_bytes).collect()
}

/// The samples of a window as the model got them, in steps of 1/32768.
fn samples(reply: &Value) -> Vec<i64> {
    let data = reply["outputs"][0]["data"].as_array().unwrap_or_else(|| panic!("{reply}"));
    data.iter().map(|value| (value.as_f64().unwrap() * 32768.0).round() as i64).collect()
}

#[test]
fn sound_is_cut_into_windows_however_it_is_chopped() {
    let program = Program::serve(&with_manifest("windows", "stream-audio", AUDIO), &[]);
    let sound = pcm(1..=400);
    for piece in [1, 2, 3, 7, 100, 800] {
        let mut client = program.connect("/");
        for part in sound.chunks(piece) {
            client.send(Message::binary(part.to_vec())).unwrap();
        }
        // The last window begins at 396 and ends with sample 400.
        for window in 0..=132 {
            let reply = json(&answer(&mut client));
            let offset = window * 3;
            assert_eq!(reply["parameters"]["stream_offset"], offset, "{reply}");
            let expected: Vec<i64> = (offset - 1..offset + 5).map(|at| at.max(0)).collect();
            assert_eq!(samples(&reply), expected, "pieces of {piece} bytes");
        }
    }
}

#[test]
fn a_message_with_more_windows_than_may_be_in_flight_is_cut_as_there_is_room() {
    let model = with_manifest("windows", "stream-room", AUDIO);
    let program = Program::serve(&model, &["--max-in-flight", "2", "--queue-capacity", "2"]);
    let mut client = program.connect("/");
    client.send(Message::binary(pcm((0..3000).map(|at| at as i16)))).unwrap();
    // A ping behind it is answered while windows are still cut; then the stream goes on.
    client.send(Message::Ping("x".into())).unwrap();
    client.send(Message::binary(pcm(3000..3004))).unwrap();
    for window in 0..=1000 {
        let reply = json(&answer(&mut client));
        assert_eq!(reply["parameters"]["stream_offset"], window * 3, "{reply}");
    }
}

#[test]
fn json_and_a_whole_window_are_taken_as_well() {
    let program = Program::serve(&with_manifest("windows", "stream-json", AUDIO), &[]);
    let window = base64(&pcm([1, 2, 3, 4]));
    let text = format!(
        r#"{{"inputs": [{{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["{window}"]}}]}}"#
    );
    let reply = ask_json(&mut program.connect("/"), Message::text(text));
    assert_eq!(samples(&reply), [0, 0, 1, 2, 3, 4]);
    let headers = "Content-Type: application/octet-stream\r\n";
    let reply = program.post("/v2/models/stream-json/infer", headers, &pcm([5, 6, 7, 8])).json();
    assert_eq!(samples(&reply), [0, 0, 5, 6, 7, 8]);
    let reply = program.post("/v2/models/stream-json/infer", headers, &pcm([5, 6])).json();
    assert!(reply["error"].as_str().unwrap().contains("a window is 4 samples of 2 bytes"), "{reply}");
}

#[test]
fn sound_that_does_not_fit_the_input_is_refused_at_start() {
    for (audio, words) in [
        (r#"{"window": 4}"#, "takes 6 samples, but audio.context and audio.window are 0 and 4"),
        (r#"{"window": 0}"#, "window is 0"),
        (
            r#"{"encoding": "mp3"}"#,
            "unknown variant `mp3`, expected one of `pcm_s16le`, `pcm_f32le`, `g711_ulaw`, `g711_alaw`",
        ),
    ] {
        let manifest = format!(r#"{{"inputs": [{{"name": "x", "audio": {audio}}}]}}"#);
        let output =
            onnxd().arg("check").arg(with_manifest("windows", "stream-wrong", &manifest)).output().unwrap();
        let report = String::from_utf8(output.stdout).unwrap();
        assert!(!output.status.success() && report.contains(words), "{report}");
    }
}

#[test]
fn of_frames_that_wait_only_the_newest_is_run_and_the_others_are_counted() {
    for workers in ["1", "4"] {
        only_the_newest_frame_is_run(workers);
    }
}

fn only_the_newest_frame_is_run(workers: &str) {
    let program = Program::serve(&test_model("slow200"), &["--workers", workers]);
    let mut client = program.connect("/?stream=last");
    let frame = |id: u32| {
        Message::text(format!(
            r#"{{"id": "{id}", "inputs": [{{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [2]}}]}}"#
        ))
    };
    // The first is begun with before the others have come, or is passed over with them.
    for id in 1..=50 {
        client.send(frame(id)).unwrap();
    }
    let (mut answered, mut dropped, mut last) = (0, 0, 0);
    while last < 50 {
        let reply = json(&answer(&mut client));
        assert_eq!(reply["error"], Value::Null, "a frame that was run has its answer");
        let id: u64 = reply["id"].as_str().unwrap_or_else(|| panic!("{reply}")).parse().unwrap();
        assert!(id > last, "{id} came after {last}");
        answered += 1;
        dropped += reply["parameters"]["dropped"].as_u64().unwrap();
        assert_eq!(answered + dropped, id, "every frame is answered or counted");
        last = id;
    }
    assert!(answered <= 20, "{answered} of 50 frames were run");
    // A server that keeps up drops none.
    for id in 51..54 {
        client.send(frame(id)).unwrap();
        let reply = json(&answer(&mut client));
        assert_eq!(
            (reply["id"].as_str(), &reply["parameters"]["dropped"]),
            (Some(id.to_string().as_str()), &0.into())
        );
    }
}

#[test]
fn passing_frames_over_is_refused_where_answers_depend_on_all_of_them() {
    let program = Program::serve(&with_manifest("windows", "stream-last", AUDIO), &[]);
    let (status, body) = program.refused_upgrade("/?stream=last");
    assert!(
        status == 400 && body["error"].as_str().unwrap().contains("depend on all that came before"),
        "{body}"
    );
    let (status, body) = program.refused_upgrade("/?stream=first");
    assert!(status == 400 && body["error"].as_str().unwrap().contains("`all` or `last`"), "{body}");
}
