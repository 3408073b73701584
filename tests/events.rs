//! Streams that end, events in them, and the forms of sound that clients send.

use serde_json::{Value, json};
use tungstenite::Message;

use crate::support::*;

/// The model `loud`: its score is the loudest of four samples, and `so_far` the loudest of the whole stream.
fn loud(test: &str, result: &str) -> std::path::PathBuf {
    let manifest = format!(
        r#"{{"inputs": [{{"name": "x", "audio": {{"sample_rate": 8000, "window": 4}}}}],
            "sequence": {{"states": [{{"input": "before", "output": "after"}}]}}{result}}}"#
    );
    with_manifest("loud", test, &manifest)
}

const SPEECH: &str = r#", "result": {"kind": "events", "output": "score", "labels": ["speech"],
    "min_length_ms": 0, "min_silence_ms": 1, "padding_ms": 0}"#;

/// Windows of four samples, each with the loudness of one of `levels`, from 0 to 1.
fn windows(levels: &[f64]) -> Vec<u8> {
    samples(levels).into_iter().flat_map(i16::to_le_bytes).collect()
}

fn samples(levels: &[f64]) -> Vec<i16> {
    levels.iter().flat_map(|level| [(level * 32768.0) as i16; 4]).collect()
}

/// A WAV file with samples of 16 bits.
fn wav(channels: u16, rate: u32, samples: &[i16]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0".to_vec();
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend((rate * u32::from(channels) * 2).to_le_bytes());
    file.extend((channels * 2).to_le_bytes());
    file.extend([16, 0]);
    file.extend(b"data");
    file.extend((samples.len() as u32 * 2).to_le_bytes());
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}

fn event(name: &str) -> Message {
    Message::text(json!({"event": name}).to_string())
}

fn next(client: &mut Client) -> Value {
    json(&answer(client))
}

/// The events of a reply: what, and where.
fn events(reply: &Value) -> Vec<(String, u64)> {
    let list = reply["results"][0].as_array().unwrap_or_else(|| panic!("{reply}"));
    let told = |event: &Value| (event["event"].as_str().unwrap().to_owned(), event["at"].as_u64().unwrap());
    list.iter().map(told).collect()
}

fn output(reply: &Value, name: &str) -> f64 {
    let outputs = reply["outputs"].as_array().unwrap_or_else(|| panic!("{reply}"));
    let found = outputs.iter().find(|output| output["name"] == name).unwrap_or_else(|| panic!("{reply}"));
    found["data"][0].as_f64().unwrap()
}

