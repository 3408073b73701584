//! Times as flags have them: a number and a unit.

use std::time::Duration;

pub fn duration_or_never(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { duration(text) }
}

pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let expected =
        || format!("expected a number and a unit, for example 500ms, 30s, 2m, 1h or 1d, but `{text}` came");
    let number: u64 = digits.parse().map_err(|_| expected())?;
    let milliseconds: u64 = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    match number.checked_mul(milliseconds) {
        Some(total @ 1..) => Ok(Duration::from_millis(total)),
        _ => Err(format!(
            "`{text}` is no time to wait: it must be longer than nothing and shorter than for ever"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_wrong_ones_are_errors() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
        for wrong in
            ["", "5", "s", "1w", "1.5h", "1H", "-1s", "0s", "99999999999999999999s", "18446744073709551615m"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
