//! The limits as flags, and the tables of `docs/operations.md` that describe them.

use std::collections::BTreeMap;

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    limits: Limits,
}

fn parsed(flags: &[&str]) -> Limits {
    Program::parse_from([&["onnxd"], flags].concat()).limits
}

#[test]
fn without_flags_the_limits_are_the_documented_defaults() {
    let limits = parsed(&[]).checked().unwrap();
    assert_eq!(format!("{limits:?}"), format!("{:?}", Limits::default()));
}

#[test]
fn every_limit_is_set_by_its_own_flag() {
    for (at, limit) in all().iter().enumerate() {
        let (flag, value) =
            (format!("--{}", limit.flag), if limit.unit == Unit::Duration { "7ms" } else { "7" });
        let mut expected = Limits::default().amounts();
        expected[at] = 7;
        if limit.field == "max_memory" {
            let tensor = all().iter().position(|limit| limit.field == "max_tensor_bytes").unwrap();
            expected[tensor] = 7;
        }
        assert_eq!(parsed(&[&flag, value]).amounts(), expected, "{flag}");
    }
}

#[test]
fn a_limit_of_zero_is_an_error_where_zero_means_nothing() {
    assert!(parsed(&["--max-in-flight", "0"]).checked().unwrap_err().contains("--max-in-flight is 0"));
    assert!(parsed(&["--max-json-depth", "129"]).checked().unwrap_err().contains("at most 128"));
    for limit in all() {
        let flags = ["onnxd".to_owned(), format!("--{}", limit.flag), "0".to_owned()];
        let is_accepted =
            Program::try_parse_from(flags).is_ok_and(|program| program.limits.checked().is_ok());
        assert_eq!(is_accepted, limit.zero == Zero::Allowed, "{}", limit.flag);
    }
}

#[test]
fn every_limit_has_help_and_a_reason() {
    for limit in all() {
        assert!(!limit.help.is_empty() && !limit.reason.is_empty(), "{limit:?}");
    }
}

fn operations() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap()
}

/// The rows of the tables below a heading of `docs/operations.md`, as cells without backticks.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let text = operations();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    // The first row is the table's head.
    rows.skip(1)
        .map(|row| row.split('|').skip(1).map(|cell| cell.trim().replace('`', "")).collect())
        .collect()
}

/// A documented default may be followed by a remark: `0, for ever`.
fn states(cell: &str, default: &str) -> bool {
    cell.strip_prefix(default).is_some_and(|remark| remark.is_empty() || remark.starts_with(", "))
}

#[test]
fn the_tables_of_docs_operations_md_have_every_limit_with_its_default_and_unit() {
    let mut undocumented: BTreeMap<String, &Limit> =
        all().iter().map(|limit| (format!("--{}", limit.flag), limit)).collect();
    for heading in ["Time", "Size"] {
        for row in rows(heading) {
            let (flag, default) = (&row[0], &row[1]);
            let limit = undocumented
                .remove(flag)
                .unwrap_or_else(|| panic!("docs/operations.md: {flag} is no limit, or has two rows"));
            assert!(
                states(default, &limit.documented_default),
                "docs/operations.md: expected the default of {flag} to begin with `{}`, but it is `{default}`",
                limit.documented_default
            );
            assert_eq!(limit.unit == Unit::Duration, heading == "Time", "{flag} is in the wrong table");
        }
    }
    assert!(undocumented.is_empty(), "docs/operations.md has no row for {:?}", undocumented.keys());
}

#[test]
fn the_table_of_memory_in_docs_operations_md_has_the_defaults_for_each_size() {
    let rows = rows("Memory");
    assert!(rows.len() >= 4, "{rows:?}");
    for row in rows {
        let (number, unit) = row[0].split_once(' ').unwrap();
        let memory = number.parse::<u64>().unwrap() << if unit == "GiB" { 30 } else { 20 };
        let limits = Limits::within(memory);
        let expected = [
            Unit::Bytes.as_documented(limits.max_memory.amount()),
            Unit::Bytes.as_documented(limits.max_tensor_bytes.amount()),
            Unit::Count.as_documented(limits.max_connections.amount()),
        ];
        assert_eq!(row[1..4], expected, "docs/operations.md, with {} of memory", row[0]);
    }
}
