//! What a thread group has used.
//!
//! Owns the sum over a group. The kernel adds a thread to its `signal_struct` when the thread is released,
//! so a group's figure is that struct's plus those of the threads still on its list.

use core::ffi::c_void;

use inferscope_common::{Run, Usage};

use crate::{
    layout, looped,
    task::{Signal, Task, probe_or_zero},
};

/// Looks at a group that changes meanwhile.
const MAX_LOOKS: u32 = 4;

impl Task {
    #[inline(always)]
    fn add_own(self, usage: &mut Usage) {
        usage.run.add(Run {
            exec_ns: self.sum_exec_runtime(),
            utime_ns: self.utime(),
            stime_ns: self.stime(),
        });
        usage.minor_faults += self.min_flt();
        usage.major_faults += self.maj_flt();
        usage.voluntary_switches += self.nvcsw();
        usage.involuntary_switches += self.nivcsw();
    }
}

impl Signal {
    /// What the whole group of `task` used, living or dying; `self` is the group's. A running thread's figure is as of the last
    /// tick or switch; that of a leader which has left the CPU for good is what wait(2) reports.
    #[inline(always)]
    pub(crate) fn group_usage(self, task: Task) -> Usage {
        let mut usage = self.released_usage();
        // A thread that is released in between moves from the list into the struct, under a sequence lock.
        let mut look = 0;
        while look < MAX_LOOKS {
            let before = self.released_sequence();
            usage = self.released_usage();
            match self.nr_threads() {
                // Reaped already: the struct has it all.
                0 => {}
                1 => task.add_own(&mut usage),
                _ => self.add_threads(&mut usage),
            }
            if self.released_sequence() == before && before & 1 == 0 {
                break;
            }
            look += 1;
        }
        usage
    }

    /// What the struct itself holds: of a freed group everything.
    #[inline(always)]
    pub(crate) fn released_usage(self) -> Usage {
        Usage {
            run: Run { exec_ns: self.sum_sched_runtime(), utime_ns: self.utime(), stime_ns: self.stime() },
            maxrss_pages: self.maxrss(),
            minor_faults: self.min_flt(),
            major_faults: self.maj_flt(),
            voluntary_switches: self.nvcsw(),
            involuntary_switches: self.nivcsw(),
        }
    }

    #[inline(always)]
    fn released_sequence(self) -> u32 {
        match layout!(signal_stats_seq) {
            0 => 0,
            offset => probe_or_zero::<u32>(self.as_ptr(), offset),
        }
    }

    #[inline(always)]
    fn add_threads(self, usage: &mut Usage) {
        let head = self.as_ptr().wrapping_add(layout!(signal_thread_head) as usize);
        let mut walk = Walk { head: head as u64, node: probe_or_zero::<u64>(head, 0), usage: *usage };
        // Of more threads than there are turns, the rest would be in the figure of the group's free.
        looped::turns(add_thread, &mut walk);
        *usage = walk.usage;
    }
}

/// A walk along a group's list of threads; a callback, as the verifier would unroll a plain loop.
struct Walk {
    head: u64,
    node: u64,
    usage: Usage,
}

extern "C" fn add_thread(_: *const c_void, _: *const u32, _: *mut u32, walk: *mut Walk) -> i64 {
    // SAFETY: the pointer that `add_threads` hands over.
    let walk = unsafe { &mut *walk };
    if walk.node == walk.head || walk.node == 0 {
        return looped::STOP;
    }
    let node = walk.node as *const u8;
    let thread = node.wrapping_sub(layout!(task_thread_node) as usize);
    let times: [u64; 2] = probe_or_zero(thread, layout!(task_utime));
    let switches: [u64; 2] = probe_or_zero(thread, layout!(task_nvcsw));
    let faults: [u64; 2] = probe_or_zero(thread, layout!(task_min_flt));
    let usage = &mut walk.usage;
    usage.run.add(Run {
        exec_ns: probe_or_zero(thread, layout!(task_sum_exec_runtime)),
        utime_ns: times[0],
        stime_ns: times[1],
    });
    usage.voluntary_switches += switches[0];
    usage.involuntary_switches += switches[1];
    usage.minor_faults += faults[0];
    usage.major_faults += faults[1];
    walk.node = probe_or_zero(node, 0);
    looped::GO_ON
}

/// Sums and differences of [`Run`]; a difference is of a later and an earlier figure of one group.
pub(crate) trait RunSum {
    fn add(&mut self, other: Run);
    fn minus(self, earlier: Run) -> Run;
}

impl RunSum for Run {
    #[inline(always)]
    fn add(&mut self, other: Run) {
        self.exec_ns = self.exec_ns.wrapping_add(other.exec_ns);
        self.utime_ns = self.utime_ns.wrapping_add(other.utime_ns);
        self.stime_ns = self.stime_ns.wrapping_add(other.stime_ns);
    }

    #[inline(always)]
    fn minus(self, earlier: Run) -> Run {
        Run {
            exec_ns: self.exec_ns.wrapping_sub(earlier.exec_ns),
            utime_ns: self.utime_ns.wrapping_sub(earlier.utime_ns),
            stime_ns: self.stime_ns.wrapping_sub(earlier.stime_ns),
        }
    }
}
