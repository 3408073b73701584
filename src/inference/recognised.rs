//! What the metadata of an ONNX file says about a model without model.json. Exporters leave there what the graph does
//! not say: Ultralytics the task, the names of the classes and the size of images, PP-OCR the characters.
//!
//! Only this metadata decides. Nothing is concluded from shapes alone.

use serde_json::{Value, json};

use crate::model::manifest::ResultManifest;
use crate::model::repository::DEFAULT_FILE;
use crate::model::{Dim, Manifest, ModelFiles, Signature, Store, TensorMetadata};
use crate::onnx::Graph;

/// The metadata by which a model was recognised.
const ULTRALYTICS: &str = "Ultralytics: task, names, imgsz";
const PP_OCR: &str = "PP-OCR: character";

/// Whether the model has no model.json: then the metadata counts.
fn has_no_manifest(files: &ModelFiles) -> bool {
    files.manifest_file.is_none() && files.store == Store::Disk
}

/// Declares the input of a detector of Ultralytics as an image, as its own library prepares it. Other models stay as
/// they are.
pub fn declare_image(files: &mut ModelFiles, graph: &Graph) {
    if !has_no_manifest(files) || ultralytics_task(graph).is_none() {
        return;
    }
    let declared = image_size(graph).and_then(|size| image(graph.inputs(), size));
    let declared = declared.map(|input| Manifest::parse(&json!({"inputs": [input]}).to_string()));
    if let Some(Ok(declared)) = declared {
        files.manifest.inputs = declared.inputs;
    }
}

/// The entry of `inputs` for a model whose only input is an image, prepared as by Ultralytics. `size` is the height and
/// width where the file leaves them open.
fn image(inputs: &[TensorMetadata], [height, width]: [usize; 2]) -> Option<Value> {
    let [input] = inputs else { return None };
    let [_, channels, ..] = input.shape.as_slice() else { return None };
    if input.shape.len() != 4 || channels.fixed().is_some_and(|channels| channels != 3) {
        return None;
    }
    let fixed = |at: usize, length: usize| input.shape[at].fixed().unwrap_or(length);
    Some(json!({
        "name": input.name,
        "shape": [-1, 3, fixed(2, height), fixed(3, width)],
        "image": {"resize": "contain", "background": 114, "antialias": false, "scale": 1.0 / 255.0},
    }))
}

/// A model.json with a result, for a model that has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// Why it fits.
    pub reason: &'static str,
    /// The content of model.json.
    pub manifest: Value,
}

/// The model.json for a file that looks like one of the kinds of results by the shapes of its outputs. Nothing is served
/// by it unless its owner takes it: shapes do not say what numbers mean.
pub fn suggestion(files: &ModelFiles, signature: &Signature) -> Option<Suggestion> {
    let [input] = signature.inputs.as_slice() else { return None };
    let [_, _, Some(height), Some(width)] = lengths(&input.shape)[..] else { return None };
    let entry = image(&signature.inputs, [height, width]);
    let cells: usize = [8, 16, 32].map(|stride| (height / stride) * (width / stride)).iter().sum();
    let shapes: Vec<Vec<Option<usize>>> =
        signature.outputs.iter().map(|output| lengths(&output.shape)).collect();
    let shapes: Vec<&[Option<usize>]> = shapes.iter().map(Vec::as_slice).collect();
    let (reason, result) = match shapes.as_slice() {
        [[_, Some(5..), Some(anchors)]] if *anchors == cells => (
            "one anchor for each cell of the grids of YOLOv8",
            json!({"kind": "detections", "decoder": "yolo"}),
        ),
        [[_, Some(numbers), Some(anchors)], [_, Some(masks), Some(_), Some(_)]]
            if *anchors == cells && *numbers > 4 + masks =>
        {
            let [output, prototypes] = [0, 1].map(|at| signature.outputs[at].name.as_str());
            let spec =
                json!({"kind": "masks", "decoder": "yolo", "output": output, "prototypes": prototypes});
            ("anchors and prototypes as of YOLOv8-seg", spec)
        }
        [[_, Some(anchors), Some(6..)]] if *anchors == cells => {
            ("one anchor for each cell, as of YOLOX", json!({"kind": "detections", "decoder": "yolox"}))
        }
        [[_, Some(anchors), Some(6..)]] if *anchors == 3 * cells => (
            "three anchors for each cell of the grids of YOLOv5",
            json!({"kind": "detections", "decoder": "yolo_objectness"}),
        ),
        [[_, _, Some(6)]] => (
            "rows of six numbers, as of finished boxes",
            json!({"kind": "detections", "decoder": "end_to_end"}),
        ),
        [[_, Some(1), Some(h), Some(w)]] if (*h, *w) == (height, width) => {
            ("a map of the size of the image, as of text detectors", json!({"kind": "regions"}))
        }
        [[_, Some(2..=256), Some(h), Some(w)]] if height % h == 0 && width % w == 0 && *h * 8 >= height => {
            ("a map for each class", json!({"kind": "masks", "decoder": "semantic"}))
        }
        _ => return None,
    };
    Some(Suggestion { reason, manifest: model_json(files, entry?, result) })
}

