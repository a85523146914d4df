//! The memory of this machine.

use std::path::Path;

/// Bytes of memory that this process may use, as reported by Linux: the memory of the machine, or
/// the lowest limit of its control groups if that is less. Containers and schedulers set such
/// limits.
pub fn memory() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = group_limit(&groups, Path::new("/sys/fs/cgroup"));
    Some(limit.unwrap_or(f64::INFINITY).min(1024.0 * kib))
}

/// The lowest memory limit of the control groups that `/proc/self/cgroup` lists and of their
/// parents. `root` is the mount point of their file systems. Inside a container, the groups above
/// its own cannot be read.
fn group_limit(groups: &str, root: &Path) -> Option<f64> {
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
        // Version 2 has one hierarchy for all controllers; version 1 has one for each.
        let (folder, file) = if controllers.is_empty() {
            (root.to_owned(), "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            return None;
        };
        let group = folder.join(group.trim_start_matches('/'));
        let limit = |group: &Path| {
            let text = std::fs::read_to_string(group.join(file)).ok()?;
            text.trim().parse::<f64>().ok() // "max" is no limit.
        };
        let above = group
            .ancestors()
            .take_while(|group| group.starts_with(&folder));
        above.filter_map(limit).reduce(f64::min)
    });
    limits.reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use super::group_limit;

    /// The limits of a container and of its parent groups count; "max" means no limit.
    #[test]
    fn limits_of_control_groups_are_found() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let write = |group: &str, file: &str, text: &str| {
            let folder = root.join(group);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(file), text).unwrap();
        };
        write("a", "memory.max", "3000\n");
        write("a/b", "memory.max", "max\n");
        write("memory/job", "memory.limit_in_bytes", "2000\n");
        assert_eq!(group_limit("0::/a/b\n", root), Some(3000.0));
        let both = "4:cpu,memory:/job\n0::/a/b\n";
        assert_eq!(group_limit(both, root), Some(2000.0));
        assert_eq!(group_limit("0::/\n", root), None);
        assert_eq!(group_limit("1:cpu:/a\n", root), None);
    }
}
