//! A tensor's `data` from JSON text, straight into the typed buffer.
//!
//! The text is a [`serde_json::value::RawValue`], so it is known to be well-formed JSON; what is
//! left to do is to read numbers, and to see that lists are as long as their neighbours. No tree of
//! values is made: 150,000 numbers cost 150,000 elements, and nothing else.

use base64::Engine as _;
use half::f16;

use super::error::shorten;
use crate::model::tensor::{Datatype, Elements};

/// The deepest nesting of `data`. ONNX models stay below 8 dimensions; a nesting bomb does not.
const MAX_RANK: usize = 16;

/// Reads `json` as elements of `datatype`, flat and row-major, with the shape that its nesting
/// shows: `[[1,2],[3,4]]` is `[2, 2]`, `5` is `[]`.
///
/// BYTES elements are JSON strings, taken as their UTF-8 bytes.
pub fn parse(json: &str, datatype: Datatype) -> Result<(Vec<usize>, Elements), String> {
    macro_rules! scan_as {
        ($variant:ident, $read:expr) => {
            scan(json, $read).map(|(shape, values)| (shape, Elements::$variant(values)))
        };
    }
    match datatype {
        Datatype::Bool => scan_as!(Bool, |token| match token {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(expected("true or false", token)),
        }),
        Datatype::Uint8 => scan_as!(Uint8, integer),
        Datatype::Uint16 => scan_as!(Uint16, integer),
        Datatype::Uint32 => scan_as!(Uint32, integer),
        Datatype::Uint64 => scan_as!(Uint64, integer),
        Datatype::Int8 => scan_as!(Int8, integer),
        Datatype::Int16 => scan_as!(Int16, integer),
        Datatype::Int32 => scan_as!(Int32, integer),
        Datatype::Int64 => scan_as!(Int64, integer),
        Datatype::Fp16 => scan_as!(Fp16, |token| {
            // By way of FP64: rounded twice, an FP32 in between would be off by one bit now and then.
            let wide: f64 = float(token, Datatype::Fp16)?;
            let value = f16::from_f64(wide);
            if value.is_finite() { Ok(value) } else { Err(out_of_range(token, Datatype::Fp16)) }
        }),
        Datatype::Fp32 => scan_as!(Fp32, |token| float::<f32>(token, Datatype::Fp32)),
        Datatype::Fp64 => scan_as!(Fp64, |token| float::<f64>(token, Datatype::Fp64)),
        Datatype::Bytes => scan_as!(Bytes, |token| string(token).map(String::into_bytes)),
    }
}

/// The same for files inside JSON: every element is a string of standard base64 (RFC 4648 §4), or
/// TensorFlow Serving's `{"b64": "…"}`, which the row form strips before it comes here.
pub fn parse_base64(json: &str) -> Result<(Vec<usize>, Elements), String> {
    let (shape, files) = scan(json, |token| {
        let text = string(token)?;
        base64::engine::general_purpose::STANDARD.decode(text.trim_ascii().as_bytes()).map_err(|error| {
            format!("is not base64 ({error}): expected a file in standard base64 with padding")
        })
    })?;
    Ok((shape, Elements::Bytes(files)))
}

/// Walks the nested lists and reads each leaf with `read`, whose error completes the sentence
/// "element 7 …".
fn scan<T>(
    json: &str,
    mut read: impl FnMut(&str) -> Result<T, String>,
) -> Result<(Vec<usize>, Vec<T>), String> {
    let bytes = json.as_bytes();
    let mut values = Vec::new();
    let mut counts = [0usize; MAX_RANK + 1];
    // The length of a list at each depth, known once the first of them has ended.
    let mut lengths = [None; MAX_RANK + 1];
    let (mut depth, mut deepest, mut leaf_depth) = (0, 0, None);
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => at += 1,
            b'[' => {
                depth += 1;
                if depth > MAX_RANK {
                    return Err(format!("nests deeper than {MAX_RANK} lists"));
                }
                if leaf_depth.is_some_and(|leaf| depth > leaf) {
                    return Err(format!("has a list where element {} should be", values.len()));
                }
                deepest = deepest.max(depth);
                counts[depth] = 0;
                at += 1;
            }
            b']' => {
                let length = *lengths[depth].get_or_insert(counts[depth]);
                if length != counts[depth] {
                    return Err(format!(
                        "is ragged: lists at depth {depth} have {length} and {} elements",
                        counts[depth]
                    ));
                }
                depth -= 1;
                counts[depth] += 1;
                at += 1;
            }
            b'{' => return Err(format!("has an object where element {} should be", values.len())),
            _ => {
                if depth != *leaf_depth.get_or_insert(depth) || depth != deepest {
                    return Err(format!("has element {} where a list should be", values.len()));
                }
                let end = at + token_length(&bytes[at..]);
                let value =
                    read(&json[at..end]).map_err(|error| format!("element {} {error}", values.len()))?;
                values.push(value);
                counts[depth] += 1;
                at = end;
            }
        }
    }
    let shape = lengths[1..=deepest].iter().map(|length| length.unwrap_or(0)).collect();
    Ok((shape, values))
}

