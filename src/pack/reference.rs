//! The name of an image: `registry/organisation/repository:tag`. Sending to that name belongs to `registry`.
//!
//! Invariant: a [`Reference`] obeys the rules of the OCI distribution specification for names and tags.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The name under which an image is pushed. The registry is required. Other tools send a name without a registry to a
/// public one, and a model must not get there by mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `HOST` or `HOST:PORT`, for example `localhost:5000`.
    pub registry: String,
    /// Lower-case parts with slashes between them, for example `team/digits`.
    pub repository: String,
    /// Up to 128 letters, digits, `_`, `.` and `-`; `latest` when the name has no tag.
    pub tag: String,
}

impl Reference {
    /// The same repository with another tag.
    pub fn with_tag(&self, tag: String) -> Reference {
        Reference { tag, ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Reference, String> {
        let Some((registry, path)) = text.split_once('/') else {
            return Err(format!("`{text}` names no registry: expected HOST[:PORT]/ORGANISATION/NAME:TAG"));
        };
        if !(registry.contains(['.', ':']) || registry == "localhost") {
            return Err(format!(
                "`{registry}` is no registry's host name: expected HOST[:PORT]/ORGANISATION/NAME:TAG, \
                 docker.io/… for the public one"
            ));
        }
        if !is_authority(registry) {
            return Err(format!("`{registry}` is no host name: expected HOST[:PORT]/ORGANISATION/NAME:TAG"));
        }
        let (repository, tag) = name(path)?;
        Ok(Reference { registry: registry.into(), repository, tag })
    }
}

/// Whether a text is `HOST[:PORT]`, with a host name, an IPv4 address, or an IPv6 address in brackets. Source: RFC
/// 1123, 2.1.
fn is_authority(text: &str) -> bool {
    let after_host = text.rfind(']').unwrap_or(0);
    let (host, port) = match text[after_host..].rfind(':') {
        Some(colon) => (&text[..after_host + colon], Some(&text[after_host + colon + 1..])),
        None => (text, None),
    };
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.bytes().all(allowed) && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.split('.').all(is_label),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    is_host && port.is_none_or(is_port)
}

/// Splits `NAME[:TAG]`, the name of an image in an archive, into repository and tag. The tag is `latest` by default.
///
/// Fails when the name or the tag breaks a rule, or when there is a digest (`@sha256:…`). The error states the rule.
pub fn name(text: &str) -> Result<(String, String), String> {
    if text.contains('@') {
        return Err(format!("`{text}`: a digest cannot be chosen, expected NAME:TAG"));
    }
    let (repository, tag) = match text.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (text, "latest"),
    };
    if !repository.split('/').all(is_component) || repository.len() > 255 {
        return Err(format!(
            "`{repository}` is no repository name: lower-case letters, digits, and single `.`, `_` or `-` \
             between them, parts separated by /"
        ));
    }
    check_tag(tag)?;
    Ok((repository.into(), tag.into()))
}

fn check_tag(tag: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let starts = tag.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if starts && tag.len() <= 128 && tag.bytes().all(allowed) {
        Ok(())
    } else {
        Err(format!(
            "`{tag}` is no tag: up to 128 letters, digits, `_`, `.` and `-`, without `.` or `-` at the start"
        ))
    }
}

/// Whether a part of a name matches `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`. Source: OCI distribution specification.
fn is_component(part: &str) -> bool {
    let separators: Vec<&str> = part
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .filter(|s| !s.is_empty())
        .collect();
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    ends(part.bytes().next())
        && ends(part.bytes().last())
        && separators.iter().all(|s| matches!(*s, "." | "_" | "__") || s.bytes().all(|byte| byte == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_apart_and_put_together_again() {
        for (text, registry, repository, tag) in [
            (
                "swr.cn-north-4.myhuaweicloud.com/team/digits:1.0",
                "swr.cn-north-4.myhuaweicloud.com",
                "team/digits",
                "1.0",
            ),
            ("localhost:5000/a/b/c__d:latest", "localhost:5000", "a/b/c__d", "latest"),
            ("[::1]:5000/a:b", "[::1]:5000", "a", "b"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(
                reference,
                Reference { registry: registry.into(), repository: repository.into(), tag: tag.into() }
            );
            assert_eq!(reference.to_string(), text);
        }
        assert_eq!("r.io/a".parse::<Reference>().unwrap().tag, "latest");
    }

    #[test]
    fn a_name_that_no_registry_would_take_is_refused_with_the_rule() {
        for (text, part) in [
            ("digits:1", "names no registry"),
            ("../x:1", "`..` is no host name"),
            ("./x:1", "`.` is no host name"),
            ("-a.org/x:1", "is no host name"),
            ("a..org/x:1", "is no host name"),
            ("a.org:/x:1", "is no host name"),
            ("a.org:70000/x:1", "is no host name"),
            ("[a.org]/x:1", "is no host name"),
            ("team/digits:1", "`team` is no registry's host name"),
            ("r.io/Team/digits", "lower-case"),
            ("r.io/a..b:1", "lower-case"),
            ("r.io/-a:1", "lower-case"),
            ("r.io/a//b:1", "lower-case"),
            ("r.io/a:", "is no tag"),
            ("r.io/a:-1", "is no tag"),
            ("r.io/a@sha256:00", "a digest"),
        ] {
            let error = text.parse::<Reference>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
