//! One file of `-o`: proved writable before anything is measured, whole or not there afterwards.
//!
//! Owns how the bytes get there. A regular file is written beside its place and takes its name when it is complete
//! and on the disk; it is written in place only where its directory takes no further file, or nothing can take its name,
//! as with a file that is mounted. A pipe, a terminal or a device is
//! written as it is. Never decides what is in it. Used by `session::output`.
//!
//! What is written is the user's: opened, renamed and read with the rights of the thread that calls it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, StatxAttributes, StatxFlags, fallocate, fstat, open,
    readlinkat, statx,
};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::stream;
use super::{OutputError, Refused};
use crate::signals::Signals;

/// As many links as the kernel follows.
const MOST_LINKS: u32 = 40;
/// Of a file's name in that of its temporary file: no name has more than 255.
const NAME_BYTES: usize = 200;
/// Anyone may write there, and only who owns a file may replace it.
const STICKY: u32 = 0o1000;
const OTHERS_WRITE: u32 = 0o002;

/// Where one report goes.
#[derive(Debug)]
pub(super) enum OpenOutput {
    /// What is `temporary` takes the name `path`.
    Replaced { temporary: NamedTempFile, path: PathBuf, mode: u32 },
    /// The directory takes no other file, or the name is kept.
    Overwritten { file: File, mode: u32 },
    /// What has no length to cut: a pipe, a terminal, a device.
    Stream(File),
}

impl OpenOutput {
    /// Finds out how `path` can be written, and changes nothing that is there. Gives what the user should know of it.
    pub(super) fn open(path: &Path, mode: u32) -> Result<(Self, Option<String>), OutputError> {
        let refused = |why| OutputError::Refused { path: path.to_owned(), why };
        let unwritable = |source| OutputError::Unwritable { path: path.to_owned(), source };
        if let Some(fd) = descriptor(path) {
            return Ok((Self::Stream(of_descriptor(fd).ok_or_else(|| refused(Refused::NotOpen))?), None));
        }
        let kind = match fs::metadata(path) {
            Ok(there) => Some(there),
            // A name that is free, or a link to one.
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(unwritable(e)),
        };
        match kind.map(|there| there.file_type()) {
            Some(kind) if kind.is_dir() => return Err(refused(Refused::Directory)),
            // Nobody wants a report for a file system.
            Some(kind) if kind.is_block_device() => return Err(refused(Refused::BlockDevice)),
            Some(kind) if !kind.is_file() => {
                let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
                let file = OpenOptions::new().write(true).custom_flags(flags).open(path);
                return match file {
                    Ok(file) => Ok((Self::Stream(file), None)),
                    Err(e) if e.raw_os_error() == Some(libc::ENXIO) && kind.is_fifo() => {
                        Err(refused(Refused::NoReader))
                    }
                    Err(e) => Err(unwritable(e)),
                };
            }
            _ => {}
        }
        let path = resolve(path).map_err(unwritable)?;
        if is_protected(&path) {
            return Err(refused(Refused::Protected));
        }
        beside(&path, mode).map_err(unwritable)
    }

    /// Writes all of it; what was there is there until that has gone well. Gives what the user should know of it.
    pub(super) fn save(self, bytes: &[u8], signals: &Signals) -> io::Result<Option<String>> {
        match self {
            Self::Replaced { temporary, path, mode } => {
                let mut file = temporary.as_file();
                file.write_all(bytes)?;
                file.set_permissions(Permissions::from_mode(mode))?;
                synced(file.sync_all())?;
                if let Err(refused) = temporary.persist(&path) {
                    return instead(&path, mode, refused.error, bytes);
                }
                // The name is there; whether it outlives a loss of power is for the file system to say.
                if let Ok(dir) = File::open(directory(&path)) {
                    let _ = dir.sync_all();
                }
                Ok(None)
            }
            Self::Overwritten { file, mode } => overwrite(file, mode, bytes),
            Self::Stream(file) => stream::write_all(file.as_fd(), bytes, Some(signals)).map(|()| None),
        }
    }
}

/// Where the name was not given up after all.
fn instead(path: &Path, mode: u32, error: io::Error, bytes: &[u8]) -> io::Result<Option<String>> {
    if !matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EPERM | libc::EXDEV)) {
        return Err(error);
    }
    let Ok(file) = OpenOptions::new().write(true).open(path) else { return Err(error) };
    let of_mode = overwrite(file, mode, bytes)?;
    let in_place = format!("{} was written in place, as it can't be replaced ({error})", path.display());
    Ok(Some([Some(in_place), of_mode].into_iter().flatten().collect::<Vec<_>>().join("; ")))
}

/// Gives what is to be known of its mode.
fn overwrite(mut file: File, mode: u32, bytes: &[u8]) -> io::Result<Option<String>> {
    // Before a byte of the older report is lost.
    let room = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, bytes.len() as u64);
    if let Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) = room {
        return Err(e.into());
    }
    let there = file.metadata()?;
    let has = there.mode() & 0o7777;
    // Another's is its owner's business; and before a byte of the new one can be read.
    let is_own = there.uid() == rustix::process::geteuid().as_raw();
    let is_set = has == mode || (is_own && file.set_permissions(Permissions::from_mode(mode)).is_ok());
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    synced(file.sync_all())?;
    let whose = if is_own { "it takes no other" } else { "it is another user's" };
    Ok((!is_set).then(|| format!("the report's file keeps its mode {has:04o}, as {whose}")))
}

