use std::mem::offset_of;

use proptest::prelude::*;

use super::*;

/// Writes BTF, a type at a time.
#[derive(Default)]
pub(in super::super) struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Writer {
    fn string(&mut self, text: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn ty(&mut self, kind: u32, name: &str, has_bitfields: bool, entries: u32, size_or_type: u32) -> u32 {
        let name = self.string(name);
        self.words(&[name, u32::from(has_bitfields) << 31 | kind << 24 | entries, size_or_type]);
        self.count += 1;
        self.count
    }

    fn words(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    /// Members as (name, type, offset in bits, bits of a bitfield).
    fn holder(&mut self, kind: u32, name: &str, members: &[(&str, u32, u32, u32)]) -> u32 {
        let has_bitfields = members.iter().any(|member| member.3 > 0);
        let id = self.ty(kind, name, has_bitfields, members.len() as u32, 64);
        for &(name, ty, offset, bits) in members {
            let name = self.string(name);
            self.words(&[name, ty, bits << 24 | offset]);
        }
        id
    }

    /// Members of 8 bytes each.
    pub(in super::super) fn plain_struct(&mut self, name: &str, members: &[&str]) -> u32 {
        let at = (0_u32..).map(|i| i * 64);
        let members: Vec<_> = members.iter().zip(at).map(|(name, bits)| (*name, 0, bits, 0)).collect();
        self.holder(kind::STRUCT, name, &members)
    }

    /// With members of these types, 8 bytes each.
    pub(in super::super) fn struct_of(&mut self, name: &str, members: &[(&str, u32)]) -> u32 {
        let at = (0_u32..).map(|i| i * 64);
        let members: Vec<_> = members.iter().zip(at).map(|(of, bits)| (of.0, of.1, bits, 0)).collect();
        self.holder(kind::STRUCT, name, &members)
    }

    pub(in super::super) fn bytes(&self) -> Vec<u8> {
        file(&self.types, &self.strings)
    }
}

fn file(types: &[u8], strings: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_ne_bytes().to_vec();
    bytes.extend([1, 0]);
    let (types_len, strings_len) = (types.len() as u32, strings.len() as u32);
    for field in [HEADER_BYTES as u32, 0, types_len, types_len, strings_len] {
        bytes.extend(field.to_ne_bytes());
    }
    bytes.extend_from_slice(types);
    bytes.extend_from_slice(strings);
    bytes
}

fn at(offset_bytes: u32, ty: u32) -> Option<Member> {
    Some(Member { offset_bytes, ty })
}

/// One of every kind, and a struct at the end.
fn every_kind() -> Writer {
    let mut writer = Writer::default();
    for kind in kind::INT..=kind::ENUM64 {
        let entries = match kind {
            kind::ENUM | kind::ENUM64 | kind::STRUCT | kind::UNION | kind::FUNC_PROTO | kind::DATASEC => 2,
            _ => 0,
        };
        writer.ty(kind, &format!("kind{kind}"), false, entries, 1);
        // The sizes in Documentation/bpf/btf.rst, told once more.
        let words = match kind {
            kind::INT | kind::VAR | kind::DECL_TAG => 1,
            kind::ARRAY => 3,
            kind::ENUM | kind::FUNC_PROTO => 2 * entries,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 3 * entries,
            _ => 0,
        };
        writer.words(&vec![1; words as usize]);
    }
    writer.holder(kind::STRUCT, "last", &[("field", 1, 96, 0)]);
    writer
}

#[test]
fn a_record_of_every_kind_is_passed_over_by_its_own_length() {
    let bytes = every_kind().bytes();
    let btf = Btf::parse(&bytes).unwrap();
    let last = btf.find(Named::Struct, "last").unwrap();
    assert_eq!(last, kind::ENUM64 + 1);
    assert_eq!(btf.member(last, "field"), at(12, 1));
    assert_eq!(btf.find(Named::Struct, "kind4"), Some(kind::STRUCT));
    assert_eq!(btf.find(Named::Typedef, "kind8"), Some(kind::TYPEDEF));
    assert_eq!(btf.find(Named::Func, "kind12"), Some(kind::FUNC));
}

#[test]
fn a_name_is_found_whole_and_in_its_own_kind_only() {
    let mut writer = Writer::default();
    writer.holder(kind::UNION, "task", &[]);
    writer.ty(kind::FWD, "task", false, 0, 0);
    writer.holder(kind::STRUCT, "task_struct", &[]);
    let task = writer.holder(kind::STRUCT, "task", &[]);
    let bytes = writer.bytes();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.find(Named::Struct, "task"), Some(task));
    assert_eq!(btf.size_bytes(task), Some(64));
    assert_eq!(btf.find(Named::Struct, "tas"), None);
    assert_eq!(btf.find(Named::Typedef, "task"), None);
}

#[test]
fn members_of_anonymous_holders_are_found_at_the_sum_of_the_offsets() {
    let mut writer = Writer::default();
    let int = writer.ty(kind::INT, "int", false, 0, 4);
    writer.words(&[32]);
    let inner = writer.holder(kind::STRUCT, "", &[("x", int, 0, 0), ("deep", int, 32, 0)]);
    let union = writer.holder(kind::UNION, "", &[("other", int, 0, 0), ("", inner, 0, 0)]);
    let constant = writer.ty(kind::CONST, "", false, 0, union);
    let outer = writer.holder(kind::STRUCT, "outer", &[("first", int, 0, 0), ("", constant, 128, 0)]);
    let alias = writer.ty(kind::TYPEDEF, "alias", false, 0, outer);
    let bytes = writer.bytes();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.member(outer, "deep"), at(20, int));
    assert_eq!(btf.member(alias, "deep"), at(20, int));
    assert_eq!(btf.member(outer, "other"), at(16, int));
    assert_eq!(btf.member(outer, "absent"), None);
    assert_eq!(btf.member(int, "first"), None);
}

