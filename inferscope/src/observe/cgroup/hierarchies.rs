//! The cgroup hierarchies, from the text of /proc.
//!
//! Pure, except for [`Hierarchies::of_this_process`].

use std::path::{Path, PathBuf};

use crate::observe::proc::text;

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The part of the hierarchy that is mounted: `/` is all that the cgroup namespace shows.
    root: String,
    pub(crate) point: PathBuf,
    /// `None`: the v2 hierarchy; else a v1 hierarchy's controllers and name.
    controllers: Option<Vec<String>>,
}

impl Mount {
    /// The directory of a cgroup by its path in /proc/PID/cgroup. `None`: it lies outside of the mounted part.
    pub(crate) fn dir_of(&self, name: &str) -> Option<PathBuf> {
        let below = Path::new(name).strip_prefix(&self.root).ok()?;
        if below.components().any(|c| matches!(c, std::path::Component::ParentDir)) {
            return None;
        }
        Some(self.point.join(below))
    }

    /// The path of a directory: the reverse.
    pub(crate) fn name_of(&self, dir: &Path) -> Option<String> {
        let below = dir.strip_prefix(&self.point).ok()?;
        let name = Path::new(&self.root).join(below);
        Some(name.to_string_lossy().into_owned())
    }

    pub(crate) const fn is_v2(&self) -> bool {
        self.controllers.is_none()
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.as_ref().is_some_and(|all| all.iter().any(|c| c == controller))
    }
}

/// The mounted hierarchies, and this process's cgroup in the v2 one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    pub(crate) mounts: Vec<Mount>,
    own_v2: Option<String>,
}

impl Hierarchies {
    pub(crate) fn of_this_process() -> Self {
        let read = |path| text(path).unwrap_or_default();
        let mut found = Self::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        for mount in &mut found.mounts {
            if let Some(point) = existing(&mount.point) {
                mount.point = point;
            }
        }
        found
    }

    /// Parses /proc/self/mountinfo and /proc/self/cgroup (proc(5), cgroups(7)).
    pub(crate) fn parse(mountinfo: &str, own: &str) -> Self {
        Self {
            mounts: mountinfo.lines().filter_map(mount).collect(),
            own_v2: v2_path(own).map(str::to_owned),
        }
    }

    pub(crate) fn v2(&self) -> Option<&Mount> {
        self.mounts.iter().find(|m| m.is_v2())
    }

    pub(crate) fn v1(&self, controller: &str) -> Option<&Mount> {
        self.mounts.iter().find(|m| m.has(controller))
    }

    /// The depth of a cgroup in the v2 hierarchy minus that of this process's own.
    pub(crate) fn below_own(&self, name: &str) -> i32 {
        depth(name) - depth(self.own_v2.as_deref().unwrap_or("/"))
    }
}

/// The depth of a cgroup, seen from a cgroup namespace's root. A path above that root begins with `/..`.
fn depth(name: &str) -> i32 {
    name.split('/').filter(|part| !part.is_empty()).map(|part| if part == ".." { -1 } else { 1 }).sum()
}

/// Parses a line of mountinfo for a cgroup hierarchy:
/// `ID PARENT MAJ:MIN ROOT POINT OPTIONS [OPTIONAL…] - TYPE SOURCE SUPEROPTIONS`.
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, point) = (unescape(before.next()?), unescape(before.next()?));
    let mut after = after.split(' ');
    let controllers = match after.next()? {
        "cgroup2" => None,
        "cgroup" => Some(after.nth(1)?.split(',').map(str::to_owned).collect()),
        _ => return None,
    };
    Some(Mount { root, point: PathBuf::from(point), controllers })
}

/// Decodes /proc's mount tables, which write space, tab, newline and backslash as a backslash and three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(u8::is_ascii);
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

