//! The embedded object: its maps and programs, brought into the kernel.
//!
//! Owns the way from the object's bytes to descriptors; aya-obj takes the file apart and puts map descriptors and
//! calls in place. aya's own loader does the same, but copies all of the kernel's BTF each time it is made, where
//! a dozen ids are asked for. Knows nothing of tracepoints or records. Used by the tracker, once.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aya::maps::{MapData, MapError};
use aya_obj::btf::{BtfError, BtfFeatures};
use aya_obj::generated::bpf_map_type;
use aya_obj::relocation::EbpfRelocationError;
use aya_obj::{EbpfSectionKind, ParseError};

use super::syscall::{self, Kind};

/// A part of the object that the kernel, or aya-obj, does not take.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    #[error("its object can't be read")]
    Parse(#[from] ParseError),
    #[error("its types can't be read")]
    Btf(#[from] BtfError),
    #[error("its parts can't be put together")]
    Relocation(#[from] EbpfRelocationError),
    #[error("its object has no {0}")]
    Missing(String),
    #[error("its types: {0}")]
    Types(io::Error),
    #[error(transparent)]
    Map(#[from] MapError),
    #[error("its map {0}: {1}")]
    Fill(String, io::Error),
    /// With the last line of the verifier's log.
    #[error("its program {name}: {error}{}{said}", if .said.is_empty() { "" } else { ": " })]
    Program { name: String, error: io::Error, said: String },
}

pub(crate) struct Object {
    parsed: aya_obj::Object,
    btf: OwnedFd,
    maps: HashMap<String, MapData>,
}

/// What is different in each run.
pub(crate) struct Patch<'a> {
    /// Static variables with their values.
    pub(crate) globals: &'a [(&'a str, &'a [u8])],
    /// Maps with their sizes: a ring's is a power of two, of whole pages.
    pub(crate) sizes: &'a [(&'a str, u32)],
}

impl Object {
    /// Makes the maps.
    pub(crate) fn create(bytes: &[u8], patch: &Patch<'_>) -> Result<Self, ObjectError> {
        let mut parsed = aya_obj::Object::parse(bytes)?;
        parsed.patch_map_data(patch.globals.iter().map(|&(name, value)| (name, (value, true))).collect())?;
        // What `bpf_for_each_map_elem` needs (5.13) has the first five. The others came later (tags of declarations
        // 5.16 and of types 5.17, enums of 64 bits 6.0), and the object can do without.
        let features = BtfFeatures::new(true, true, true, true, true, false, false, false);
        let types = parsed.fixup_and_sanitize_btf(&features)?.ok_or_else(|| missing("types"))?;
        let btf = syscall::load_btf(&types.to_bytes()).map_err(ObjectError::Types)?;

        for &(name, size) in patch.sizes {
            parsed.maps.get_mut(name).ok_or_else(|| missing(name))?.set_max_entries(size);
        }
        let mut made = Vec::new();
        for (name, mut description) in parsed.maps.drain() {
            if description.map_type() == bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32 {
                description.set_value_size(0);
            }
            let is_constant = description.section_kind() == EbpfSectionKind::Rodata;
            let map = MapData::create(description.clone(), &name, Some(btf.as_fd()))?;
            let filled = |error| ObjectError::Fill(name.clone(), error);
            if !description.data().is_empty() {
                syscall::fill(map.fd().as_fd(), description.data()).map_err(filled)?;
            }
            if is_constant {
                syscall::freeze(map.fd().as_fd()).map_err(filled)?;
            }
            made.push((name, description, map));
        }
        let text: HashSet<usize> = parsed.functions.keys().map(|&(section, _)| section).collect();
        let placed = made
            .iter()
            .map(|(name, description, map)| (name.as_str(), map.fd().as_fd().as_raw_fd(), description));
        parsed.relocate_maps(placed, &text)?;
        parsed.relocate_calls(&text)?;
        let maps = made.into_iter().map(|(name, _, map)| (name, map)).collect();
        Ok(Self { parsed, btf, maps })
    }

    pub(crate) fn load(&self, name: &str, kind: Kind) -> Result<OwnedFd, ObjectError> {
        let program = self.parsed.programs.get(name).ok_or_else(|| missing(name))?;
        let function = self.parsed.functions.get(&program.function_key()).ok_or_else(|| missing(name))?;
        let func_info: Vec<[u32; 2]> =
            function.func_info.func_info.iter().map(|info| [info.insn_off, info.type_id]).collect();
        let program = syscall::Program {
            instructions: &function.instructions,
            license: &program.license,
            name,
            kind,
            btf: self.btf.as_fd(),
            func_info: &func_info,
        };
        syscall::load_program(&program, &mut []).map_err(|error| {
            // Once more, to hear why.
            let mut log = vec![0; 1 << 20];
            let _ = syscall::load_program(&program, &mut log);
            let log = String::from_utf8_lossy(&log);
            let log = log.trim_end_matches('\0').trim_end();
            tracing::debug!("the verifier on {name}:\n{log}");
            // Its last line only counts its steps.
            let said = log.lines().rev().find(|line| !line.starts_with("processed ")).unwrap_or_default();
            ObjectError::Program { name: name.to_owned(), error, said: said.to_owned() }
        })
    }

    /// A map, to be read or written. The others stay with the programs.
    pub(crate) fn take_map(&mut self, name: &str) -> Result<MapData, ObjectError> {
        self.maps.remove(name).ok_or_else(|| missing(name))
    }
}

fn missing(what: &str) -> ObjectError {
    ObjectError::Missing(what.to_owned())
}
