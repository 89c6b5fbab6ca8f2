//! The kernel's BTF: which types it has, by name, and where in a struct a member lies.
//!
//! Owns the reading of the format (Documentation/bpf/btf.rst), no more of it than is asked for here. Pure over the
//! bytes of `/sys/kernel/btf/vmlinux`, which are not trusted: whatever they hold ends in an error or in `None`.
//! Never keeps a copy of a type: a few megabytes are walked once, and then again only where something is looked
//! up. Used by `offsets` and the loader.

use std::collections::HashSet;

/// BTF that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BtfError {
    #[error("{0} bytes that are no BTF of this machine's byte order")]
    NoBtf(usize),
    #[error("its version {0} is not known")]
    Version(u8),
    #[error("its {0} lie outside of it")]
    Section(&'static str),
    #[error("type {0} is cut off")]
    CutOff(usize),
    #[error("type {id} is of the unknown kind {kind}")]
    Kind { id: usize, kind: u32 },
}

/// The kinds that are looked up by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    Struct,
    Typedef,
    Func,
}

/// include/uapi/linux/btf.h
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

const MAGIC: u16 = 0xEB9F;
/// What every version 1 header has at least; `hdr_len` tells how much this one has.
const HEADER_BYTES: usize = 24;
/// Name, info, and a size or another type.
const TYPE_BYTES: usize = 12;
/// Name, type, offset.
const MEMBER_BYTES: usize = 12;
/// Longer chains of typedefs and qualifiers are circles.
const MAX_CHAIN: u32 = 16;

pub(crate) struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where in `types` each type begins; the first has id 1, as 0 is `void`.
    starts: Vec<u32>,
    structs: Vec<u32>,
    typedefs: Vec<u32>,
    funcs: Vec<u32>,
}

/// One type's record.
#[derive(Clone, Copy)]
struct Type<'a> {
    kind: u32,
    /// Its members carry the size of a bitfield beside their offset.
    has_bitfields: bool,
    name: u32,
    /// The other type, or the size.
    size_or_type: u32,
    /// What follows: members, parameters.
    rest: &'a [u8],
}

/// Where a struct or union holds a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) offset_bytes: u32,
    /// Its type's id.
    pub(crate) ty: u32,
}

