use super::*;
use crate::event::{Loss, LostRecords};
use crate::fixture::{ObservationBuilder, ProcessBuilder, SCOPE, ms};
use MemberRole::{Arbiter, Helper, Root, Service, Unknown, Worker, Wrapper};

fn tree(roots: &[u32]) -> Scope<'_> {
    Scope { roots, whole_cgroup: false, ..SCOPE }
}

fn cgroup() -> Scope<'static> {
    Scope { roots: &[], whole_cgroup: true, ..SCOPE }
}

fn of_observation(scope: &Scope<'_>, o: &Observation) -> Vec<MemberRole> {
    parts(scope, o).iter().map(|p| p.role).collect()
}

fn of(processes: Vec<ProcessBuilder>, roots: &[u32]) -> Vec<MemberRole> {
    of_observation(&tree(roots), &ObservationBuilder::new().processes(processes).build())
}

/// Slot and generation of each.
fn places_of(o: &Observation) -> Vec<Option<(u32, u32)>> {
    parts(&tree(&[10]), o).iter().map(|p| p.place.map(|p| (p.slot, p.generation))).collect()
}

fn bash() -> ProcessBuilder {
    ProcessBuilder::new(10, 1, "bash").rss_mib(4).threads(1)
}

fn server(pid: u32, ppid: u32) -> ProcessBuilder {
    ProcessBuilder::new(pid, ppid, "server").cpu_ms(900, 100)
}

fn gunicorn(pid: u32, ppid: u32) -> ProcessBuilder {
    ProcessBuilder::new(pid, ppid, "gunicorn").exe("/usr/bin/python3.11")
}

#[test]
fn a_root_that_waits_for_its_child_is_a_wrapper() {
    assert_eq!(of(vec![bash(), server(11, 10)], &[10]), [Wrapper, Worker]);
}

#[test]
fn a_root_without_children_is_no_wrapper() {
    assert_eq!(of(vec![bash()], &[10]), [Root]);
}

#[test]
fn a_root_that_works_is_no_wrapper() {
    assert_eq!(of(vec![bash().cpu_ms(11, 0), server(11, 10)], &[10])[0], Root);
    assert_eq!(of(vec![bash().cpu_ms(9, 0), server(11, 10)], &[10])[0], Wrapper);
    assert_eq!(of(vec![bash().threads(2), server(11, 10)], &[10])[0], Root);
    assert_eq!(of(vec![bash().rss_mib(10), server(11, 10)], &[10])[0], Root);
}

#[test]
fn wrappers_within_a_wrapper_are_wrappers() {
    let sh = |pid, ppid| ProcessBuilder::new(pid, ppid, "sh").rss_mib(2).threads(1);
    let processes = vec![bash(), sh(11, 10), sh(12, 11), server(13, 12)];
    assert_eq!(of(processes, &[10]), [Wrapper, Wrapper, Wrapper, Worker]);
    // Below what works itself a shell is none, and a small server of short helpers isn't either.
    assert_eq!(of(vec![server(10, 1), sh(11, 10), server(12, 11)], &[10]), [Root, Worker, Worker]);
    let helper = ProcessBuilder::new(12, 11, "convert").forked(100).exited(105).cpu_ms(500, 0);
    assert_eq!(of(vec![bash(), sh(11, 10), helper], &[10]), [Wrapper, Worker, Helper]);
}

#[test]
fn what_a_shell_executed_in_its_own_place_is_no_wrapper() {
    // bash -c 'exec server': one pid, and what it is now counts.
    assert_eq!(of(vec![server(10, 1).execs(2)], &[10]), [Root]);
    assert_eq!(of(vec![bash(), server(11, 10).forked(20).execs(3)], &[10]), [Wrapper, Worker]);
}