#[test]
fn a_bitfield_has_no_byte_offset_but_its_neighbours_do() {
    let mut writer = Writer::default();
    let members = [("bit", 1, 64, 1), ("whole", 1, 96, 0), ("crooked", 1, 100, 0)];
    let holder = writer.holder(kind::STRUCT, "s", &members);
    let bytes = writer.bytes();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.member(holder, "bit"), None);
    assert_eq!(btf.member(holder, "whole"), at(12, 1));
    assert_eq!(btf.member(holder, "crooked"), None);
}

#[test]
fn a_tracepoints_parameters_are_counted_behind_its_typedef() {
    let mut writer = Writer::default();
    let function = writer.ty(kind::FUNC_PROTO, "", false, 3, 0);
    writer.words(&[0; 6]);
    let pointer = writer.ty(kind::PTR, "", false, 0, function);
    let typedef = writer.ty(kind::TYPEDEF, "btf_trace_x", false, 0, pointer);
    let bytes = writer.bytes();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.parameters(typedef), Some(3));
    assert_eq!(btf.parameters(function), None);
}

#[test]
fn types_that_lead_in_circles_or_nowhere_have_no_members() {
    let mut writer = Writer::default();
    let typedef = writer.ty(kind::TYPEDEF, "itself", false, 0, 1);
    let itself = ("", 2, 0, 0);
    let mut members = vec![itself; 1_000];
    members.extend([("", 99, 0, 0), ("", typedef, 0, 0)]);
    let holder = writer.holder(kind::STRUCT, "s", &members);
    let bytes = writer.bytes();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.member(typedef, "x"), None);
    assert_eq!(btf.member(holder, "x"), None);
    assert_eq!(btf.parameters(typedef), None);
    assert_eq!(btf.member(0, "x"), None);
}

