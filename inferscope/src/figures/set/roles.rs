//! What part each process plays.
//!
//! Owns the rules that name a process root, wrapper, arbiter, worker, helper or service, and which workers fill the
//! same slot one after another. They look at who forked and executed what, and at a process's life beside its
//! parent's, never at the length of the run; a role is a label for a reader and changes no figure. Called by
//! `members`.

mod programs;

use std::collections::{HashMap, HashSet};

use crate::clock::Origin;
use crate::event::{Birth, Observation, ProcessRecord, TrackerKind};
use crate::units::Nanos;

use super::Scope;
use super::lineage::Lineage;
use super::worker_slots::{Life, Place, places};

/// A process smaller than this, with one thread and no CPU use to speak of, serves nothing itself.
pub(crate) const WRAPPER_RSS_BYTES: u64 = 10 << 20;
/// A process that ended sooner is a helper, whether a sample happened to catch it or not.
const HELPER_LIFE: Nanos = Nanos::from_millis(200);
/// What took this part of its parent's whole life, or more, is what the parent was there for: no helper.
const MAIN_PART: i128 = 2;
/// Children of its own program that last, from which a process counts as the workers' arbiter.
const ARBITER_CHILDREN: usize = 2;

/// What a process is there for. The order breaks ties where commands are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum MemberRole {
    /// The target's root that is none of the others; in a cgroup, what came into it from outside.
    Root,
    /// A root, or what such a wrapper started, that only waits for its child.
    Wrapper,
    /// It forked two or more workers, which go on with its own program, or is there to: Python's forkserver.
    Arbiter,
    /// It does the work, for all that can be told.
    Worker,
    /// It ended within 200 ms, or executed another program and ended by itself while its parent worked on; and what such a
    /// process runs.
    Helper,
    /// A runtime keeps it for itself beside the workers.
    Service,
    /// It is younger than 200 ms at the end of the observation: a worker or a helper.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) role: MemberRole,
    /// Of the workers of an arbiter, where every birth and death is known.
    pub(super) place: Option<Place>,
}

/// The part of each record, in their order.
pub(super) fn parts(scope: &Scope<'_>, o: &Observation) -> Vec<Part> {
    let lineage = Lineage::of(scope.origin, &o.processes);
    let cast = Cast {
        origin: scope.origin,
        o,
        given: root_records(scope.roots, &o.processes),
        whole_cgroup: scope.whole_cgroup,
        set_cpu: o.cpu_exited.total() + o.cpu_living.total(),
        lineage,
    };
    let roles = cast.roles();
    let mut parts: Vec<Part> = roles.iter().map(|&role| Part { role, place: None }).collect();
    for (arbiter, _) in roles.iter().enumerate().filter(|(_, role)| **role == MemberRole::Arbiter) {
        for (worker, place) in cast.places_below(arbiter, &roles) {
            parts[worker].place = Some(place);
        }
    }
    parts
}

/// For each root pid its earliest record: a later one is a process that got the same pid.
fn root_records(roots: &[u32], records: &[ProcessRecord]) -> HashSet<usize> {
    let earliest = |pid: u32| {
        let of_pid = records.iter().enumerate().filter(|(_, r)| r.pid == pid);
        of_pid.min_by_key(|(_, r)| (r.birth == Birth::Forked, r.started_boottime_ns)).map(|(i, _)| i)
    };
    roots.iter().filter_map(|pid| earliest(*pid)).collect()
}

/// What the rules look at. Processes are indices into the observation's records.
struct Cast<'a> {
    origin: Origin,
    o: &'a Observation,
    lineage: Lineage,
    /// The roots that the target names.
    given: HashSet<usize>,
    /// Then whatever came into the cgroup from outside is a root as well.
    whole_cgroup: bool,
    set_cpu: Nanos,
}