#[test]
fn a_process_with_two_lasting_children_of_its_own_program_is_an_arbiter_root_or_not() {
    let workers = |n: u32| vec![gunicorn(n + 1, n).forked(100), gunicorn(n + 2, n).forked(100)];
    let below = [vec![bash(), gunicorn(11, 10)], workers(11)].concat();
    assert_eq!(of(below, &[10]), [Wrapper, Arbiter, Worker, Worker]);
    assert_eq!(of([vec![gunicorn(10, 1)], workers(10)].concat(), &[10]), [Arbiter, Worker, Worker]);
    // One in C that only waits: nginx's master.
    let master = ProcessBuilder::new(10, 1, "nginx").rss_mib(2).threads(1);
    let nginx = |pid| ProcessBuilder::new(pid, 10, "nginx").cpu_ms(300, 100);
    assert_eq!(of(vec![master, nginx(11), nginx(12)], &[10]), [Arbiter, Worker, Worker]);
}

#[test]
fn children_of_other_programs_make_no_arbiter() {
    // A server with an engine and a sidecar: nobody's workers.
    let root = || server(10, 1).exe("/usr/bin/python3.11");
    let child = |pid, comm: &str, exe: &str| ProcessBuilder::new(pid, 10, comm).exe(exe).execs(1);
    let processes = vec![root(), child(11, "engine", "/opt/engine"), child(12, "sidecar", "/opt/sidecar")];
    assert_eq!(of(processes, &[10]), [Root, Worker, Worker]);
    // Transcoders of two seconds are not the root's workers, however many.
    let ffmpeg = |n: u32| {
        let at = 1_000 + u64::from(n) * 100;
        child(20 + n, "ffmpeg", "/usr/bin/ffmpeg").forked(at).exited(at + 900)
    };
    let processes = [vec![root()], (0..40).map(ffmpeg).collect()].concat();
    let roles = of(processes, &[10]);
    assert_eq!((roles[0], roles.iter().filter(|r| **r == Helper).count()), (Root, 40));
    // Under a shell two servers are not its workers either.
    assert_eq!(of(vec![bash(), server(11, 10), server(12, 10)], &[10]), [Wrapper, Worker, Worker]);
    let subshell = |pid| ProcessBuilder::new(pid, 10, "bash").rss_mib(3).threads(1);
    let processes = vec![bash(), subshell(11), subshell(12), server(13, 11), server(14, 12)];
    assert_eq!(of(processes, &[10]), [Wrapper, Wrapper, Wrapper, Worker, Worker]);
}

#[test]
fn a_fork_that_executed_nothing_is_of_its_parents_program_whatever_its_name() {
    let renamed = |pid, comm: &str| ProcessBuilder::new(pid, 10, comm).forked(100);
    let processes = || vec![server(10, 1), renamed(11, "worker 0"), renamed(12, "worker 1")];
    assert_eq!(of(processes(), &[10]), [Arbiter, Worker, Worker]);
    // Where an exec may have gone unseen, the name is all there is.
    let polled = ObservationBuilder::new().processes(processes()).proc_tracker("asked for").build();
    assert_eq!(of_observation(&tree(&[10]), &polled), [Root, Worker, Worker]);
    let loss = Loss { ring_full: 1, ..Loss::default() };
    let lossy = ObservationBuilder::new().processes(processes()).loss(loss).build();
    assert_eq!(of_observation(&tree(&[10]), &lossy), [Root, Worker, Worker]);
}

#[test]
fn of_one_interpreter_only_what_was_started_like_its_parent_is_a_worker() {
    let python = |pid, ppid, argv: &str| gunicorn(pid, ppid).argv(&argv.split(' ').collect::<Vec<_>>());
    let pair = |argv: &str| {
        let child = |pid| python(pid, 10, argv).forked(100).execs(1);
        of(vec![python(10, 1, "python serve.py"), child(11), child(12)], &[10])
    };
    assert_eq!(pair("python job.py"), [Root, Worker, Worker]);
    // As node's cluster does, and Python's multiprocessing (uvicorn --workers).
    assert_eq!(pair("python serve.py"), [Arbiter, Worker, Worker]);
    assert_eq!(pair("python -c spawn_main() --multiprocessing-fork"), [Arbiter, Worker, Worker]);
    // On a busy machine a helper of the server's own program takes a second, and is none of its workers.
    let helper = |n: u32| {
        let at = 1_000 + 900 * u64::from(n);
        python(20 + n, 11, "python helper.py").forked(at).exited(at + 800).execs(1)
    };
    let server = vec![python(10, 1, "python serve.py"), gunicorn(11, 10), gunicorn(12, 10)];
    let roles = of([server, (0..8).map(helper).collect()].concat(), &[10]);
    assert_eq!(roles[..3], [Arbiter, Worker, Worker]);
    assert!(roles[3..].iter().all(|r| *r == Helper), "{roles:?}");
}

