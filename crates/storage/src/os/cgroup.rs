//! The memory that control groups leave.
//!
//! A limit holds for a group and everything below it, so the tightest limit among a process's
//! group and all its ancestors counts: Slurm and systemd set theirs on a parent.

use std::fs;
use std::path::{Component, Path};

/// Files of the memory controller, which the two versions name differently.
struct Version {
    limit: &'static str,
    usage: &'static str,
    /// Fields of `memory.stat` that count page cache; they include the groups below.
    cache: [&'static str; 2],
}

const V1: Version = Version {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: ["total_active_file ", "total_inactive_file "],
};
const V2: Version = Version {
    limit: "memory.max",
    usage: "memory.current",
    cache: ["active_file ", "inactive_file "],
};

/// The bytes that the control groups of this process still allow, page cache not counted as used;
/// `None` without a limit.
///
/// `root` is the folder that holds `proc` and `sys`.
pub(super) fn headroom(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = root.join("sys/fs/cgroup");
    let of_line = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?);
        match controllers {
            // The second place is where a mixed setup mounts version 2.
            "" => ["", "unified"]
                .iter()
                .filter_map(|mount| tightest(&V2, &mounts.join(mount), group))
                .min(),
            _ if controllers.split(',').any(|name| name == "memory") => {
                tightest(&V1, &mounts.join("memory"), group)
                    .or_else(|| tightest(&V1, &mounts.join(controllers), group))
            }
            _ => None,
        }
    };
    groups.lines().filter_map(of_line).min()
}

/// The least that a group and its ancestors allow.
///
/// Within a container, the mount may show only a part of the hierarchy, and the path may lead out
/// of it: folders that do not exist are skipped, and the mount itself is always asked.
fn tightest(version: &Version, mount: &Path, group: &str) -> Option<u64> {
    let inner = Path::new(group)
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    let mut folders = vec![mount.to_owned()];
    for part in inner {
        if part == Component::ParentDir {
            break;
        }
        folders.push(folders[folders.len() - 1].join(part));
    }
    folders
        .iter()
        .filter_map(|folder| allowance(version, folder))
        .min()
}

/// The limit of one group, without its ancestors.
fn allowance(version: &Version, folder: &Path) -> Option<u64> {
    let read = |file| fs::read_to_string(folder.join(file)).ok();
    // "max" is not a number: no limit.
    let limit: u64 = read(version.limit)?.trim().parse().ok()?;
    let usage: u64 = read(version.usage)?.trim().parse().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    let field = |name: &&str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    let cache: u64 = version.cache.iter().filter_map(field).sum();
    Some(limit.saturating_sub(usage.saturating_sub(cache)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USED: u64 = 10 << 20;

    /// A made-up system on which a process is in the groups of these lines.
    fn system(lines: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::write(root.path().join("proc/self/cgroup"), lines).unwrap();
        root
    }

    /// A group that uses 10 MiB, of which 3 MiB are page cache.
    fn group(root: &Path, version: &Version, folder: &str, limit: &str) {
        let folder = root.join("sys/fs/cgroup").join(folder);
        fs::create_dir_all(&folder).unwrap();
        let [active, inactive] = version.cache;
        let stat = format!("anon 7340032\n{active}1048576\n{inactive}2097152\n");
        fs::write(folder.join(version.limit), format!("{limit}\n")).unwrap();
        fs::write(folder.join(version.usage), format!("{USED}\n")).unwrap();
        fs::write(folder.join("memory.stat"), stat).unwrap();
    }

    #[test]
    fn the_tightest_limit_of_all_ancestors_counts() {
        let gib = 1u64 << 30;
        let left = Some(gib - (7 << 20));
        for (parent, leaf) in [
            ("max", "1073741824"),
            ("1073741824", "max"),
            ("1073741824", "9999999999"),
        ] {
            let root = system("0::/job/task\n");
            group(root.path(), &V2, "job", parent);
            group(root.path(), &V2, "job/task", leaf);
            assert_eq!(headroom(root.path()), left, "{parent} above {leaf}");
        }
    }

    #[test]
    fn version_1_is_asked_along_all_ancestors_too() {
        let root = system("3:cpu,cpuacct:/x\n2:memory:/job/task\n0::/\n");
        group(root.path(), &V1, "memory", "9223372036854771712");
        group(root.path(), &V1, "memory/job", "1073741824");
        group(root.path(), &V1, "memory/job/task", "9223372036854771712");
        assert_eq!(headroom(root.path()), Some((1 << 30) - (7 << 20)));
    }

    #[test]
    fn a_container_is_limited_by_what_it_sees_mounted() {
        // The path is that of the host, the mount that of the container.
        for path in ["/docker/0123", "/../.."] {
            let root = system(&format!("0::{path}\n"));
            group(root.path(), &V2, "", "1073741824");
            assert_eq!(headroom(root.path()), Some((1 << 30) - (7 << 20)), "{path}");
        }
    }

    #[test]
    fn without_a_limit_nothing_is_said() {
        let root = system("0::/job\n");
        assert_eq!(headroom(root.path()), None);
        group(root.path(), &V2, "job", "max");
        assert_eq!(headroom(root.path()), None);
        assert_eq!(headroom(&root.path().join("none")), None);
        let exceeded = system("0::/job\n");
        group(exceeded.path(), &V2, "job", "1");
        assert_eq!(headroom(exceeded.path()), Some(0));
    }
}