/// Some file systems have nothing to bring to a disk.
fn synced(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP | libc::ENOSYS)) => Ok(()),
        result => result,
    }
}

/// A file beside `path`, which is no link, or `path` itself.
fn beside(path: &Path, mode: u32) -> io::Result<(OpenOutput, Option<String>)> {
    // A name that ends so can only be a directory's, which is not there.
    let ends_open = path.as_os_str().as_bytes().ends_with(b"/");
    let name = path.file_name().filter(|_| !ends_open).ok_or(io::ErrorKind::IsADirectory)?;
    let mut prefix = b".".to_vec();
    prefix.extend(name.as_bytes().iter().take(NAME_BYTES));
    prefix.extend(b".inferscope-");
    let dir = directory(path);
    // Made so that nobody else can have made it, and readable to its owner alone.
    let made = match (is_others(path, dir), is_mounted(path)) {
        (true, _) => Err(Errno::PERM.into()),
        (_, true) => Err(Errno::BUSY.into()),
        (false, false) => tempfile::Builder::new().prefix(&OsString::from_vec(prefix)).tempfile_in(dir),
    };
    match made {
        Ok(temporary) => Ok((OpenOutput::Replaced { temporary, path: path.to_owned(), mode }, None)),
        Err(e) if path.exists() => {
            // Where it can't be written either, the directory is the reason that helps.
            let file = OpenOptions::new().write(true).open(path).map_err(|of_file| match e.kind() {
                io::ErrorKind::ReadOnlyFilesystem => io::Error::from(io::ErrorKind::ReadOnlyFilesystem),
                _ => of_file,
            })?;
            let why = e.raw_os_error().map_or(e, io::Error::from_raw_os_error);
            let note = format!(
                "{} was written in place, as no file can be made to replace it ({why})",
                path.display()
            );
            Ok((OpenOutput::Overwritten { file, mode }, Some(note)))
        }
        // tempfile adds the directory, which the message has.
        Err(e) => Err(e.raw_os_error().map_or(e, io::Error::from_raw_os_error)),
    }
}

/// Whether it is there and takes no byte, which its owner, or chattr, wanted. A file system that is mounted read-only, or a
/// program that runs, is another matter.
fn is_protected(path: &Path) -> bool {
    let opened = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    opened.is_err_and(|e| matches!(e.raw_os_error(), Some(libc::EACCES | libc::EPERM)))
        && fs::symlink_metadata(path).is_ok()
}

/// Whether something is mounted on the very file, as docker run -v FILE:FILE does: its name can't be replaced. Kernels
/// before 5.8 do not tell, and then the renaming does.
fn is_mounted(path: &Path) -> bool {
    let of_file = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE);
    of_file.is_ok_and(|of_file| of_file.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Whether it is there and somebody else's, in a directory in which only a file's owner may replace it.
fn is_others(path: &Path, dir: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let (Ok(file), Ok(dir)) = (fs::symlink_metadata(path), fs::metadata(dir)) else { return false };
    own != 0 && dir.mode() & STICKY != 0 && ![file.uid(), dir.uid()].contains(&own)
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Where a chain of symbolic links leads, which may be a free name. Each is held while it is read, and followed
/// under the kernel's rule for them (fs.protected_symlinks): in a directory such as /tmp only one's own.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let held = match open(&path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(path),
            held => held?,
        };
        let link = fstat(&held)?;
        if rustix::fs::FileType::from_raw_mode(link.st_mode) != rustix::fs::FileType::Symlink {
            return Ok(path);
        }
        let dir = fs::metadata(directory(&path))?;
        let is_open_to_all = dir.mode() & (STICKY | OTHERS_WRITE) == STICKY | OTHERS_WRITE;
        if is_open_to_all && ![rustix::process::geteuid().as_raw(), dir.uid()].contains(&link.st_uid) {
            return Err(Errno::ACCESS.into());
        }
        let to = readlinkat(&held, "", Vec::new())?;
        path = directory(&path).join(Path::new(std::ffi::OsStr::from_bytes(to.to_bytes())));
    }
    Err(Errno::LOOP.into())
}

/// `/dev/fd/N` and its other names: opened by name a redirected file would be written from its beginning.
fn descriptor(path: &Path) -> Option<i32> {
    if path == Path::new("/dev/stderr") {
        return Some(2);
    }
    let number = ["/dev/fd", "/proc/self/fd"].iter().find_map(|dir| path.strip_prefix(dir).ok())?;
    number.to_str()?.parse().ok()
}

/// A copy of a descriptor that the caller left open for writing.
fn of_descriptor(fd: i32) -> Option<File> {
    // SAFETY: fcntl takes any number, and refuses one that is not open.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 || flags & libc::O_ACCMODE == libc::O_RDONLY || flags & libc::O_PATH != 0 {
        return None;
    }
    // SAFETY: it is open, as was just seen, and nothing closes it before it is copied.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let file = File::from(borrowed.try_clone_to_owned().ok()?);
    // What inferscope has open itself (its signals) is nothing that takes a report.
    let kind = file.metadata().ok()?.file_type();
    (kind.is_file() || kind.is_fifo() || kind.is_char_device() || kind.is_socket()).then_some(file)
}

#[cfg(test)]
mod tests;
