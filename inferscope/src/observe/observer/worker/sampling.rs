//! One look at the set.
//!
//! Owns the order of a sample: newcomers, what was missed, the clocks of all, then /proc. A part of `worker`.

use std::collections::HashSet;

use super::super::Used;
use super::Worker;
use crate::clock::Mono;
use crate::event::{Birth, SetSample};
use crate::observe::cgroup;
use crate::observe::clocks::Clocks;
use crate::observe::ebpf::Tracker;
use crate::observe::proc::tree;
use crate::observe::sampler::Look;
use crate::units::Nanos;

impl Worker {
    /// One look at every living member.
    pub(super) fn sample(&mut self) -> (SetSample, Look) {
        self.find_newcomers();
        self.find_missed();
        let lossy = self.recover();
        let clocks = self.clocks();
        self.sample_at(&clocks, lossy, false)
    }

    pub(super) fn find_newcomers(&mut self) {
        if self.tracker.is_none() && self.target.descendants {
            let nodes = tree::scan();
            if self.table.has_unlisted() {
                let there: HashSet<_> = nodes.iter().map(|n| (n.pid, self.start_ns(n))).collect();
                self.table.keep_unlisted(|pid, start| there.contains(&(pid, start)));
            }
            for node in tree::newcomers(&nodes, &self.table.living_pids(), std::process::id()) {
                // One that the first scan passed by has used CPU before the window.
                let before = node.start_ticks < self.started_ticks;
                self.appear(node, if before { Birth::AliveAtStart } else { Birth::Forked });
            }
        }
    }

    /// The set at the moment when its clocks were read.
    pub(super) fn sample_at(&mut self, clocks: &Clocks, lossy: bool, is_last: bool) -> (SetSample, Look) {
        let t = clocks.t;
        if clocks.some_gone {
            // Their ends were told meanwhile.
            self.drain();
        }
        let look = self.sampler.look(clocks, is_last, &mut self.table);
        if self.tracker.is_none() {
            for &i in &look.zombies {
                self.table.found_dead(t, i);
            }
            for &i in &look.gone {
                self.table.vanish(t, i, false);
            }
            let sampler = &self.sampler;
            self.table.look_for_the_dead(|pid, start| sampler.is_there(pid, start));
        }
        self.note_end(t, look.processes);
        let mut cpu = self.table.exited_cpu().total() + self.table.living_cpu().total();
        if let Some(totals) = self.tracker.as_ref().filter(|_| lossy).and_then(Tracker::totals) {
            cpu += self.table.unlisted(totals.ended).total();
        }
        let unseen = self.table.unseen_cpu().unwrap_or_default();
        cpu += unseen.0.total();
        // Between a death and its final figure the sum could step back by a time slice.
        self.highest_cpu = self.highest_cpu.max(cpu);
        self.latest.send_replace(Used { t, cpu: self.highest_cpu });
        let sample = SetSample {
            t,
            processes: look.processes,
            threads: look.threads,
            rss_bytes: look.rss_bytes,
            pss_bytes: look.pss_bytes,
            cpu: self.highest_cpu,
            // So many threads can run at a time.
            cpu_error: clocks.error.unwrap_or_else(|| self.tick_of(u64::from(look.threads))) + unseen.1,
        };
        (sample, look)
    }

    fn tick_of(&self, threads: u64) -> Nanos {
        Nanos(self.tick.length.0.saturating_mul(threads.min(self.cpus)))
    }

    /// A tree ends with its last process, a cgroup with its directory.
    fn note_end(&mut self, t: Mono, processes: u32) {
        let ended = match &self.target.cgroup {
            Some(target) => cgroup::id_of(&target.dir) != Some(target.id),
            None => processes == 0,
        };
        if ended && self.target_ended.is_none() {
            self.target_ended = Some(t);
            self.tell_end.send_replace(true);
        } else if !ended {
            self.target_ended = None;
        }
    }
}
