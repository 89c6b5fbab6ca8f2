//! The process set: records in, resolved events out.
//!
//! Owns who is a member, who lives, and the open accounts: those of members that live, or whose final figures are still to come. A
//! closed account leaves as an event and is forgotten, so that a run of any length is bounded by who lives at a time. A pure state
//! machine: `observer` feeds it the kernel's records and the readings of /proc; it never reads anything itself, and keeps no list
//! (`aggregate::set` does).
//!
//! Beyond `limit` open accounts nobody is followed. What is not followed, or whose end was not told, is still in the kernel program's
//! totals; [`CpuSums::unlisted`](cpu_sums::CpuSums::unlisted) is the difference. `programs` finds whose program a fork runs, `polled` is
//! what only the /proc tracker asks, `readings` what the sampler reads, `waited` the CPU that it takes from parents.

mod cpu_sums;
mod entry;
mod polled;
mod programs;
mod readings;
mod waited;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use inferscope_common::Run;

use super::clocks::Member;
use super::ebpf::{Alive, GroupUsage, Id, Record, What, cpu_of};
use crate::clock::Mono;
use crate::event::{
    Birth, Counts, ExitStatus, Loss, ProcessAccount, ProcessEvent, ProcessEventKind, SetEvent,
};

use cpu_sums::CpuSums;
use entry::{Base, Entry};
use programs::Ancestors;
use waited::Waited;

/// Cgroups whose paths are looked up at the end.
const MAX_CGROUPS: usize = 10_000;

pub(crate) struct Table {
    limit: usize,
    /// Open accounts, by their number in the order of births.
    entries: BTreeMap<usize, Entry>,
    /// Births that were followed.
    born: usize,
    living: BTreeSet<usize>,
    /// Those of them that have a pid here, by it.
    by_pid: HashMap<u32, usize>,
    /// Until its figures are final.
    open: HashMap<Id, usize>,
    ancestors: Ancestors,
    pub(crate) counts: Counts,
    pub(crate) loss: Loss,
    sums: CpuSums,
    /// Where nothing tells of the ends of those that no look sees.
    waited: Option<Waited>,
    /// The /proc tracker's: the living that are not followed, by pid and start.
    unlisted: HashSet<(u32, u64)>,
    /// Ids of the cgroups that were named.
    cgroups: BTreeSet<u64>,
    /// Closed accounts whose CPU is unknown.
    without_cpu: u64,
    changes: Vec<ProcessEvent>,
    #[expect(
        clippy::vec_box,
        reason = "an account of half a kilobyte moves as a pointer, from the table into the list"
    )]
    closed: Vec<Box<ProcessAccount>>,
}

