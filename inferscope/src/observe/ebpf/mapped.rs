//! An array map's entries in this process's memory.
//!
//! Owns the mapping; the kernel keeps the map as long as it is there. What the kernel program writes is read without a
//! call. Knows nothing of what the entries mean.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};

use bytemuck::AnyBitPattern;
use rustix::mm::{MapFlags, ProtFlags};

pub(super) struct Mapped<T> {
    start: NonNull<T>,
    entries: usize,
    bytes: usize,
}

// SAFETY: memory that is not bound to a thread, and only read.
unsafe impl<T: Send> Send for Mapped<T> {}

impl<T: AnyBitPattern> Mapped<T> {
    /// The kernel gives each entry whole words of 8 bytes.
    const STRIDE: usize = {
        assert!(size_of::<T>().is_multiple_of(8));
        size_of::<T>()
    };

    /// `map` was made to be mapped (`BPF_F_MMAPABLE`), with so many entries of that type.
    pub(super) fn new(map: BorrowedFd<'_>, entries: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let bytes = (entries * Self::STRIDE).next_multiple_of(page);
        // SAFETY: at no given address, so that nothing else is replaced.
        let start =
            unsafe { rustix::mm::mmap(ptr::null_mut(), bytes, ProtFlags::READ, MapFlags::SHARED, map, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, entries, bytes })
    }

    /// The kernel may write to it meanwhile.
    pub(super) fn read(&self, index: usize) -> Option<T> {
        if index >= self.entries {
            return None;
        }
        // SAFETY: an entry of the mapping.
        let entry = unsafe { self.start.add(index) };
        // SAFETY: as above, aligned as the mapping starts at a page's beginning; any bytes are a `T`. Volatile, as
        // the kernel program writes it.
        Some(unsafe { entry.read_volatile() })
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; no reference into it is ever given out.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