#[test]
fn what_is_no_btf_is_refused_by_what_is_wrong() {
    let whole = every_kind().bytes();
    assert_eq!(Btf::parse(&[]).err(), Some(BtfError::NoBtf(0)));
    let mut swapped = whole.clone();
    swapped.swap(0, 1);
    assert_eq!(Btf::parse(&swapped).err(), Some(BtfError::NoBtf(whole.len())));
    let mut newer = whole.clone();
    newer[2] = 2;
    assert_eq!(Btf::parse(&newer).err(), Some(BtfError::Version(2)));
    assert_eq!(Btf::parse(&whole[..whole.len() - 1]).err(), Some(BtfError::Section("strings")));

    let mut writer = Writer::default();
    writer.ty(kind::PTR, "", false, 0, 0);
    writer.ty(20, "", false, 0, 0);
    assert_eq!(Btf::parse(&writer.bytes()).err(), Some(BtfError::Kind { id: 2, kind: 20 }));
    let mut writer = Writer::default();
    writer.ty(kind::STRUCT, "", false, 1, 8);
    assert_eq!(Btf::parse(&writer.bytes()).err(), Some(BtfError::CutOff(1)));
}

/// The kernel's own structs that user space knows too, by libc's declaration of them.
#[test]
fn this_kernels_structs_lie_as_libc_declares_them() {
    let bytes = match std::fs::read("/sys/kernel/btf/vmlinux") {
        Ok(bytes) => bytes,
        Err(error) => {
            assert!(std::env::var_os("INFERSCOPE_REQUIRE_KERNEL").is_none(), "no kernel BTF: {error}");
            eprintln!("skipped: needs /sys/kernel/btf/vmlinux ({error})");
            return;
        }
    };
    let btf = Btf::parse(&bytes).unwrap();
    let offset = |of: &str, field| {
        let holder = btf.find(Named::Struct, of).unwrap_or_else(|| panic!("no struct {of}"));
        btf.member(holder, field).map(|member| member.offset_bytes as usize)
    };
    assert_eq!(offset("rusage", "ru_maxrss"), Some(offset_of!(libc::rusage, ru_maxrss)));
    assert_eq!(offset("rusage", "ru_nivcsw"), Some(offset_of!(libc::rusage, ru_nivcsw)));
    assert_eq!(offset("sysinfo", "mem_unit"), Some(offset_of!(libc::sysinfo, mem_unit)));
    assert_eq!(offset("itimerspec64", "it_value"), Some(offset_of!(libc::itimerspec, it_value)));
    assert_eq!(offset("sockaddr_in", "sin_addr"), Some(offset_of!(libc::sockaddr_in, sin_addr)));
    let rusage = btf.find(Named::Struct, "rusage").unwrap();
    assert_eq!(btf.size_bytes(rusage), Some(size_of::<libc::rusage>() as u32));
    // In anonymous structs and unions, and bitfields (`perf_event_attr` up to its first extension: 64 bytes).
    assert_eq!(offset("perf_event_attr", "bp_addr"), Some(56));
    assert_eq!(offset("perf_event_attr", "exclude_kernel"), None);
    assert_eq!(offset("perf_event_attr", "wakeup_events"), Some(48));
}

proptest! {
    #[test]
    fn any_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        ask_everything(&bytes);
    }

    #[test]
    fn any_types_behind_a_sound_header_end_in_an_answer(
        types in prop::collection::vec(any::<[u8; 4]>(), 0..64),
        strings in prop::collection::vec(any::<u8>(), 0..32),
    ) {
        ask_everything(&file(&types.concat(), &strings));
    }

    #[test]
    fn a_file_with_some_bytes_changed_ends_in_an_answer(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = every_kind().bytes();
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        ask_everything(&bytes);
    }
}

fn ask_everything(bytes: &[u8]) {
    let Ok(btf) = Btf::parse(bytes) else { return };
    for kind in [Named::Struct, Named::Typedef, Named::Func] {
        let _ = btf.find(kind, "last");
    }
    for id in (0..=btf.starts.len() as u32 + 1).chain([u32::MAX]) {
        let _ = (btf.size_bytes(id), btf.member(id, "field"), btf.parameters(id));
    }
}
