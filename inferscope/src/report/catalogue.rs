//! Every figure of the report, described once.
//!
//! Owns what a figure is called, its unit, what it means, and where in the model it is. The text report's tables,
//! `timing.definitions`, `efficiency.definitions` and docs/figures.md are made from these entries, and so is any later view
//! that lists figures. Never computes or rounds one. Called by the views, and by what fills the model, for the definitions.
//!
//! A test holds every getter against the JSON document: an entry can't show another field's value.

mod costs;
mod devices;
mod load;
mod processes;
mod self_cost;
mod terms;
mod timing;

use super::model::{Dist, Efficiency, Gpu, Load, Report, SelfCost, Stat, Timing};

pub use costs::{CPU, ENERGY, FURTHER_COSTS};
pub use devices::{COUNTERS, DEVICE};
pub use load::{CONNECT, LOAD};
pub use processes::SET;
pub use self_cost::SELF_COST;
pub use terms::{cost_definitions, timing_definitions};
pub(crate) use timing::latency_setter;
pub use timing::{COUNTS, LATENCIES, RATES};

/// What is told of a figure.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Its place in the JSON document: `timing.ttft_ns`. `gpus[].power_mw` is one of each device.
    pub key: &'static str,
    /// In the text report and in the documents.
    pub label: &'static str,
    /// Where there is less room.
    pub short: &'static str,
    pub unit: Unit,
    pub definition: &'static str,
    /// Another figure, by its key. Where both have the same values the text shows one row.
    pub same_as: Option<&'static str>,
    /// The one row's label; `label` where there is none.
    pub label_of_both: Option<&'static str>,
    /// Where a token a chunk is assumed (`token_source` is `chunks`).
    pub label_assumed: Option<&'static str>,
    /// Whether the text report has it.
    pub in_text: bool,
}

impl About {
    /// The last part of the key: its name in `definitions`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.key.rsplit('.').next().unwrap_or(self.key)
    }
}

/// A figure and how it is read from the part `S` of the model.
#[derive(Debug, Clone, Copy)]
pub struct Figure<S> {
    pub about: About,
    pub get: fn(&S) -> Value<'_>,
    /// For a distribution that `report::build` puts into the model by its name.
    set: Option<fn(&mut S, Dist)>,
}

impl<S> Figure<S> {
    const fn new(
        key: &'static str,
        label: &'static str,
        unit: Unit,
        definition: &'static str,
        get: fn(&S) -> Value<'_>,
    ) -> Self {
        Self {
            about: About {
                key,
                label,
                short: label,
                unit,
                definition,
                same_as: None,
                label_of_both: None,
                label_assumed: None,
                in_text: true,
            },
            get,
            set: None,
        }
    }

    const fn set_by(mut self, set: fn(&mut S, Dist)) -> Self {
        self.set = Some(set);
        self
    }

    const fn short(mut self, short: &'static str) -> Self {
        self.about.short = short;
        self
    }

    const fn in_json_only(mut self) -> Self {
        self.about.in_text = false;
        self
    }

    const fn label_of_both(mut self, label: &'static str) -> Self {
        self.about.label_of_both = Some(label);
        self
    }

    const fn label_assumed(mut self, label: &'static str) -> Self {
        self.about.label_assumed = Some(label);
        self
    }

    const fn same_as(mut self, key: &'static str) -> Self {
        self.about.same_as = Some(key);
        self
    }
}

