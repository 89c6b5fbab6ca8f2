//! The number of CPUs of the machine, and the number that this process may use.
//!
//! Owns the reading of the three numbers that `available_parallelism` mixes into one: the CPUs online, those of the
//! affinity mask, and the quota of the own cgroup. Decides nothing. Called by `observer` and `session`.

use std::path::Path;

use super::cgroup::{Hierarchies, v1_path, v2_path};
use super::proc::text;

/// The CPUs that are online, whoever may use them.
pub(crate) fn online() -> Option<u32> {
    let listed = text("/sys/devices/system/cpu/online").and_then(|list| count_of(list.trim()));
    // /sys may not be mounted.
    listed.or_else(|| text("/proc/stat").map(|stat| lines_of(&stat))).filter(|n| *n > 0)
}

/// The CPUs in the calling thread's affinity mask (sched_getaffinity(2)).
pub(crate) fn allowed() -> Option<u32> {
    Some(rustix::thread::sched_getaffinity(None).ok()?.count())
}

/// The quota of this process in CPUs: the least of those of its cgroup and the ones above it, as far as they are
/// mounted. `None`: there is no visible limit.
pub(crate) fn quota() -> Option<f64> {
    let hierarchies = Hierarchies::of_this_process();
    let own = text("/proc/self/cgroup")?;
    let v2 = hierarchies.v2().zip(v2_path(&own)).and_then(|(mount, path)| {
        least_above(&mount.dir_of(path)?, &mount.point, |dir| quota_of_v2(&text(dir.join("cpu.max"))?))
    });
    let v1 = hierarchies.v1("cpu").zip(v1_path(&own, "cpu")).and_then(|(mount, path)| {
        least_above(&mount.dir_of(path)?, &mount.point, |dir| {
            quota_of_v1(&text(dir.join("cpu.cfs_quota_us"))?, &text(dir.join("cpu.cfs_period_us"))?)
        })
    });
    v2.into_iter().chain(v1).min_by(f64::total_cmp)
}

/// The least quota of `dir` and its parents up to `top`.
fn least_above(dir: &Path, top: &Path, read: impl Fn(&Path) -> Option<f64>) -> Option<f64> {
    let within = dir.ancestors().take_while(|at| at.starts_with(top));
    within.filter_map(read).min_by(f64::total_cmp)
}

/// Parses `cpu.max` (cgroup-v2.rst): `max PERIOD` or `QUOTA PERIOD`.
fn quota_of_v2(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota, period)
}

/// Parses v1's quota; -1 is none.
fn quota_of_v1(quota: &str, period: &str) -> Option<f64> {
    ratio(quota.trim(), period.trim())
}

fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period) = (quota.parse::<u32>().ok()?, period.parse::<u32>().ok().filter(|p| *p > 0)?);
    Some(f64::from(quota) / f64::from(period))
}

/// The number of CPUs in a list such as `0-3,8`.
pub(crate) fn count_of(list: &str) -> Option<u32> {
    let mut sum = 0_u32;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        sum = sum.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(sum)
}

/// Counts the lines of single CPUs, `cpu0 …`, and not the sum of all, `cpu …`.
fn lines_of(stat: &str) -> u32 {
    let of_one = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    u32::try_from(stat.lines().filter(of_one).count()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_and_a_table_of_cpus_are_counted() {
        assert_eq!((count_of("0-3,8,10-11"), count_of("0")), (Some(7), Some(1)));
        assert_eq!((count_of("x"), count_of("3-1"), count_of("")), (None, None, None));
        assert_eq!(lines_of("cpu  1 2\ncpu0 1\ncpu1 1\nintr 5\n"), 2);
        assert_eq!(online(), Some(lines_of(&text("/proc/stat").unwrap())), "two ways to the same");
    }

    #[test]
    fn the_tightest_quota_from_the_own_cgroup_up_counts() {
        assert_eq!((quota_of_v2("max 100000\n"), quota_of_v2("150000 100000\n")), (None, Some(1.5)));
        assert_eq!((quota_of_v1("-1\n", "100000\n"), quota_of_v1("50000\n", "100000\n")), (None, Some(0.5)));
        let top = tempfile::tempdir().unwrap();
        let (outer, inner) = (top.path().join("a"), top.path().join("a/b"));
        std::fs::create_dir_all(&inner).unwrap();
        for (dir, max) in [(&outer, "50000 100000"), (&inner, "300000 100000")] {
            std::fs::write(dir.join("cpu.max"), max).unwrap();
        }
        let read = |dir: &Path| quota_of_v2(&text(dir.join("cpu.max"))?);
        assert_eq!(least_above(&inner, top.path(), read), Some(0.5));
        assert_eq!(least_above(top.path(), top.path(), read), None);
    }
}
