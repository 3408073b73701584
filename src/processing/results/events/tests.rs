//! Events of made-up scores. The comparison with silero-vad's own function is in tests/results.

use super::*;
use crate::model::manifest::ResultManifest;

/// The events of windows of 512 samples at 16 kHz.
fn maker(spec: &str, shape: &[Option<usize>]) -> Result<Events, String> {
    let manifest = format!(r#"{{"result": {{"kind": "events", {spec}}}}}"#);
    let manifest = crate::model::Manifest::parse(&manifest)?;
    let Some(ResultManifest::Events(spec)) = manifest.result else { panic!("another kind") };
    let outputs = [Declared { name: "y".into(), shape: shape.to_vec() }];
    let labels = match &spec.labels {
        Some(crate::model::manifest::Labels::Listed(labels)) => labels.clone(),
        _ => Vec::new(),
    };
    let pace = Pace { hop: Some(512), hop_ms: 32.0 };
    Events::new(&spec, &outputs, labels, spec.hop_ms.is_none().then_some(pace)).map(|(events, _)| events)
}

fn settled(events: &Events) -> Settled {
    events.wish().settle(&Default::default()).unwrap()
}

/// The events of scores that come one by one, and those of the end after `length` samples.
fn heard(events: &Events, scores: &[f32], length: Option<u64>) -> Vec<(Kind, u64)> {
    let (mut tracker, settled) = (Tracker::default(), settled(events));
    let mut found = Vec::new();
    for score in scores {
        let output = View::new(&[1, 1], std::slice::from_ref(score)).unwrap();
        found.extend(events.of_request(&mut tracker, output, None, &settled).unwrap().answer);
    }
    found.extend(events.finish(&mut tracker, length, &settled));
    found.iter().map(|event| (event.event, event.at)).collect()
}

/// The segments of silero-vad's `get_speech_timestamps` without padding, for all scores at once.
fn segments(scores: &[f32], length: i64, min_length: i64, min_silence: i64) -> Vec<(i64, i64)> {
    let (mut found, mut start, mut quiet) = (Vec::new(), None, None);
    for (at, score) in scores.iter().enumerate() {
        let at = at as i64 * 512;
        if *score >= 0.5 {
            quiet = None;
            start = start.or(Some(at));
        } else if let Some(begun) = start
            && *score < 0.35
        {
            let since = *quiet.get_or_insert(at);
            if at - since >= min_silence {
                if since - begun > min_length {
                    found.push((begun, since));
                }
                (start, quiet) = (None, None);
            }
        }
    }
    found.extend(start.filter(|begun| length - begun > min_length).map(|begun| (begun, length)));
    found
}

#[test]
fn segments_are_those_of_the_same_rule_over_all_scores_at_once() {
    let spec = r#""min_length_ms": 250, "min_silence_ms": 100, "padding_ms": 0"#;
    let events = maker(spec, &[None, Some(1)]).unwrap();
    let mut state = 7_u64;
    let mut below = |most: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    };
    let mut total = 0;
    for _ in 0..300 {
        // A level that changes seldom, and noise.
        let mut level = 0.2_f32;
        let scores: Vec<f32> = (0..120)
            .map(|_| {
                if below(12) == 0 {
                    level = below(100) as f32 / 100.0;
                }
                (level + below(30) as f32 / 100.0 - 0.15).clamp(0.0, 1.0)
            })
            .collect();
        let length = 120 * 512;
        let expected: Vec<(Kind, u64)> = segments(&scores, length, 4000, 1600)
            .into_iter()
            .flat_map(|(start, end)| [(Kind::Start, start as u64), (Kind::End, end as u64)])
            .collect();
        total += expected.len();
        assert_eq!(heard(&events, &scores, Some(length as u64)), expected, "{scores:?}");
    }
    assert!(total > 500, "{total} events");
}

#[test]
fn a_segment_is_padded_but_not_beyond_the_stream_or_the_segment_before() {
    let spec = r#""min_length_ms": 0, "min_silence_ms": 0, "padding_ms": 64"#;
    let events = maker(spec, &[None, Some(1)]).unwrap();
    let found = heard(&events, &[0.9, 0.9, 0.1, 0.1, 0.9, 0.9], Some(3000));
    let expected = [(Kind::Start, 0), (Kind::End, 2048), (Kind::Start, 2048), (Kind::End, 3000)];
    assert_eq!(found, expected, "1,024 samples of padding on both sides");
}

#[test]
fn a_hit_needs_its_length_and_another_one_the_cool_down() {
    let spec = r#""form": "hits", "min_length_ms": 64, "cool_down_ms": 320, "labels": ["alexa"]"#;
    let events = maker(spec, &[None, Some(1)]).unwrap();
    let scores = [0.6, 0.1, 0.6, 0.7, 0.8, 0.1, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.1];
    // Too short at 0; a hit at 3; too early at 7; again when ten windows have passed.
    assert_eq!(heard(&events, &scores, None), [(Kind::Hit, 3 * 512), (Kind::Hit, 13 * 512)]);
}

