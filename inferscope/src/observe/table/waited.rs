//! CPU of children that ended between two looks, by the parents that waited for them.
//!
//! Owns what /proc alone can tell of them: where a process waits for a child, the kernel adds the child's whole CPU, and
//! what that had waited for, to the parent's `cutime` and `cstime` (proc_pid_stat(5)). Their rise, less what looks had
//! seen of the children that ended, is CPU that no look saw. In doubt it is less: never more than was used. What nobody
//! of the set waited for (a daemon, a parent that ignores SIGCHLD) is not in it. Pure; fed by `table`, for the /proc
//! tracker only.
//!
//! It rests on an order: at each look an ancestor is read before its descendants, so that a child that a parent's figure
//! holds is found gone at the same look.

use std::collections::HashMap;

use crate::event::CpuTime;
use crate::observe::ebpf::cputime_adjust;
use crate::observe::proc::handle::Reading;
use crate::units::Nanos;

pub(super) struct Waited {
    /// What the figures are cut down to.
    tick: Nanos,
    accounts: HashMap<usize, Account>,
    /// Of the living.
    by_pid: HashMap<u32, usize>,
    /// Dead, and not waited for yet.
    zombies: Vec<usize>,
    /// Of accounts that ended, their rises; the split of all rises, by which the sum is split.
    closed: Nanos,
    split: CpuTime,
    /// Seen of children whose parent ended with them, or before it held them: some other of the set may have waited for them.
    doubtful: Nanos,
    /// What rises up to the next look holds a child of which nothing is known.
    unknown: bool,
    discarding: bool,
    highest: Nanos,
}

struct Account {
    pid: u32,
    /// A member; `None`: it is outside of the set.
    parent: Option<usize>,
    zombie: bool,
    /// `cutime` and `cstime` at the last look.
    now: CpuTime,
    /// By how much that had risen.
    risen: Nanos,
    /// What of it is not the set's within the window.
    before: Nanos,
    /// What looks had seen of children that ended.
    seen: Nanos,
}

impl Account {
    fn rise(&self) -> Nanos {
        self.now.total().saturating_sub(self.before).saturating_sub(self.seen)
    }

    /// Takes out what looks had seen of children that are not in its figure, which is final: some other of the set may
    /// have waited for them after its end.
    fn take_unheld(&mut self) -> Nanos {
        let held = self.now.total().saturating_sub(self.before).min(self.seen);
        let unheld = self.seen.saturating_sub(held);
        self.seen = held;
        unheld
    }
}

/// What is known of a process that is gone.
pub(super) struct Last {
    /// Its CPU clock when it was last read, since its birth.
    pub(super) own: Option<Nanos>,
    pub(super) parent_pid: u32,
    /// It may have used CPU before the window, or as what could not be read.
    pub(super) began_unseen: bool,
}

impl Waited {
    pub(super) fn new(ticks_per_second: u64) -> Self {
        Self {
            tick: Nanos(1_000_000_000 / ticks_per_second.max(1)),
            accounts: HashMap::new(),
            by_pid: HashMap::new(),
            zombies: Vec::new(),
            closed: Nanos::ZERO,
            split: CpuTime::default(),
            doubtful: Nanos::ZERO,
            unknown: false,
            discarding: false,
            highest: Nanos::ZERO,
        }
    }

    pub(super) fn begin_look(&mut self) {
        self.discarding = std::mem::take(&mut self.unknown);
        for account in self.accounts.values_mut() {
            account.risen = Nanos::ZERO;
        }
    }

