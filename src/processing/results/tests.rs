//! Every decoder compared with numpy: tests/results/reference.py computes what is expected. And inputs that are wrong.

use serde_json::Value;

use super::*;

const CASES: &str = include_str!("../../../tests/results/cases.json");

struct Output {
    shape: Vec<usize>,
    values: Vec<f32>,
}

struct Case {
    maker: ResultMaker,
    outputs: Vec<Output>,
    settled: Settled,
    rows: usize,
}

impl Case {
    fn new(case: &Value) -> Result<Case, String> {
        let spec: ResultManifest =
            serde_json::from_value(case["result"].clone()).map_err(|error| error.to_string())?;
        let labels: Vec<String> = serde_json::from_value(case["labels"].clone()).unwrap();
        let canvas: Option<[usize; 2]> = serde_json::from_value(case["canvas"].clone()).unwrap();
        let (mut declared, mut outputs) = (Vec::new(), Vec::new());
        for output in case["outputs"].as_array().unwrap() {
            let shape: Vec<usize> = serde_json::from_value(output["shape"].clone()).unwrap();
            let data: Vec<Option<f32>> = serde_json::from_value(output["data"].clone()).unwrap();
            let values = data.into_iter().map(|number| number.unwrap_or(f32::NAN)).collect();
            let open = shape.iter().map(|length| Some(*length)).collect();
            declared.push(Declared { name: output["name"].as_str().unwrap().into(), shape: open });
            outputs.push(Output { shape, values });
        }
        let canvas = canvas.map_or(Canvas::Unknown, Canvas::Fixed);
        let maker = ResultMaker::new(&spec, &declared, labels, canvas, None)?;
        let mut choices = Choices::default();
        for (name, value) in case["parameters"].as_object().into_iter().flatten() {
            assert!(choices.take(name, &value.to_string()));
        }
        let settled = maker.settle(&choices)?;
        Ok(Case { maker, outputs, settled, rows: case["rows"].as_u64().unwrap_or(1) as usize })
    }

    fn make(&self) -> Result<Made<Answers>, String> {
        let outputs = self.maker.outputs().iter().map(|at| &self.outputs[*at]);
        let views: Vec<View<'_>> =
            outputs.map(|output| View::new(&output.shape, &output.values).unwrap()).collect();
        self.maker.make(&views, &[], self.rows, None, &self.settled)
    }
}

/// Whether two answers agree: the same form and texts, and numbers that differ by rounding only.
fn agree(ours: &Value, known: &Value) -> bool {
    match (ours, known) {
        (Value::Number(ours), Value::Number(known)) => {
            let (ours, known) = (ours.as_f64().unwrap(), known.as_f64().unwrap());
            (ours - known).abs() <= 1e-4 + 1e-4 * known.abs()
        }
        (Value::Array(ours), Value::Array(known)) => {
            ours.len() == known.len() && ours.iter().zip(known).all(|(ours, known)| agree(ours, known))
        }
        (Value::Object(ours), Value::Object(known)) => {
            known.iter().all(|(name, known)| ours.get(name).is_some_and(|ours| agree(ours, known)))
        }
        (ours, known) => ours == known,
    }
}

#[test]
fn every_decoder_answers_as_numpy_does() {
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() > 25);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let Made { answer, non_finite } =
            Case::new(case).and_then(|case| case.make()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let ours = serde_json::to_value(&answer.rows).unwrap();
        assert!(agree(&ours, &case["expected"]), "{name}: {ours:#} is not {:#}", case["expected"]);
        assert_eq!(non_finite as u64, case["non_finite"].as_u64().unwrap(), "{name}");
        assert!(case["expected"].to_string().len() > 100, "{name} expects almost nothing");
    }
}

/// A case with one output of zeros.
fn zeros(result: &str, shape: &[usize], labels: &[&str], canvas: &str) -> Result<Case, String> {
    let values = vec!["0"; shape.iter().product()].join(",");
    let labels = serde_json::to_string(labels).unwrap();
    let case = format!(
        r#"{{"result":{result},"labels":{labels},"canvas":{canvas},"rows":1,"parameters":{{}},
            "outputs":[{{"name":"y","shape":{shape:?},"data":[{values}]}}]}}"#
    );
    Case::new(&serde_json::from_str(&case).unwrap())
}