impl<'a> Btf<'a> {
    /// Looks at every type once, so that a later look-up finds nothing malformed but references to types
    /// that do not exist.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let (types, strings) = sections(bytes)?;
        // Some 40 bytes a type in kernels of today.
        let mut btf = Self {
            types,
            strings,
            starts: Vec::with_capacity(types.len() / 32),
            structs: Vec::new(),
            typedefs: Vec::new(),
            funcs: Vec::new(),
        };
        let mut at = 0;
        while at < types.len() {
            let id = btf.starts.len() + 1;
            let info = word(types, at + 4).ok_or(BtfError::CutOff(id))?;
            let kind = kind_of(info);
            let len = TYPE_BYTES + rest_bytes(info).ok_or(BtfError::Kind { id, kind })?;
            if types.len() - at < len {
                return Err(BtfError::CutOff(id));
            }
            let Ok(short_id) = u32::try_from(id) else { return Err(BtfError::Section("types")) };
            match kind {
                kind::STRUCT => btf.structs.push(short_id),
                kind::TYPEDEF => btf.typedefs.push(short_id),
                kind::FUNC => btf.funcs.push(short_id),
                _ => {}
            }
            // The section's length is 32 bits wide.
            btf.starts.push(at as u32);
            at += len;
        }
        Ok(btf)
    }

    /// The id of the first type of that kind and name.
    pub(crate) fn find(&self, kind: Named, name: &str) -> Option<u32> {
        let ids = match kind {
            Named::Struct => &self.structs,
            Named::Typedef => &self.typedefs,
            Named::Func => &self.funcs,
        };
        ids.iter().copied().find(|&id| self.get(id).is_some_and(|ty| self.is_named(ty.name, name)))
    }

    /// A struct's size.
    pub(crate) fn size_bytes(&self, id: u32) -> Option<u32> {
        let ty = self.get(id).filter(|ty| ty.kind == kind::STRUCT)?;
        Some(ty.size_or_type)
    }

    /// A member of a struct or union, looked for in its anonymous structs and unions too. `None` where there is
    /// none, and for a bitfield, as no byte offset leads to that.
    pub(crate) fn member(&self, holder: u32, name: &str) -> Option<Member> {
        // Each holder is looked into once, so that the search ends in whatever a file may hold.
        let mut seen = HashSet::new();
        let mut holders = vec![(0_u32, holder)];
        while let Some((base, id)) = holders.pop() {
            let Some(id) = self.strip(id).filter(|&id| seen.insert(id)) else { continue };
            let Some(holder) = self.get(id).filter(|ty| matches!(ty.kind, kind::STRUCT | kind::UNION)) else {
                continue;
            };
            for member in holder.rest.chunks_exact(MEMBER_BYTES) {
                let (its_name, ty, offset) = (word(member, 0)?, word(member, 4)?, word(member, 8)?);
                let (offset_bits, bitfield_bits) =
                    if holder.has_bitfields { (offset & 0xFF_FFFF, offset >> 24) } else { (offset, 0) };
                let offset_bytes = base.checked_add(offset_bits / 8)?;
                if self.is_named(its_name, name) {
                    let is_whole = offset_bits % 8 == 0 && bitfield_bits == 0;
                    return is_whole.then_some(Member { offset_bytes, ty });
                }
                if self.is_named(its_name, "") {
                    holders.push((offset_bytes, ty));
                }
            }
        }
        None
    }

    /// How many parameters the function has that this typedef is a pointer to.
    pub(crate) fn parameters(&self, typedef: u32) -> Option<usize> {
        let pointer = self.get(self.strip(typedef)?).filter(|ty| ty.kind == kind::PTR)?;
        let function = self.get(pointer.size_or_type).filter(|ty| ty.kind == kind::FUNC_PROTO)?;
        Some(function.rest.len() / 8)
    }

    /// The type behind typedefs and qualifiers.
    fn strip(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_CHAIN {
            let ty = self.get(id)?;
            match ty.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = ty.size_or_type;
                }
                _ => return Some(id),
            }
        }
        None
    }

    fn get(&self, id: u32) -> Option<Type<'a>> {
        let start = *self.starts.get(usize::try_from(id).ok()?.checked_sub(1)?)? as usize;
        let record = self.types.get(start..)?;
        let info = word(record, 4)?;
        Some(Type {
            kind: kind_of(info),
            has_bitfields: info >> 31 == 1,
            name: word(record, 0)?,
            size_or_type: word(record, 8)?,
            rest: record.get(TYPE_BYTES..TYPE_BYTES + rest_bytes(info)?)?,
        })
    }

    /// Whether the string at `offset` is this one.
    fn is_named(&self, offset: u32, name: &str) -> bool {
        let string = self.strings.get(offset as usize..).unwrap_or_default();
        string.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// The types and the strings.
fn sections(bytes: &[u8]) -> Result<(&[u8], &[u8]), BtfError> {
    if bytes.len() < HEADER_BYTES || !bytes.starts_with(&MAGIC.to_ne_bytes()) {
        return Err(BtfError::NoBtf(bytes.len()));
    }
    if bytes[2] != 1 {
        return Err(BtfError::Version(bytes[2]));
    }
    let section = |offset_at, len_at| {
        let field = |at| word(bytes, at).map(|value| value as usize);
        let start = field(4)?.checked_add(field(offset_at)?)?;
        bytes.get(start..start.checked_add(field(len_at)?)?)
    };
    let types = section(8, 12).ok_or(BtfError::Section("types"))?;
    let strings = section(16, 20).ok_or(BtfError::Section("strings"))?;
    Ok((types, strings))
}

fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x1F
}

/// How much follows a record's first twelve bytes; `None` for a kind that is not known.
fn rest_bytes(info: u32) -> Option<usize> {
    let entries = (info & 0xFFFF) as usize;
    Some(match kind_of(info) {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::PTR | kind::FWD | kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT => 0,
        kind::FUNC | kind::FLOAT | kind::TYPE_TAG => 0,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => entries * MEMBER_BYTES,
        kind::ENUM | kind::FUNC_PROTO => entries * 8,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

#[cfg(test)]
#[path = "btf/tests.rs"]
pub(super) mod tests;