    /// `born_within`: all that it has waited for was within the window.
    pub(super) fn read(&mut self, i: usize, pid: u32, reading: &Reading, born_within: bool) {
        let now = reading.waited;
        let parent = self.by_pid.get(&reading.ppid).copied();
        // Two figures, each cut down to a tick.
        let cut = Nanos(self.tick.0.saturating_mul(2));
        let account = self.accounts.entry(i).or_insert_with(|| Account {
            pid,
            parent,
            zombie: false,
            now,
            risen: Nanos::ZERO,
            before: if born_within { Nanos::ZERO } else { now.total() + cut },
            seen: Nanos::ZERO,
        });
        let risen = now.total().saturating_sub(account.now.total());
        if self.discarding {
            account.before += risen;
        } else {
            account.risen = risen;
            self.split += now.since(account.now);
        }
        account.now = now;
        account.parent = parent;
        account.zombie = reading.zombie;
        if account.zombie {
            self.doubtful += account.take_unheld();
        }
        self.by_pid.insert(pid, i);
    }

    /// A living process could not be read: what it has waited for may show up anywhere.
    pub(super) fn refused(&mut self) {
        self.unknown = true;
    }

    /// It was seen dead; it is in nobody's figure before it is waited for.
    pub(super) fn zombie(&mut self, i: usize) {
        self.zombies.push(i);
    }

    /// The zombies, to be looked for.
    pub(super) fn zombies(&self) -> Vec<usize> {
        self.zombies.clone()
    }

    /// It is gone: who waited for it has it in its figure by now, or at the next look.
    pub(super) fn gone(&mut self, i: usize, last: &Last) {
        self.zombies.retain(|&zombie| zombie != i);
        let account = self.accounts.remove(&i);
        if last.began_unseen {
            // Ancestors are read first: one that has waited for it may hold it since this look.
            self.unknown = true;
            for account in self.accounts.values_mut() {
                account.before += std::mem::take(&mut account.risen);
            }
        }
        let mut parent = self.by_pid.get(&last.parent_pid).copied();
        let mut seen = last.own.unwrap_or(Nanos::ZERO);
        if let Some(mut account) = account {
            if self.by_pid.get(&account.pid) == Some(&i) {
                self.by_pid.remove(&account.pid);
            }
            self.doubtful += account.take_unheld();
            self.closed += account.rise();
            seen += account.now.total().max(account.before);
            parent = account.parent;
        }
        let Some(parent) = parent else { return };
        match self.accounts.get_mut(&parent).filter(|parent| !parent.zombie) {
            Some(parent) => parent.seen += seen,
            None => self.doubtful += seen,
        }
    }

    /// CPU within the window that no look saw, up to the last look.
    pub(super) fn unseen(&mut self) -> CpuTime {
        let rises: Nanos = self.accounts.values().map(Account::rise).sum();
        let sum = (self.closed + rises).saturating_sub(self.doubtful);
        // A child that is gone counts as waited for at once, and may be so at the next look only.
        self.highest = self.highest.max(sum);
        cputime_adjust(self.split.user.0, self.split.system.0, self.highest.0)
    }

