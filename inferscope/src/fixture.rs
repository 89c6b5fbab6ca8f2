//! Runs that never were, for tests: small builders for what the sources hand over.
//!
//! Times are milliseconds on the run's timeline. Used by the tests of every pure layer.

mod devices;
mod loads;
mod runs;
mod sets;

use crate::aggregate::Aggregate as _;
use crate::aggregate::load::{LoadAggregate, LoadTotals};
use crate::clock::{Mono, Origin};
use crate::event::{
    Asked, Birth, CgroupAccounting, Choice, Chunk, ChunkKind, ClientLog, Counts, CpuPackages, CpuTime,
    ExitStatus, Failure, FailureKind, GpuLog, InFlight, LoadEvent, Loaded, Loss, MemoryHold, Observation,
    PhaseLog, ProcessRecord, RequestLog, SetSample, TrackerKind, Usage,
};
use crate::figures::load::saturation;
use crate::figures::set::Scope;
use crate::plan::{
    ColorChoice, Endpoint, GpuChoice, LoadPlan, ObservePlan, OutputPlan, Plan, TargetPlan, TrackerChoice,
};
use crate::report::model;
use crate::secrets::{KnownSecrets, Redact};
use crate::units::Nanos;

use crate::report::build::{self, Inputs, TargetFound};

pub(crate) use devices::{device, fixture, gpus, metered, with};
pub(crate) use loads::{client_late, open_loop, repeated, sweep, sweep_of_dashes, sweep_on};
pub(crate) use runs::{demo, engine, everything_failed, no_target};
pub(crate) use sets::{cgroup, losses, oom, recycled};

pub(crate) const ORIGIN: Origin = Origin {
    mono: Mono(7_000_000_000_000),
    unix_ns: 1_760_000_000_000_000_000,
    boottime_ahead_ns: 5_000_000_000,
};
pub(crate) const SCOPE: Scope<'_> = Scope {
    origin: ORIGIN,
    roots: &[],
    whole_cgroup: false,
    cgroup_of_run: false,
    descendants: true,
    sample_interval: Nanos::from_millis(50),
};
const BOOTTIME_ZERO_NS: u64 = ORIGIN.mono.0 + ORIGIN.boottime_ahead_ns;
/// A process alive at start began a minute before.
const BEFORE_NS: u64 = 60_000_000_000;

pub(crate) fn ms(t: u64) -> Mono {
    ORIGIN.mono.plus(Nanos::from_millis(t))
}

/// Builds a [`RequestLog`]. An answer with text ends in a chunk without any, as real ones do.
#[derive(Debug, Clone)]
pub(crate) struct RequestBuilder(RequestLog, Choice);

impl RequestBuilder {
    pub(crate) fn new(id: u64) -> Self {
        let log = RequestLog {
            id,
            warmup: false,
            scheduled: None,
            sent: ms(0),
            written: None,
            write_took: None,
            connect: None,
            headers: None,
            http_status: None,
            chunks: Vec::new(),
            done: ms(0),
            client_stalls: Vec::new(),
            kernel_stamps: true,
            asked: Asked { max_tokens: Some(1 << 20), choices: 1, body_bytes: 1 << 10, attachments: 0 },
            usage: None,
            finish_reason: None,
            stops: 0,
            served_model: None,
            failure: None,
            memory: MemoryHold::default(),
        };
        Self(log, Choice::FIRST)
    }

    /// What follows is of this choice.
    pub(crate) fn choice(mut self, index: u64) -> Self {
        self.1 = Choice::new(index);
        self
    }

    pub(crate) fn asked(mut self, change: impl FnOnce(&mut Asked)) -> Self {
        change(&mut self.0.asked);
        self
    }

    pub(crate) fn warmup(mut self) -> Self {
        self.0.warmup = true;
        self
    }

    pub(crate) fn scheduled(mut self, t: u64) -> Self {
        self.0.scheduled = Some(ms(t));
        self
    }

