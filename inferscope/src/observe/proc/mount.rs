//! The options of /proc's mount. Pure.

/// The value of its `hidepid` option, from the text of /proc/PID/mountinfo (proc_pid_mountinfo(5)): `noaccess` or 1
/// hides the files of other users' processes, `invisible` or 2 also the processes, `ptraceable` or 4 all that may not
/// be traced.
pub(crate) fn hidepid(mountinfo: &str) -> Option<&str> {
    // The last mount lies on top.
    let options = mountinfo.lines().filter_map(proc_options).next_back()?;
    let value = options.split(',').find_map(|option| option.strip_prefix("hidepid="))?;
    (!matches!(value, "0" | "off")).then_some(value)
}

/// The options of the file system, if the line is that of /proc.
fn proc_options(line: &str) -> Option<&str> {
    let (mount, system) = line.split_once(" - ")?;
    let mut system = system.split(' ');
    let is_it = mount.split(' ').nth(4) == Some("/proc") && system.next() == Some("proc");
    is_it.then(|| system.nth(1)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidepid_is_that_of_the_proc_on_top() {
        let below = "22 27 0:21 / /proc rw - proc proc rw";
        let above = "50 22 0:40 / /proc rw - proc proc rw,gid=4,hidepid=invisible";
        let elsewhere = "60 27 0:41 / /mnt/proc rw - proc proc rw,hidepid=2";
        assert_eq!(hidepid(&format!("{below}\n{above}\n{elsewhere}\n")), Some("invisible"));
        assert_eq!(hidepid(&format!("{above}\n{below}\n")), None);
        assert_eq!(hidepid("22 27 0:21 / /proc rw - proc proc rw,hidepid=0"), None);
        assert_eq!(hidepid("nonsense"), None);
    }
}