/// What a figure counts in. Times are nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Nanoseconds,
    NanosecondsEach(&'static str),
    Bytes,
    Count(&'static str),
    PerSecond(&'static str),
    Percent,
    Milliwatts,
    Millijoules,
    Joules,
    JoulesEach(&'static str),
    PerJoule(&'static str),
    Celsius,
    Megahertz,
    /// In the currency of `--price-per-hour`.
    Money,
}

impl Unit {
    /// As the documents write it.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Nanoseconds => "ns".to_owned(),
            Self::NanosecondsEach(what) => format!("ns/{what}"),
            Self::Bytes => "bytes".to_owned(),
            Self::Count(what) => what.to_owned(),
            Self::PerSecond(what) => format!("{what}/s"),
            Self::Percent => "%".to_owned(),
            Self::Milliwatts => "mW".to_owned(),
            Self::Millijoules => "mJ".to_owned(),
            Self::Joules => "J".to_owned(),
            Self::JoulesEach(what) => format!("J/{what}"),
            Self::PerJoule(what) => format!("{what}/J"),
            Self::Celsius => "°C".to_owned(),
            Self::Megahertz => "MHz".to_owned(),
            Self::Money => "the prices' currency".to_owned(),
        }
    }

    #[must_use]
    pub const fn is_time(self) -> bool {
        matches!(self, Self::Nanoseconds | Self::NanosecondsEach(_))
    }
}

/// What a report has of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'r> {
    Dist(&'r Dist),
    Stat(Spread<'r>),
    Count(u64),
    /// The truth is within the error, where one is told.
    Number {
        value: f64,
        error: Option<f64>,
    },
    /// Not known, and why, where the report has a reason.
    Unknown(Option<&'r str>),
    /// This run has no such figure.
    Absent,
}

/// A [`Stat`] of either type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread<'r> {
    pub count: u64,
    pub min: Option<f64>,
    pub mean: Option<f64>,
    pub max: Option<f64>,
    pub reason: Option<&'r str>,
}

impl<'r> From<&'r Dist> for Value<'r> {
    fn from(dist: &'r Dist) -> Self {
        Self::Dist(dist)
    }
}

impl<'r> From<&'r Option<Dist>> for Value<'r> {
    fn from(dist: &'r Option<Dist>) -> Self {
        dist.as_ref().map_or(Self::Absent, Self::Dist)
    }
}

impl<'r> Value<'r> {
    fn count(value: Option<u64>, reason: Option<&'r String>) -> Self {
        value.map_or_else(|| Self::unknown(reason), Self::Count)
    }

    fn number(value: Option<f64>, reason: Option<&'r String>) -> Self {
        Self::within(value, None, reason)
    }

    fn within(value: Option<f64>, error: Option<f64>, reason: Option<&'r String>) -> Self {
        value.map_or_else(|| Self::unknown(reason), |value| Self::Number { value, error })
    }

    fn unknown(reason: Option<&'r String>) -> Self {
        Self::Unknown(reason.map(String::as_str))
    }

    fn shares(stat: &'r Stat) -> Self {
        let Stat { count, min, mean, max, reason, .. } = stat;
        Self::Stat(Spread { count: *count, min: *min, mean: *mean, max: *max, reason: reason.as_deref() })
    }

    fn whole(stat: &'r Stat<u64>) -> Self {
        let Stat { count, min, mean, max, reason, .. } = stat;
        let [min, max] = [min, max].map(|n| n.map(|n| n as f64));
        Self::Stat(Spread { count: *count, min, mean: *mean, max, reason: reason.as_deref() })
    }
}

/// Whose figure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Run,
    /// A step of a sweep, by its place.
    Step(usize),
    /// A device, by its place in `gpus`.
    Device(usize),
}

/// One figure of one report.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'r> {
    pub about: &'static About,
    pub of: Subject,
    pub value: Value<'r>,
}

/// Every figure of the report, in the catalogue's order.
#[must_use]
pub fn readings(report: &Report) -> Vec<Reading<'_>> {
    let mut all = Vec::new();
    let timing = [LATENCIES, RATES, COUNTS];
    let load = [CONNECT, LOAD];
    let none = Value::unknown(report.timing_reason.as_ref());
    for figures in timing {
        all.extend(read(figures, Subject::Run, report.timing.as_ref(), none));
    }
    for figures in load {
        all.extend(read(figures, Subject::Run, report.load.as_ref(), Value::Absent));
    }
    for (n, step) in report.sweep.iter().flat_map(|sweep| sweep.steps.iter().enumerate()) {
        for figures in timing {
            all.extend(read(figures, Subject::Step(n), Some(&step.timing), none));
        }
    }
    all.extend(read(SET, Subject::Run, Some(report), Value::Absent));
    for (n, gpu) in report.gpus.iter().enumerate() {
        for figures in [DEVICE, COUNTERS] {
            all.extend(read(figures, Subject::Device(n), Some(gpu), Value::Absent));
        }
    }
    for figures in [CPU, ENERGY, FURTHER_COSTS] {
        all.extend(read(figures, Subject::Run, Some(&report.efficiency), Value::Absent));
    }
    all.extend(read(SELF_COST, Subject::Run, Some(&report.own), Value::Absent));
    all
}

fn read<'r, S>(
    figures: &'static [Figure<S>],
    of: Subject,
    part: Option<&'r S>,
    none: Value<'r>,
) -> impl Iterator<Item = Reading<'r>> {
    figures.iter().map(move |figure| Reading {
        about: &figure.about,
        of,
        value: part.map_or(none, |part| (figure.get)(part)),
    })
}

/// The catalogue's chapters: a title, and what is told of each figure.
#[must_use]
pub fn chapters() -> Vec<(&'static str, Vec<&'static About>)> {
    fn about<S>(figures: &'static [&'static [Figure<S>]]) -> Vec<&'static About> {
        figures.iter().flat_map(|figures| figures.iter()).map(|figure| &figure.about).collect()
    }
    vec![
        ("Latencies", about::<Timing>(&[LATENCIES])),
        ("Rates and counts of the load", about::<Timing>(&[RATES, COUNTS])),
        ("The load", about::<Load>(&[CONNECT, LOAD])),
        ("Processes, CPU and memory", about::<Report>(&[SET])),
        ("Costs of a token and a request", about::<Efficiency>(&[CPU, ENERGY, FURTHER_COSTS])),
        ("Each GPU", about::<Gpu>(&[DEVICE])),
        ("Each GPU's own counters (GPM, from Hopper on)", about::<Gpu>(&[COUNTERS])),
        ("inferscope itself", about::<SelfCost>(&[SELF_COST])),
    ]
}

#[cfg(test)]
mod tests;
