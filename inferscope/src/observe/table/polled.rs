//! What the /proc tracker asks of the table.
//!
//! Owns births and ends that only looks tell of, and the living that are not followed. A part of `table`.

use super::Table;
use super::entry::{Base, Entry};
use super::waited::Waited;
use crate::clock::Mono;
use crate::event::{Birth, CpuTime, ProcessEventKind};
use crate::observe::ebpf::Id;
use crate::observe::proc::tree::Node;
use crate::units::Nanos;

/// The living that are not followed and that the /proc tracker knows again at its next look; 2 MiB. Beyond, nobody is counted who is
/// not followed.
pub(super) const MAX_UNLISTED: usize = 65_536;

impl Table {
    /// A member is there that was not there before.
    pub(crate) fn appear(&mut self, t: Mono, node: Node, birth: Birth, boottime_ns: u64) {
        // /proc goes on showing the dead until they are waited for.
        if self.is_told_dead(node.pid, boottime_ns) {
            return;
        }
        if self.is_full() {
            let is_new = self.unlisted.len() < MAX_UNLISTED && self.unlisted.insert((node.pid, boottime_ns));
            if !is_new {
                return;
            }
        } else if !self.unlisted.is_empty() && self.unlisted.contains(&(node.pid, boottime_ns)) {
            // It was counted when it was born.
            return;
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
        entry.record_mut().host_pid = None;
        self.insert(id, entry, None);
    }

    /// Whether [`Self::keep_unlisted`] is to be asked for.
    pub(crate) fn has_unlisted(&self) -> bool {
        !self.unlisted.is_empty()
    }

    /// Of the living that are not followed, those that are gone have ended.
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
            let cpu = self.entries.get(&i).and_then(Entry::cpu);
            self.sums.vanished(i, cpu.unwrap_or_default());
        }
        self.waited_for(i);
        self.ended_unheard(t, i);
        // A record may come after all.
        if !kernel_knows {
            self.forget(i);
        }
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

    /// Nothing tells more of it than looks did.
    fn forget(&mut self, i: usize) {
        if let Some(id) = self.entries.get(&i).map(Entry::id) {
            self.open.remove(&id);
            self.close_account(i);
        }
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
                self.forget(i);
            }
        }
    }

    fn waited_for(&mut self, i: usize) {
        if let Some((waited, entry)) = self.waited.as_mut().zip(self.entries.get(&i)) {
            waited.gone(i, &entry.last());
        }
    }

    /// CPU that no look saw, by the parents that waited for it, and how much it may lack; `None` where the kernel
    /// tells of each.
    pub(crate) fn unseen_cpu(&mut self) -> Option<(CpuTime, Nanos)> {
        self.waited.as_mut().map(|waited| (waited.unseen(), waited.error()))
    }
}