    /// A connection was opened for it, once it was sent.
    pub(crate) fn connected_in(mut self, took: u64) -> Self {
        self.0.connect = Some(Nanos::from_millis(took));
        self.0.written = Some(self.0.sent.plus(Nanos::from_millis(took)));
        self
    }

    pub(crate) fn sent(mut self, t: u64) -> Self {
        self.0.sent = ms(t);
        self.0.done = self.0.done.max(ms(t));
        self
    }

    pub(crate) fn done(mut self, t: u64) -> Self {
        self.0.done = ms(t);
        self
    }

    pub(crate) fn chunk(mut self, t: u64, kind: ChunkKind, tokens: Option<u32>) -> Self {
        let bytes = if kind.has_tokens() { 4 } else { 0 };
        self.0.chunks.push(Chunk { t: ms(t), bytes, tokens, kind, choice: Some(self.1) });
        self.0.headers = self.0.headers.or(Some(ms(t)));
        self.0.http_status = Some(200);
        self.0.done = self.0.done.max(ms(t));
        self
    }

    pub(crate) fn role(self, t: u64) -> Self {
        self.chunk(t, ChunkKind::Other, None)
    }

    pub(crate) fn reasoning(self, times: impl IntoIterator<Item = u64>) -> Self {
        times.into_iter().fold(self, |b, t| b.chunk(t, ChunkKind::Reasoning, None))
    }

    pub(crate) fn content(self, times: impl IntoIterator<Item = u64>) -> Self {
        times.into_iter().fold(self, |b, t| b.chunk(t, ChunkKind::Content, None))
    }

    pub(crate) fn content_with_tokens(self, chunks: impl IntoIterator<Item = (u64, u32)>) -> Self {
        chunks.into_iter().fold(self, |b, (t, n)| b.chunk(t, ChunkKind::Content, Some(n)))
    }

    pub(crate) fn usage(mut self, prompt: u64, completion: u64) -> Self {
        self.0.usage = Some(Usage {
            prompt_tokens: Some(prompt),
            completion_tokens: Some(completion),
            ..Usage::default()
        });
        self
    }

    pub(crate) fn finish(mut self, reason: &str) -> Self {
        self.0.finish_reason = Some(reason.to_owned());
        self.0.stops += u32::from(reason == "stop");
        self
    }

    pub(crate) fn served(mut self, model: &str) -> Self {
        self.0.served_model = Some(model.to_owned());
        self
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.0.http_status = Some(status);
        self
    }

    pub(crate) fn failed(mut self, kind: FailureKind, message: &str) -> Self {
        self.0.failure = Some(Failure { kind, message: message.to_owned() });
        self
    }

    pub(crate) fn build(mut self) -> RequestLog {
        if !self.0.chunks.is_empty() && self.0.failure.is_none() {
            self.0.chunks.push(Chunk {
                t: self.0.done,
                bytes: 0,
                tokens: None,
                kind: ChunkKind::Other,
                choice: None,
            });
        }
        self.0
    }
}

/// Builds a [`ProcessRecord`]: alive at start, sampled, 10 MiB, 2 threads, no CPU.
#[derive(Debug, Clone)]
pub(crate) struct ProcessBuilder(ProcessRecord);

impl ProcessBuilder {
    pub(crate) fn new(pid: u32, ppid: u32, comm: &str) -> Self {
        Self(ProcessRecord {
            pid,
            host_pid: Some(pid),
            ppid,
            birth: Birth::AliveAtStart,
            started_boottime_ns: Some(BOOTTIME_ZERO_NS - BEFORE_NS),
            exited: None,
            exit: None,
            left: None,
            oom_killed: Some(false),
            comm: comm.to_owned(),
            exe: None,
            argv: None,
            argv_cut: false,
            execs: 0,
            cpu_before: CpuTime::default(),
            cpu: Some(CpuTime::default()),
            cpu_is_final: true,
            max_rss_bytes: Some(10 << 20),
            max_rss_is_peak: true,
            max_rss_at_most_bytes: None,
            sampled_peak_rss_bytes: Some(10 << 20),
            peak_threads: Some(2),
            minor_faults: None,
            major_faults: None,
            voluntary_switches: None,
            involuntary_switches: None,
            times_sampled: 20,
            cgroup_id: None,
        })
    }