#[test]
fn each_label_has_its_own_track_and_thresholds() {
    let spec = r#""form": "hits", "activation": "softmax", "labels": ["_silence_", "yes", "no"],
                  "ignore": ["_silence_"], "per_label": {"no": {"threshold": 0.3}}"#;
    let events = maker(spec, &[None, Some(3)]).unwrap();
    assert_eq!(events.labels(), ["yes", "no"]);
    let values = [0.0, 2.0, 0.0, 1.0, 0.0, 1.0, 9.0, 0.0, 0.0];
    let output = View::new(&[3, 3], &values).unwrap();
    let mut tracker = Tracker::default();
    let made = events.of_request(&mut tracker, output, Some(1000), &settled(&events)).unwrap();
    let found: Vec<(&str, u64)> = made.answer.iter().map(|event| (event.label.as_str(), event.at)).collect();
    assert_eq!(found, [("yes", 1000), ("no", 1512)]);
    assert_eq!(made.answer[0].at_ms, 62.5);
}

#[test]
fn several_scores_of_a_run_share_its_time_and_without_sound_scores_are_counted() {
    let of_sound = maker(r#""form": "hits", "labels": ["a"]"#, &[None, Some(4)]).unwrap();
    let scores = [0.1, 0.1, 0.1, 0.9, 0.1, 0.9, 0.1, 0.1];
    let output = View::new(&[2, 4], &scores).unwrap();
    let at = |events: &Events| -> Vec<(u64, f64)> {
        let made = events.of_request(&mut Tracker::default(), output, None, &settled(events)).unwrap();
        made.answer.iter().map(|event| (event.at, event.at_ms)).collect()
    };
    assert_eq!(at(&of_sound), [(384, 24.0)], "the second one is within the cool-down");
    let spec = r#""form": "hits", "labels": ["a"], "hop_ms": 1000, "cool_down_ms": 500"#;
    assert_eq!(at(&maker(spec, &[None, Some(4)]).unwrap()), [(3, 3000.0), (5, 5000.0)]);
}

#[test]
fn scores_that_are_no_numbers_are_left_out_and_counted() {
    let events = maker(r#""min_length_ms": 0"#, &[None, Some(1)]).unwrap();
    let values = [f32::NAN, 0.9, f32::INFINITY];
    let output = View::new(&[3, 1], &values).unwrap();
    let made = events.of_request(&mut Tracker::default(), output, None, &settled(&events)).unwrap();
    assert_eq!((made.answer.len(), made.non_finite), (1, 2));
}

#[test]
fn a_row_outside_a_conversation_is_a_stream_of_its_own_that_ends_with_it() {
    let events =
        maker(r#""min_length_ms": 0, "padding_ms": 0, "labels": ["speech"]"#, &[None, Some(4)]).unwrap();
    let values = [0.1, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1];
    let output = View::new(&[2, 4], &values).unwrap();
    let row = |row| -> Vec<(Kind, u64)> {
        let made = events.of_row(output, row, &settled(&events)).unwrap();
        made.answer.iter().map(|event| (event.event, event.at)).collect()
    };
    assert_eq!(row(0), [(Kind::Start, 128), (Kind::End, 512)]);
    assert_eq!(row(1), [(Kind::Start, 0), (Kind::End, 512)], "the silence is shorter than min_silence_ms");
}

#[test]
fn settings_that_do_not_fit_are_refused_with_what_does() {
    for (spec, shape, words) in [
        (r#""output": "z""#, &[None, Some(1)][..], "does not have"),
        (r#""labels": ["a", "b"]"#, &[None, Some(3)], "expected [N, 2] or [N, steps, 2]"),
        ("\"padding_ms\": 1", &[None, None], "give labels"),
        (r#""ignore": ["y"]"#, &[None, Some(1)], "leave some out"),
        (r#""per_label": {"x": {}}"#, &[None, Some(1)], "not among the labels"),
        (r#""cool_down_ms": 5"#, &[None, Some(1)], "only with `\"form\": \"hits\"`"),
        (r#""form": "hits", "padding_ms": 5"#, &[None, Some(1)], "only with `\"form\": \"segments\"`"),
        (r#""end_threshold": 0.6"#, &[None, Some(1)], "at most the threshold, 0.5"),
        (r#""threshold": 2"#, &[None, Some(1)], "threshold is 2"),
        (r#""hop_ms": 0"#, &[None, Some(1)], "hop_ms is 0"),
        (r#""min_length_ms": 100000000"#, &[None, Some(1)], "min_length_ms is 100000000"),
    ] {
        let error = maker(spec, shape).unwrap_err();
        assert!(error.contains(words), "{spec}: {error}");
    }
    let spec = crate::model::Manifest::parse(r#"{"result": {"kind": "events"}}"#).unwrap();
    let Some(ResultManifest::Events(spec)) = spec.result else { panic!() };
    let outputs = [Declared { name: "y".into(), shape: vec![None, Some(1)] }];
    let error = Events::new(&spec, &outputs, Vec::new(), None).unwrap_err();
    assert!(error.contains("give hop_ms, or sample_rate"), "{error}");
}