#[test]
fn what_an_arbiter_runs_beside_its_workers_is_a_helper() {
    let processes = vec![
        gunicorn(10, 1),
        gunicorn(11, 10),
        gunicorn(12, 10).forked(2_000).exited(2_500),
        gunicorn(13, 10).forked(2_600),
        ProcessBuilder::new(14, 10, "git").exe("/usr/bin/git").forked(2_000).exited(2_500).execs(1),
    ];
    let o = ObservationBuilder::new().processes(processes).build();
    assert_eq!(of_observation(&tree(&[10]), &o), [Arbiter, Worker, Worker, Worker, Helper]);
    assert_eq!(places_of(&o), [None, Some((0, 0)), Some((1, 0)), Some((1, 1)), None]);
}

#[test]
fn a_parent_of_helpers_alone_is_a_worker() {
    let helper = |pid| ProcessBuilder::new(pid, 11, "sh").forked(100).exited(105).sampled(0);
    let processes = vec![bash(), server(11, 10), helper(12), helper(13)];
    assert_eq!(of(processes, &[10])[1..], [Worker, Helper, Helper]);
}

#[test]
fn a_short_life_makes_a_helper_sampled_or_not_and_a_long_one_does_not() {
    for sampled in [0, 1] {
        let child = |to| ProcessBuilder::new(11, 10, "sh").forked(1_000).exited(to).sampled(sampled);
        assert_eq!(of(vec![bash(), child(1_199)], &[10])[1], Helper);
        assert_eq!(of(vec![bash(), child(1_200)], &[10])[1], Worker);
    }
    // Caught by the snapshot in the middle of its life.
    let caught = || server(11, 10).started_before(5).exited(20);
    assert_eq!(of(vec![server(10, 1), caught()], &[10]), [Root, Helper]);
}

#[test]
fn without_a_known_start_what_no_sample_caught_is_a_helper() {
    let child = |times| ProcessBuilder::new(11, 10, "sh").forked(1_000).exited(5_000).sampled(times);
    let with = |times| {
        let mut o = ObservationBuilder::new().processes(vec![bash(), child(times)]).build();
        o.processes[1].started_boottime_ns = None;
        // Its parent can't be told then, so that nothing but its own life speaks.
        of_observation(&tree(&[10]), &o)[1]
    };
    assert_eq!((with(0), with(3)), (Helper, Worker));
}

#[test]
fn what_a_worker_runs_for_a_while_is_a_helper_and_what_stays_is_not() {
    let ffmpeg = |to| ProcessBuilder::new(12, 11, "ffmpeg").forked(1_000).exited(to).execs(1);
    assert_eq!(of(vec![bash(), server(11, 10), ffmpeg(1_999)], &[10]), [Wrapper, Worker, Helper]);
    // However long it took.
    assert_eq!(of(vec![bash(), server(11, 10), ffmpeg(9_000)], &[10]), [Wrapper, Worker, Helper]);
    // An engine of its own that ended with its server, or crashed.
    let server = || server(11, 10).forked(500).exited(9_100);
    assert_eq!(of(vec![bash(), server(), ffmpeg(9_000)], &[10]), [Wrapper, Worker, Worker]);
    let crashed = ProcessBuilder::new(12, 11, "ffmpeg").forked(1_000).ended(3_000, 9);
    assert_eq!(of(vec![bash(), server(), crashed.execs(1)], &[10]), [Wrapper, Worker, Worker]);
}

#[test]
fn a_process_forked_just_before_the_end_is_a_helper_only_where_others_of_its_name_are() {
    let late = |comm: &str| ProcessBuilder::new(11, 10, comm).forked(9_990).sampled(0);
    assert_eq!(of(vec![bash(), late("server")], &[10])[1], Worker);
    let helper = ProcessBuilder::new(12, 10, "sh").forked(100).exited(105).sampled(0);
    assert_eq!(of(vec![bash(), late("server"), helper.clone()], &[10])[1], Worker);
    assert_eq!(of(vec![bash(), late("sh"), helper], &[10])[1], Helper);
}