    pub(crate) fn forked(mut self, t: u64) -> Self {
        self.0.birth = Birth::Forked;
        self.0.started_boottime_ns = Some(BOOTTIME_ZERO_NS + Nanos::from_millis(t).0);
        self
    }

    /// Into the target's cgroup, right after its start.
    pub(crate) fn moved_in(mut self, t: u64) -> Self {
        self.0.birth = Birth::MovedIn;
        self.0.started_boottime_ns = Some(BOOTTIME_ZERO_NS + Nanos::from_millis(t).0);
        self
    }

    pub(crate) fn started_before(mut self, ms: u64) -> Self {
        self.0.started_boottime_ns = Some(BOOTTIME_ZERO_NS - Nanos::from_millis(ms).0);
        self
    }

    pub(crate) fn exited(self, t: u64) -> Self {
        self.ended(t, 0)
    }

    /// By the OOM killer.
    pub(crate) fn oom_killed(self, t: u64) -> Self {
        let mut killed = self.ended(t, 9);
        killed.0.oom_killed = Some(true);
        killed
    }

    /// Out of a cgroup that is watched strictly.
    pub(crate) fn left(mut self, t: u64) -> Self {
        self.0.left = Some(ms(t));
        self
    }

    pub(crate) fn execs(mut self, n: u32) -> Self {
        self.0.execs = n;
        self
    }

    pub(crate) fn exe(mut self, path: &str) -> Self {
        self.0.exe = Some(path.to_owned());
        self
    }

    pub(crate) fn argv(mut self, argv: &[&str]) -> Self {
        self.0.argv = Some(argv.iter().map(|a| (*a).to_owned()).collect());
        self
    }

    pub(crate) fn cgroup(mut self, id: u64) -> Self {
        self.0.cgroup_id = Some(id);
        self
    }

    pub(crate) fn ended(mut self, t: u64, wait_status: u32) -> Self {
        self.0.exited = Some(ms(t));
        self.0.exit = Some(ExitStatus::from_wait_status(wait_status));
        self
    }

    pub(crate) fn sampled(mut self, times: u32) -> Self {
        self.0.times_sampled = times;
        self.0.sampled_peak_rss_bytes = self.0.sampled_peak_rss_bytes.filter(|_| times > 0);
        self
    }

    pub(crate) fn cpu_ms(mut self, user: u64, system: u64) -> Self {
        self.0.cpu = Some(CpuTime { user: Nanos::from_millis(user), system: Nanos::from_millis(system) });
        self
    }

    pub(crate) fn rss_mib(mut self, mib: u64) -> Self {
        self.0.max_rss_bytes = Some(mib << 20);
        self.0.sampled_peak_rss_bytes = Some(mib << 20).filter(|_| self.0.times_sampled > 0);
        self
    }

    /// The most that a sample saw, where that is not its peak.
    pub(crate) fn sampled_rss_mib(&mut self, mib: u64) {
        self.0.sampled_peak_rss_bytes = Some(mib << 20);
    }

    pub(crate) fn threads(mut self, n: u32) -> Self {
        self.0.peak_threads = Some(n);
        self
    }

    pub(crate) fn cpu_unknown(mut self) -> Self {
        self.0.cpu = None;
        self
    }
}

/// Builds an [`Observation`] of ten seconds whose counts and sums follow from its processes.
#[derive(Debug, Clone)]
pub(crate) struct ObservationBuilder(Observation, Option<Vec<SetSample>>);