#[test]
fn an_end_runs_the_last_window_tells_the_last_events_and_is_acknowledged() {
    let program = Program::serve(&loud("events-end", SPEECH), &[]);
    let mut client = program.connect("/");
    for _ in 0..2 {
        // Two windows and a half. All of it is sent at once, and answered in order.
        let mut sound = windows(&[0.1, 0.9, 0.9]);
        sound.truncate(20);
        client.send(Message::binary(sound)).unwrap();
        client.send(Message::text(r#"{"event":"end","id":"x"}"#)).unwrap();
        let quiet = next(&mut client);
        assert_eq!((events(&quiet), &quiet["parameters"]["stream_offset"]), (vec![], &json!(0)));
        assert!((output(&quiet, "so_far") - 0.1).abs() < 1e-4, "the state begins anew with the stream");
        assert_eq!(events(&next(&mut client)), [("start".to_owned(), 4)]);
        let last = next(&mut client);
        assert_eq!(last["parameters"]["stream_offset"], 8, "the half of a window is filled with silence");
        assert!((output(&last, "so_far") - 0.9).abs() < 1e-4, "{last}");
        let end = next(&mut client);
        assert_eq!(events(&end), [("end".to_owned(), 10)], "{end}");
        assert_eq!(end["results"][0][0]["at_ms"], 1.25);
        assert_eq!(end["results"][0][0]["label"], "speech");
        assert_eq!(next(&mut client), json!({"event": "ended", "stream_offset": 10, "id": "x"}));
    }
    client.send(event("end")).unwrap();
    assert_eq!(next(&mut client), json!({"event": "ended", "stream_offset": 0}), "a stream without sound");
}

#[test]
fn a_commit_closes_the_utterance_and_the_stream_goes_on() {
    let program = Program::serve(&loud("events-commit", SPEECH), &[]);
    let mut client = program.connect("/");
    client.send(Message::binary(windows(&[0.9, 0.9]))).unwrap();
    client.send(event("commit")).unwrap();
    client.send(Message::binary(windows(&[0.2, 0.9]))).unwrap();
    client.send(event("end")).unwrap();
    assert_eq!(events(&next(&mut client)), [("start".to_owned(), 0)]);
    next(&mut client);
    assert_eq!(events(&next(&mut client)), [("end".to_owned(), 8)]);
    assert_eq!(next(&mut client), json!({"event": "committed", "stream_offset": 8}));
    let later = next(&mut client);
    assert_eq!(later["parameters"]["stream_offset"], 8);
    assert!(output(&later, "so_far") < 0.21, "the next utterance has its own state: {later}");
    assert_eq!(events(&next(&mut client)), [("start".to_owned(), 12)]);
    assert_eq!(events(&next(&mut client)), [("end".to_owned(), 16)]);
    assert_eq!(next(&mut client), json!({"event": "ended", "stream_offset": 16}));
}

#[test]
fn half_a_sample_at_the_end_is_left_out_and_told() {
    let program = Program::serve(&loud("events-half", ""), &[]);
    let mut client = program.connect("/");
    let mut sound = windows(&[0.5]);
    sound.push(1);
    client.send(Message::binary(sound)).unwrap();
    client.send(event("end")).unwrap();
    next(&mut client);
    assert_eq!(next(&mut client), json!({"event": "ended", "stream_offset": 4, "dropped_bytes": 1}));
}

#[test]
fn a_wav_file_is_heard_without_its_header_and_as_its_header_says() {
    let program = Program::serve(&loud("events-wav", ""), &[]);
    let levels = [0.1, 0.2, 0.3, 0.4, 0.5];
    let expected = |client: &mut Client| {
        client.send(event("end")).unwrap();
        for level in levels {
            let score = output(&next(client), "score");
            assert!((score - level).abs() < 1e-3, "{score} for {level}");
        }
        assert_eq!(next(client), json!({"event": "ended", "stream_offset": 20}));
    };
    let file = wav(1, 8000, &samples(&levels));
    for piece in [1, 13, 44, 1000] {
        let mut client = program.connect("/");
        file.chunks(piece).for_each(|piece| client.send(Message::binary(piece.to_vec())).unwrap());
        expected(&mut client);
    }
    let both: Vec<i16> = samples(&levels).into_iter().flat_map(|sample| [sample, sample]).collect();
    let mut client = program.connect("/?channels=2");
    client.send(Message::binary(wav(2, 8000, &both))).unwrap();
    expected(&mut client);
    let mut client = program.connect("/?encoding=pcm_f32le&sample_rate=8000");
    let floats: Vec<u8> =
        levels.iter().flat_map(|level| [*level as f32; 4]).flat_map(f32::to_le_bytes).collect();
    client.send(Message::binary(floats)).unwrap();
    expected(&mut client);
}

#[test]
fn sound_of_another_rate_is_resampled_to_the_models() {
    let program = Program::serve(&loud("events-rate", ""), &[]);
    let tone = |rate: u32| -> Vec<i16> {
        let step = 500.0 * std::f64::consts::TAU / f64::from(rate);
        (0..rate / 10).map(|at| ((f64::from(at) * step).sin() * 16384.0) as i16).collect()
    };
    for rate in [8_000, 16_000, 44_100, 48_000] {
        let mut client = program.connect(&format!("/?sample_rate={rate}"));
        let bytes: Vec<u8> = tone(rate).iter().flat_map(|sample| sample.to_le_bytes()).collect();
        bytes.chunks(777).for_each(|piece| client.send(Message::binary(piece.to_vec())).unwrap());
        client.send(event("end")).unwrap();
        let mut highest = 0.0;
        for window in 0..200 {
            let reply = next(&mut client);
            assert_eq!(reply["parameters"]["stream_offset"], window * 4, "{rate}: {reply}");
            highest = output(&reply, "so_far");
        }
        assert_eq!(next(&mut client)["stream_offset"], 800, "{rate}: a tenth of a second");
        assert!((highest - 0.5).abs() < 0.02, "{rate}: {highest}");
    }
}

#[test]
fn sound_that_cannot_be_heard_is_refused_with_what_fits_and_the_next_stream_works() {
    let program = Program::serve(&loud("events-wrong", ""), &[]);
    for (query, words) in [
        ("encoding=mp3", "`pcm_s16le`, `pcm_f32le`, `g711_ulaw`, `g711_alaw`"),
        ("sample_rate=1", "Hz, 1000 to 768000"),
        ("sample_rate=200000", "expected 500 to 128000 Hz"),
        ("channels=0", "a number of channels, 1 to 32"),
        ("answers=0", "`all`, `events` or a number of windows"),
        ("answers=events", "this model makes no events"),
        ("framing=v2&sample_rate=8000", "leave one of them out"),
    ] {
        let (status, body) = program.refused_upgrade(&format!("/?{query}"));
        let error = body["error"].as_str().unwrap().to_owned();
        assert!(status == 400 && error.contains(words), "{query}: {error}");
    }
    let reply = program.post("/v2/models/events-wrong/infer?encoding=g711_ulaw", "", b"{}").json();
    assert!(reply["error"].as_str().unwrap().contains("over HTTP, send a WAV file"), "{reply}");
    let mut client = program.connect("/");
    client.send(Message::binary(wav(2, 8000, &samples(&[0.5])))).unwrap();
    let error = next(&mut client);
    assert!(error["error"].as_str().unwrap().contains("?channels=2"), "{error}");
    // The rest of that file is not heard.
    client.send(Message::binary(windows(&[0.9]))).unwrap();
    client.send(event("end")).unwrap();
    assert_eq!(next(&mut client), json!({"event": "ended", "stream_offset": 0}));
    client.send(Message::binary(windows(&[0.25]))).unwrap();
    assert_eq!(output(&next(&mut client), "so_far"), 0.25);
}

#[test]
fn a_wav_file_over_http_is_one_window() {
    let program = Program::serve(&loud("events-http", ""), &[]);
    let headers = "Content-Type: audio/wav\r\n";
    let path = "/v2/models/events-http/infer";
    let reply = program.post(path, headers, &wav(1, 8000, &samples(&[0.25]))).json();
    assert_eq!(output(&reply, "score"), 0.25);
    let error = program.post(path, headers, &wav(1, 8000, &samples(&[0.25, 0.5]))).json();
    assert!(
        error["error"].as_str().unwrap().contains("more than 4 samples at the model's rate: a window is 4"),
        "{error}"
    );
}

#[test]
fn a_client_may_get_only_events_or_every_nth_window() {
    let program = Program::serve(&loud("events-few", SPEECH), &[]);
    let levels = [0.1, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9];
    let heard = |query: &str| -> Vec<(u64, usize)> {
        let mut client = program.connect(&format!("/?{query}"));
        client.send(Message::binary(windows(&levels))).unwrap();
        client.send(event("end")).unwrap();
        let mut replies = Vec::new();
        loop {
            let reply = next(&mut client);
            if reply["event"] == "ended" {
                return replies;
            }
            replies.push((reply["parameters"]["stream_offset"].as_u64().unwrap(), events(&reply).len()));
        }
    };
    // A start at 4, an end when two windows were quiet, a start at 32, and an end at the end of the stream.
    assert_eq!(heard("answers=events"), [(4, 1), (24, 1), (32, 1), (36, 1)]);
    assert_eq!(heard("answers=3"), [(0, 0), (4, 1), (12, 0), (24, 1), (32, 1), (36, 1)]);
    assert_eq!(heard("answers=all").len(), levels.len() + 1);
    assert_eq!(heard("threshold=0.95&answers=events"), []);
}

#[test]
fn events_of_requests_follow_each_other_in_a_conversation_and_stand_alone_over_http() {
    let result = r#"{"sequence": {"states": [{"input": "before", "output": "after"}]},
        "result": {"kind": "events", "output": "score", "labels": ["speech"], "hop_ms": 10,
                   "min_length_ms": 20, "min_silence_ms": 0, "padding_ms": 0}}"#;
    let program = Program::serve(&with_manifest("loud", "events-json", result), &[]);
    let request = |level: f64, parameters: Value| {
        let input = json!({"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [level, 0, 0, 0]});
        json!({"inputs": [input], "parameters": parameters}).to_string()
    };
    let mut client = program.connect("/");
    let mut told = |level, parameters| {
        client.send(Message::text(request(level, parameters))).unwrap();
        next(&mut client)
    };
    for (level, expected) in
        [(0.9, vec![]), (0.9, vec![]), (0.9, vec![("start".to_owned(), 0)]), (0.9, vec![])]
    {
        assert_eq!(events(&told(level, json!({}))), expected);
    }
    let last = told(0.8, json!({"stream_end": true}));
    assert!(output(&last, "so_far") > 0.89, "{last}");
    let end = next(&mut client);
    assert_eq!((events(&end), &end["results"][0][0]["at_ms"]), (vec![("end".to_owned(), 5)], &json!(50.0)));
    assert_eq!(next(&mut client), json!({"event": "ended"}));
    client.send(Message::text(request(0.3, json!({})))).unwrap();
    assert!(output(&next(&mut client), "so_far") < 0.31, "a new stream has a new state");
    let reply = program.post("/v2/models/events-json/infer", "", request(0.9, json!({})).as_bytes()).json();
    assert_eq!(events(&reply), [], "10 ms are no segment of 20 ms: {reply}");
    let wrong = request(0.3, json!({"stream_end": true, "sequence_id": 7, "sequence_start": true}));
    client.send(Message::text(wrong)).unwrap();
    let error = next(&mut client);
    assert!(error["error"].as_str().unwrap().contains("`sequence_end` a sequence with an id"), "{error}");
}

#[test]
fn an_end_without_a_stream_and_an_unknown_event_are_errors_and_a_description_is_the_metadata() {
    let program = Program::serve(&test_model("affine"), &[]);
    let mut client = program.connect("/");
    for (name, words) in
        [("end", "has no stream that could end"), ("stop", "expected `end`, `commit` or `describe`")]
    {
        client.send(event(name)).unwrap();
        let error = next(&mut client);
        assert!(error["error"].as_str().unwrap().contains(words), "{error}");
    }
    client.send(event("describe")).unwrap();
    assert_eq!(next(&mut client), program.get("/v2/models/affine").json());
    let (status, body) = program.refused_upgrade("/?answers=2");
    assert!(status == 400 && body["error"].as_str().unwrap().contains("has none"), "{body}");
}

#[test]
fn metadata_names_the_events_and_their_threshold() {
    let program = Program::serve(&loud("events-metadata", SPEECH), &[]);
    let result = program.get("/v2/models/events-metadata").json()["result"].clone();
    assert_eq!((&result["kind"], &result["labels"]), (&json!("events"), &json!(["speech"])));
    assert_eq!(result["parameters"]["threshold"]["default"], 0.5);
}
