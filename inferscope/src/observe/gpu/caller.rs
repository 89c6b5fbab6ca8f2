//! The calls of the driver, and what is sent of their answers.
//!
//! Owns the stamp and the cost of each call, and the name of the one that is under way. Every answer is sent as an event when
//! it was given, so that a driver that hangs takes nothing along. Used by `worker`, `device` and `gpm`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use nvml_wrapper::error::NvmlError;

use super::query_policy::QueryPolicy;
use super::schedule::Cost;
use crate::clock::Mono;
use crate::event::{DeviceAnswer, DeviceEvent, DeviceIdentity, Query};
use crate::observe::observer::own_thread_cpu;

/// Where events go; never waits.
pub type DeviceSink = Box<dyn Fn(DeviceEvent) + Send + Sync>;

/// The call that is not back yet, for whoever waits for the thread.
#[derive(Debug, Default)]
pub(super) struct CallUnderWay {
    /// Its place among [`Query::calls`], from one on; zero: none is.
    query: AtomicUsize,
    since_ns: AtomicU64,
}

impl CallUnderWay {
    fn begin(&self, query: Query) {
        let place = Query::calls().position(|q| q == query).map_or(0, |place| place + 1);
        self.since_ns.store(Mono::now().0, Ordering::Relaxed);
        self.query.store(place, Ordering::Release);
    }

    fn end(&self) {
        self.query.store(0, Ordering::Release);
    }

    /// Of a thread that goes on meanwhile it may be the name of one call and the time of the next.
    pub(super) fn get(&self) -> Option<(Query, Mono)> {
        let place = self.query.load(Ordering::Acquire).checked_sub(1)?;
        Some((Query::calls().nth(place)?, Mono(self.since_ns.load(Ordering::Relaxed))))
    }
}

/// The polling thread's way out.
pub(super) struct Outlet {
    sink: DeviceSink,
    under_way: Arc<CallUnderWay>,
}

impl Outlet {
    pub(super) fn new(sink: DeviceSink, under_way: Arc<CallUnderWay>) -> Self {
        Self { sink, under_way }
    }

    pub(super) fn send(&self, event: DeviceEvent) {
        (self.sink)(event);
    }

    /// Makes a call that may never come back.
    pub(super) fn call<T>(&self, query: Query, make: impl FnOnce() -> T) -> T {
        self.under_way.begin(query);
        let made = make();
        self.under_way.end();
        made
    }
}

/// One device's calls.
pub(super) struct Caller<'o> {
    outlet: &'o Outlet,
    /// The device's, in the order in which they were found.
    place: usize,
    pub(super) policy: QueryPolicy,
}

impl<'o> Caller<'o> {
    pub(super) fn new(outlet: &'o Outlet, place: usize, identity: &DeviceIdentity) -> Self {
        outlet.send(DeviceEvent::Found(Box::new(identity.clone())));
        Self { outlet, place, policy: QueryPolicy::default() }
    }

    pub(super) fn send(&self, answer: DeviceAnswer) {
        self.outlet.send(DeviceEvent::Of { place: self.place, answer });
    }

    pub(super) fn implausible(&self, what: &'static str, count: u64) {
        self.send(DeviceAnswer::Implausible { what, count });
    }

    /// Changes what is known of the device's queries, and sends what is new of that.
    pub(super) fn policy<T>(&mut self, change: impl FnOnce(&mut QueryPolicy) -> T) -> T {
        let result = change(&mut self.policy);
        for answer in self.policy.news() {
            self.send(answer);
        }
        result
    }

    /// The answer, where the query is not refused, the device is there and the last slow answer is long enough ago.
    pub(super) fn ask<T>(&mut self, query: Query, call: impl FnOnce() -> Result<T, NvmlError>) -> Option<T> {
        if self.policy.is_due(query, Mono::now()) { self.made(query, call) } else { None }
    }

    /// The same, however long ago the last answer is: for a moment that does not come again.
    pub(super) fn ask_now<T>(
        &mut self,
        query: Query,
        call: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Option<T> {
        if self.policy.is_there() && !self.policy.refuses(query) { self.made(query, call) } else { None }
    }

    /// A call beside the policy: to a device that is away.
    pub(super) fn call<T>(&self, query: Query, make: impl FnOnce() -> T) -> T {
        self.outlet.call(query, make)
    }

    /// What an answer that came with others says of its own query.
    pub(super) fn noted<T>(&mut self, query: Query, answer: Result<T, NvmlError>, t: Mono) -> Option<T> {
        self.policy(|policy| policy.noted(query, answer, t))
    }

    fn made<T>(&mut self, query: Query, call: impl FnOnce() -> Result<T, NvmlError>) -> Option<T> {
        let (began, cpu) = (Mono::now(), own_thread_cpu());
        let answer = self.outlet.call(query, call);
        let cost = Cost { wall: Mono::now().since(began), cpu: own_thread_cpu().saturating_sub(cpu) };
        self.policy(|policy| {
            policy.took(query, began, cost);
            policy.noted(query, answer, began)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_not_back_is_known_by_its_name_and_since_when() {
        let under_way = Arc::new(CallUnderWay::default());
        let outlet = Outlet::new(Box::new(|_| {}), Arc::clone(&under_way));
        assert_eq!(under_way.get(), None);
        let before = Mono::now();
        outlet.call(Query::PowerInstant, || {
            let (query, since) = under_way.get().unwrap();
            assert_eq!(query, Query::PowerInstant);
            assert!(since >= before && since <= Mono::now());
        });
        assert_eq!(under_way.get(), None);
    }
}