#[test]
fn outputs_that_a_decoder_cannot_read_are_refused_with_what_it_expects() {
    let kind = |more: &str| format!(r#"{{"kind":"detections",{more}}}"#);
    for (result, shape, labels, part) in [
        (
            kind(r#""decoder":"yolo""#),
            &[1, 9, 20][..],
            &["a", "b"][..],
            "6 numbers for each anchor (4 + 2 classes)",
        ),
        (kind(r#""decoder":"yolo""#), &[1, 4, 4], &[], "5 or more numbers for each anchor"),
        (kind(r#""decoder":"yolo""#), &[6, 20], &[], "the shape is [6, 20]: expected [N, numbers, anchors]"),
        (
            kind(r#""decoder":"yolo","order":"channels_last""#),
            &[1, 6, 20],
            &["a", "b"],
            "`order` in model.json",
        ),
        (kind(r#""decoder":"yolox""#), &[1, 20, 7], &[], "no input with a fixed width and height"),
        (kind(r#""decoder":"end_to_end""#), &[1, 20, 8], &[], "columns: 6 (x1, y1, x2, y2, score, class)"),
        (
            kind(r#""decoder":"yolo","output":"z""#),
            &[1, 6, 20],
            &[],
            "the output `z`, which the model does not have: it has `y`",
        ),
        (
            r#"{"kind":"text"}"#.into(),
            &[1, 6, 9],
            &["a", "b"],
            "has 9 classes, but there are 2 characters and a blank",
        ),
        (r#"{"kind":"text"}"#.into(), &[1, 6, 9], &[], "characters is not given"),
        (r#"{"kind":"masks","decoder":"semantic"}"#.into(), &[1, 3, 6, 9], &["a", "b"], "with 2 classes"),
        (r#"{"kind":"regions"}"#.into(), &[1, 3, 6, 9], &[], "expected [N, 1, height, width]"),
    ] {
        let error =
            zeros(&result, shape, labels, "null").err().unwrap_or_else(|| panic!("{result} {shape:?}"));
        assert!(error.contains(part), "{result}: {error}");
        assert!(error.starts_with("result: "), "{error}");
    }
}

#[test]
fn a_grid_must_have_as_many_cells_as_the_output_has_anchors() {
    let yolox = r#"{"kind":"detections","decoder":"yolox"}"#;
    assert!(zeros(yolox, &[1, 84, 7], &[], "[64, 64]").is_ok());
    let error = zeros(yolox, &[1, 85, 7], &[], "[64, 64]").err().unwrap();
    assert!(error.contains("the grids of the strides have 84 cells"), "{error}");
}

#[test]
fn empty_results_are_empty_lists() {
    let case = zeros(r#"{"kind":"detections","decoder":"yolo"}"#, &[2, 6, 20], &["a", "b"], "null").unwrap();
    let made = case.make().unwrap();
    assert_eq!(serde_json::to_string(&made.answer.rows).unwrap(), "[[],[]]");
    let case = zeros(r#"{"kind":"regions"}"#, &[1, 1, 4, 4], &[], "null").unwrap();
    assert_eq!(serde_json::to_string(&case.make().unwrap().answer.rows).unwrap(), "[[]]");
    let case = zeros(r#"{"kind":"text"}"#, &[1, 3, 3], &["a", "b"], "null").unwrap();
    assert_eq!(
        serde_json::to_string(&case.make().unwrap().answer.rows).unwrap(),
        r#"[{"text":"","score":0.0}]"#
    );
    let case = zeros(r#"{"kind":"detections","decoder":"end_to_end"}"#, &[0, 7], &[], "null").unwrap();
    assert_eq!(serde_json::to_string(&case.make().unwrap().answer.rows).unwrap(), "[[]]");
}

#[test]
fn a_request_sets_thresholds_within_the_bounds_of_model_json() {
    let spec = r#"{"kind":"detections","decoder":"yolo","max":10,
                   "score_threshold":{"default":0.5,"least":0.2,"most":0.9}}"#;
    let case = zeros(spec, &[1, 6, 20], &[], "null").unwrap();
    let settle = |name: &str, value: &str| {
        let mut choices = Choices::default();
        assert!(choices.take(name, value));
        case.maker.settle(&choices)
    };
    assert_eq!(settle("max", "10").unwrap().counts, [10]);
    assert_eq!(settle("score_threshold", "0.2").unwrap().numbers[0], 0.2);
    for (name, value, part) in [
        ("score_threshold", "0.1", "score_threshold is `0.1`: this model takes a number from 0.2 to 0.9"),
        ("score_threshold", "NaN", "from 0.2 to 0.9"),
        ("score_threshold", "true", "from 0.2 to 0.9"),
        ("iou_threshold", "1.5", "from 0 to 1"),
        ("max", "11", "a whole number from 1 to 10"),
        ("max", "2.5", "a whole number from 1 to 10"),
        ("steps", "true", "has no `steps`: it has `score_threshold`, `iou_threshold`, `max`"),
    ] {
        let error = settle(name, value).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_mask_is_an_outline_within_the_box_of_its_object() {
    // One object with the box 8, 4 … 24, 20 on 32 × 24. Its mask is positive in the left half of the prototypes.
    let case = r#"{"result":{"kind":"masks","decoder":"yolo","output":"y","prototypes":"p"},"labels":["a"],
        "canvas":[32,24],"outputs":[{"name":"y","shape":[1,6,1],"data":[16,12,16,16,0.9,2]},
        {"name":"p","shape":[1,1,3,4],"data":[1,1,-1,-1,1,1,-1,-1,1,1,-1,-1]}]}"#;
    let Made { answer, .. } = Case::new(&serde_json::from_str(case).unwrap()).unwrap().make().unwrap();
    let rows = serde_json::to_value(&answer.rows).unwrap();
    let polygons: Vec<Vec<[f32; 2]>> = serde_json::from_value(rows[0][0]["polygons"].clone()).unwrap();
    assert_eq!(polygons.len(), 1, "{rows}");
    let sides = coordinates::around(&polygons[0]);
    assert_eq!(sides, [8.0, 4.0, 16.0, 20.0], "{rows}");
    assert_eq!(rows[0][0]["box"], serde_json::json!([8.0, 4.0, 24.0, 20.0]));
}

#[test]
fn a_segmentation_is_a_png_of_the_classes_of_all_pixels() {
    // Two classes on 2 × 2 places, for an input of 4 × 4.
    let case = r#"{"result":{"kind":"masks","decoder":"semantic"},"labels":["sky","sea"],"canvas":[4,4],
        "outputs":[{"name":"y","shape":[1,2,2,2],"data":[0.9,0.1,null,0.4,0.1,0.9,0.8,0.4]}]}"#;
    let Made { answer, non_finite } =
        Case::new(&serde_json::from_str(case).unwrap()).unwrap().make().unwrap();
    let found = serde_json::to_value(&answer.rows).unwrap()[0].take();
    let classes = serde_json::json!([
        {"label": "sky", "class_id": 0, "pixels": 8},
        {"label": "sea", "class_id": 1, "pixels": 8},
    ]);
    assert_eq!((&found["classes"], &found["size"], non_finite), (&classes, &serde_json::json!([4, 4]), 1));
    use base64::Engine as _;
    let file = base64::engine::general_purpose::STANDARD.decode(found["png"].as_str().unwrap()).unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    let mut levels = vec![0; 16];
    reader.next_frame(&mut levels).unwrap();
    assert_eq!(levels, [0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0]);
}

/// An output as of YOLOv8 with 80 classes. All scores are `score`, except in `busy` anchors.
fn crowd(anchors: usize, score: f32, busy: usize) -> (Vec<usize>, Vec<f32>) {
    let mut values = vec![score; 84 * anchors];
    for anchor in 0..anchors {
        let group = anchor % 600;
        let sides = [20.0 * (group % 30) as f32, 30.0 * (group / 30) as f32, 30.0, 40.0];
        for (channel, side) in sides.into_iter().enumerate() {
            values[channel * anchors + anchor] = side + (anchor / 600) as f32;
        }
        if anchor < busy {
            values[(4 + anchor % 80) * anchors + anchor] = 0.3 + (anchor % 97) as f32 / 200.0;
        }
    }
    (vec![1, 84, anchors], values)
}

fn detect(shape: &[usize], values: &[f32]) -> Made<Answers> {
    let spec: ResultManifest =
        serde_json::from_str(r#"{"kind":"detections","decoder":"yolo","nms":"all"}"#).unwrap();
    let declared = [Declared { name: "y".into(), shape: shape.iter().map(|length| Some(*length)).collect() }];
    let maker = ResultMaker::new(&spec, &declared, vec![], Canvas::Unknown, None).unwrap();
    let settled = maker.settle(&Choices::default()).unwrap();
    maker.make(&[View::new(shape, values).unwrap()], &[], 1, None, &settled).unwrap()
}

#[test]
fn twenty_five_thousand_candidates_take_no_quadratic_time() {
    let (shape, values) = crowd(25_000, 0.9, 0);
    let begun = std::time::Instant::now();
    let Made { answer, .. } = detect(&shape, &values);
    let Answer::Detections(found) = &answer.rows[0] else { panic!("{answer:?}") };
    assert_eq!(found.len(), 300);
    // The square would be 312 million comparisons. The bound is loose: tests run without much optimisation.
    assert!(begun.elapsed().as_secs_f32() < 2.0, "{:?}", begun.elapsed());
}

#[test]
fn boxes_in_parts_of_the_input_count_the_size_that_each_request_has() {
    let spec = r#"{"kind":"detections","decoder":"detr","outputs":{"logits":"l","boxes":"b"},"score_threshold":0.5}"#;
    let spec: ResultManifest = serde_json::from_str(spec).unwrap();
    let declared = [("l", Some(1)), ("b", Some(4))]
        .map(|(name, last)| Declared { name: name.into(), shape: vec![Some(1), Some(1), last] });
    let canvas = Canvas::Open { like: [64, 64] };
    let maker = ResultMaker::new(&spec, &declared, vec![], canvas, None).unwrap();
    let settled = maker.settle(&Choices::default()).unwrap();
    let views =
        [View::new(&[1, 1, 1], &[3.0]).unwrap(), View::new(&[1, 1, 4], &[0.5, 0.5, 0.5, 0.25]).unwrap()];
    for (canvas, sides) in [([80, 40], [20.0, 15.0, 60.0, 25.0]), ([40, 80], [10.0, 30.0, 30.0, 50.0])] {
        let Made { answer, .. } = maker.make(&views, &[], 1, Some(canvas), &settled).unwrap();
        let Answer::Detections(found) = &answer.rows[0] else { panic!("{answer:?}") };
        assert_eq!(found[0].sides, sides);
    }
    let error = maker.make(&views, &[], 1, None, &settled).unwrap_err();
    assert!(error.contains("parts of the input's size"), "{error}");
}
