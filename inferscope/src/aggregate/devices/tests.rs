use super::*;
use crate::event::{
    DeviceAnswer, DeviceIdentity, EnergyReading, Gauge, GpuProcess, Interruption, MemoryTotals, ProcessLook,
};

fn found(index: u32) -> DeviceEvent {
    DeviceEvent::Found(Box::new(DeviceIdentity { index, ..DeviceIdentity::default() }))
}

fn of(place: usize, answer: DeviceAnswer) -> DeviceEvent {
    DeviceEvent::Of { place, answer }
}

fn applied(events: impl IntoIterator<Item = DeviceEvent>) -> DeviceAggregate {
    let mut aggregate = DeviceAggregate::default();
    events.into_iter().for_each(|event| aggregate.apply(event));
    aggregate
}

fn log(aggregate: DeviceAggregate) -> GpuLog {
    *aggregate.finish(&DeviceFinals::default()).log.unwrap()
}

fn power(t: u64, mw: u64) -> DeviceEvent {
    of(0, DeviceAnswer::Power(PowerPoint { t: Mono(t), mw }))
}

#[test]
fn what_was_sent_before_a_driver_hung_is_there_and_the_hanging_call_is_named() {
    let reading = GpuReading { memory_used_bytes: Some(5), ..GpuReading::empty(Mono(10)) };
    let energy = EnergyReading { before: Mono(11), after: Mono(12), mj: 700 };
    let aggregate = applied([
        found(0),
        power(9, 70_000),
        of(0, DeviceAnswer::Reading(Box::new(reading))),
        of(0, DeviceAnswer::Energy(energy)),
    ]);
    let hangs = Some(("temperature_c".to_owned(), Mono(13)));
    let finals = DeviceFinals { hangs: hangs.clone(), ..DeviceFinals::default() };
    let log = aggregate.finish(&finals).log.unwrap();
    let device = &log.devices[0];
    assert_eq!((device.readings.len(), device.power.len(), device.energy.len()), (1, 1, 1));
    assert_eq!(log.hangs, hangs);
}

#[test]
fn beyond_the_bound_readings_are_merged_and_the_highest_power_stays() {
    let many = (0..200_000_u64).map(|t| power(t, if t == 70_001 { 900_000 } else { 100_000 + t % 7 }));
    let log = log(applied([found(0)].into_iter().chain(many)));
    let device = &log.devices[0];
    assert!(device.power.len() <= 72_001 && device.power_thinned, "{}", device.power.len());
    assert_eq!(device.power.iter().map(|p| p.mw).max(), Some(900_000));
}

#[test]
fn a_device_that_was_away_is_so_since_the_first_moment_and_by_the_newest_words() {
    let away = |since, words: &str| of(0, DeviceAnswer::Away { since: Mono(since), words: words.into() });
    let aggregate = applied([found(0), away(5, "lost"), away(5, "mismatch")]);
    assert!(aggregate.snapshot(Mono(6)).live[0].is_away);
    let words = |to| Interruption { from: Mono(5), to, words: "mismatch".into() };
    assert_eq!(log(aggregate.clone()).devices[0].lost, Some(words(None)));
    let mut aggregate = aggregate;
    aggregate.apply(of(0, DeviceAnswer::Back { at: Mono(9) }));
    let log = log(aggregate);
    assert_eq!(
        (&log.devices[0].lost, &log.devices[0].interruptions[..]),
        (&None, &[words(Some(Mono(9)))][..])
    );
}

#[test]
fn a_query_answers_or_refuses_or_fails_now_and_then() {
    let temperature = Query::Gauge(Gauge::Temperature);
    let log = log(applied([
        found(0),
        of(0, DeviceAnswer::Answers(Query::Power)),
        of(0, DeviceAnswer::Answers(Query::PcieTxBytes)),
        of(0, DeviceAnswer::Failed(Query::Power, "first".into())),
        of(0, DeviceAnswer::Failed(Query::Power, "second".into())),
        of(0, DeviceAnswer::Refuses(temperature, "no".into())),
        // It answered, but with what is of no use.
        of(0, DeviceAnswer::Refuses(Query::PcieTxBytes, "of 32 bits".into())),
    ]));
    let device = &log.devices[0];
    assert_eq!(device.answered, [Query::Power]);
    assert_eq!(device.failed[&Query::Power], (2, "second".to_owned()));
    assert_eq!(device.refused.keys().copied().collect::<Vec<_>>(), [Query::PcieTxBytes, temperature]);
}

#[test]
fn only_changes_of_the_process_list_are_kept_and_devices_stay_in_the_order_of_their_index() {
    let look = |t: u64, pid: u32| {
        let all = vec![GpuProcess { pid, graphics: false, bytes: None }];
        of(1, DeviceAnswer::Processes { look: ProcessLook { t: Mono(t), all }, wide: false })
    };
    let memory = MemoryTotals { total_bytes: 100, reserved_bytes: Some(7) };
    let missing = DeviceEvent::Missing { index: 1, driver: None, words: "gone".into() };
    let events = [found(2), found(0), missing, look(1, 5), look(2, 5), look(3, 6)];
    let log = log(applied(events.into_iter().chain([of(1, DeviceAnswer::Memory(memory))])));
    assert_eq!(log.devices.iter().map(|d| d.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(log.devices[0].processes.iter().map(|l| l.t).collect::<Vec<_>>(), [Mono(1), Mono(3)]);
    assert_eq!(
        (log.devices[0].memory_total_bytes, log.devices[0].memory_reserved_bytes),
        (Some(100), Some(7))
    );
    assert_eq!(log.devices[1].refused[&Query::Device], "gone");
}

#[test]
fn a_snapshot_counts_upwards_and_the_last_one_is_the_end() {
    let mut aggregate = applied([found(0)]);
    let mut looks = 0;
    for t in 1..=20 {
        aggregate.apply(power(t, t));
        aggregate.apply(of(0, DeviceAnswer::Reading(Box::new(GpuReading::empty(Mono(t))))));
        let live = aggregate.snapshot(Mono(t)).live;
        assert!(live[0].looks > looks);
        looks = live[0].looks;
    }
    let last = aggregate.snapshot(Mono(21)).live[0].clone();
    let part = aggregate.finish(&DeviceFinals::default());
    assert_eq!((part.live[0].looks, part.live[0].power), (last.looks, last.power));
    let log = part.log.unwrap();
    assert_eq!(log.devices[0].readings.len() as u64, last.looks);
    assert_eq!(log.devices[0].power.last().copied(), last.power);
}
