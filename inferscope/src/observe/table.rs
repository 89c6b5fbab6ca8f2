//! The process set: records in, accounts out.
//!
//! Owns who is a member, who lives and what each has used. A pure state machine: `observer` feeds it
//! the kernel's records and the readings of /proc; it never reads anything itself. Bounded: beyond `limit`
//! processes and [`MAX_EVENTS`] events the list ends and is said to. What is not listed, or whose end was
//! not told, is still in the kernel program's totals; [`Table::unlisted`] is the difference.

mod entry;
mod waited;

use std::collections::{BTreeSet, HashMap, HashSet};

use inferscope_common::Run;

use super::clocks::Member;
use super::ebpf::{Alive, GroupUsage, Id, Record, What, cpu_of};
use super::proc::handle::Reading;
use super::proc::tree::Node;
use crate::clock::Mono;
use crate::event::{Birth, Counts, CpuTime, ExitStatus, Loss, ProcessEvent, ProcessEventKind, ProcessRecord};
use crate::units::Nanos;

use entry::{Base, Entry};
use waited::Waited;

pub(crate) const MAX_EVENTS: usize = 200_000;
/// Of the living without a line, those that the /proc tracker knows again at its next look; 2 MiB. Beyond, nobody is
/// counted who has no line.
const MAX_UNLISTED: usize = 65_536;

pub(crate) struct Table {
    limit: usize,
    entries: Vec<Entry>,
    living: BTreeSet<usize>,
    /// Those of them that have a pid here, by it.
    by_pid: HashMap<u32, usize>,
    /// Until its figures are final.
    open: HashMap<Id, usize>,
    events: Vec<ProcessEvent>,
    pub(crate) counts: Counts,
    pub(crate) loss: Loss,
    exited_cpu: CpuTime,
    /// Of those that ended or left: what the records said, summed as the kernel program sums it.
    told: Run,
    /// Those that are known to have ended without a record, and their CPU: it is in the kernel program's totals too.
    vanished: HashMap<usize, CpuTime>,
    /// Where nothing tells of the ends of those that no look sees.
    waited: Option<Waited>,
    /// Of the /proc tracker: the living without a line, by pid and start.
    unlisted: HashSet<(u32, u64)>,
}