#[test]
fn in_a_run_shorter_than_a_tick_the_main_work_is_no_helper() {
    let unsampled = |p: ProcessBuilder| p.sampled(0);
    let mut o = ObservationBuilder::new()
        .processes(vec![
            unsampled(bash().forked(0).exited(40)),
            unsampled(server(11, 10).forked(2).exited(38).execs(1)),
            unsampled(ProcessBuilder::new(12, 11, "uname").forked(5).exited(7).execs(1)),
        ])
        .samples(vec![])
        .build();
    o.ended = ms(41);
    assert_eq!(of_observation(&tree(&[10]), &o), [Wrapper, Worker, Helper]);
}

#[test]
fn a_reused_root_pid_is_not_the_root() {
    let again = ProcessBuilder::new(10, 11, "sh").forked(500).exited(900).execs(1);
    assert_eq!(of(vec![again, bash(), server(11, 10)], &[10]), [Helper, Wrapper, Worker]);
}

#[test]
fn in_a_cgroup_those_whose_parent_is_outside_are_roots() {
    let processes = vec![
        ProcessBuilder::new(10, 1, "tini").rss_mib(1).threads(1),
        gunicorn(11, 10),
        gunicorn(12, 11),
        gunicorn(13, 11),
        // A second tree, and a health check that is moved in and gone.
        ProcessBuilder::new(30, 1, "exporter").cpu_ms(20, 0),
        ProcessBuilder::new(40, 7, "curl").moved_in(3_000).exited(3_020).sampled(0),
        ProcessBuilder::new(41, 7, "bash").moved_in(3_000),
    ];
    let o = ObservationBuilder::new().processes(processes).build();
    assert_eq!(of_observation(&cgroup(), &o), [Wrapper, Arbiter, Worker, Worker, Root, Helper, Root]);
}

#[test]
fn an_orphan_of_a_cgroup_is_a_root_only_where_no_record_of_its_parent_can_be_missing() {
    let placed = || vec![server(10, 1), ProcessBuilder::new(11, 7, "placed").forked(100)];
    let with =
        |loss| of_observation(&cgroup(), &ObservationBuilder::new().processes(placed()).loss(loss).build());
    assert_eq!(with(Loss::default()), [Root, Root]);
    assert_eq!(with(Loss { unlisted_processes: 1, ..Loss::default() }), [Root, Worker]);
}

#[test]
fn a_recycled_worker_takes_over_the_slot_of_the_one_that_ended() {
    let o = ObservationBuilder::new()
        .processes(vec![
            gunicorn(10, 1),
            gunicorn(11, 10).exited(3_000),
            gunicorn(12, 10).exited(2_000),
            gunicorn(14, 10).forked(2_010).exited(6_000),
            gunicorn(15, 10).forked(3_010),
            gunicorn(16, 10).forked(6_010),
            // A third at once, and a helper of the first.
            gunicorn(17, 10).forked(7_000),
            ProcessBuilder::new(20, 11, "sh").forked(500).exited(505),
        ])
        .build();
    let at = |slot, generation| Some((slot, generation));
    // 11 and 12 are as old as each other: the lower pid comes first.
    let expected = [None, at(0, 0), at(1, 0), at(1, 1), at(0, 1), at(1, 2), at(2, 0), None];
    assert_eq!(places_of(&o), expected);
}