impl ObservationBuilder {
    pub(crate) fn new() -> Self {
        let observation = Observation {
            tracker: TrackerKind::Ebpf,
            tracker_reason: None,
            tracker_is_complete: true,
            started: ms(0),
            ended: ms(10_000),
            processes: Vec::new(),
            events: Vec::new(),
            samples: Vec::new(),
            counts: Counts::default(),
            loss: Loss::default(),
            cpu_exited: CpuTime::default(),
            cpu_living: CpuTime::default(),
            cpu_unlisted: CpuTime::default(),
            cpu_unseen: None,
            cpu_error: Nanos::ZERO,
            cpu_error_reason: None,
            rest: None,
            cgroups: std::collections::HashMap::new(),
            accounting: None,
            pss_reason: None,
            sample_interval: Nanos::from_millis(50),
            sample_overruns: 0,
            samples_thinned: 0,
            target_ended: None,
        };
        Self(observation, None)
    }

    pub(crate) fn processes(mut self, processes: Vec<ProcessBuilder>) -> Self {
        self.0.processes = processes.into_iter().map(|p| p.0).collect();
        self
    }

    pub(crate) fn samples(mut self, samples: Vec<SetSample>) -> Self {
        self.1 = Some(samples);
        self
    }

    pub(crate) fn loss(mut self, loss: Loss) -> Self {
        self.0.loss = loss;
        self
    }

    pub(crate) fn proc_tracker(mut self, why: &str) -> Self {
        self.0.tracker = TrackerKind::Proc;
        self.0.tracker_reason = Some(why.to_owned());
        self.0.tracker_is_complete = false;
        for p in &mut self.0.processes {
            p.oom_killed = p.oom_killed.filter(|killed| *killed);
        }
        self
    }

    /// Where no samples were given: 19, half a second apart, of a steadily working set that is as
    /// large as its processes' peaks.
    pub(crate) fn build(self) -> Observation {
        let mut o = self.0;
        let born = |birth| o.processes.iter().filter(|p| p.birth == birth).count() as u64;
        let exits = o.processes.iter().filter(|p| p.exited.is_some()).count() as u64;
        o.counts = Counts {
            alive_at_start: born(Birth::AliveAtStart),
            forks: born(Birth::Forked),
            execs: Some(0),
            exits,
            threads: Some(0),
            moved_in: born(Birth::MovedIn),
            moved_out: o.processes.iter().filter(|p| p.left.is_some()).count() as u64,
            peak_alive: o.processes.len() as u64 - exits,
        };
        for p in &o.processes {
            let cpu = p.cpu.unwrap_or_default();
            if p.exited.is_some() { o.cpu_exited += cpu } else { o.cpu_living += cpu }
        }
        let total = (o.cpu_exited.total() + o.cpu_living.total()).0;
        let sampled = || o.processes.iter().filter(|p| p.times_sampled > 0);
        let steady = |n: u64| SetSample {
            t: ms(n * 500),
            processes: sampled().count() as u32,
            threads: sampled().filter_map(|p| p.peak_threads).sum(),
            rss_bytes: sampled().filter_map(|p| p.sampled_peak_rss_bytes).sum(),
            pss_bytes: None,
            cpu: Nanos(total / 20 * n),
            cpu_error: Nanos::ZERO,
        };
        let samples = self.1.unwrap_or_else(|| (1..20).map(steady).collect());
        o.samples = samples;
        o
    }
}

/// Of a cgroup of the v2 hierarchy: 2 s of CPU, 640 MiB at its peak.
pub(crate) fn accounting() -> CgroupAccounting {
    CgroupAccounting {
        cpu_file: Some("/sys/fs/cgroup/srv/llm/cpu.stat".to_owned()),
        cpu: Some(Nanos::from_millis(2_000)),
        cpu_uncharged_ns: 0,
        cpu_reason: None,
        memory_file: Some("/sys/fs/cgroup/srv/llm/memory.peak".to_owned()),
        memory_peak_bytes: Some(640 << 20),
        memory_limit_bytes: None,
        memory_reason: None,
    }
}

