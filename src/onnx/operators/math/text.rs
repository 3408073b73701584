//! Numbers as text, and text as numbers, for `Cast`.
//!
//! A float is written with as few digits as identify it, as NumPy does: plainly from 0.0001 to the number of
//! digits that the type has (FP16 10³, FP32 10⁷, FP64 10¹⁶), with an exponent elsewhere. The standard's names are `NaN`, `INF` and `-INF`.

use std::fmt::LowerExp;

use tract_onnx::prelude::*;

use super::super::numbers::{mapped, on_integers, unsupported};
use super::super::operator::elements;
use super::conversion::number_as;
use crate::error::{RequestError, shorten};

/// Each number or truth value as text.
pub fn text_of(input: &Tensor) -> TractResult<Tensor> {
    match input.datum_type() {
        DatumType::F16 => mapped::<f16, String>(input, |x| float(f64::from(*x), &half_digits(*x), 1e3)),
        DatumType::F32 => mapped::<f32, String>(input, |x| float(f64::from(*x), &digits(x), 1e7)),
        DatumType::F64 => mapped::<f64, String>(input, |x| float(*x, &digits(x), 1e16)),
        DatumType::Bool => mapped::<bool, String>(input, |x| if *x { "True" } else { "False" }.to_owned()),
        other => on_integers!(other, T => mapped::<T, String>(input, ToString::to_string)),
    }
}

/// The fewest digits of a float, with an exponent.
fn digits(x: &impl LowerExp) -> String {
    format!("{x:e}")
}

/// The fewest digits of a half float, which Rust does not write itself.
fn half_digits(x: f16) -> String {
    let wide = f64::from(x);
    let with = |count: usize| format!("{wide:.count$e}");
    let is_enough = |text: &String| text.parse().is_ok_and(|back: f64| f16::from_f64(back) == x);
    let text = (0..5).map(with).find(is_enough).unwrap_or_else(|| with(5));
    match text.split_once('e') {
        Some((digits, power)) if digits.contains('.') => {
            format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

/// A float in decimal form, or with an exponent if it is very small or large. `digits` has the form `1.25e-7`; from `limit` on the exponent is written.
fn float(x: f64, digits: &str, limit: f64) -> String {
    if x.is_nan() {
        return "NaN".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "INF" } else { "-INF" }.into();
    }
    let (mantissa, power) = digits.split_once('e').unwrap_or((digits, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    if x != 0.0 && !(1e-4..limit).contains(&x.abs()) {
        let sign = if power < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", power.abs());
    }
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let all: String = mantissa.chars().filter(|digit| *digit != '.').collect();
    let Ok(before) = usize::try_from(power + 1) else {
        return format!("{sign}0.{}{all}", "0".repeat((-power - 1) as usize));
    };
    match all.len() > before {
        true if before == 0 => format!("{sign}0.{all}"),
        true => format!("{sign}{}.{}", &all[..before], &all[before..]),
        false => format!("{sign}{all}{}.0", "0".repeat(before - all.len())),
    }
}

/// Each text as a number of a type.
///
/// Errors: a text is no number.
pub fn number_of(input: &Tensor, to: DatumType) -> TractResult<Tensor> {
    let texts = elements::<String>(input)?;
    let wrong = |text: &str| -> TractError {
        let text = shorten(text);
        RequestError::invalid(format!("`{text}` is no number that fits {to:?}")).into()
    };
    if to.is_float() {
        let read = |text: &String| real(text).ok_or_else(|| wrong(text));
        let numbers: Vec<f64> = texts.iter().map(read).collect::<TractResult<_>>()?;
        return number_as(&Tensor::from_shape(input.shape(), &numbers)?, to);
    }
    if to == DatumType::Bool {
        return Err(unsupported(DatumType::String));
    }
    let read = |text: &String| whole(text).ok_or_else(|| wrong(text));
    let numbers: Vec<i128> = texts.iter().map(read).collect::<TractResult<_>>()?;
    on_integers!(to, T => {
        let fit = |(number, text): (&i128, &String)| T::try_from(*number).map_err(|_| wrong(text));
        let numbers: Vec<T> = numbers.iter().zip(texts).map(fit).collect::<TractResult<_>>()?;
        Tensor::from_shape(input.shape(), &numbers)
    })
}

/// A float. The names of the standard may have any case.
fn real(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

/// An integer. A float with digits after the point loses them, as the standard allows.
fn whole(text: &str) -> Option<i128> {
    let text = text.trim();
    text.parse().ok().or_else(|| real(text).filter(|x| x.abs() < 2e19).map(|x| x as i128))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_numpy_does() {
        let texts = text_of(&tensor1(&[
            0.1_f32,
            1e-5,
            1e16,
            1e15,
            123_456_790.0,
            3.0,
            f32::NAN,
            f32::INFINITY,
            -0.0,
            -0.00012,
            12.5,
        ]));
        assert_eq!(
            elements::<String>(&texts.unwrap()).unwrap(),
            [
                "0.1",
                "1e-05",
                "1e+16",
                "1e+15",
                "1.2345679e+08",
                "3.0",
                "NaN",
                "INF",
                "-0.0",
                "-0.00012",
                "12.5"
            ]
        );
        let halves = [0.1, 65504.0, 1.0, 0.000_01, 3.25].map(f16::from_f32);
        assert_eq!(
            elements::<String>(&text_of(&tensor1(&halves)).unwrap()).unwrap(),
            ["0.1", "6.55e+04", "1.0", "1e-05", "3.25"]
        );
    }

    #[test]
    fn text_is_read_or_is_an_error() {
        let texts: Vec<String> = ["1e3", "-inf", "NaN", " 2.5"].map(String::from).to_vec();
        let read = number_of(&tensor1(&texts), DatumType::F32).unwrap();
        let read = elements::<f32>(&read).unwrap();
        assert!(read[0] == 1000.0 && read[1] == f32::NEG_INFINITY && read[2].is_nan() && read[3] == 2.5);
        let one = |text: &str, to| number_of(&tensor1(&[text.to_owned()]), to);
        assert_eq!(one("18446744073709551615", DatumType::U64).unwrap(), tensor1(&[u64::MAX]));
        assert_eq!(one("100.5", DatumType::I32).unwrap(), tensor1(&[100_i32]));
        assert!(one("300", DatumType::U8).unwrap_err().to_string().contains("`300`"));
        assert!(one("abc", DatumType::F32).is_err() && one("", DatumType::I64).is_err());
    }
}