#[test]
fn where_a_birth_or_death_may_be_missing_no_generation_is_told() {
    let processes = || vec![gunicorn(10, 1), gunicorn(11, 10).exited(3_000), gunicorn(12, 10).forked(3_010)];
    let with = |loss| places_of(&ObservationBuilder::new().processes(processes()).loss(loss).build());
    let (known, unknown) = (vec![None, Some((0, 0)), Some((0, 1))], vec![None; 3]);
    assert_eq!(with(Loss::default()), known);
    // Neither makes a birth or a death go missing.
    assert_eq!(with(Loss { unreadable: 1, unlisted_events: 1, ..Loss::default() }), known);
    assert_eq!(with(Loss { ring_full: 1, ..Loss::default() }), unknown);
    let lost = |by| with(Loss { ring_full: 1, ring_full_by: by, ..Loss::default() });
    let by = LostRecords::default();
    assert_eq!(lost(LostRecords { forks: 1, ..by }), unknown);
    assert_eq!(lost(LostRecords { execs: 1, ..by }), unknown);
    assert_eq!(lost(LostRecords { exits: 1, ..by }), unknown);
    assert_eq!(lost(LostRecords { frees: 1, ..by }), known);
    assert_eq!(lost(LostRecords { others: 1, ..by }), known);
    assert_eq!(with(Loss { unmarked: 1, ..Loss::default() }), unknown);
    assert_eq!(with(Loss { undecodable: 1, ..Loss::default() }), unknown);
    assert_eq!(with(Loss { unlisted_processes: 1, ..Loss::default() }), unknown);
    // Polling sees an end up to an interval late, after the birth of the one that took over.
    let polled = ObservationBuilder::new().processes(processes()).proc_tracker("asked for").build();
    assert_eq!(places_of(&polled), unknown);
}

#[test]
fn two_hundred_thousand_processes_of_reused_pids_take_no_time() {
    let mut processes = vec![gunicorn(10, 1), gunicorn(11, 10), gunicorn(12, 10)];
    processes.extend((0..200_000_u32).map(|n| {
        let at = u64::from(n) / 25;
        ProcessBuilder::new(100 + n % 30_000, 11 + n % 2, "sh").forked(at).exited(at + 5).sampled(0).execs(1)
    }));
    let o = ObservationBuilder::new().processes(processes).build();
    let begun = std::time::Instant::now();
    let roles = of_observation(&tree(&[10]), &o);
    // A quadratic search takes many minutes in a debug build.
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    assert_eq!(roles.iter().filter(|r| **r == Helper).count(), 200_000);
    assert_eq!(roles[..3], [Arbiter, Worker, Worker]);
}

/// A row of the table: a tree by the real one's forks, execs, names and titles, and the role of each process.
struct Tree {
    name: &'static str,
    roots: &'static [u32],
    processes: Vec<(ProcessBuilder, MemberRole)>,
}

fn row(name: &'static str, processes: Vec<(ProcessBuilder, MemberRole)>) -> Tree {
    Tree { name, roots: &[10], processes }
}

/// An exec'd program that is small, as shells and build tools are.
fn tool(pid: u32, ppid: u32, comm: &str, argv: &str) -> ProcessBuilder {
    let argv: Vec<&str> = argv.split(' ').collect();
    ProcessBuilder::new(pid, ppid, comm).exe(&format!("/usr/bin/{comm}")).argv(&argv).rss_mib(3).threads(1)
}

/// The same, large and at work.
fn big(pid: u32, ppid: u32, comm: &str, argv: &str) -> ProcessBuilder {
    tool(pid, ppid, comm, argv).rss_mib(60).cpu_ms(300, 30)
}

fn shells_and_builds() -> Vec<Tree> {
    let gcc = |n: u32, from: u64, to: u64| {
        let (driver, compiler) = (100 + 2 * n, 101 + 2 * n);
        vec![
            (tool(driver, 10, "gcc", "gcc -c a.c").forked(from).exited(to).execs(1), Helper),
            (big(compiler, driver, "cc1", "cc1 a.c").forked(from + 2).exited(to - 2).execs(1), Helper),
        ]
    };
    // Some of them are brief and one is not.
    let make = [gcc(0, 100, 190), gcc(1, 100, 1_400), gcc(2, 200, 290), gcc(3, 300, 420)].concat();
    vec![
        row(
            "a pipeline that lasts",
            vec![
                (tool(10, 1, "bash", "bash -c a|b"), Wrapper),
                (big(11, 10, "producer", "producer").forked(5).execs(1), Worker),
                (big(12, 10, "consumer", "consumer").forked(6).execs(1), Worker),
            ],
        ),
        row(
            "a pipeline of subshells",
            vec![
                (tool(10, 1, "bash", "bash -c (a)|(b)"), Wrapper),
                (big(11, 10, "bash", "bash -c (a)|(b)").forked(5), Worker),
                (big(12, 10, "bash", "bash -c (a)|(b)").forked(6), Worker),
            ],
        ),
        row(
            "a pipeline in a script that is over at once",
            vec![
                (tool(10, 1, "bash", "bash x.sh"), Wrapper),
                (tool(11, 10, "grep", "grep a").forked(5).exited(9).execs(1), Helper),
                (tool(12, 10, "sort", "sort").forked(6).exited(11).execs(1), Helper),
                (big(13, 10, "server", "server").forked(20).execs(1), Worker),
            ],
        ),
        row("make", [vec![(tool(10, 1, "make", "make -j4"), Wrapper)], make].concat()),
    ]
}