/// The length of the string, number or word that `bytes` begins with.
fn token_length(bytes: &[u8]) -> usize {
    if bytes[0] != b'"' {
        let end = bytes.iter().position(|b| matches!(b, b',' | b']' | b' ' | b'\t' | b'\n' | b'\r'));
        return end.unwrap_or(bytes.len());
    }
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn float<T: std::str::FromStr + Into<f64> + Copy>(token: &str, datatype: Datatype) -> Result<T, String> {
    if !token.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return Err(expected("a number", token));
    }
    let value: T = token.parse().map_err(|_| expected("a number", token))?;
    if value.into().is_finite() { Ok(value) } else { Err(out_of_range(token, datatype)) }
}

trait Integer: std::str::FromStr<Err = std::num::ParseIntError> {
    const DATATYPE: Datatype;
}

macro_rules! integers {
    ($($t:ty => $datatype:ident),*) => {
        $(impl Integer for $t {
            const DATATYPE: Datatype = Datatype::$datatype;
        })*
    };
}
integers!(u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64, i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64);

fn integer<T: Integer>(token: &str) -> Result<T, String> {
    token.parse().map_err(|_| {
        let digits = token.strip_prefix('-').unwrap_or(token);
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            out_of_range(token, T::DATATYPE)
        } else {
            expected("an integer", token)
        }
    })
}

fn string(token: &str) -> Result<String, String> {
    serde_json::from_str(token).map_err(|_| expected("a string", token))
}

fn expected(what: &str, token: &str) -> String {
    format!("is {}: expected {what}", shorten(token))
}

fn out_of_range(token: &str, datatype: Datatype) -> String {
    format!("is {}: out of range for {datatype}", shorten(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_becomes_the_shape() {
        let (shape, elements) = parse("[[1, 2.5,-3e2],[4,5,6]]", Datatype::Fp32).unwrap();
        assert_eq!(shape, [2, 3]);
        assert_eq!(elements, Elements::Fp32(vec![1.0, 2.5, -300.0, 4.0, 5.0, 6.0]));
        assert_eq!(parse("7", Datatype::Int64).unwrap(), (vec![], Elements::Int64(vec![7])));
        assert_eq!(parse("[]", Datatype::Int64).unwrap(), (vec![0], Elements::Int64(vec![])));
        assert_eq!(parse("[[],[]]", Datatype::Bool).unwrap(), (vec![2, 0], Elements::Bool(vec![])));
    }

    #[test]
    fn extremes_of_every_datatype_are_read_exactly() {
        let ok = |json: &str, datatype| parse(json, datatype).unwrap().1;
        assert_eq!(ok("[18446744073709551615]", Datatype::Uint64), Elements::Uint64(vec![u64::MAX]));
        assert_eq!(ok("[-9223372036854775808]", Datatype::Int64), Elements::Int64(vec![i64::MIN]));
        assert_eq!(ok("[3.4028235e38]", Datatype::Fp32), Elements::Fp32(vec![f32::MAX]));
        assert_eq!(ok("[1e-45]", Datatype::Fp32), Elements::Fp32(vec![1e-45]));
        assert_eq!(ok("[65504]", Datatype::Fp16), Elements::Fp16(vec![f16::MAX]));
        assert_eq!(ok("[0.1]", Datatype::Fp64), Elements::Fp64(vec![0.1]));
        assert_eq!(ok(r#"["a\n\"é"]"#, Datatype::Bytes), Elements::Bytes(vec!["a\n\"é".into()]));
    }

    #[test]
    fn what_does_not_fit_the_datatype_is_named_with_its_place() {
        for (json, datatype, part) in [
            ("[0,300]", Datatype::Uint8, "element 1 is 300: out of range for UINT8"),
            ("[-1]", Datatype::Uint16, "element 0 is -1: out of range for UINT16"),
            ("[1.5]", Datatype::Int32, "element 0 is 1.5: expected an integer"),
            ("[1e39]", Datatype::Fp32, "out of range for FP32"),
            ("[70000]", Datatype::Fp16, "out of range for FP16"),
            ("[null]", Datatype::Fp32, "element 0 is null: expected a number"),
            ("[1]", Datatype::Bool, "expected true or false"),
            ("[\"1\"]", Datatype::Fp32, "expected a number"),
            ("[1]", Datatype::Bytes, "expected a string"),
            ("[{}]", Datatype::Fp32, "has an object where element 0"),
            ("[[1,2],[3]]", Datatype::Fp32, "ragged: lists at depth 2 have 2 and 1"),
            ("[1,[2]]", Datatype::Fp32, "has a list where element 1"),
            ("[[1],2]", Datatype::Fp32, "has element 1 where a list should be"),
            ("[[],2]", Datatype::Fp32, "has element 0 where a list should be"),
        ] {
            let error = parse(json, datatype).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
        let bomb = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(parse(&bomb, Datatype::Fp32).unwrap_err().contains("deeper than 16"));
    }

    #[test]
    fn base64_is_decoded_and_rubbish_is_told_apart() {
        assert_eq!(parse_base64(r#"["aGk="]"#).unwrap(), (vec![1], Elements::Bytes(vec![b"hi".to_vec()])));
        assert!(parse_base64(r#"["%%"]"#).unwrap_err().contains("element 0 is not base64"));
    }
}