impl Cast<'_> {
    fn roles(&self) -> Vec<MemberRole> {
        let ended_briefly =
            (0..self.o.processes.len()).filter(|i| !self.given.contains(i) && self.is_brief(*i));
        let helpers: HashSet<&str> = ended_briefly.map(|i| self.record(i).comm.as_str()).collect();
        let mut roles = vec![MemberRole::Worker; self.o.processes.len()];
        for i in self.lineage.downwards() {
            let parent = self.lineage.parent(i).map(|p| roles[p]);
            roles[i] = self.role(i, parent, &helpers);
        }
        self.make_alike(&mut roles);
        roles
    }

    /// Jobs of one program below one kind of parent are of one kind, some of them brief and some not: the compilers of a
    /// build. They get the role that most of them have; what a helper runs helps.
    fn make_alike(&self, roles: &mut [MemberRole]) {
        let order = self.lineage.downwards();
        let mut names: HashMap<(usize, &str), usize> = HashMap::new();
        // Numbers of kinds begin where those of records, each root's own, end.
        let mut kinds: Vec<usize> = (0..roles.len()).collect();
        let mut votes: HashMap<usize, (u32, u32)> = HashMap::new();
        let is_job = |i: usize, parent: usize| {
            !self.given.contains(&i) && self.record(i).exited.is_some() && !self.is_kin(parent, i)
        };
        for &i in &order {
            let Some(parent) = self.lineage.parent(i) else { continue };
            let next = roles.len() + names.len();
            kinds[i] = *names.entry((kinds[parent], self.record(i).comm.as_str())).or_insert(next);
            if is_job(i, parent) {
                let (helpers, others) = votes.entry(kinds[i]).or_default();
                *(if roles[i] == MemberRole::Helper { helpers } else { others }) += 1;
            }
        }
        for i in order {
            let Some(parent) = self.lineage.parent(i) else { continue };
            let (helpers, others) = votes.get(&kinds[i]).copied().unwrap_or_default();
            let may_change =
                matches!(roles[i], MemberRole::Helper | MemberRole::Worker | MemberRole::Wrapper);
            if may_change && is_job(i, parent) && helpers > 0 && others > 0 {
                roles[i] = if helpers >= others { MemberRole::Helper } else { MemberRole::Worker };
            }
            if roles[parent] == MemberRole::Helper
                && roles[i] != MemberRole::Service
                && !self.given.contains(&i)
            {
                roles[i] = MemberRole::Helper;
            }
        }
    }

    fn role(&self, i: usize, parent: Option<MemberRole>, helpers: &HashSet<&str>) -> MemberRole {
        let given = self.given.contains(&i);
        if self.is_forkserver(i) {
            return MemberRole::Arbiter;
        }
        if !given && self.is_service(i) {
            return MemberRole::Service;
        }
        if !given
            && (parent == Some(MemberRole::Helper) || self.is_brief(i) || self.is_unfinished(i, helpers))
        {
            return MemberRole::Helper;
        }
        // What a shell's subshells do is a pipeline's work, whoever else is a subshell.
        if !programs::is_shell(&self.record(i).comm) && self.workers(i).count() >= ARBITER_CHILDREN {
            return MemberRole::Arbiter;
        }
        if given || (parent.is_none() && self.may_come_from_outside(i)) {
            return if self.only_waits(i) { MemberRole::Wrapper } else { MemberRole::Root };
        }
        let lasting_child = || self.lineage.children(i).iter().any(|c| self.lasts(*c));
        match parent {
            Some(MemberRole::Wrapper) if self.only_waits(i) && lasting_child() => MemberRole::Wrapper,
            // Under a shell or an arbiter the workers may be recycled as often as that.
            Some(MemberRole::Wrapper) | None => MemberRole::Worker,
            Some(MemberRole::Arbiter) if self.is_of_its_parents_program(i) => MemberRole::Worker,
            Some(_) if self.is_too_young(i) => MemberRole::Unknown,
            Some(_) if !self.is_of_its_parents_program(i) && self.is_job(i) => MemberRole::Helper,
            Some(_) => MemberRole::Worker,
        }
    }

    fn is_of_its_parents_program(&self, i: usize) -> bool {
        self.lineage.parent(i).is_some_and(|parent| self.is_kin(parent, i))
    }

    /// By its command line, and not its parent's: a fork shows what its parent executed.
    fn is_called(&self, i: usize, is: fn(&[String]) -> bool) -> bool {
        let argv = |i: usize| self.record(i).argv.as_deref().unwrap_or_default();
        is(argv(i)) && !self.lineage.parent(i).is_some_and(|parent| is(argv(parent)))
    }

    fn is_service(&self, i: usize) -> bool {
        self.is_called(i, programs::is_service)
    }

    fn is_forkserver(&self, i: usize) -> bool {
        self.is_called(i, programs::is_forkserver)
    }

    /// Into a cgroup. What was forked there while records were lost may have a parent that was not told.
    fn may_come_from_outside(&self, i: usize) -> bool {
        self.whole_cgroup && (self.record(i).birth != Birth::Forked || !misses_lives(self.o))
    }

    fn record(&self, i: usize) -> &ProcessRecord {
        &self.o.processes[i]
    }

    /// From its start to its end or the end of the observation, in nanoseconds.
    fn age(&self, i: usize) -> Option<i128> {
        let record = self.record(i);
        let until = self.origin.at(record.exited.unwrap_or(self.o.ended)).0;
        record.started_boottime_ns.map(|start| i128::from(until) - i128::from(self.origin.at_boottime(start)))
    }

    fn is_younger(&self, i: usize, than: Nanos) -> Option<bool> {
        self.age(i).map(|age| age < i128::from(than.0))
    }

    /// Ended in no time; where its start is unknown, before any sample.
    fn is_brief(&self, i: usize) -> bool {
        let record = self.record(i);
        let unseen = record.birth == Birth::Forked && record.times_sampled == 0;
        let brief = record.exited.is_some() && self.is_younger(i, HELPER_LIFE).unwrap_or(unseen);
        brief && !self.is_main_work(i)
    }

    /// Its parent ended too, and was there for it.
    fn is_main_work(&self, i: usize) -> bool {
        let parent = self.lineage.parent(i).filter(|p| self.record(*p).exited.is_some());
        let ages = parent.and_then(|parent| self.age(i).zip(self.age(parent)));
        ages.is_some_and(|(age, parents)| age.saturating_mul(MAIN_PART) >= parents)
    }

    /// It ended by itself while its parent went on. What a signal ended was not done: a server's engine that crashed.
    fn is_job(&self, i: usize) -> bool {
        let record = self.record(i);
        let killed = record.exit.is_some_and(|exit| exit.signal.is_some());
        record.exited.is_some() && !killed && !self.is_main_work(i)
    }

    /// What it would have come to the end of the observation does not tell.
    fn is_too_young(&self, i: usize) -> bool {
        self.record(i).exited.is_none() && self.is_younger(i, HELPER_LIFE) == Some(true)
    }

    /// Too young at the end of the observation to be told by its age, and one of those that end in no time
    /// had its name.
    fn is_unfinished(&self, i: usize, helpers: &HashSet<&str>) -> bool {
        let record = self.record(i);
        self.is_too_young(i) && helpers.contains(record.comm.as_str())
    }

    fn lasts(&self, i: usize) -> bool {
        let record = self.record(i);
        let seen = record.birth == Birth::AliveAtStart || record.times_sampled > 0;
        self.is_younger(i, HELPER_LIFE).map_or(seen, |young| !young || self.is_main_work(i))
    }

    /// Has children, one thread, little memory, under 1% of the set's CPU. What is unknown speaks
    /// against it.
    fn only_waits(&self, i: usize) -> bool {
        let record = self.record(i);
        let rss = record.max_rss_bytes.or(record.max_rss_at_most_bytes);
        let cpu = record.cpu.map(|c| c.total().0);
        !self.lineage.children(i).is_empty()
            && record.peak_threads == Some(1)
            && rss.is_some_and(|rss| rss < WRAPPER_RSS_BYTES)
            && cpu.is_some_and(|cpu| cpu == 0 || cpu.saturating_mul(100) < self.set_cpu.0)
    }

    /// The children that last and go on with the parent's own program. A shell's subshells that only wait
    /// are none.
    fn workers(&self, parent: usize) -> impl Iterator<Item = usize> + '_ {
        let children = self.lineage.children(parent).iter().copied();
        let is_worker = move |c: usize| {
            self.is_kin(parent, c) && self.lasts(c) && !self.only_waits(c) && !self.is_service(c)
        };
        children.filter(move |&c| is_worker(c) && !self.is_forkserver(c))
    }

    /// It goes on with its parent's program: a fork that executed nothing; else what was started like the
    /// parent itself, or by Python's `multiprocessing` to be a worker.
    fn is_kin(&self, parent: usize, child: usize) -> bool {
        let (parent, child) = (self.record(parent), self.record(child));
        let same_file = match (&parent.exe, &child.exe) {
            (Some(parent), Some(child)) => parent == child,
            _ => parent.comm == child.comm,
        };
        if child.execs > 0 {
            // The same interpreter runs anything: a job, a helper, the next worker.
            let argv = child.argv.as_deref().unwrap_or_default();
            // Some name themselves by their path where they were started by their name: node.
            let theirs = parent.argv.as_deref().unwrap_or_default();
            let as_parent =
                argv.len() > 1 && argv.get(1..) == theirs.get(1..) || !argv.is_empty() && argv == theirs;
            return same_file && (as_parent || programs::is_python_spawned(argv));
        }
        // Polling can't see an exec and a lost record doesn't tell of it: their count of none says nothing.
        let sees_execs = self.o.tracker == TrackerKind::Ebpf && self.o.loss.ring_full == 0;
        (sees_execs && child.birth == Birth::Forked) || same_file
    }

    /// The slots of an arbiter's workers. A birth or a death that was missed would put all later ones into
    /// wrong slots, so there are none where any may have been.
    fn places_below(&self, arbiter: usize, roles: &[MemberRole]) -> Vec<(usize, Place)> {
        if self.o.tracker != TrackerKind::Ebpf || !self.o.tracker_is_complete || misses_lives(self.o) {
            return Vec::new();
        }
        let life = |i: usize| {
            let record = self.record(i);
            let birth = self.origin.at_boottime(record.started_boottime_ns?);
            let end = record.exited.map(|t| i64::try_from(self.origin.at(t).0).unwrap_or(i64::MAX));
            Some((i, Life { birth, end }))
        };
        let is_worker = |&c: &usize| roles[c] == MemberRole::Worker && self.is_kin(arbiter, c);
        let children = self.lineage.children(arbiter).iter().copied();
        let mut workers: Vec<(usize, Life)> = children.filter(is_worker).filter_map(life).collect();
        // Of the same birth the lower pid first, as the list has it.
        workers.sort_by_key(|&(i, life)| (life.birth, self.record(i).pid));
        let lives: Vec<Life> = workers.iter().map(|w| w.1).collect();
        workers.into_iter().map(|w| w.0).zip(places(&lives)).collect()
    }
}

/// A birth, a death or the program of a process may have found no record. Of what else the ring lost, none
/// tells of these.
const fn misses_lives(o: &Observation) -> bool {
    let (loss, by) = (&o.loss, &o.loss.ring_full_by);
    let told = by.forks + by.execs + by.exits;
    let untold = loss.ring_full > by.sum();
    told > 0 || untold || loss.unmarked > 0 || loss.undecodable > 0 || loss.unlisted_processes > 0
}

#[cfg(test)]
mod tests;