fn python_trees() -> Vec<Tree> {
    const TRACKER: &str =
        "python3 -c from\u{a0}multiprocessing.resource_tracker\u{a0}import\u{a0}main;main(3)";
    const SERVER: &str = "python3 -c from\u{a0}multiprocessing.forkserver\u{a0}import\u{a0}main;main(3,5)";
    const SPAWN: &str =
        "python3 -c from\u{a0}multiprocessing.spawn\u{a0}import\u{a0}spawn_main --multiprocessing-fork";
    let main = || big(10, 1, "python3", "python3 serve.py");
    let worker = |pid, ppid, argv: &str| big(pid, ppid, "python3", argv).forked(100);
    vec![
        row(
            "multiprocessing, fork",
            vec![
                (main(), Arbiter),
                (worker(11, 10, "python3 serve.py"), Worker),
                (worker(12, 10, "python3 serve.py"), Worker),
            ],
        ),
        row(
            "multiprocessing, spawn",
            vec![
                (main(), Arbiter),
                (tool(11, 10, "python3", TRACKER).forked(90).execs(1), Service),
                (worker(12, 10, SPAWN).execs(1), Worker),
                (worker(13, 10, SPAWN).execs(1), Worker),
            ],
        ),
        row(
            "multiprocessing, one spawned",
            vec![
                (main(), Root),
                (tool(11, 10, "python3", TRACKER).forked(90).execs(1), Service),
                (worker(12, 10, SPAWN).execs(1), Worker),
            ],
        ),
        row(
            "multiprocessing, forkserver",
            vec![
                (main(), Root),
                (tool(11, 10, "python3", TRACKER).forked(90).execs(1), Service),
                (tool(12, 10, "python3", SERVER).forked(95).execs(1), Arbiter),
                // They show what the server of forks had executed.
                (worker(13, 12, SERVER), Worker),
                (worker(14, 12, SERVER), Worker),
            ],
        ),
        row(
            "gunicorn",
            vec![
                (big(10, 1, "gunicorn", "gunicorn app"), Arbiter),
                (big(11, 10, "gunicorn", "gunicorn app").exited(2_000), Worker),
                (big(12, 10, "gunicorn", "gunicorn app").forked(100), Worker),
                (big(13, 10, "gunicorn", "gunicorn app").forked(2_010), Worker),
                (tool(14, 11, "sh", "sh -c job").forked(500).exited(1_400).execs(1), Helper),
                (tool(15, 14, "convert", "convert x").forked(505).exited(1_398).execs(1), Helper),
            ],
        ),
    ]
}

