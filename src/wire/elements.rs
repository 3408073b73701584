//! Reads the `data` of a tensor from JSON text directly into a buffer of the right type.
//!
//! What belongs here: numbers, strings and base64 inside `data`. What does not: the fields around `data`
//! (`envelope`), and signatures (`agreement`).
//!
//! Invariants: the text comes from a [`serde_json::value::RawValue`], so it is well-formed JSON. This module only
//! reads the elements and checks that lists at the same depth have the same length. It builds no tree of JSON values:
//! 150,000 numbers need memory for 150,000 elements and no more.

use std::borrow::Cow;

use base64::Engine as _;
use fast_float2::FastFloat;
use half::f16;

use crate::error::{Code, RequestError, shorten};
use crate::memory::{Budget, Share};
use crate::model::tensor::{Datatype, ELEMENT_BYTES, Elements};

/// The deepest nesting of `data`. ONNX models have fewer than 8 dimensions; the limit stops texts that nest thousands
/// of lists.
const MAX_RANK: usize = 16;

/// The limits for reading one `data`.
pub struct Room<'a> {
    /// The largest number of elements that are read.
    pub most: usize,
    /// The share of the budget that pays for the elements.
    pub memory: &'a mut Share,
}

/// The content of one `data`.
#[derive(Debug, PartialEq)]
pub struct Parsed {
    /// The shape that follows from the nesting: `[[1,2],[3,4]]` has `[2, 2]`, and `5` has `[]`.
    pub nesting: Vec<usize>,
    /// The number of elements in the text. Elements beyond [`Room::most`] are counted, but not read and not kept.
    pub count: usize,
    /// The elements, flat and row-major; at most [`Room::most`].
    pub elements: Elements,
}

/// Reads a trusted text, for example from a manifest, without a limit. It returns the shape and the elements.
///
/// Errors: a sentence such as "element 7 is …", without a subject.
pub fn parse(json: &str, datatype: Datatype) -> Result<(Vec<usize>, Elements), String> {
    let mut memory = Share::none(&Budget::unbounded());
    let parsed = parse_within(json, datatype, &mut Room { most: usize::MAX, memory: &mut memory });
    parsed.map(|parsed| (parsed.nesting, parsed.elements)).map_err(|error| error.message)
}

/// Reads `json` as elements of `datatype`, flat and row-major. The elements of BYTES are JSON strings, read as their
/// UTF-8 bytes.
///
/// Memory is taken before elements are read: for [`Room::most`] elements, or for as many as the text can hold if that
/// is less.
///
/// Errors: an element is not of `datatype` or out of its range, lists are ragged or nest too deep, or the budget is
/// used up.
pub fn parse_within(json: &str, datatype: Datatype, room: &mut Room<'_>) -> Result<Parsed, RequestError> {
    macro_rules! scan_as {
        ($variant:ident, $read:expr) => {{
            let (nesting, count, values) = scan(json, room, $read)?;
            Ok(Parsed { nesting, count, elements: Elements::$variant(values) })
        }};
    }
    match datatype {
        Datatype::Bool => scan_as!(
            Bool,
            whole(|token, _| match token {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(expected("true or false", token)),
            })
        ),
        Datatype::Uint8 => scan_as!(Uint8, whole(integer)),
        Datatype::Uint16 => scan_as!(Uint16, whole(integer)),
        Datatype::Uint32 => scan_as!(Uint32, whole(integer)),
        Datatype::Uint64 => scan_as!(Uint64, whole(integer)),
        Datatype::Int8 => scan_as!(Int8, whole(integer)),
        Datatype::Int16 => scan_as!(Int16, whole(integer)),
        Datatype::Int32 => scan_as!(Int32, whole(integer)),
        Datatype::Int64 => scan_as!(Int64, whole(integer)),
        Datatype::Fp16 => scan_as!(Fp16, |rest, _| {
            // The text is read as FP64 first. If it were read as FP32, it would be rounded twice, and the last bit
            // could be wrong.
            let (wide, length) = float::<f64>(rest, Datatype::Fp16)?;
            let value = f16::from_f64(wide);
            if value.is_finite() {
                Ok((value, length))
            } else {
                Err(out_of_range(&rest[..length], Datatype::Fp16))
            }
        }),
        Datatype::Fp32 => scan_as!(Fp32, |rest, _| float::<f32>(rest, Datatype::Fp32)),
        Datatype::Fp64 => scan_as!(Fp64, |rest, _| float::<f64>(rest, Datatype::Fp64)),
        Datatype::Bytes => scan_as!(
            Bytes,
            whole(|token, memory| {
                memory.grow(token.len())?;
                string(token).map(|text| text.into_owned().into_bytes())
            })
        ),
    }
}