impl Table {
    /// Lists the first `limit` processes, and follows as many at a time.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            entries: BTreeMap::new(),
            born: 0,
            living: BTreeSet::new(),
            by_pid: HashMap::new(),
            open: HashMap::new(),
            ancestors: Ancestors::default(),
            counts: Counts::default(),
            loss: Loss::default(),
            sums: CpuSums::default(),
            waited: None,
            unlisted: HashSet::new(),
            cgroups: BTreeSet::new(),
            without_cpu: 0,
            changes: Vec::new(),
            closed: Vec::new(),
        }
    }

    pub(crate) fn apply(&mut self, record: Record) {
        let Record { t, id, pid, what } = record;
        match what {
            // Only tells that the pass was not the last.
            What::Thread => {}
            What::Alive(alive) => {
                if !self.open.contains_key(&id) {
                    self.counts.alive_at_start += 1;
                    self.insert_alive(id, pid, Birth::AliveAtStart, alive);
                }
            }
            What::Fork { parent, cgroup_id, comm } => {
                self.counts.forks += 1;
                self.forked(id, pid, Forked { parent, cgroup_id, comm });
                self.event(t, pid, ProcessEventKind::Fork { parent });
            }
            What::Exec { comm, exe, argv, cut, rss_before_bytes } => {
                if let Some(entry) = self.open.get(&id).and_then(|i| self.entries.get_mut(i)) {
                    let known = entry.record_mut();
                    known.comm.clone_from(&comm);
                    known.exe.clone_from(&exe);
                    known.argv = argv;
                    known.argv_cut = cut;
                    entry.executed(rss_before_bytes);
                }
                self.event(t, pid, ProcessEventKind::Exec { comm, exe });
            }
            What::Exit { status, peak_threads, usage, base, is_final, comm } => {
                let i = if is_final { self.open.remove(&id) } else { self.open.get(&id).copied() };
                if let Some((i, entry)) = i.and_then(|i| Some((i, self.entries.get_mut(&i)?))) {
                    let known = entry.record_mut();
                    known.peak_threads = known.peak_threads.max(Some(peak_threads));
                    known.comm = comm;
                    entry.ended_with(usage.max_rss_bytes);
                    self.take_usage(i, &usage, base, is_final);
                    self.end_told(i, t, Some(status));
                    if is_final {
                        self.close_account(i);
                    }
                } else {
                    self.counts.exits += 1;
                }
                self.event(t, pid, ProcessEventKind::Exit { status });
            }
            What::Free { usage, base } => {
                if let Some((i, entry)) =
                    self.open.remove(&id).and_then(|i| Some((i, self.entries.get_mut(&i)?)))
                {
                    entry.ended_with(usage.max_rss_bytes);
                    self.take_usage(i, &usage, base, true);
                    self.end_told(i, t, None);
                    self.close_account(i);
                }
            }
            What::Migrate { to_cgroup_id, leaves } => {
                self.note_cgroup(to_cgroup_id);
                if let Some(entry) = self.open.get(&id).and_then(|i| self.entries.get_mut(i)) {
                    entry.record_mut().cgroup_id = Some(to_cgroup_id);
                }
                self.counts.moved_out += u64::from(leaves);
                let kind = if leaves {
                    ProcessEventKind::MoveOut { to_cgroup_id }
                } else {
                    ProcessEventKind::Migrate { to_cgroup_id }
                };
                self.event(t, pid, kind);
            }
            What::MoveIn(alive) => {
                self.counts.moved_in += 1;
                let to_cgroup_id = alive.cgroup_id;
                self.note_cgroup(to_cgroup_id);
                if !self.open.contains_key(&id) {
                    self.insert_alive(id, pid, Birth::MovedIn, alive);
                }
                self.event(t, pid, ProcessEventKind::MoveIn { to_cgroup_id });
            }
            What::MoveOut { to_cgroup_id, usage, base } => {
                self.note_cgroup(to_cgroup_id);
                self.counts.moved_out += 1;
                if let Some(i) = self.open.remove(&id) {
                    self.take_usage(i, &usage, base, false);
                    self.leave(i, t);
                }
                self.event(t, pid, ProcessEventKind::MoveOut { to_cgroup_id });
            }
            What::Oom => {
                if let Some(entry) = self.open.get(&id).and_then(|i| self.entries.get_mut(i)) {
                    entry.record_mut().oom_killed = Some(true);
                }
                self.event(t, pid, ProcessEventKind::Oom);
            }
        }
    }

    /// From the iterator: it lives, and perhaps the record of its coming was lost. False where it is not followed and can't be.
    pub(crate) fn adopt(&mut self, record: Record) -> bool {
        let What::Alive(alive) = record.what else { return true };
        if self.open.contains_key(&record.id) {
            return true;
        }
        if self.is_full() {
            return false;
        }
        let birth = if alive.base == Run::default() { Birth::Forked } else { Birth::MovedIn };
        self.insert_alive(record.id, record.pid, birth, alive);
        true
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= self.limit
    }

    fn forked(&mut self, id: Id, pid: u32, Forked { parent, cgroup_id, comm }: Forked) {
        let by = self.by_pid.get(&parent).copied();
        let forked_by = by.and_then(|p| Some((p, self.entries.get(&p)?.record().execs)));
        let i = if let Some(&i) = self.open.get(&id) {
            // An iterator saw it before this record was read: the snapshot, or a look after a loss, which counts nobody as there
            // at the start.
            let Some(entry) = self.entries.get_mut(&i) else { return };
            if entry.record().birth == Birth::AliveAtStart {
                self.counts.alive_at_start = self.counts.alive_at_start.saturating_sub(1);
            }
            entry.born_within();
            Some(i)
        } else {
            let entry = Entry::new(id, pid, parent, Birth::Forked, Base::Known, comm);
            self.insert(id, entry, Some(cgroup_id))
        };
        if let Some(i) = i {
            self.set_forked_by(i, forked_by);
        }
    }

    fn insert_alive(&mut self, id: Id, pid: u32, birth: Birth, alive: Alive) {
        // The first clocks are corrected; the kernel program's base is as old as the last tick.
        let base = if birth == Birth::AliveAtStart { Base::Provisional } else { Base::Known };
        let mut entry = Entry::new(id, pid, alive.parent, birth, base, alive.comm);
        entry.record_mut().cpu_before = cpu_of(alive.base);
        entry.came_with(alive.rss_before_bytes);
        self.insert(id, entry, Some(alive.cgroup_id));
    }

    /// Its number; `None` where it is not followed.
    fn insert(&mut self, id: Id, mut entry: Entry, cgroup_id: Option<u64>) -> Option<usize> {
        if self.is_full() {
            self.loss.unlisted_processes += 1;
            self.loss.unfollowed_processes += 1;
            return None;
        }
        let i = self.born;
        self.born += 1;
        entry.account.number = i;
        entry.account.listed = i < self.limit;
        entry.record_mut().cgroup_id = cgroup_id;
        if let Some(id) = cgroup_id {
            self.note_cgroup(id);
        }
        if entry.record().pid != 0 {
            self.by_pid.insert(entry.record().pid, i);
        }
        self.entries.insert(i, entry);
        self.open.insert(id, i);
        self.living.insert(i);
        self.counts.peak_alive = self.counts.peak_alive.max(self.living.len() as u64);
        Some(i)
    }

    fn note_cgroup(&mut self, id: u64) {
        if self.cgroups.len() < MAX_CGROUPS {
            self.cgroups.insert(id);
        }
    }

    /// The kernel's figures of one that ended or left.
    fn take_usage(&mut self, i: usize, usage: &GroupUsage, base: Run, is_final: bool) {
        let Some(entry) = self.entries.get_mut(&i) else { return };
        let before = entry.cpu();
        self.sums.told(entry.tell(usage.run, base));
        entry.take_usage(usage, is_final);
        if entry.is_closed() {
            self.sums.replace(before, entry.cpu());
        }
    }

    /// By a record: the first that tells of it, unless it was found gone before that.
    fn end_told(&mut self, i: usize, t: Mono, status: Option<ExitStatus>) {
        let was_gone = self.sums.is_told_after_all(i);
        let Some(entry) = self.entries.get_mut(&i) else { return };
        let record = entry.record_mut();
        if record.exited.is_none() {
            self.counts.exits += 1;
            self.end(i, t, status);
        } else {
            // Its CPU is in the sum, and was corrected there.
            record.exit = record.exit.or(status);
            record.exited = record.exited.filter(|_| !was_gone).or(Some(t));
        }
    }

    fn end(&mut self, i: usize, t: Mono, status: Option<ExitStatus>) {
        let Some(entry) = self.entries.get_mut(&i) else { return };
        entry.record_mut().exited = Some(t);
        entry.record_mut().exit = status;
        self.lives_no_more(i);
    }

    /// Out of the set by a move.
    fn leave(&mut self, i: usize, t: Mono) {
        let Some(entry) = self.entries.get_mut(&i) else { return };
        entry.record_mut().left = Some(t);
        entry.freed = true;
        self.lives_no_more(i);
        self.close_account(i);
    }

    fn lives_no_more(&mut self, i: usize) {
        self.living.remove(&i);
        let Some(entry) = self.entries.get(&i) else { return };
        let pid = entry.record().pid;
        if self.by_pid.get(&pid) == Some(&i) {
            self.by_pid.remove(&pid);
        }
        self.sums.replace(None, entry.cpu());
    }

    fn event(&mut self, t: Mono, pid: u32, kind: ProcessEventKind) {
        self.changes.push(ProcessEvent { t, pid, kind });
    }

    /// Nothing more will be told of it: its account becomes an event.
    fn close_account(&mut self, i: usize) {
        let Some(mut entry) = self.entries.remove(&i) else { return };
        self.settle_program(i, &mut entry);
        let cpu = entry.cpu();
        self.without_cpu += u64::from(cpu.is_none());
        entry.record_mut().cpu = cpu;
        self.closed.push(entry.account);
    }

    /// At the end of the observation: the accounts of those that live on, or have not settled.
    pub(crate) fn close_all(&mut self) {
        let all: Vec<usize> = self.entries.keys().copied().collect();
        // Ancestors first: a child looks up what its parent ran.
        for i in all {
            self.close_account(i);
        }
    }

    /// What happened since the last call.
    pub(crate) fn take_events(&mut self) -> impl Iterator<Item = SetEvent> + use<> {
        let (changes, closed) = (std::mem::take(&mut self.changes), std::mem::take(&mut self.closed));
        let changes = (!changes.is_empty()).then_some(SetEvent::Changes(changes));
        changes.into_iter().chain((!closed.is_empty()).then_some(SetEvent::Closed(closed)))
    }

    /// Number, pid and start of each living member.
    pub(crate) fn living(&self) -> impl Iterator<Item = (usize, u32, u64)> + '_ {
        self.living.iter().map(|&i| {
            let (pid, start) = self.pid_and_start(i);
            (i, pid, start)
        })
    }

    /// Those of them that have a clock: a process outside of the tracer's pid namespace has no pid in it.
    pub(crate) fn members(&self) -> Vec<Member> {
        let member = |&i: &usize| {
            let entry = self.entries.get(&i)?;
            Some(Member { index: i, pid: entry.record().pid, id: entry.id() })
        };
        self.living.iter().filter_map(member).filter(|member| member.pid != 0).collect()
    }

    pub(crate) fn living_pids(&self) -> HashSet<u32> {
        self.living().map(|(_, pid, _)| pid).collect()
    }

    /// The ended whose final figures are still to come.
    pub(crate) fn unsettled(&self) -> BTreeSet<usize> {
        let waits = |i: &usize| self.entries.get(i).is_some_and(|e| e.record().exited.is_some() && !e.freed);
        self.open.values().copied().filter(waits).collect()
    }

    pub(crate) fn pid_and_start(&self, i: usize) -> (u32, u64) {
        let record = self.entries.get(&i).map(Entry::record);
        record.map_or((0, 0), |r| (r.pid, r.started_boottime_ns.unwrap_or(0)))
    }

    pub(crate) fn is_living(&self, i: usize) -> bool {
        self.living.contains(&i)
    }

    /// Processes whose CPU is unknown, and so in no sum: they lived before the window and ended before they could be read.
    pub(crate) fn without_cpu(&self) -> u64 {
        let open = self.entries.values().filter(|e| e.cpu().is_none()).count() as u64;
        self.without_cpu + open
    }

    pub(crate) const fn cgroup_ids(&self) -> &BTreeSet<u64> {
        &self.cgroups
    }
}

/// What a record tells of a birth.
struct Forked {
    parent: u32,
    cgroup_id: u64,
    comm: String,
}

#[cfg(test)]
mod tests;