fn servers() -> Vec<Tree> {
    let nginx = |pid, title: &str| {
        let mut p = tool(pid, 10, "nginx", "x").argv(&[title]).forked(100);
        if title.contains("worker") {
            p = p.rss_mib(12).cpu_ms(200, 50);
        }
        p
    };
    let postgres = |pid, title: &str| big(pid, 10, "postgres", "x").argv(&[title]).forked(100);
    let master = |comm: &str, title: &str| tool(10, 1, comm, "x").argv(&[title]);
    vec![
        row(
            "nginx",
            vec![
                (master("nginx", "nginx: master process /usr/sbin/nginx"), Arbiter),
                (nginx(11, "nginx: worker process"), Worker),
                (nginx(12, "nginx: worker process"), Worker),
                (nginx(13, "nginx: cache manager process"), Service),
                (nginx(14, "nginx: cache loader process").exited(3_000), Service),
            ],
        ),
        row(
            "postgres",
            vec![
                (big(10, 1, "postgres", "postgres -D data"), Arbiter),
                (postgres(11, "postgres: checkpointer "), Service),
                (postgres(12, "postgres: walwriter "), Service),
                (postgres(13, "postgres: app db 127.0.0.1(4000) SELECT"), Worker),
                (postgres(14, "postgres: app db 127.0.0.1(4001) idle").exited(5_000), Worker),
            ],
        ),
        row(
            "php-fpm",
            vec![
                (master("php-fpm8.2", "php-fpm: master process (/etc/php-fpm.conf)"), Arbiter),
                (big(11, 10, "php-fpm8.2", "x").argv(&["php-fpm: pool www"]).forked(100), Worker),
                (big(12, 10, "php-fpm8.2", "x").argv(&["php-fpm: pool www"]).forked(100), Worker),
            ],
        ),
        row(
            "node's cluster, whose workers name themselves by their path",
            vec![
                (big(10, 1, "node", "node app.js"), Arbiter),
                (big(11, 10, "node", "/usr/bin/node app.js").forked(100).execs(1), Worker),
                (big(12, 10, "node", "/usr/bin/node app.js").forked(100).execs(1), Worker),
            ],
        ),
        row(
            "an engine that its server started",
            vec![
                (big(10, 1, "ollama", "ollama serve"), Root),
                (big(11, 10, "ollama", "/usr/bin/ollama runner --port 4000").forked(300).execs(1), Worker),
            ],
        ),
        row(
            "systemd",
            vec![
                (big(10, 0, "systemd", "/sbin/init"), Root),
                (big(11, 10, "sshd", "sshd -D"), Worker),
                (big(12, 10, "postgres", "postgres -D data"), Arbiter),
                (big(13, 12, "postgres", "x").argv(&["postgres: a b c idle"]), Worker),
                (big(14, 12, "postgres", "x").argv(&["postgres: a b c SELECT"]), Worker),
                (big(15, 12, "postgres", "x").argv(&["postgres: walwriter"]), Service),
                (tool(16, 10, "logrotate", "logrotate").forked(300).exited(1_900).execs(1), Helper),
            ],
        ),
    ]
}

/// The roles of a tree that was watched up to then.
fn watched(tree: &Tree, until: u64) -> Vec<MemberRole> {
    let processes = tree.processes.iter().map(|(p, _)| p.clone()).collect();
    let mut o = ObservationBuilder::new().processes(processes).build();
    o.ended = ms(until);
    of_observation(&self::tree(tree.roots), &o)
}

/// What has ended is what it is, however long the observation goes on; what lives is not judged by the run's length.
#[test]
fn each_tree_has_its_roles_whatever_the_length_of_the_run() {
    for tree in shells_and_builds().into_iter().chain(python_trees()).chain(servers()) {
        let expected: Vec<MemberRole> = tree.processes.iter().map(|(_, role)| *role).collect();
        for until in [5_100, 10_000, 100_000, 100_000_000] {
            assert_eq!(watched(&tree, until), expected, "{} up to {until} ms", tree.name);
        }
    }
}

#[test]
fn a_helper_is_none_the_less_one_in_a_short_run() {
    let job = || ProcessBuilder::new(11, 10, "convert").forked(10).exited(400).execs(1);
    for until in [401, 1_000, 3_900, 4_100, 60_000] {
        let mut o = ObservationBuilder::new().processes(vec![server(10, 1), job()]).build();
        o.ended = ms(until);
        assert_eq!(of_observation(&tree(&[10]), &o), [Root, Helper], "{until}");
    }
}

#[test]
fn what_began_just_before_the_end_below_a_server_is_unknown() {
    let late = |at| ProcessBuilder::new(11, 10, "x").forked(at).execs(1);
    assert_eq!(of(vec![server(10, 1), late(9_801)], &[10]), [Root, Unknown]);
    assert_eq!(of(vec![server(10, 1), late(9_800)], &[10]), [Root, Worker]);
}