/// Reads files inside JSON. Every element is a string in standard base64 with padding (RFC 4648, section 4). The row
/// form removes TensorFlow Serving's `{"b64": "…"}` before it calls this function.
///
/// Errors: as in [`parse_within`], or an element is not base64.
pub fn parse_base64(json: &str, room: &mut Room<'_>) -> Result<Parsed, RequestError> {
    let decode = |token: &str, memory: &mut Share| {
        memory.grow(token.len())?;
        // Only a text with escapes is copied before it is decoded.
        let _copy = memory.take_beside(if token.contains('\\') { token.len() } else { 0 })?;
        let text = string(token)?;
        base64::engine::general_purpose::STANDARD.decode(text.trim_ascii().as_bytes()).map_err(|error| {
            let message = format!("is not base64 ({error}): expected a file in standard base64 with padding");
            RequestError::invalid(message)
        })
    };
    let (nesting, count, files) = scan(json, room, whole(decode))?;
    Ok(Parsed { nesting, count, elements: Elements::Bytes(files) })
}

/// Makes a reader for [`scan`] from a function that reads one whole token.
fn whole<T>(
    mut read: impl FnMut(&str, &mut Share) -> Result<T, RequestError>,
) -> impl FnMut(&str, &mut Share) -> Result<(T, usize), RequestError> {
    move |rest, memory| {
        let token = token(rest);
        read(token, memory).map(|value| (value, token.len()))
    }
}

/// Walks through the nested lists and reads each leaf with `read`. It returns the shape, the number of elements, and
/// the elements. `read` gets the text from the leaf to the end, and returns the value and the length of the leaf. The
/// message of its error completes the sentence "element 7 …".
fn scan<T>(
    json: &str,
    room: &mut Room<'_>,
    mut read: impl FnMut(&str, &mut Share) -> Result<(T, usize), RequestError>,
) -> Result<(Vec<usize>, usize, Vec<T>), RequestError> {
    let bytes = json.as_bytes();
    // An element and the separator before the next element are at least two characters.
    let capacity = room.most.min(json.len() / 2 + 1);
    // A BYTES element takes memory for its content too; `read` takes that memory for each element.
    let size = if size_of::<T>() == size_of::<Vec<u8>>() { ELEMENT_BYTES } else { size_of::<T>() };
    room.memory.grow(capacity.saturating_mul(size))?;
    let mut values = Vec::with_capacity(capacity);
    let mut lists = Lists::default();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => at += 1,
            b'[' => {
                lists.open()?;
                at += 1;
            }
            b']' => {
                lists.close()?;
                at += 1;
            }
            b'{' => return wrong(format!("has an object where element {} should be", lists.elements)),
            _ => {
                let element = lists.element()?;
                let rest = &json[at..];
                if element < room.most {
                    let read = read(rest, room.memory);
                    let (value, length) =
                        read.map_err(|error| said_of(&format!("element {element}"), error))?;
                    values.push(value);
                    at += length;
                } else {
                    at += token(rest).len();
                }
            }
        }
    }
    Ok((lists.shape(), lists.elements, values))
}

fn wrong<T>(message: String) -> Result<T, RequestError> {
    Err(RequestError::invalid(message))
}

