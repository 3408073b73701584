//! `model.json` is read with its defaults, and wrong values are refused.

use super::*;

#[test]
fn an_unknown_field_names_the_nearest_known_one() {
    let error = Manifest::parse(r#"{"nam": "x", "optputs": []}"#).unwrap_err();
    assert!(error.starts_with("unknown field `nam`"), "{error}");
    assert!(error.ends_with("did you mean `name`?"), "{error}");
    let error = Manifest::parse(r#"{"inputs": [{"name": "x", "image": {"colour": "rgb"}}]}"#).unwrap_err();
    assert!(error.contains("did you mean `color`?"), "{error}");
}

#[test]
fn a_background_is_one_level_a_colour_or_the_word_edge() {
    for (text, background) in [
        ("7", Background::Level(7)),
        ("[1,2,3]", Background::Rgb([1, 2, 3])),
        ("\"edge\"", Background::Edge(EdgeWord::Edge)),
    ] {
        let text = format!(r#"{{"inputs":[{{"name":"x","image":{{"background":{text}}}}}]}}"#);
        let manifest = Manifest::parse(&text).unwrap();
        assert_eq!(manifest.inputs[0].image.as_ref().unwrap().background, background);
    }
}

#[test]
fn wrong_values_are_refused_with_an_explanation() {
    for (text, part) in [
        (r#"{"inputs":[{"name":"x","shape":[0]}]}"#, "at least 1"),
        (r#"{"inputs":[{"name":"x","datatype":"FLOAT"}]}"#, "unknown datatype `FLOAT`"),
        (r#"{"inputs":[{"name":"x","image":{"mean":[1,2]}}]}"#, "one a channel (3)"),
        (r#"{"inputs":[{"name":"x","image":{"std":[0]}}]}"#, "divided by it"),
        (r#"{"inputs":[{"name":"x","image":{"color":"grey"}}]}"#, "did you mean `gray`"),
        (r#"{"inputs":[{"name":"x","text":{"max_length":0}}]}"#, "expected a number of tokens"),
        (r#"{"inputs":[{"name":"x","text":{"max_length":8,"padding":9}}]}"#, "but max_length is 8"),
        (r#"{"inputs":[{"name":"x","text":{},"image":{}}]}"#, "more than one of `image`, `audio` and `text`"),
        (r#"{"outputs":[{"name":"x","pooling":"men"}]}"#, "did you mean `mean`"),
        (r#"{"instance_group":{"count":0}}"#, "at least one worker"),
        (r#"{"name":"a/b"}"#, "letters, digits"),
        (r#"{"url":"https://example.org/model.onnx"}"#, "`sha256sum FILE` prints it"),
        (r#"{"url":"https://example.org/model.onnx","sha256":"ab"}"#, "64 hexadecimal digits"),
        (r#"{"sha256":"ab"}"#, "there is no url"),
    ] {
        let error = Manifest::parse(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_number_out_of_range_is_refused_and_the_error_names_its_field_and_bound() {
    for (text, field, most) in [
        (r#"{"instance_group":{"count":100000}}"#, "instance_group.count", "1024"),
        (r#"{"intra_op_threads":100000}"#, "intra_op_threads", "256"),
        (r#"{"warmup":4000000000}"#, "warmup", "10000"),
        (r#"{"max_batch_size":4611686018427387904}"#, "max_batch_size", "65536"),
        (
            r#"{"max_batch_size":2,"dynamic_batching":{"max_queue_delay_microseconds":18446744073709551615}}"#,
            "max_queue_delay_microseconds",
            "3600000000",
        ),
        (r#"{"inputs":[{"name":"x","shape":[4611686018427387904,3]}]}"#, "inputs[`x`].shape", "2147483647"),
        (r#"{"shapes":[{"x":[1,4611686018427387904]}]}"#, "shapes[`x`]", "2147483647"),
        (
            r#"{"sequence":{"states":[{"input":"a","output":"b"}],"max_sequences":99999999}}"#,
            "sequence.max_sequences",
            "1048576",
        ),
        (
            r#"{"sequence":{"states":[{"input":"a","output":"b"}],"max_sequence_idle_microseconds":18446744073709551615}}"#,
            "sequence.max_sequence_idle_microseconds",
            "2592000000000",
        ),
        (
            r#"{"sequence":{"states":[{"input":"a","output":"b","batch_axis":99}]}}"#,
            "sequence.states[`a`].batch_axis",
            "15",
        ),
        (r#"{"inputs":[{"name":"x","audio":{"window":99999999999}}]}"#, "audio.window", "16777216"),
        (r#"{"inputs":[{"name":"x","audio":{"hop":99999999999}}]}"#, "audio.hop", "16777216"),
        (
            r#"{"inputs":[{"name":"x","audio":{"context":18446744073709551615}}]}"#,
            "audio.context",
            "16777216",
        ),
        (r#"{"inputs":[{"name":"x","audio":{"sample_rate":0}}]}"#, "audio.sample_rate", "10000000"),
        (r#"{"inputs":[{"name":"x","text":{"max_length":99999999999}}]}"#, "text.max_length", "1048576"),
        (r#"{"inputs":[{"name":"x","text":{"padding":99999999999}}]}"#, "text.padding", "1048576"),
        (r#"{"inputs":[{"name":"x","image":{"scale":1e39}}]}"#, "image.scale", "1e6"),
        (r#"{"inputs":[{"name":"x","image":{"mean":[1e39]}}]}"#, "image.mean", "1e6"),
        (r#"{"inputs":[{"name":"x","image":{"std":[1e39]}}]}"#, "image.std", "1e6"),
        (
            r#"{"outputs":[{"name":"y","classification":99999999999}]}"#,
            "outputs[`y`].classification",
            "1048576",
        ),
        (r#"{"version_policy":{"latest":{"num_versions":99999999}}}"#, "num_versions", "65536"),
        (
            r#"{"version_policy":{"specific":{"versions":[18446744073709551615]}}}"#,
            "versions",
            "9223372036854775807",
        ),
    ] {
        let error = Manifest::parse(text).unwrap_err();
        assert!(error.contains(field) && error.contains(most), "{text}: {error}");
    }
}

#[test]
fn a_field_of_resizing_without_a_meaning_is_refused_and_the_error_says_what_it_goes_with() {
    for (image, part) in [
        (r#"{"size":256}"#, "size has a meaning only with `\"resize\": \"shorter\"`"),
        (r#"{"resize":"cover","crop":224}"#, "crop has a meaning only with `\"resize\": \"shorter\"`"),
        (
            r#"{"resize":"shorter","size":8,"shortest":8}"#,
            "shortest has a meaning only with `\"resize\": \"limit\"`",
        ),
        (r#"{"resize":"contain","longest":8}"#, "longest has a meaning only with `\"resize\": \"limit\"`"),
        (r#"{"resize":"shorter","size":8,"crop":8,"multiple":4}"#, "`\"resize\": \"shorter\"` without crop"),
        (r#"{"placement":"top_left"}"#, "placement has a meaning only with `\"resize\": \"contain\"`"),
        (r#"{"resize":"shorter"}"#, "size is not given"),
        (r#"{"resize":"limit"}"#, "needs shortest, longest or multiple"),
        (r#"{"resize":"shorter","size":200,"crop":224}"#, "crop is 224, but size is 200"),
        (r#"{"resize":"shorter","size":800,"longest":640}"#, "size is 800, but longest is 640"),
        (r#"{"resize":"limit","shortest":800,"longest":640}"#, "shortest is 800, but longest is 640"),
        (r#"{"resize":"limit","longest":1000,"multiple":32}"#, "longest is 1000: expected a multiple of 32"),
        (r#"{"resize":"limit","longest":0}"#, "longest"),
        (r#"{"resize":"limit","multiple":100000}"#, "65536"),
        (r#"{"resize":"fit"}"#, "unknown variant `fit`"),
    ] {
        let error =
            Manifest::parse(&format!(r#"{{"inputs":[{{"name":"x","image":{image}}}]}}"#)).unwrap_err();
        assert!(error.contains(part), "{image}: {error}");
    }
}