impl Table {
    /// Lists at most `limit` processes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            entries: Vec::new(),
            living: BTreeSet::new(),
            by_pid: HashMap::new(),
            open: HashMap::new(),
            events: Vec::new(),
            counts: Counts::default(),
            loss: Loss::default(),
            exited_cpu: CpuTime::default(),
            told: Run::default(),
            vanished: HashMap::new(),
            waited: None,
            unlisted: HashSet::new(),
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
                let forked_by = self.by_pid.get(&parent).map(|&p| (p, self.entries[p].record.execs));
                if let Some(&i) = self.open.get(&id) {
                    // An iterator saw it before this record was read: the snapshot, or a look after a loss, which
                    // counts nobody as there at the start.
                    let entry = &mut self.entries[i];
                    if entry.record.birth == Birth::AliveAtStart {
                        self.counts.alive_at_start = self.counts.alive_at_start.saturating_sub(1);
                    }
                    entry.born_within();
                    entry.forked_by = forked_by;
                } else {
                    let mut entry = Entry::new(id, pid, parent, Birth::Forked, Base::Known, comm);
                    entry.forked_by = forked_by;
                    self.insert(id, entry, Some(cgroup_id));
                }
                self.event(t, pid, ProcessEventKind::Fork { parent });
            }
            What::Exec { comm, exe, argv, cut, rss_before_bytes } => {
                if let Some(&i) = self.open.get(&id) {
                    let known = &mut self.entries[i].record;
                    known.comm.clone_from(&comm);
                    known.exe.clone_from(&exe);
                    known.argv = argv;
                    known.argv_cut = cut;
                    self.entries[i].executed(rss_before_bytes);
                }
                self.event(t, pid, ProcessEventKind::Exec { comm, exe });
            }
            What::Exit { status, peak_threads, usage, base, is_final, comm } => {
                let i = if is_final { self.open.remove(&id) } else { self.open.get(&id).copied() };
                if let Some(i) = i {
                    let known = &mut self.entries[i].record;
                    known.peak_threads = known.peak_threads.max(Some(peak_threads));
                    known.comm = comm;
                    self.entries[i].ended_with(usage.max_rss_bytes);
                    self.take_usage(i, &usage, base, is_final);
                    self.end_told(i, t, Some(status));
                } else {
                    self.counts.exits += 1;
                }
                self.event(t, pid, ProcessEventKind::Exit { status });
            }
            What::Free { usage, base } => {
                if let Some(i) = self.open.remove(&id) {
                    self.entries[i].ended_with(usage.max_rss_bytes);
                    self.take_usage(i, &usage, base, true);
                    self.end_told(i, t, None);
                }
            }
            What::Migrate { to_cgroup_id, leaves } => {
                if let Some(&i) = self.open.get(&id) {
                    self.entries[i].record.cgroup_id = Some(to_cgroup_id);
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
                if !self.open.contains_key(&id) {
                    self.insert_alive(id, pid, Birth::MovedIn, alive);
                }
                self.event(t, pid, ProcessEventKind::MoveIn { to_cgroup_id });
            }
            What::MoveOut { to_cgroup_id, usage, base } => {
                self.counts.moved_out += 1;
                if let Some(i) = self.open.remove(&id) {
                    self.take_usage(i, &usage, base, false);
                    self.entries[i].record.left = Some(t);
                    self.entries[i].freed = true;
                    self.close(i);
                }
                self.event(t, pid, ProcessEventKind::MoveOut { to_cgroup_id });
            }
            What::Oom => {
                if let Some(&i) = self.open.get(&id) {
                    self.entries[i].record.oom_killed = Some(true);
                }
                self.event(t, pid, ProcessEventKind::Oom);
            }
        }
    }

    /// Of the iterator: it lives, and perhaps the record of its coming was lost. False where it is not
    /// listed and can't be.
    pub(crate) fn adopt(&mut self, record: Record) -> bool {
        let What::Alive(alive) = record.what else { return true };
        if self.open.contains_key(&record.id) {
            return true;
        }
        if self.entries.len() >= self.limit {
            return false;
        }
        let birth = if alive.base == Run::default() { Birth::Forked } else { Birth::MovedIn };
        self.insert_alive(record.id, record.pid, birth, alive);
        true
    }

    fn insert_alive(&mut self, id: Id, pid: u32, birth: Birth, alive: Alive) {
        // The first clocks are corrected; the kernel program's base is as old as the last tick.
        let base = if birth == Birth::AliveAtStart { Base::Provisional } else { Base::Known };
        let mut entry = Entry::new(id, pid, alive.parent, birth, base, alive.comm);
        entry.record.cpu_before = cpu_of(alive.base);
        entry.came_with(alive.rss_before_bytes);
        self.insert(id, entry, Some(alive.cgroup_id));
    }

    fn insert(&mut self, id: Id, mut entry: Entry, cgroup_id: Option<u64>) {
        if self.entries.len() >= self.limit {
            self.loss.unlisted_processes += 1;
            return;
        }
        entry.record.cgroup_id = cgroup_id;
        let i = self.entries.len();
        if entry.record.pid != 0 {
            self.by_pid.insert(entry.record.pid, i);
        }
        self.entries.push(entry);
        self.open.insert(id, i);
        self.living.insert(i);
        self.counts.peak_alive = self.counts.peak_alive.max(self.living.len() as u64);
    }

    /// The kernel's figures of one that ended or left.
    fn take_usage(&mut self, i: usize, usage: &GroupUsage, base: Run, is_final: bool) {
        let before = self.entries[i].cpu();
        let entry = &mut self.entries[i];
        add(&mut self.told, entry.tell(usage.run, base));
        entry.take_usage(usage, is_final);
        if entry.is_closed() {
            let after = entry.cpu();
            self.exited_cpu = replace(self.exited_cpu, before, after);
        }
    }

    /// By a record: the first that tells of it, unless it was found gone before that.
    fn end_told(&mut self, i: usize, t: Mono, status: Option<ExitStatus>) {
        let was_gone = self.vanished.remove(&i).is_some();
        let record = &mut self.entries[i].record;
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
        self.entries[i].record.exited = Some(t);
        self.entries[i].record.exit = status;
        self.close(i);
    }

    fn close(&mut self, i: usize) {
        self.living.remove(&i);
        let pid = self.entries[i].record.pid;
        if self.by_pid.get(&pid) == Some(&i) {
            self.by_pid.remove(&pid);
        }
        let cpu = self.entries[i].cpu();
        self.exited_cpu = replace(self.exited_cpu, None, cpu);
    }

    fn event(&mut self, t: Mono, pid: u32, kind: ProcessEventKind) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(ProcessEvent { t, pid, kind });
        } else {
            self.loss.unlisted_events += 1;
        }
    }

    /// The /proc tracker saw a member that was not there before.
    pub(crate) fn appear(&mut self, t: Mono, node: Node, birth: Birth, boottime_ns: u64) {
        // /proc goes on showing the dead until they are waited for.
        if self.is_told_dead(node.pid, boottime_ns) {
            return;
        }
        if self.entries.len() >= self.limit {
            let is_new = self.unlisted.len() < MAX_UNLISTED && self.unlisted.insert((node.pid, boottime_ns));
            if !is_new {
                return;
            }
        }
        match birth {
            Birth::AliveAtStart => self.counts.alive_at_start += 1,
            Birth::Forked | Birth::MovedIn => {
                self.counts.forks += 1;
                self.event(t, node.pid, ProcessEventKind::Fork { parent: node.ppid });
            }
        }
        let id = Id { host_pid: node.pid, start_boottime_ns: boottime_ns };
        let base = if birth == Birth::AliveAtStart { Base::Unknown } else { Base::Known };
        let mut entry = Entry::new(id, node.pid, node.ppid, birth, base, String::new());
        entry.record.host_pid = None;
        self.insert(id, entry, None);
    }

    /// Whether [`Self::keep_unlisted`] is to be asked for.
    pub(crate) fn has_unlisted(&self) -> bool {
        !self.unlisted.is_empty()
    }

    /// Of the living without a line, those that are gone have ended.
    pub(crate) fn keep_unlisted(&mut self, is_there: impl Fn(u32, u64) -> bool) {
        let before = self.unlisted.len();
        self.unlisted.retain(|&(pid, start)| is_there(pid, start));
        self.counts.exits += (before - self.unlisted.len()) as u64;
    }

    fn is_told_dead(&self, pid: u32, start: u64) -> bool {
        let dead = self.waited.as_ref().map(Waited::zombies).unwrap_or_default();
        dead.into_iter().any(|i| self.pid_and_start(i) == (pid, start))
    }

    /// A member was found gone; its last reading stands. Without the kernel's word that is the usual end;
    /// with it its record was lost, and the totals hold its final figure.
    pub(crate) fn vanish(&mut self, t: Mono, i: usize, kernel_knows: bool) {
        if !self.living.contains(&i) {
            return;
        }
        if kernel_knows {
            self.vanished.insert(i, self.entries[i].cpu().unwrap_or_default());
        }
        self.waited_for(i);
        self.ended_unheard(t, i);
    }

    /// A member was found dead, and not waited for yet.
    pub(crate) fn found_dead(&mut self, t: Mono, i: usize) {
        if self.living.contains(&i) {
            if let Some(waited) = &mut self.waited {
                waited.zombie(i);
            }
            self.ended_unheard(t, i);
        }
    }

    fn ended_unheard(&mut self, t: Mono, i: usize) {
        self.counts.exits += 1;
        self.end(i, t, None);
    }

    /// From now on the CPU of children that no look sees is taken from their parents' figures.
    pub(crate) fn follow_waits(&mut self, ticks_per_second: u64) {
        self.waited = Some(Waited::new(ticks_per_second));
    }

    /// Every living member is read now, ancestors first.
    pub(crate) fn begin_look(&mut self) {
        if let Some(waited) = &mut self.waited {
            waited.begin_look();
        }
    }

    /// A living member could not be read.
    pub(crate) fn refused(&mut self) {
        self.loss.unreadable += 1;
        if let Some(waited) = &mut self.waited {
            waited.refused();
        }
    }

    /// Those that were dead are looked for: by pid and start.
    pub(crate) fn look_for_the_dead(&mut self, is_there: impl Fn(u32, u64) -> bool) {
        for i in self.waited.as_ref().map(Waited::zombies).unwrap_or_default() {
            let (pid, start) = self.pid_and_start(i);
            if !is_there(pid, start) {
                self.waited_for(i);
            }
        }
    }

    fn waited_for(&mut self, i: usize) {
        if let Some(waited) = &mut self.waited {
            waited.gone(i, &self.entries[i].last());
        }
    }

    /// CPU that no look saw, by the parents that waited for it, and how much it may lack; `None` where the kernel
    /// tells of each.
    pub(crate) fn unseen_cpu(&mut self) -> Option<(CpuTime, Nanos)> {
        self.waited.as_mut().map(|waited| (waited.unseen(), waited.error()))
    }

    /// The CPU clock of a living member when the window began, corrected, where the kernel program's base is as old as
    /// the last tick.
    pub(crate) fn window_began(&mut self, i: usize, total: Nanos) {
        if let Some(entry) = self.entries.get_mut(i) {
            entry.window_began(total);
        }
    }

    /// The CPU clock of a member of which nothing else could be read.
    pub(crate) fn ran(&mut self, i: usize, total: Nanos) {
        if let Some(entry) = self.entries.get_mut(i) {
            entry.ran(total);
        }
    }

    /// A reading of a living member.
    pub(crate) fn sampled(&mut self, i: usize, reading: &Reading) {
        if let Some(entry) = self.entries.get_mut(i) {
            entry.sampled(reading);
            if let Some(waited) = &mut self.waited {
                waited.read(i, entry.record.pid, reading, entry.record.birth == Birth::Forked);
            }
        }
    }

    /// Whether it was called something else at the last look.
    pub(crate) fn is_renamed(&self, i: usize, reading: &Reading) -> bool {
        self.entries.get(i).is_some_and(|e| e.record.times_sampled > 0 && e.record.comm != reading.comm)
    }

    /// The kernel told of its birth, and no sample has seen it.
    pub(crate) fn is_newborn(&self, i: usize) -> bool {
        let told = |e: &Entry| e.record.birth == Birth::Forked && e.record.host_pid.is_some();
        self.entries.get(i).is_some_and(|e| told(e) && e.record.times_sampled == 0)
    }

    /// What it runs, as /proc tells; what the kernel told of an exec is left.
    pub(crate) fn identify(&mut self, i: usize, exe: Option<String>, argv: Option<Vec<String>>) {
        if exe.is_none() && argv.is_none() {
            return;
        }
        if let Some(entry) = self.entries.get_mut(i).filter(|e| e.record.execs == 0) {
            entry.record.exe = exe;
            entry.record.argv = argv;
        }
    }

    pub(crate) fn note_peak_rss(&mut self, i: usize, bytes: u64) {
        if let Some(entry) = self.entries.get_mut(i) {
            entry.high_water(bytes);
        }
    }

    /// A zombie: dead for the kernel's events, but its CPU clock is still there and final.
    pub(crate) fn settle(&mut self, i: usize, cpu: CpuTime) {
        let before = self.entries[i].cpu();
        self.entries[i].settle(cpu);
        let after = self.entries[i].cpu();
        self.exited_cpu = replace(self.exited_cpu, before, after);
    }

    /// Index, pid and start of each living member.
    pub(crate) fn living(&self) -> impl Iterator<Item = (usize, u32, u64)> + '_ {
        self.living.iter().map(|&i| (i, self.entries[i].record.pid, self.start(i)))
    }

    /// Those of them that have a clock: a process outside of the tracer's pid namespace has no pid in it.
    pub(crate) fn members(&self) -> Vec<Member> {
        let member = |i: usize| {
            let record = &self.entries[i].record;
            let host_pid = record.host_pid.unwrap_or(record.pid);
            let id = Id { host_pid, start_boottime_ns: self.start(i) };
            Member { index: i, pid: record.pid, id }
        };
        self.living.iter().map(|&i| member(i)).filter(|member| member.pid != 0).collect()
    }

    pub(crate) fn living_pids(&self) -> HashSet<u32> {
        self.living.iter().map(|&i| self.entries[i].record.pid).collect()
    }

    /// The ended whose final figures are still to come.
    pub(crate) fn unsettled(&self) -> BTreeSet<usize> {
        let waits = |i: &usize| self.entries[*i].record.exited.is_some() && !self.entries[*i].freed;
        self.open.values().copied().filter(waits).collect()
    }

    pub(crate) fn pid_and_start(&self, i: usize) -> (u32, u64) {
        (self.entries[i].record.pid, self.start(i))
    }

    fn start(&self, i: usize) -> u64 {
        self.entries[i].record.started_boottime_ns.unwrap_or(0)
    }

    pub(crate) fn exited_cpu(&self) -> CpuTime {
        self.exited_cpu
    }

    pub(crate) fn living_cpu(&self) -> CpuTime {
        let mut sum = CpuTime::default();
        for &i in &self.living {
            sum += self.entries[i].cpu().unwrap_or_default();
        }
        sum
    }

    /// CPU of those that ended, or left, without a line or without a record: what the kernel program
    /// summed less what its records said.
    pub(crate) fn unlisted(&self, ended: Run) -> CpuTime {
        let rest = Run {
            exec_ns: ended.exec_ns.wrapping_sub(self.told.exec_ns),
            utime_ns: ended.utime_ns.wrapping_sub(self.told.utime_ns),
            stime_ns: ended.stime_ns.wrapping_sub(self.told.stime_ns),
        };
        // The totals are summed before the record is written, so only a torn read could be behind.
        if i64::try_from(rest.exec_ns).is_err() {
            return CpuTime::default();
        }
        let mut vanished = CpuTime::default();
        for cpu in self.vanished.values() {
            vanished += *cpu;
        }
        cpu_of(rest).since(vanished)
    }

    /// Members that are known to have ended and of whose end no record told.
    pub(crate) fn vanished(&self) -> u64 {
        self.vanished.len() as u64
    }

    /// Listed processes whose CPU is unknown, and so in no sum: they lived before the window and
    /// ended before they could be read.
    pub(crate) fn without_cpu(&self) -> u64 {
        self.entries.iter().filter(|e| e.cpu().is_none()).count() as u64
    }

    pub(crate) fn is_living(&self, i: usize) -> bool {
        self.living.contains(&i)
    }

    /// Ids of the cgroups that were named.
    pub(crate) fn cgroup_ids(&self) -> BTreeSet<u64> {
        let of_event = |e: &ProcessEvent| match e.kind {
            ProcessEventKind::Migrate { to_cgroup_id }
            | ProcessEventKind::MoveIn { to_cgroup_id }
            | ProcessEventKind::MoveOut { to_cgroup_id } => Some(to_cgroup_id),
            _ => None,
        };
        let of_entries = self.entries.iter().filter_map(|e| e.record.cgroup_id);
        of_entries.chain(self.events.iter().filter_map(of_event)).collect()
    }

    /// Whose program a process runs of which a sample has seen no more than that it lived: its parent's as of the fork,
    /// as far as nobody has executed another since.
    fn runs_as(&self, i: usize) -> Option<usize> {
        let mut at = i;
        loop {
            let entry = &self.entries[at];
            if entry.record.exe.is_some() || entry.record.argv.is_some() {
                return Some(at);
            }
            let (parent, execs) = entry.forked_by.filter(|_| entry.record.execs == 0)?;
            // A parent is listed before its child.
            let parent_entry = self.entries.get(parent).filter(|_| parent < at)?;
            at = Some(parent).filter(|_| parent_entry.record.execs == execs)?;
        }
    }

    /// One that no sample has seen is left without, as before: in a storm that would be a copy for each.
    fn inherit_programs(&mut self) {
        for i in 0..self.entries.len() {
            if self.entries[i].record.times_sampled == 0 {
                continue;
            }
            let Some(from) = self.runs_as(i).filter(|from| *from != i) else { continue };
            let ProcessRecord { exe, argv, argv_cut, .. } = &self.entries[from].record;
            let (exe, argv, argv_cut) = (exe.clone(), argv.clone(), *argv_cut);
            let record = &mut self.entries[i].record;
            (record.exe, record.argv, record.argv_cut) = (exe, argv, argv_cut);
        }
    }

    /// `tells_oom`: an OOM kill would have been told; `tells_execs`: no word of an exec was lost.
    pub(crate) fn finish(
        mut self,
        tells_oom: bool,
        tells_execs: bool,
    ) -> (Vec<ProcessRecord>, Vec<ProcessEvent>) {
        if tells_execs {
            self.inherit_programs();
        }
        let close = |entry: Entry| {
            let cpu = entry.cpu();
            let oom_killed = entry.record.oom_killed.or(tells_oom.then_some(false));
            let rss = entry.rss(tells_execs);
            ProcessRecord {
                cpu,
                oom_killed,
                max_rss_bytes: rss.bytes,
                max_rss_is_peak: rss.is_peak,
                max_rss_at_most_bytes: rss.at_most,
                ..entry.record
            }
        };
        (self.entries.into_iter().map(close).collect(), self.events)
    }
}

fn add(sum: &mut Run, more: Run) {
    sum.exec_ns = sum.exec_ns.wrapping_add(more.exec_ns);
    sum.utime_ns = sum.utime_ns.wrapping_add(more.utime_ns);
    sum.stime_ns = sum.stime_ns.wrapping_add(more.stime_ns);
}

/// A sum in which one part changed.
fn replace(sum: CpuTime, before: Option<CpuTime>, after: Option<CpuTime>) -> CpuTime {
    let before = before.unwrap_or_default();
    let after = after.unwrap_or_default();
    // The parts of the sum are never negative, whichever way the split of one moved.
    let part = |sum: Nanos, before: Nanos, after: Nanos| (sum + after).saturating_sub(before);
    CpuTime {
        user: part(sum.user, before.user, after.user),
        system: part(sum.system, before.system, after.system),
    }
}

#[cfg(test)]
mod tests;