    /// How much of it the living parents' figures may lack.
    pub(super) fn error(&self) -> Nanos {
        let risen = self.accounts.values().filter(|account| account.rise() > Nanos::ZERO).count() as u64;
        Nanos(self.tick.0.saturating_mul(2).saturating_mul(risen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    /// `at` is its own CPU, `waited` its children's, in milliseconds.
    fn reading(ppid: u32, own: u64, waited: u64) -> Reading {
        Reading {
            ppid,
            comm: String::new(),
            zombie: false,
            threads: 1,
            rss_bytes: 0,
            cpu: CpuTime { user: Nanos(own * MS), system: Nanos::ZERO },
            waited: CpuTime { user: Nanos(waited * MS), system: Nanos::ZERO },
            minor_faults: 0,
            major_faults: 0,
        }
    }

    fn gone(ledger: &mut Waited, i: usize, parent_pid: u32, own: u64) {
        ledger.gone(i, &Last { own: Some(Nanos(own * MS)), parent_pid, began_unseen: false });
    }

    fn unseen(ledger: &mut Waited) -> u64 {
        ledger.unseen().total().0 / MS
    }

    /// A root that was there before, of pid 10 at index 0, and what it had waited for by then.
    fn ledger(before: u64) -> Waited {
        let mut ledger = Waited::new(100);
        ledger.begin_look();
        ledger.read(0, 10, &reading(1, 0, before), false);
        ledger
    }

    #[test]
    fn a_rise_is_what_ended_unseen_less_two_ticks_of_doubt() {
        let mut ledger = ledger(500);
        assert_eq!(unseen(&mut ledger), 0);
        ledger.begin_look();
        ledger.read(0, 10, &reading(1, 0, 800), false);
        assert_eq!((unseen(&mut ledger), ledger.error()), (280, Nanos(20 * MS)));
    }

    #[test]
    fn what_a_look_saw_of_a_child_is_counted_once() {
        let mut ledger = ledger(0);
        ledger.read(1, 11, &reading(10, 60, 0), true);
        ledger.begin_look();
        // Its end: 70 of its own, and beside it one of 200 that nobody saw.
        ledger.read(0, 10, &reading(1, 0, 270), false);
        gone(&mut ledger, 1, 10, 60);
        assert_eq!(unseen(&mut ledger), 270 - 60 - 20);
    }

    #[test]
    fn a_child_that_is_gone_before_its_parents_figure_rises_takes_nothing_away_for_good() {
        let mut ledger = ledger(0);
        ledger.read(1, 11, &reading(10, 60, 0), true);
        ledger.begin_look();
        ledger.read(0, 10, &reading(1, 0, 300), false);
        assert_eq!(unseen(&mut ledger), 280);
        gone(&mut ledger, 1, 10, 60);
        assert_eq!(unseen(&mut ledger), 280, "a sum that was told stands");
        ledger.begin_look();
        ledger.read(0, 10, &reading(1, 0, 360), false);
        assert_eq!(unseen(&mut ledger), 280);
    }

    #[test]
    fn a_parent_that_has_its_children_reaped_by_the_kernel_hides_nobody_elses() {
        let mut ledger = ledger(0);
        ledger.read(1, 11, &reading(10, 0, 0), true);
        ledger.read(2, 12, &reading(11, 500, 0), true);
        ledger.begin_look();
        ledger.read(0, 10, &reading(1, 0, 120), false);
        ledger.read(1, 11, &reading(10, 0, 0), true);
        gone(&mut ledger, 2, 11, 500);
        assert_eq!(unseen(&mut ledger), 100);
    }

    #[test]
    fn a_parent_that_ends_hands_on_what_it_had_waited_for() {
        let mut ledger = ledger(0);
        ledger.read(1, 11, &reading(10, 30, 100), true);
        assert_eq!(unseen(&mut ledger), 100);
        ledger.begin_look();
        // Its own 30 + 5, its 100 and 40 more.
        ledger.read(0, 10, &reading(1, 0, 175), false);
        gone(&mut ledger, 1, 10, 30);
        assert_eq!(unseen(&mut ledger), 175 - 30 - 20);
    }

    #[test]
    fn a_zombie_is_in_nobodys_figure_and_a_child_of_an_outsider_never_is() {
        let mut ledger = ledger(0);
        ledger.read(1, 11, &Reading { zombie: true, ..reading(10, 60, 0) }, true);
        ledger.zombie(1);
        ledger.read(2, 12, &reading(1, 900, 0), true);
        ledger.begin_look();
        ledger.read(0, 10, &reading(1, 0, 120), false);
        gone(&mut ledger, 2, 1, 900);
        assert_eq!((unseen(&mut ledger), ledger.zombies()), (100, vec![1]));
        ledger.begin_look();
        ledger.read(0, 10, &reading(1, 0, 180), false);
        gone(&mut ledger, 1, 10, 60);
        assert_eq!((unseen(&mut ledger), ledger.zombies()), (100, vec![]));
    }

    #[test]
    fn what_rises_with_a_child_of_which_nothing_is_known_does_not_count() {
        let mut ledger = ledger(0);
        ledger.gone(1, &Last { own: None, parent_pid: 10, began_unseen: true });
        ledger.begin_look();
        ledger.read(0, 10, &reading(1, 0, 900), false);
        assert_eq!(unseen(&mut ledger), 0);
        ledger.begin_look();
        ledger.read(0, 10, &reading(1, 0, 1_000), false);
        assert_eq!(unseen(&mut ledger), 80);
    }

    #[test]
    fn what_rises_in_the_look_that_finds_such_a_child_gone_does_not_count_either() {
        let mut ledger = ledger(0);
        ledger.begin_look();
        ledger.read(0, 10, &reading(1, 0, 900), false);
        ledger.gone(1, &Last { own: None, parent_pid: 10, began_unseen: true });
        assert_eq!(unseen(&mut ledger), 0);
        ledger.begin_look();
        ledger.read(0, 10, &reading(1, 0, 1_000), false);
        assert_eq!(unseen(&mut ledger), 0);
        ledger.begin_look();
        ledger.read(0, 10, &reading(1, 0, 1_100), false);
        assert_eq!(unseen(&mut ledger), 80);
    }

    /// The root, a subreaper, has a grandchild's child 500 ms old, whose parent ends before it.
    fn orphan_found_gone_before_its_parent() -> Waited {
        let mut ledger = ledger(0);
        ledger.read(1, 11, &reading(10, 0, 0), true);
        ledger.read(2, 12, &reading(11, 0, 0), true);
        ledger.read(3, 13, &reading(12, 500, 0), true);
        ledger.begin_look();
        for (i, pid, ppid) in [(0, 10, 1), (1, 11, 10), (2, 12, 11)] {
            ledger.read(i, pid, &reading(ppid, 0, 0), i > 0);
        }
        gone(&mut ledger, 3, 12, 500);
        ledger.begin_look();
        ledger.read(0, 10, &reading(1, 0, 500), false);
        ledger.read(1, 11, &reading(10, 0, 0), true);
        ledger
    }

    #[test]
    fn an_orphan_that_ends_and_its_parent_within_one_look_is_counted_once() {
        let mut ledger = orphan_found_gone_before_its_parent();
        gone(&mut ledger, 2, 12, 0);
        assert_eq!(unseen(&mut ledger), 0);
        let mut ledger = orphan_found_gone_before_its_parent();
        ledger.read(2, 12, &Reading { zombie: true, ..reading(11, 0, 0) }, true);
        ledger.zombie(2);
        assert_eq!(unseen(&mut ledger), 0);
    }

    /// A tree in which each change forks, burns, ends or reaps.
    #[derive(Debug, Clone, Copy)]
    enum Change {
        Fork(usize),
        Burn(usize, u64),
        End(usize),
        Reap(usize),
    }

    #[derive(Debug, Clone)]
    enum Step {
        Change(Change),
        /// With what changes between its readings.
        Look(Vec<Option<Change>>),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (0..40_usize).prop_map(Change::Fork),
            (0..40_usize, 0..40_000_000_u64).prop_map(|(i, ns)| Change::Burn(i, ns)),
            (1..40_usize).prop_map(Change::End),
            (0..40_usize).prop_map(Change::Reap),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => change().prop_map(Step::Change),
            1 => proptest::collection::vec(proptest::option::of(change()), 0..40).prop_map(Step::Look),
        ]
    }

    #[derive(Debug, Clone, Default)]
    struct Task {
        parent: Option<usize>,
        own: u64,
        waited: u64,
        dead: bool,
        reaped: bool,
        ignores: bool,
    }

    /// Orphans go to a subreaper of the set, the root, or outside of it, where nothing is told of them.
    struct Tree {
        tasks: Vec<Task>,
        to_root: bool,
    }

    impl Tree {
        fn lives(&self, i: usize) -> bool {
            self.tasks.get(i).is_some_and(|t| !t.dead)
        }

        fn apply(&mut self, change: Change) {
            let to_root = self.to_root;
            match change {
                Change::Fork(i) if self.lives(i) => {
                    let ignores = self.tasks.len() % 5 == 4;
                    self.tasks.push(Task { parent: Some(i), ignores, ..Task::default() });
                }
                Change::Burn(i, ns) if self.lives(i) => self.tasks[i].own += ns,
                Change::End(i) if self.lives(i) && i > 0 => {
                    let tasks = &mut self.tasks;
                    tasks[i].dead = true;
                    for task in tasks.iter_mut() {
                        if task.parent == Some(i) && !task.reaped {
                            task.parent = to_root.then_some(0);
                            task.reaped |= task.dead && !to_root;
                        }
                    }
                    let parent = tasks[i].parent;
                    tasks[i].reaped = parent.is_none_or(|p| tasks[p].ignores);
                }
                Change::Reap(i) if self.lives(i) => {
                    let tasks = &mut self.tasks;
                    for child in 0..tasks.len() {
                        if tasks[child].parent == Some(i) && tasks[child].dead && !tasks[child].reaped {
                            tasks[child].reaped = true;
                            tasks[i].waited += tasks[child].own + tasks[child].waited;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_never_more_than_was_used(steps in proptest::collection::vec(step(), 0..200), to_root: bool) {
            let mut tree = Tree { tasks: vec![Task::default()], to_root };
            let mut ledger = Waited::new(100);
            // By task: its index and what was last read of it.
            let mut listed: Vec<(usize, u64, u32)> = Vec::new();
            let mut closed = std::collections::HashSet::new();
            let floor = |ns: u64| CpuTime { user: Nanos(ns / (10 * MS) * (10 * MS)), system: Nanos::ZERO };
            let look = || Step::Look(Vec::new());
            for step in std::iter::once(look()).chain(steps).chain([look(), look()]) {
                let between = match step {
                    Step::Change(change) => {
                        tree.apply(change);
                        continue;
                    }
                    Step::Look(between) => between,
                };
                let mut between = between.into_iter();
                ledger.begin_look();
                for (i, task) in tree.tasks.iter().enumerate() {
                    if !task.reaped && listed.iter().all(|l| l.0 != i) {
                        listed.push((i, 0, 0));
                    }
                }
                let (mut gone_now, mut dead_now) = (Vec::new(), Vec::new());
                for (n, entry) in listed.iter_mut().enumerate() {
                    if closed.contains(&n) {
                        continue;
                    }
                    if let Some(change) = between.next().flatten() {
                        tree.apply(change);
                    }
                    let task = &tree.tasks[entry.0];
                    if task.reaped {
                        gone_now.push(n);
                        continue;
                    }
                    let ppid = task.parent.map_or(1, |p| p as u32 + 10);
                    (entry.1, entry.2) = (task.own, ppid);
                    let read = Reading { zombie: task.dead, waited: floor(task.waited), ..reading(ppid, 0, 0) };
                    ledger.read(n, entry.0 as u32 + 10, &read, entry.0 > 0);
                    if task.dead {
                        dead_now.push(n);
                    }
                }
                for n in dead_now {
                    ledger.zombie(n);
                    closed.insert(n);
                }
                let waited_for = ledger.zombies().into_iter().filter(|n| tree.tasks[listed[*n].0].reaped);
                for n in gone_now.into_iter().chain(waited_for.collect::<Vec<_>>()) {
                    closed.insert(n);
                    let (_, own, parent_pid) = listed[n];
                    ledger.gone(n, &Last { own: Some(Nanos(own)), parent_pid, began_unseen: false });
                }
                let truth: u64 = tree.tasks.iter().map(|t| t.own).sum();
                let seen: u64 = listed.iter().map(|l| l.1).sum();
                let told = seen + ledger.unseen().total().0;
                prop_assert!(told <= truth, "{told} of {truth}: {:?}", tree.tasks);
            }
        }
    }
}
