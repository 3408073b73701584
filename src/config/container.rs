//! How much memory this process may use: what its container allows, or what the machine has.
//!
//! A container limits memory by a control group. Control groups are nested, and each may have a limit; the smallest one
//! counts. A machine may have control groups of version 1, of version 2, or both, so both are read.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Bytes to assume when no limit can be read: the memory of a small machine.
const UNKNOWN: u64 = 512 << 20;

/// Bytes of memory that this process may use. Read at the first call; later calls return the same value.
pub fn memory() -> u64 {
    static MEMORY: OnceLock<u64> = OnceLock::new();
    *MEMORY.get_or_init(read_memory)
}

fn read_memory() -> u64 {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mounts = read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| machine(&text));
    let limits = [limit(&groups, &mounts, read), machine];
    limits.into_iter().flatten().min().unwrap_or(UNKNOWN)
}

/// The machine's memory in bytes: `MemTotal` of `/proc/meminfo`.
fn machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

/// The smallest limit, in bytes, of the process's control groups. `groups` is the text of `/proc/self/cgroup`, `mounts`
/// that of `/proc/self/mountinfo`, and `read` reads a file.
fn limit(groups: &str, mounts: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let folders = mounts.lines().filter_map(Mount::parse).filter_map(|mount| {
        let path = groups.lines().find_map(|line| mount.group(line))?;
        Some((mount.folder(path), mount))
    });
    let limits = folders.flat_map(|(folder, mount)| {
        let within = folder.ancestors().take_while(|folder| folder.starts_with(&mount.at));
        let files: Vec<PathBuf> = within.map(|folder| folder.join(mount.file())).collect();
        // "No limit" is written as `max` (version 2) or as a very large number (version 1).
        let numbers = files.into_iter().filter_map(|file| read(&file)?.trim().parse::<u64>().ok());
        numbers.filter(|bytes| *bytes < 1 << 60).collect::<Vec<_>>()
    });
    limits.min()
}

/// A mounted file system that shows control groups with memory limits.
struct Mount {
    /// The group that is shown at the top of the mount.
    root: PathBuf,
    /// The folder where it is mounted.
    at: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Mount {
    /// Reads a line of `mountinfo`, described in proc(5): `36 35 98:0 /root /at options - type source more`.
    fn parse(line: &str) -> Option<Mount> {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(3);
        let (root, at) = (front.next()?, front.next()?);
        let mut back = back.split(' ');
        let version = match (back.next()?, back.nth(1)?) {
            ("cgroup2", _) => Version::Two,
            ("cgroup", options) if options.split(',').any(|option| option == "memory") => Version::One,
            _ => return None,
        };
        Some(Mount { root: root.into(), at: at.into(), version })
    }

    /// The group's path in a line of `/proc/self/cgroup`, if the line is for this version: `4:memory:/path` (version 1)
    /// or `0::/path` (version 2).
    fn group<'l>(&self, line: &'l str) -> Option<&'l str> {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = match self.version {
            Version::One => controllers.split(',').any(|name| name == "memory"),
            Version::Two => controllers.is_empty(),
        };
        ours.then_some(path)
    }

    /// The folder of the group `path`. In a container the mount often shows the container's own group, and `path` is not
    /// below it; then the folder is that of the mount.
    fn folder(&self, path: &str) -> PathBuf {
        match Path::new(path).strip_prefix(&self.root) {
            Ok(below) => self.at.join(below),
            Err(_) => self.at.clone(),
        }
    }

    /// The file that holds the limit.
    fn file(&self) -> &'static str {
        match self.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(groups: &str, mounts: &str, files: &[(&str, &str)]) -> Option<u64> {
        limit(groups, mounts, |path| {
            files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
        })
    }

    const TWO: &str = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw";
    const ONE: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                       36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";

    #[test]
    fn the_smallest_limit_of_nested_groups_counts() {
        let files = [
            ("/sys/fs/cgroup/a/b/memory.max", "max"),
            ("/sys/fs/cgroup/a/memory.max", "67108864\n"),
            ("/sys/fs/cgroup/memory.max", "268435456\n"),
        ];
        assert_eq!(found("0::/a/b\n", TWO, &files), Some(64 << 20));
        assert_eq!(found("0::/other\n", TWO, &files), Some(256 << 20));
    }

    #[test]
    fn version_one_has_its_own_files_and_a_large_number_means_no_limit() {
        let groups = "9:cpu:/c\n4:memory:/c\n0::/\n";
        let none = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        let own = ("/sys/fs/cgroup/memory/c/memory.limit_in_bytes", "67108864\n");
        assert_eq!(found(groups, ONE, &[none, own]), Some(64 << 20));
        assert_eq!(found(groups, ONE, &[none]), None);
        assert_eq!(found(groups, &format!("{ONE}\n{TWO}"), &[none, own]), Some(64 << 20), "both are there");
    }

    #[test]
    fn a_mount_that_shows_the_containers_own_group_gives_its_limit() {
        let mount = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        let file = [("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000")];
        assert_eq!(found("4:memory:/docker/abc", mount, &file), Some(1_000_000));
        assert_eq!(found("4:memory:/", mount, &file), Some(1_000_000));
    }

    #[test]
    fn the_memory_of_the_machine_is_read() {
        assert_eq!(machine("MemTotal:       24683520 kB\nMemFree: 1 kB\n"), Some(24_683_520 << 10));
        assert!(memory() > 1 << 20);
    }
}