/// The whole model.json.
fn model_json(files: &ModelFiles, input: Value, result: Value) -> Value {
    let mut manifest = json!({"inputs": [input], "result": result});
    let file = files.onnx.file_name().map(|name| name.to_string_lossy());
    if let Some(file) = file.filter(|file| file != DEFAULT_FILE) {
        manifest["file"] = file.into();
    }
    manifest
}

fn lengths(shape: &[Dim]) -> Vec<Option<usize>> {
    shape.iter().map(Dim::fixed).collect()
}

/// The result that the metadata names, and the metadata.
pub fn result(
    files: &ModelFiles,
    graph: &Graph,
    signature: &Signature,
) -> Option<(ResultManifest, &'static str)> {
    if !has_no_manifest(files) {
        return None;
    }
    let output = signature.outputs.first()?;
    if graph.metadata("character").is_some() {
        let spec = json!({"kind": "text", "output": output.name});
        return Some((serde_json::from_value(spec).ok()?, PP_OCR));
    }
    let (task, classes) = (ultralytics_task(graph)?, names(graph)?.len());
    let mut spec = json!({"kind": "detections", "output": output.name, "iou_threshold": 0.7});
    let mut numbers = 4 + classes;
    let mut finished = 6;
    match task {
        Task::Detect => {}
        Task::Segment => {
            let [_, prototypes] = signature.outputs.as_slice() else { return None };
            let count = prototypes.shape.get(1).and_then(Dim::fixed)?;
            let is_raw = output.shape.get(1).and_then(Dim::fixed) == Some(numbers.checked_add(count)?);
            spec["kind"] = "masks".into();
            spec["decoder"] = "yolo".into();
            spec["prototypes"] = prototypes.name.as_str().into();
            let spec = is_raw.then(|| serde_json::from_value(spec).ok()).flatten()?;
            return Some((spec, ULTRALYTICS));
        }
        Task::Turned => {
            spec["rotated"] = true.into();
            (numbers, finished) = (numbers + 1, 7);
        }
        Task::Pose => {
            let shape: [usize; 2] = serde_json::from_str(graph.metadata("kpt_shape")?).ok()?;
            spec["keypoints"] = json!({"count": shape[0], "dimensions": shape[1]});
            let more = shape[0].checked_mul(shape[1])?;
            (numbers, finished) = (numbers.checked_add(more)?, finished + more);
        }
    }
    spec["decoder"] = match lengths(&output.shape)[..] {
        [_, first, _] if first == Some(numbers) => "yolo".into(),
        [_, _, last] if last == Some(finished) => "end_to_end".into(),
        _ => return None,
    };
    Some((serde_json::from_value(spec).ok()?, ULTRALYTICS))
}

/// A task of Ultralytics that ends in detections.
enum Task {
    Detect,
    Segment,
    Turned,
    Pose,
}

fn ultralytics_task(graph: &Graph) -> Option<Task> {
    match graph.metadata("task")? {
        "detect" => Some(Task::Detect),
        "segment" => Some(Task::Segment),
        "obb" => Some(Task::Turned),
        "pose" => Some(Task::Pose),
        _ => None,
    }
}

/// Height and width of the images, from `[640, 640]`.
fn image_size(graph: &Graph) -> Option<[usize; 2]> {
    let text = graph.metadata("imgsz")?;
    let size: [usize; 2] = serde_json::from_str(&text.replace(['(', ')'], "")).ok().or_else(|| {
        let sides: Value = serde_json::from_str(text).ok()?;
        let side = sides.as_u64()?.try_into().ok()?;
        Some([side, side])
    })?;
    size.iter().all(|side| (1..=1 << 14).contains(side)).then_some(size)
}

/// The names of the classes in the metadata, from Python's `{0: 'person', 1: 'bicycle'}`. `None` when there are none, or
/// they are not numbered from 0.
pub fn names(graph: &Graph) -> Option<Vec<String>> {
    python_names(graph.metadata("names")?)
}

fn python_names(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let mut names = Vec::new();
    while !rest.is_empty() {
        let (number, after) = rest.split_once(':')?;
        if number.trim().parse::<usize>().ok()? != names.len() {
            return None;
        }
        let after = after.trim_start();
        let quote = after.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let mut name = String::new();
        let mut chars = after[1..].char_indices();
        let end = loop {
            match chars.next()? {
                (at, char) if char == quote => break at + 2,
                (_, '\\') => name.push(chars.next()?.1),
                (_, char) => name.push(char),
            }
        };
        names.push(name);
        rest = after[end..].trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    (!names.is_empty()).then_some(names)
}

/// The characters in a text with one in each line. A line is taken as it is: it may be a space.
pub fn characters(text: &str) -> Vec<String> {
    text.trim_start_matches('\u{feff}').lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_python_writes_them() {
        let names = python_names(r#"{0: 'person', 1: "bird's", 2: 'a\'b: {c}, "d"', 3: ''}"#);
        assert_eq!(names.unwrap(), ["person", "bird's", r#"a'b: {c}, "d""#, ""]);
        for wrong in ["", "{}", "{1: 'a'}", "{0: 'a', 2: 'b'}", "{0: 'a", "{0: a}", "['a']", "{0: 'a\\"] {
            assert_eq!(python_names(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_line_of_characters_may_be_a_space() {
        assert_eq!(characters("a\n \r\n中\n"), ["a", " ", "中"]);
    }
}
