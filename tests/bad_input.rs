//! Wrong input gets a clear error, does not affect other clients, and the next request succeeds.

use crate::support::*;
use serde_json::{Value, json};
use tungstenite::Message;

/// Sends each bad message on one conversation: the reply must be an error with that code and those
/// words, and a good request right behind it, and one on another conversation, must be answered.
fn each_is_refused(program: &Program, path: &str, bad: Vec<(Message, &str, &str)>, good: &Message) {
    let mut client = program.connect(path);
    let mut bystander = program.connect(path);
    for (message, code, words) in bad {
        let shown = format!("{message:?}").chars().take(200).collect::<String>();
        let reply = ask_json(&mut client, message);
        assert_eq!(reply["code"], code, "{shown}: {reply}");
        assert!(reply["error"].as_str().unwrap().contains(words), "{shown}: expected `{words}` in {reply}");
        assert!(reply["error"].as_str().unwrap().len() < 1000, "a sentence, not a dump: {reply}");
        for client in [&mut client, &mut bystander] {
            let reply = ask(client, good.clone());
            let json = if reply.is_binary() { split_v2(&reply.into_data()).0 } else { json(&reply) };
            assert!(json["outputs"].is_array(), "after {shown}: {json}");
        }
    }
}

fn affine(data: &str) -> Message {
    Message::text(format!(r#"{{"inputs":[{{"name":"x","shape":[1,3],"datatype":"FP32","data":{data}}}]}}"#))
}

fn text(text: &str) -> Message {
    Message::text(text)
}

#[test]
fn json_that_is_wrong_in_any_way_is_told_what_is_wrong() {
    let program = Program::serve(&test_model("affine"), &[]);
    let invalid = "invalid_request";
    let bomb = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let bad = vec![
        (text("hello"), invalid, r#"an example for this model: {"id":"1","inputs":[{"name":"x""#),
        (text(""), invalid, "an example for this model"),
        (text("[1,2,3]"), invalid, "an example for this model"),
        (text("{}"), invalid, "lacks `inputs`"),
        (text(r#"{"input": []}"#), invalid, "lacks `inputs`"),
        (text(r#"{"inputs": [{"name": "x", "sha"#), invalid, "not well-formed JSON"),
        (text(r#"{"inputs": 5}"#), invalid, "expected a sequence"),
        (text(r#"{"inputs": [], "instances": []}"#), invalid, "this one has both"),
        (text(r#"{"inputs": []}"#), invalid, "missing input `x`"),
        (
            text(r#"{"inputs": [{"name": "x", "shape": [1,3], "datatype": "FP32"}]}"#),
            invalid,
            "neither `data` nor",
        ),
        (
            text(r#"{"inputs": [{"name": "x", "datatype": "FP32", "data": [1]}]}"#),
            invalid,
            "missing field `shape`",
        ),
        (
            text(r#"{"inputs": [{"name": "xx", "shape": [1,3], "datatype": "FP32", "data": [1,2,3]}]}"#),
            invalid,
            "unknown input `xx`",
        ),
        (
            text(r#"{"inputs": [{"name": "x", "shape": [1,3], "datatype": "INT32", "data": [1,2,3]}]}"#),
            invalid,
            "datatype is INT32: expected FP32",
        ),
        (
            text(r#"{"inputs": [{"name": "x", "shape": [1,4], "datatype": "FP32", "data": [1,2,3,4]}]}"#),
            invalid,
            "shape is [1,4]: expected [-1,3]",
        ),
        (
            text(r#"{"inputs": [{"name": "x", "shape": [-1,3], "datatype": "FP32", "data": [1,2,3]}]}"#),
            invalid,
            "invalid value: integer `-1`",
        ),
        (
            text(
                r#"{"inputs": [{"name": "x", "shape": [1000000000000000000,3], "datatype": "FP32", "data": [1]}]}"#,
            ),
            invalid,
            "holds 3000000000000000000 elements, but the data has 1",
        ),
        (
            text(
                r#"{"inputs": [{"name": "x", "shape": [10000000000000000000,3], "datatype": "FP32", "data": [1]}]}"#,
            ),
            invalid,
            "more elements than any machine",
        ),
        (affine("[1,2]"), invalid, "shape [1, 3] holds 3 elements, but the data has 2"),
        (affine("[1,2,3,4]"), invalid, "holds 3 elements, but the data has 4"),
        (affine("[[1],[2],[3]]"), invalid, "data is nested as [3,1], but shape is [1,3]"),
        (affine("[[1,2],[3]]"), invalid, "ragged"),
        (affine("[1,\"2\",3]"), invalid, "element 1 is \"2\": expected a number"),
        (affine("[1,null,3]"), invalid, "element 1 is null: expected a number"),
        (affine("[1,true,3]"), invalid, "element 1 is true: expected a number"),
        (affine("[1,1e39,3]"), invalid, "element 1 is 1e39: out of range for FP32"),
        (affine("[1,NaN,3]"), invalid, "JSON has no NaN"),
        (affine("[1,Infinity,3]"), invalid, "JSON has no NaN and no Infinity"),
        (affine("{}"), invalid, "an object where element 0"),
        (affine("\"AAAA\""), invalid, "expected a number"),
        (affine(&bomb(100)), invalid, "nests deeper than 16"),
        (affine(&bomb(100_000)), invalid, ""),
        (text(&bomb(1_000_000)), invalid, ""),
        (text(&format!(r#"{{"id":{}}}"#, bomb(100_000))), invalid, ""),
        (text(r#"{"id": {"a": 1}, "inputs": []}"#), invalid, "the id is"),
        (
            text(&format!(r#"{{"id": "{}", "inputs": []}}"#, "i".repeat(5000))),
            invalid,
            "the id is 5002 bytes long",
        ),
        (
            text(
                r#"{"inputs": [{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}], "outputs": [{"name":"z"}]}"#,
            ),
            invalid,
            "unknown output `z`: the model has `y`",
        ),
        (
            text(
                r#"{"inputs": [{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}]}"#,
            ),
            invalid,
            "binary_data_size is 12, but 0 bytes are left",
        ),
        (text(r#"{"instances": []}"#), invalid, "`instances` is empty"),
        (text(r#"{"instances": 7}"#), invalid, "`instances` is no list"),
        (text(r#"{"instances": [[1,2]]}"#), invalid, "has shape [2] in this row: expected [3]"),
        (text(r#"{"instances": [[1,2,3],[1,2]]}"#), invalid, "instances[1]"),
        (text(r#"{"instances": [{"y": [1,2,3]}]}"#), invalid, "missing input `x`"),
        (text(r#"{"instances": [{"x": "no", "x": [1,2,3]}]}"#), invalid, "input `x` is given twice"),
        (text(r#"{"instances": [{"x": [1,2,3], "y": 1}]}"#), invalid, "unknown input `y`"),
    ];
    each_is_refused(&program, "/", bad, &affine("[1,2,3]"));
}

#[test]
fn an_error_carries_the_id_of_its_request_even_when_other_fields_are_wrong() {
    let program = Program::serve(&test_model("affine"), &[]);
    let mut client = program.connect("/");
    for request in
        [r#"{"id": "a", "inputs": []}"#, r#"{"inputs": 5, "id": "a"}"#, r#"{"id": "a", "outputs": 3}"#]
    {
        let reply = ask_json(&mut client, text(request));
        assert_eq!((&reply["id"], &reply["code"]), (&json!("a"), &json!("invalid_request")), "{request}");
    }
}

#[test]
fn numbers_out_of_their_datatypes_range_are_named() {
    let program = Program::serve(&test_model("pick"), &[]);
    let pick = |data: &str| {
        text(&format!(r#"{{"inputs":[{{"name":"index","shape":[1],"datatype":"INT64","data":{data}}}]}}"#))
    };
    let bad = vec![
        (pick("[9223372036854775808]"), "invalid_request", "out of range for INT64"),
        (pick("[1.5]"), "invalid_request", "element 0 is 1.5: expected an integer"),
        (pick("[1e3]"), "invalid_request", "expected an integer"),
        // In range for the datatype, out of range for the model.
        (pick("[4]"), "invalid_request", "the index 4 is out of range"),
        (pick("[-9223372036854775808]"), "invalid_request", "the index -9223372036854775808 is out of range"),
    ];
    each_is_refused(&program, "/", bad, &pick("[2]"));
}

#[test]
fn a_run_that_fails_harms_only_its_own_request_on_the_same_worker() {
    let program = Program::serve(&test_model("divide"), &["--workers", "1"]);
    let divide = |a: i64, b: i64| {
        text(
            &json!({"inputs": [
            {"name": "a", "shape": [1], "datatype": "INT32", "data": [a]},
            {"name": "b", "shape": [1], "datatype": "INT32", "data": [b]}]})
            .to_string(),
        )
    };
    let bad = vec![(divide(1, 0), "inference_failed", "divide by zero"); 20];
    each_is_refused(&program, "/", bad, &divide(7, 2));
}

#[test]
fn shapes_that_the_graph_cannot_take_are_refused_before_the_engine_sees_them() {
    let product = |a: [usize; 2], b: [usize; 2]| {
        let input = |name: &str, shape: [usize; 2]| json!({"name": name, "shape": shape, "datatype": "FP32", "data": vec![1; shape[0] * shape[1]]});
        text(&json!({"inputs": [input("a", a), input("b", b)]}).to_string())
    };
    let program = Program::serve(&test_model("matmul"), &["--workers", "1", "--max-tensor-bytes", "1000000"]);
    let bad = vec![
        (product([2, 2], [3000, 2]), "invalid_request", "to be equal, but they are 2 and 3000"),
        (product([2, 3], [2, 2]), "invalid_request", "to be equal, but they are 3 and 2"),
        (product([3, 1], [4, 3]), "invalid_request", "to be equal, but they are 1 and 4"),
        (product([20_000, 0], [0, 20_000]), "invalid_request", "at least 1 in every dimension"),
        (product([2000, 1], [1, 2000]), "too_large", "would make 16000000 bytes of this input"),
    ];
    each_is_refused(&program, "/", bad, &product([4, 4], [4, 4]));
    let picture = |side: usize| {
        let data = vec![1; side * side];
        text(&json!({"inputs": [{"name": "x", "shape": [1, 1, side, side], "datatype": "FP32", "data": data}]}).to_string())
    };
    let program = Program::serve(&test_model("conv"), &["--workers", "1"]);
    let bad = vec![
        (picture(1), "invalid_request", "the input is too small"),
        (picture(0), "invalid_request", "at least 1 in every dimension"),
    ];
    each_is_refused(&program, "/", bad, &picture(3));
}

#[test]
fn many_images_cost_no_more_memory_than_the_limit() {
    let folder = with_manifest("image3", "many_images", r#"{"inputs": [{"name": "image", "image": {}}]}"#);
    let program = Program::serve(&folder, &["--max-tensor-bytes", "100000"]);
    let image = base64(&encode(image::RgbImage::new(2, 2), image::ImageFormat::Png));
    let images = |count: usize| {
        let data = vec![image.clone(); count];
        text(
            &json!({"inputs": [{"name": "image", "shape": [count], "datatype": "BYTES", "data": data}]})
                .to_string(),
        )
    };
    // A row is 3 × 4 × 6 × 4 bytes.
    let bad = vec![(images(348), "too_large", "348 images make 348 × 288 bytes: the limit is 100000")];
    each_is_refused(&program, "/", bad, &images(347));
    let fixed = r#"{"inputs": [{"name": "image", "shape": [1, 3, 4, 6], "image": {}}]}"#;
    let program = Program::serve(&with_manifest("image3", "one_image", fixed), &[]);
    let bad = vec![(images(2), "invalid_request", "shape is [2]: expected [1], one a row")];
    each_is_refused(&program, "/", bad, &images(1));
}

#[test]
fn json_that_nests_deeper_than_its_limit_is_refused_and_brackets_in_a_string_do_not_count() {
    let program = Program::serve(&test_model("affine"), &["--max-json-depth", "5"]);
    let mut client = program.connect("/");
    let request = |extra: &str| {
        Message::text(format!(
            r#"{{"inputs": [{{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [[1, 2, 3]]}}], "more": {extra}}}"#
        ))
    };
    assert!(ask_json(&mut client, request(r#""[[[[[[{{{{\"[[""#))["outputs"].is_array());
    let reply = ask_json(&mut client, request("[[[[[0]]]]]"));
    assert_eq!(reply["code"], "invalid_request");
    assert!(reply["error"].as_str().unwrap().contains("nests deeper than 5"), "{reply}");
    assert!(ask_json(&mut client, request("[[[[0]]]]"))["outputs"].is_array());
}

#[test]
fn an_error_is_a_sentence_however_long_what_it_quotes() {
    let program = Program::serve(&test_model("affine"), &[]);
    let long = "\u{7f}".repeat(1_000_000);
    let bad = vec![
        (text(&json!({"inputs": long}).to_string()), "invalid_request", "expected a sequence"),
        (text(&json!({"parameters": long}).to_string()), "invalid_request", "expected an object"),
        (text(&json!({"instances": long}).to_string()), "invalid_request", "`instances` is no list"),
        (
            text(r#"{"parameters": {"sequence_id": 7}, "inputs": []}"#),
            "invalid_request",
            "keeps no state from one request to the next",
        ),
    ];
    each_is_refused(&program, "/", bad, &affine("[1,2,3]"));
}

#[test]
fn inputs_that_share_a_dimension_must_agree_in_it() {
    let program = Program::serve(&test_model("pair"), &[]);
    let pair = |a: usize, b: usize| {
        text(
            &json!({"inputs": [
            {"name": "a", "shape": [a, 2], "datatype": "FP32", "data": vec![1; a * 2]},
            {"name": "b", "shape": [b, 2], "datatype": "FP32", "data": vec![1; b * 2]}]})
            .to_string(),
        )
    };
    let bad = vec![(pair(4, 3), "invalid_request", "`N`")];
    each_is_refused(&program, "/", bad, &pair(2, 2));
}

#[test]
fn a_binary_message_that_lies_about_its_parts_is_refused() {
    let program = Program::serve(&test_model("affine"), &[]);
    let with_size = |size: u64| {
        format!(
            r#"{{"inputs":[{{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{{"binary_data_size":{size}}}}}]}}"#
        )
    };
    let invalid = "invalid_request";
    let bad = vec![
        (Message::binary(vec![]), invalid, "begins with the JSON's length in 4 bytes"),
        (Message::binary(vec![1, 2]), invalid, "it has 2 bytes"),
        (
            Message::binary(vec![0xff, 0xff, 0xff, 0xff, b'{']),
            invalid,
            "4294967295 bytes long, but only 1 follow",
        ),
        (Message::binary(v2("\u{fffd}", &[])), invalid, "expected a request in JSON"),
        (Message::binary([&4u32.to_le_bytes()[..], &[0xff; 4]].concat()), invalid, "not UTF-8"),
        (
            Message::binary(v2(&with_size(12), &[0; 11])),
            invalid,
            "binary_data_size is 12, but 11 bytes are left",
        ),
        (Message::binary(v2(&with_size(u64::MAX), &[0; 12])), invalid, "but 12 bytes are left"),
        (Message::binary(v2(&with_size(12), &[0; 13])), invalid, "1 bytes are left over"),
        (Message::binary(v2(&with_size(11), &[0; 11])), invalid, "no whole number of FP32"),
        (Message::binary(v2(&with_size(8), &[0; 8])), invalid, "holds 3 elements, but the data has 2"),
    ];
    each_is_refused(&program, "/?framing=v2", bad, &Message::binary(v2(&with_size(12), &[0; 12])));
}

#[test]
fn an_image_that_is_none_or_lies_is_refused_before_it_costs_memory() {
    let program = Program::digits();
    let good = png(&held_out(0).1);
    let header = |width: u32, height: u32| {
        let mut file = good.clone();
        file[16..20].copy_from_slice(&width.to_be_bytes());
        file[20..24].copy_from_slice(&height.to_be_bytes());
        let crc = crc32(&file[12..29]);
        file[29..33].copy_from_slice(&crc.to_be_bytes());
        Message::binary(file)
    };
    let oip = |data: Value| {
        text(
            &json!({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": data}]})
                .to_string(),
        )
    };
    let jpeg = encode(image::GrayImage::new(40, 40), image::ImageFormat::Jpeg);
    let bad = vec![
        (Message::binary(b"not an image".to_vec()), "invalid_request", "neither a JPEG nor a PNG"),
        (Message::binary(vec![]), "invalid_request", "0 bytes that are neither"),
        (Message::binary(b"GIF89a------".to_vec()), "invalid_request", "neither a JPEG nor a PNG"),
        (Message::binary(good[..60].to_vec()), "invalid_request", "not a readable PNG file"),
        (
            Message::binary(jpeg[..jpeg.len() / 3].to_vec()),
            "invalid_request",
            "not a readable JPEG file: it ends before the image does",
        ),
        (header(50_000, 50_000), "too_large", "50000×50000 are 2500000000 pixels: the limit is 25000000"),
        (header(4_000, 4_000), "invalid_request", "the header says 4000×4000, which"),
        (header(0, 28), "invalid_request", ""),
        (oip(json!(["%%%"])), "invalid_request", "not base64"),
        (oip(json!([5])), "invalid_request", "expected a string"),
        (oip(json!([base64(b"no image")])), "invalid_request", "input `image`, image 0: 8 bytes"),
        (
            oip(json!([base64(&good), base64(&good)])),
            "invalid_request",
            "holds 1 elements, but the data has 2",
        ),
        (text(&json!({"instances": vec![base64(&good); 17]}).to_string()), "too_large", "more than 16 rows"),
        (
            text(&json!({"instances": [base64(&good), base64(b"no image")]}).to_string()),
            "invalid_request",
            "image 1: 8 bytes",
        ),
    ];
    each_is_refused(&program, "/", bad, &Message::binary(good.clone()));
}

/// CRC-32 as PNG has it (ISO 3309), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn memory_that_large_requests_took_is_given_back_while_the_server_is_idle() {
    let program = Program::serve(&test_model("affine"), &["--max-memory", "1000000000"]);
    let before = program.resident();
    let rows = "1.25,2.5,-3.125,".repeat(400_000);
    let (count, data) = (400_000, rows.trim_end_matches(','));
    let body =
        format!(r#"{{"inputs":[{{"name":"x","shape":[{count},3],"datatype":"FP32","data":[{data}]}}]}}"#);
    let mut clients: Vec<Client> = (0..4).map(|_| program.connect("/")).collect();
    for _ in 0..5 {
        for client in &mut clients {
            client.send(Message::text(body.as_str())).unwrap();
        }
        for client in &mut clients {
            assert!(answer(client).len() > 1_000_000);
        }
    }
    drop(clients);
    until("the memory is given back", || program.resident() < before + (20 << 20));
}