/// The shape of nested lists, checked while they are read: all lists of one depth must have the same length, and all
/// elements the same depth.
#[derive(Default)]
struct Lists {
    /// The elements so far.
    elements: usize,
    /// For each depth, the elements or lists so far in the list that is open there.
    counts: [usize; MAX_RANK + 1],
    /// The length of the lists at each depth. It is known when the first list of that depth has ended.
    lengths: [Option<usize>; MAX_RANK + 1],
    depth: usize,
    deepest: usize,
    /// The depth of all elements; known at the first one.
    element_depth: Option<usize>,
}

impl Lists {
    fn open(&mut self) -> Result<(), RequestError> {
        self.depth += 1;
        if self.depth > MAX_RANK {
            return wrong(format!("nests deeper than {MAX_RANK} lists"));
        }
        if self.element_depth.is_some_and(|elements| self.depth > elements) {
            return wrong(format!("has a list where element {} should be", self.elements));
        }
        self.deepest = self.deepest.max(self.depth);
        self.counts[self.depth] = 0;
        Ok(())
    }

    fn close(&mut self) -> Result<(), RequestError> {
        let (depth, count) = (self.depth, self.counts[self.depth]);
        let length = *self.lengths[depth].get_or_insert(count);
        if length != count {
            return wrong(format!("is ragged: lists at depth {depth} have {length} and {count} elements"));
        }
        self.depth -= 1;
        self.counts[self.depth] += 1;
        Ok(())
    }

    /// Counts one more element, and returns its number from 0.
    fn element(&mut self) -> Result<usize, RequestError> {
        if self.depth != *self.element_depth.get_or_insert(self.depth) || self.depth != self.deepest {
            return wrong(format!("has element {} where a list should be", self.elements));
        }
        self.counts[self.depth] += 1;
        self.elements += 1;
        Ok(self.elements - 1)
    }

    fn shape(&self) -> Vec<usize> {
        self.lengths[1..=self.deepest].iter().map(|length| length.unwrap_or(0)).collect()
    }
}

/// Puts `what`, the subject of the sentence, in front of the message. An error of the budget is already a whole
/// sentence and stays as it is.
pub(super) fn said_of(what: &str, error: RequestError) -> RequestError {
    match error.code {
        Code::InvalidRequest => RequestError::invalid(format!("{what} {}", error.message)),
        _ => error,
    }
}

/// Returns the string, number or word at the start of `text`.
fn token(text: &str) -> &str {
    &text[..token_length(text.as_bytes())]
}

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

/// Reads the number at the start of `text`, and returns it with its length. It is the float that is nearest to the
/// number, as with the standard library.
fn float<T: FastFloat + Into<f64> + Copy>(
    text: &str,
    datatype: Datatype,
) -> Result<(T, usize), RequestError> {
    // Every number in JSON begins like this. The parser would also take words such as `nan`.
    let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let parsed = if is_number { fast_float2::parse_partial::<T, _>(text).ok() } else { None };
    let (value, length) = parsed.ok_or_else(|| expected("a number", token(text)))?;
    if value.into().is_finite() { Ok((value, length)) } else { Err(out_of_range(token(text), datatype)) }
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

fn integer<T: Integer>(token: &str, _: &mut Share) -> Result<T, RequestError> {
    token.parse().map_err(|_| {
        let digits = token.strip_prefix('-').unwrap_or(token);
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            out_of_range(token, T::DATATYPE)
        } else {
            expected("an integer", token)
        }
    })
}

/// Reads a JSON string. It borrows the text when the text contains no escape.
fn string(token: &str) -> Result<Cow<'_, str>, RequestError> {
    let wrong = |_| expected("a string", token);
    if token.contains('\\') {
        return serde_json::from_str(token).map(Cow::Owned).map_err(wrong);
    }
    serde_json::from_str(token).map(Cow::Borrowed).map_err(wrong)
}

fn expected(what: &str, token: &str) -> RequestError {
    RequestError::invalid(format!("is {}: expected {what}", shorten(token)))
}