pub(crate) fn plan() -> Plan {
    Plan {
        command: "profile",
        observe_for: None,
        load: Some(LoadPlan::to(Endpoint::parse("http://127.0.0.1:8000").unwrap())),
        exec: None,
        observe: ObservePlan {
            target: TargetPlan::Listener { host: "127.0.0.1".to_owned(), port: 8000 },
            tracker: TrackerChoice::Auto,
            ring_bytes: 512 << 10,
            max_processes: 200_000,
            max_memory: 512 << 20,
            sample_interval: Nanos::from_millis(50),
            gpu: GpuChoice::Auto,
            nvml_lib: None,
            gpu_baseline: Nanos::ZERO,
            prices: Vec::new(),
        },
        output: OutputPlan {
            stdout: &crate::report::view::Text,
            files: Vec::new(),
            mode: 0o600,
            quiet: false,
            color: ColorChoice::Never,
            redact: Redact::Names,
            known: KnownSecrets::none(),
        },
        argv: ["inferscope", "--endpoint", "http://127.0.0.1:8000"].map(str::to_owned).to_vec(),
    }
}

/// A load of one phase.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoadLog {
    pub(crate) requests: Vec<RequestLog>,
}

impl LoadLog {
    pub(crate) fn totals(&self, plan: &Plan, model: Option<&str>) -> LoadTotals {
        let plan = plan.load.as_ref().expect("the fixture's plan has a load");
        let mut load = DrivenLoad::new(plan, model);
        let all = || self.requests.iter().filter(|r| !r.warmup);
        let from = all().map(|r| r.sent).min().unwrap_or(ORIGIN.mono);
        let to = all().map(|r| r.done).max().unwrap_or(ORIGIN.mono);
        let phase = phase(all().count() as u64, from, to);
        let loaded = Loaded { from: phase.measured_from, to: phase.loaded_to };
        for request in &self.requests {
            load.request(request, loaded);
        }
        load.phase(phase);
        // As over TLS: each read is stamped when it returns.
        load.finish(client())
    }
}

/// A load whose events a test makes.
pub(crate) struct DrivenLoad {
    plan: LoadPlan,
    pub(crate) load: LoadAggregate,
}

impl DrivenLoad {
    pub(crate) fn new(plan: &LoadPlan, model: Option<&str>) -> Self {
        let mut load = LoadAggregate::new(plan);
        load.apply(LoadEvent::Began { t: ORIGIN.mono, model: model.map(str::to_owned) });
        Self { plan: plan.clone(), load }
    }

    pub(crate) fn sent(&mut self, t: Mono, warmup: bool) {
        self.load.apply(LoadEvent::Sent { t, warmup });
    }

    pub(crate) fn request(&mut self, log: &RequestLog, loaded: Loaded) {
        self.load.apply(LoadEvent::Request { log: Box::new(log.clone()), loaded });
    }

    /// Whether the sweep ends with this phase.
    pub(crate) fn phase(&mut self, log: PhaseLog) -> bool {
        let ended = log.ended;
        self.load.apply(LoadEvent::Phase(Box::new(log)));
        saturation::ends_sweep(&self.plan, &self.load.snapshot(ended).steps).is_some()
    }

    pub(crate) fn finish(mut self, client: ClientLog) -> LoadTotals {
        self.load.apply(LoadEvent::Ended { client: Box::new(client), resent: 0 });
        *self.load.finish(&()).totals.expect("a finished load has totals")
    }
}

/// A client whose reads were stamped.
pub(crate) fn client() -> ClientLog {
    let mut lag = hdrhistogram::Histogram::new(3).unwrap();
    lag.record(20_000).unwrap();
    ClientLog { read_lag: Some(lag), ..ClientLog::default() }
}

