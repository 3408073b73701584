//! Reads a duration from a flag: a whole number and a unit (`ms`, `s`, `m`, `h` or `d`).
//!
//! `jiff` does not replace this: its durations have no days (`1d`), and it would accept other forms too (`1h30m`, `PT5S`).

use std::time::Duration;

/// As [`duration`], and also `0` without a unit, which the flag gives a meaning such as "never".
pub fn duration_or_never(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { duration(text) }
}

/// A duration greater than 0, for example `500ms`. The error says what was expected and what was received.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let expected =
        || format!("expected a number and a unit, for example 500ms, 30s, 5m, 1h or 1d; got `{text}`");
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
        Some(0) => {
            Err(format!("expected a duration greater than 0, for example 30s, 5m or 500ms; got `{text}`"))
        }
        Some(total) => Ok(Duration::from_millis(total)),
        None => Err(format!("expected a shorter duration, for example 30s, 5m or 500ms; got `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_a_wrong_one_is_an_error() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
        for wrong in
            ["", "5", "s", "1w", "1.5h", "1H", "-1s", "0s", "99999999999999999999s", "18446744073709551615m"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(duration("0s").unwrap_err().contains("greater than 0"));
        assert!(duration("18446744073709551615m").unwrap_err().contains("shorter"));
        assert_eq!(duration_or_never("0"), Ok(Duration::ZERO));
    }
}
