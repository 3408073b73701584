//! Where a model is fetched from: `url` and `sha256` of `model.json`.

/// Checks that both fields are given, or neither.
pub(super) fn check(url: Option<&str>, sha256: Option<&str>) -> Result<(), String> {
    match (url, sha256) {
        (Some(_), None) => {
            Err("url needs sha256 beside it, so that the fetched file is known to be the right one: \
                                `sha256sum FILE` prints it"
                .into())
        }
        (None, Some(_)) => Err(
            "sha256 is the checksum of the file at url, but there is no url: add url, or leave sha256 out"
                .into(),
        ),
        (Some(_), Some(sha256)) => check_sha256("sha256", sha256),
        (None, None) => Ok(()),
    }
}

/// Checks that `digits` is a SHA-256 in hexadecimal. The error calls it `field`.
pub fn check_sha256(field: &str, digits: &str) -> Result<(), String> {
    if digits.len() == 64 && digits.chars().all(|digit| digit.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(format!("{field} is `{digits}`: expected 64 hexadecimal digits, as `sha256sum FILE` prints them"))
}
