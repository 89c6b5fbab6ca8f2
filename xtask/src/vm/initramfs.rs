//! Makes an initramfs: a cpio archive of the "newc" form, which a kernel unpacks to its first root.
//!
//! Owns the archive's format and its content: busybox, inferscope and the storm with their libraries, and the scripts
//! under `guest/`. Never runs any of it. Called by `vm.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::steps::captured;

/// The programs of a guest, by architecture.
pub(super) struct Programs {
    pub(super) busybox: PathBuf,
    pub(super) inferscope: PathBuf,
    pub(super) forkstorm: PathBuf,
    /// The place of a file here, and its place in the guest.
    pub(super) libraries: Vec<(PathBuf, String)>,
}

/// Times and inodes that a kernel ignores are zero, so that the same files make the same archive.
struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    entries: u32,
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;
const TEXT: u32 = 0o100_644;

impl Archive {
    fn new() -> Self {
        Self { bytes: Vec::new(), folders: BTreeSet::new(), entries: 0 }
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        // Magic, inode, mode, uid, gid, links, time, size, four device numbers, length of the name, checksum.
        let length = u32::try_from(content.len()).expect("no program is that large");
        let named = u32::try_from(name.len() + 1).expect("no path is that long");
        let fields = [self.entries, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, named, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The folder and its parents. `path` has no leading slash, as all paths here.
    fn folder(&mut self, path: &str) {
        let mut end = 0;
        while end < path.len() {
            end = path[end + 1..].find('/').map_or(path.len(), |next| end + 1 + next);
            if self.folders.insert(path[..end].to_owned()) {
                let name = path[..end].to_owned();
                self.entry(&name, FOLDER, b"");
            }
        }
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
        self.entry(path, mode, content);
    }

    fn copy(&mut self, from: &Path, to: &str) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(to, PROGRAM, &content);
        Ok(())
    }

    fn done(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, b"");
        self.bytes
    }
}

pub(super) fn make(programs: &Programs, applets: &[&str]) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    for folder in ["proc", "sys", "dev", "tmp", "run", "root", "etc", "bin", "sbin"] {
        archive.folder(folder);
    }
    archive.copy(&programs.busybox, "bin/busybox")?;
    for applet in applets {
        archive.file(&format!("bin/{applet}"), LINK, b"busybox");
    }
    archive.copy(&programs.inferscope, "bin/inferscope")?;
    archive.copy(&programs.forkstorm, "bin/forkstorm")?;
    for (from, to) in &programs.libraries {
        archive.copy(from, to)?;
    }
    archive.file("bin/storm", PROGRAM, include_bytes!("guest/storm.sh"));
    archive.file("etc/passwd", TEXT, b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n");
    archive.file("etc/group", TEXT, b"root:x:0:\nnogroup:x:65534:\n");
    archive.file("etc/hosts", TEXT, b"127.0.0.1 localhost\n");
    archive.file("init", PROGRAM, include_bytes!("guest/init.sh"));
    Ok(archive.done())
}

/// The libraries of the programs, as this machine's loader resolves them, and the loader itself.
pub(super) fn libraries_here(programs: &[&Path]) -> Result<Vec<(PathBuf, String)>> {
    let mut found = BTreeSet::new();
    for program in programs {
        found.extend(paths_of(&captured(Command::new("ldd").arg(program))?));
    }
    Ok(found
        .into_iter()
        .map(|path| (PathBuf::from(&path), path.trim_start_matches('/').to_owned()))
        .collect())
}

/// The absolute paths in the output of ldd.
fn paths_of(output: &str) -> Vec<String> {
    output.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_names_each_folder_once_and_before_its_files() {
        let mut archive = Archive::new();
        archive.file("usr/lib/a", TEXT, b"abc");
        archive.file("usr/lib/b", TEXT, b"");
        let bytes = archive.done();
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.starts_with(b"070701"));
        // The mode is the second field, the size the seventh, the name follows 110 bytes of fields.
        assert_eq!(&bytes[14..22], b"000041ED");
        assert_eq!(&bytes[110..114], b"usr\0");
        let text = String::from_utf8_lossy(&bytes);
        let at = |name: &str| text.find(&format!("{name}\0")).unwrap();
        assert!(at("usr") < at("usr/lib") && at("usr/lib") < at("usr/lib/a"));
        assert_eq!(text.matches("usr/lib\0").count(), 1);
        assert!(text.contains("abc\0"));
        assert!(text.contains("TRAILER!!!\0"));
    }

    #[test]
    fn a_file_as_cpio_itself_reads_it() {
        let mut archive = Archive::new();
        archive.file("a/b", PROGRAM, b"#!/bin/sh\n");
        let bytes = archive.done();
        let header =
            bytes.windows(6).enumerate().filter(|(_, w)| w == b"070701").map(|(at, _)| at).nth(1).unwrap();
        assert_eq!(&bytes[header + 14..header + 22], b"000081ED");
        assert_eq!(&bytes[header + 54..header + 62], b"0000000A");
        // 110 + 4 bytes of name are padded to 116.
        assert_eq!(&bytes[header + 116..header + 126], b"#!/bin/sh\n");
    }

    #[test]
    fn ldd_names_libraries_and_the_loader() {
        let output = "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\t/lib64/ld.so.2 (0x0)\n";
        assert_eq!(paths_of(output), ["/lib/x/libc.so.6", "/lib64/ld.so.2"]);
    }
}
