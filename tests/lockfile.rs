//! The dependencies hold no async runtime.

use crate::support::root;

#[test]
fn no_async_runtime_is_in_the_lock_file() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let names: Vec<&str> =
        lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert!(names.contains(&"tungstenite"), "this reads the lock file");
    let runtimes = [
        "tokio",
        "async-std",
        "smol",
        "async-executor",
        "async-io",
        "futures-executor",
        "futures-util",
        "mio",
        "hyper",
        "glommio",
        "monoio",
        "embassy-executor",
        "pollster",
        "h2",
        "tower",
        "async-global-executor",
    ];
    for runtime in runtimes {
        assert!(!names.contains(&runtime), "{runtime} is in Cargo.lock");
    }
}