/// A phase with one request after another.
pub(crate) fn phase(sent: u64, from: Mono, to: Mono) -> PhaseLog {
    PhaseLog {
        step: 0,
        repetition: 0,
        started: from,
        measured_from: Some(from),
        sent_all: to,
        loaded_to: Some(to),
        timed: false,
        offered_over: None,
        prompts: None,
        last_byte: to,
        ended: to,
        measured_sent: sent,
        in_flight: vec![InFlight { t: from, mean: 1.0, max: 1 }],
        thread_cpu: Nanos(to.since(from).0 / 100),
        timer_lag: hdrhistogram::Histogram::new(3).unwrap(),
        prompts_again: 0,
    }
}

/// Everything that [`Inputs`] borrows, owned.
#[derive(Debug, Clone)]
pub(crate) struct Fixture {
    pub(crate) mode: model::Mode,
    pub(crate) plan: Plan,
    pub(crate) ended: u64,
    pub(crate) interrupted: bool,
    pub(crate) target: TargetFound,
    pub(crate) load: Option<LoadLog>,
    pub(crate) model: Option<String>,
    pub(crate) observation: Option<Observation>,
    pub(crate) gpu: GpuLog,
    pub(crate) packages: CpuPackages,
    pub(crate) notes: Vec<crate::verdict::doubt::Doubt>,
}

impl Fixture {
    /// Nothing sent, nothing observed, root 42.
    pub(crate) fn profile() -> Self {
        Self {
            mode: model::Mode::Profile,
            plan: plan(),
            ended: 10_000,
            interrupted: false,
            target: TargetFound {
                roots: vec![42],
                cgroup: None,
                exit: None,
                ready: None,
                how_found: "listens on 127.0.0.1:8000".to_owned(),
                descendants: true,
                none_reason: None,
            },
            load: None,
            model: Some("smollm2".to_owned()),
            observation: None,
            gpu: GpuLog { unavailable: Some("no NVML library".to_owned()), ..GpuLog::default() },
            packages: CpuPackages::default(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn report(&self) -> model::Report {
        build::report(self.inputs(self.totals().as_ref()))
    }

    /// With a load of several phases.
    pub(crate) fn report_of(&self, load: &LoadTotals) -> model::Report {
        build::report(self.inputs(Some(load)))
    }

    fn totals(&self) -> Option<LoadTotals> {
        self.load.as_ref().map(|load| load.totals(&self.plan, self.model.as_deref()))
    }

    fn inputs<'a>(&'a self, load: Option<&'a LoadTotals>) -> Inputs<'a> {
        Inputs {
            tool: model::Tool {
                name: "inferscope".into(),
                version: "0.1.0".into(),
                commit: "0123abc".into(),
            },
            host: model::Host {
                hostname: Some("box".into()),
                kernel: Some("6.18.0".into()),
                boot_id: None,
                cpus: Some(2),
                cpus_allowed: Some(2),
                cpu_quota: None,
                memory_bytes: Some(24 << 30),
            },
            run_id: "01J0000000".into(),
            mode: self.mode,
            plan: &self.plan,
            origin: ORIGIN,
            ended: ms(self.ended),
            interrupted: self.interrupted,
            target: self.target.clone(),
            load,
            model: self.model.clone(),
            observation: self.observation.as_ref(),
            gpu: &self.gpu,
            packages: &self.packages,
            notes: self.notes.clone(),
            own: model::SelfCost {
                cpu_ns: Some(41_000_000),
                max_rss_bytes: Some(12 << 20),
                bpf_run_ns: Some(1_200_000),
                bpf_run_count: Some(3_400),
                bpf_reason: None,
                ring_lost: Some(0),
                sample_overruns: Some(0),
                ..model::SelfCost::default()
            },
        }
    }
}
