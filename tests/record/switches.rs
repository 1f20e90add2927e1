//! Sources hear what captures want, and tell what threads don't write themselves.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, Once, mpsc};

use kymo::events::{Counter, Group, LossReason, StrId, Value};
use kymo::format::Lane;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::MemorySink;
use kymo::record::switches::{self, Collector, Wanted};

use crate::captured::{USER, all_counters, alone, count, counters_by_lane, losses, start};

static HEARD: Mutex<Vec<Wanted>> = Mutex::new(Vec::new());

/// What the source tells next: of which thread, how many, how many it lost.
static TELLS_OF: AtomicU32 = AtomicU32::new(0);
static TELLS: AtomicU32 = AtomicU32::new(0);
static LOST: AtomicU32 = AtomicU32::new(0);
static TELLS_AT_END: AtomicBool = AtomicBool::new(false);

fn told(value: i64) -> Counter {
    Counter { name: StrId(0), value: Value(value) }
}

fn collect(collector: &mut Collector<'_>) {
    let tid = TELLS_OF.load(Ordering::SeqCst);
    for value in 0..TELLS.swap(0, Ordering::SeqCst) {
        collector.emit(tid, collector.now(), told(value.into()));
    }
    match LOST.swap(0, Ordering::SeqCst) {
        0 => {}
        lost => collector.lose(tid, LossReason::Overwritten, lost.into()),
    }
}

fn tell(collector: &mut Collector<'_>) {
    if TELLS_AT_END.load(Ordering::SeqCst) {
        collector.emit(0, collector.now(), told(-1));
    }
}

fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        switches::on_change(|wanted| HEARD.lock().unwrap().push(wanted));
        switches::on_drain(collect);
        switches::on_end(tell);
    });
}

fn tid() -> u32 {
    // SAFETY: gettid(2) has no preconditions.
    unsafe { libc::gettid() as u32 }
}

#[test]
fn sources_hear_what_captures_want_together_when_it_changes() {
    let _alone = alone();
    register();
    HEARD.lock().unwrap().clear();
    let begin = |groups, cpu_hz| {
        let sink = Box::new(MemorySink::new(1 << 20));
        Capture::start(CaptureOptions { groups, cpu_hz, sink, resolver: None }).unwrap()
    };
    let slow = begin(USER, 100);
    let same = begin(USER, 100);
    let fast = begin(USER.with(Group::Cpu), 250);
    slow.stop();
    fast.stop();
    same.stop();
    let user = USER.with(Group::Meta);
    let wanted = |groups, cpu_hz| Wanted { groups, cpu_hz };
    let expected = [wanted(user, 100), wanted(user.with(Group::Cpu), 250), wanted(user, 100), Wanted::NONE];
    assert_eq!(*HEARD.lock().unwrap(), expected);
}

#[test]
fn a_thread_that_records_nothing_is_told_of_by_the_kernels_number_and_keeps_its_number_when_it_does() {
    let _alone = alone();
    register();
    let (capture, sink) = start(USER);
    let (send_tid, tids) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        send_tid.send(tid()).unwrap();
        goes.recv().unwrap();
        count(100);
    });
    TELLS_OF.store(tids.recv().unwrap(), Ordering::SeqCst);
    TELLS.store(20_000, Ordering::SeqCst);
    LOST.store(7, Ordering::SeqCst);
    // A capture's end asks the sources.
    start(USER).0.stop();
    assert_eq!(TELLS.load(Ordering::SeqCst), 0);
    go.send(()).unwrap();
    thread.join().unwrap();
    assert_eq!(capture.stop().lost, 7);
    let bytes = sink.take();
    let lanes = counters_by_lane(&bytes);
    let number = lanes.keys().next().unwrap().0;
    assert_eq!(
        lanes[&(number, Lane::Kernel)],
        (0..20_000).collect::<Vec<_>>(),
        "also when a chunk is too short"
    );
    assert_eq!(lanes[&(number, Lane::Normal)], [100]);
    assert_eq!(losses(&bytes)[&(number, LossReason::Overwritten)], 7);
}

#[test]
fn a_thread_that_never_records_has_a_name_and_frees_its_slot() {
    let _alone = alone();
    register();
    let (capture, sink) = start(USER);
    let before = kymo::record::usage().threads;
    let (send_tid, tids) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    let named = std::thread::Builder::new().name("silent".into());
    let thread = named.spawn(move || (send_tid.send(tid()).unwrap(), goes.recv().unwrap()));
    TELLS_OF.store(tids.recv().unwrap(), Ordering::SeqCst);
    TELLS.store(1, Ordering::SeqCst);
    start(USER).0.stop();
    assert_eq!(kymo::record::usage().threads, before + 1);
    go.send(()).unwrap();
    thread.unwrap().join().unwrap();
    // Two: the slot of a thread that is gone is retired at one seal, and free at the next.
    start(USER).0.stop();
    assert_eq!(kymo::record::usage().threads, before);
    capture.stop();
    let bytes = sink.take();
    let (trace, _) = kymo::model::load::load(&bytes).unwrap();
    let names: Vec<_> = trace.threads.iter().map(|thread| thread.name.as_str()).collect();
    assert!(names.contains(&"silent"), "{names:?}");
}

#[test]
fn what_is_told_at_a_captures_end_is_inside_its_window_and_its_alone() {
    let _alone = alone();
    register();
    TELLS_AT_END.store(true, Ordering::SeqCst);
    let ((other, other_sink), (capture, sink)) = (start(USER), start(USER));
    capture.stop();
    TELLS_AT_END.store(false, Ordering::SeqCst);
    other.stop();
    assert_eq!(all_counters(&sink.take()), [-1]);
    assert!(all_counters(&other_sink.take()).is_empty());
}