/// The directory that `shown` means: itself if it exists, else the one whose name looks the same. The text of /proc has
/// invalid UTF-8 replaced, so a name may stand for any other bytes. `None`: there is none, or there are several.
pub(crate) fn existing(shown: &Path) -> Option<PathBuf> {
    if shown.is_dir() {
        return Some(shown.to_owned());
    }
    let mut at = PathBuf::new();
    for part in shown.components() {
        let next = at.join(part);
        if next.is_dir() {
            at = next;
            continue;
        }
        let alike =
            |e: &std::fs::DirEntry| e.file_name().to_string_lossy() == part.as_os_str().to_string_lossy();
        let mut found = std::fs::read_dir(&at).ok()?.flatten().filter(alike);
        at = found.next()?.path();
        if found.next().is_some() {
            return None;
        }
    }
    Some(at)
}

/// The v2 line of /proc/PID/cgroup: `0::PATH`.
pub(crate) fn v2_path(text: &str) -> Option<&str> {
    text.lines().find_map(|l| l.strip_prefix("0::"))
}

/// The path of a v1 controller's line: `N:CONTROLLERS:PATH`.
pub(crate) fn v1_path<'a>(text: &'a str, controller: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        controllers.split(',').any(|c| c == controller).then(|| parts.next()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
";
    const OWN: &str = "5:cpu,cpuacct:/a:b\n1:name=systemd:/x\n0::/a/b\n";

    #[test]
    fn the_hierarchies_of_a_hybrid_host_are_told_apart() {
        let h = Hierarchies::parse(HYBRID, OWN);
        assert_eq!(h.v2().unwrap().point, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(h.v1("cpuacct").unwrap().point, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(h.v1("memory"), None);
        assert_eq!(v1_path(OWN, "cpuacct"), Some("/a:b"));
        assert_eq!(v1_path(OWN, "memory"), None);
    }

    #[test]
    fn a_part_of_the_hierarchy_that_is_mounted_translates_both_ways() {
        let mount = mount("41 31 0:38 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup2 rw").unwrap();
        let dir = Path::new("/sys/fs/cgroup/w");
        assert_eq!(mount.dir_of("/docker/abc/w").unwrap(), dir);
        assert_eq!(mount.name_of(dir).unwrap(), "/docker/abc/w");
        assert_eq!(mount.dir_of("/docker/other"), None);
        assert_eq!(mount.dir_of("/docker/abc/../x"), None);
    }

    #[test]
    fn the_depth_is_relative_to_the_own_cgroup() {
        let h = Hierarchies::parse(HYBRID, OWN);
        assert_eq!((h.below_own("/"), h.below_own("/a/b/c"), h.below_own("/../x")), (-2, 1, -2));
    }

    #[test]
    fn each_escape_is_undone_once_and_what_is_none_stays() {
        let of = |text| unescape(text);
        assert_eq!(of("/a\\040b\\011c\\012d\\134e"), "/a b\tc\nd\\e");
        // A backslash before digits that are its own.
        assert_eq!(
            (of("/\\134040"), of("/a\\"), of("/a\\9zz")),
            ("/\\040".into(), "/a\\".into(), "/a\\9zz".into())
        );
    }

    #[test]
    fn a_directory_in_any_bytes_is_found_by_how_it_reads_unless_two_read_alike() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &[u8]| {
            let made = dir.path().join(std::ffi::OsStr::from_bytes(name)).join("below");
            std::fs::create_dir_all(&made).unwrap();
            made
        };
        let (odd, plain) = (make(b"sl\xffice x"), make(b"plain"));
        let shown = |path: &Path| PathBuf::from(path.to_string_lossy().into_owned());
        assert_eq!(existing(&shown(&odd)).as_ref(), Some(&odd));
        assert_eq!(existing(&plain).as_ref(), Some(&plain));
        assert_eq!(existing(&dir.path().join("gone")), None);
        make(b"sl\xfeice x");
        assert_eq!(existing(&shown(&odd)), None);
    }

    #[test]
    fn escaped_paths_and_foreign_lines_are_no_trouble() {
        let m = mount("1 2 0:3 / /mnt/a\\040b rw - cgroup2 none rw").unwrap();
        assert_eq!(m.point, Path::new("/mnt/a b"));
        assert_eq!(mount("1 2 0:3 / /proc rw - proc proc rw"), None);
        assert_eq!(mount("nonsense"), None);
        assert_eq!(mount("1 2 3 - cgroup"), None);
    }
}