fn out_of_range(token: &str, datatype: Datatype) -> RequestError {
    RequestError::invalid(format!("is {}: out of range for {datatype}", shorten(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many random numbers are compared.
    const TRIED: usize = 100_000;

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

    /// Texts of numbers as JSON allows them: short and long, with and without a fraction and an exponent.
    fn random_number(next: &mut impl FnMut(u64) -> u64) -> String {
        let mut text = String::from(if next(2) == 0 { "-" } else { "" });
        let digits = |text: &mut String, count: u64, next: &mut dyn FnMut(u64) -> u64| {
            (0..count).for_each(|_| text.push(char::from(b'0' + next(10) as u8)));
        };
        match next(4) {
            0 => text.push('0'),
            _ => {
                text.push(char::from(b'1' + next(9) as u8));
                let most = if next(8) == 0 { 40 } else { 8 };
                digits(&mut text, next(most), next);
            }
        }
        if next(4) > 0 {
            text.push('.');
            let most = if next(8) == 0 { 60 } else { 12 };
            digits(&mut text, 1 + next(most), next);
        }
        if next(3) == 0 {
            text.push_str(["e", "E", "e+", "e-", "E-"][next(5) as usize]);
            let most = [3, 12, 60, 400][next(4) as usize];
            text.push_str(&next(most).to_string());
        }
        text
    }

    #[test]
    fn numbers_are_read_to_the_same_bits_as_by_the_standard_library() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % below
        };
        let check = |text: &str| {
            let (wide, narrow): (f64, f32) = (text.parse().unwrap(), text.parse().unwrap());
            let rest = format!("{text},1]");
            match float::<f64>(&rest, Datatype::Fp64) {
                Ok((value, length)) => {
                    assert_eq!((value.to_bits(), length), (wide.to_bits(), text.len()), "{text}");
                }
                Err(error) => assert!(wide.is_infinite(), "{text}: {error}"),
            }
            match float::<f32>(&rest, Datatype::Fp32) {
                Ok((value, length)) => {
                    assert_eq!((value.to_bits(), length), (narrow.to_bits(), text.len()), "{text}");
                }
                Err(error) => assert!(narrow.is_infinite(), "{text}: {error}"),
            }
        };
        for text in ["0", "-0", "-0.0e5", "5e-324", "2.4703282292062327e-324", "1e-46", "16777217.0"] {
            check(text);
        }
        for _ in 0..TRIED {
            check(&random_number(&mut next));
            // Halfway between two floats, or near to it.
            let bits = next(1 << 31) as u32;
            let (one, two) = (f64::from(f32::from_bits(bits)), f64::from(f32::from_bits(bits + 1)));
            if two.is_finite() {
                let middle = one / 2.0 + two / 2.0;
                let text = format!("{middle:?}");
                check(&text);
                let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                check(&format!("{digits}00000000000000000001e{exponent}"));
            }
        }
    }

    #[test]
    fn an_element_that_does_not_fit_the_datatype_is_named_with_its_position() {
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
    fn base64_is_decoded_and_other_text_is_an_error() {
        let mut memory = Share::none(&Budget::new(1 << 20));
        let mut parse = |json| parse_base64(json, &mut Room { most: 2, memory: &mut memory });
        assert_eq!(parse(r#"["aGk="]"#).unwrap().elements, Elements::Bytes(vec![b"hi".to_vec()]));
        assert_eq!(parse(r#"["aGk\u003d"]"#).unwrap().elements, Elements::Bytes(vec![b"hi".to_vec()]));
        assert!(parse(r#"["%%"]"#).unwrap_err().message.contains("element 0 is not base64"));
    }

    #[test]
    fn elements_beyond_the_limit_are_counted_and_take_no_memory() {
        let json = format!("[{}0]", "0,".repeat(999_999));
        let budget = Budget::new(100);
        let mut memory = Share::none(&budget);
        let parsed =
            parse_within(&json, Datatype::Fp64, &mut Room { most: 12, memory: &mut memory }).unwrap();
        assert_eq!((parsed.count, parsed.elements.len(), budget.used()), (1_000_000, 12, 96));
        let mut memory = Share::none(&budget);
        let error = parse_within(&json, Datatype::Fp64, &mut Room { most: 13, memory: &mut memory });
        assert_eq!(error.unwrap_err().code, Code::TooLarge);
    }
}
