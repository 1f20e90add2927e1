//! What captures are told: the heap's counters while they run, what lives at their end.
//!
//! Before `main` it is found out whether kymo's allocator is the program's; only then is anything told.

#![allow(unsafe_code, reason = "runs before main; pthread_atfork(3)")]

use std::hint::black_box;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::{counts, live, sampler, totals};
use crate::clock;
use crate::events::{Bytes, Count, Group, HeapCounters, HeapSampling, LiveHeap};
use crate::limits::{HEAP_STEP_BYTES, HEAP_STEP_NS};
use crate::record::switches::{self, Collector};
use crate::{record, status};

extern "C" fn init() {
    drop(black_box(Box::new(0_u8)));
    if !counts::in_use() {
        status::set("allocations", "off: kymo::Alloc is not the global allocator");
        return;
    }
    counts::give_lines_back();
    // SAFETY: the handler is a function of this library, which is never unloaded, and only stores to statics.
    unsafe { libc::pthread_atfork(None, None, Some(sampler::switch_off)) };
    switches::on_drain(tell_counters);
    switches::on_end(tell_heap);
    status::set("allocations", "on");
}

/// Makes stacks known from now on, and not only from the first capture: some milliseconds for a large program, which
/// nobody should pay before `main` for what nobody may ask for.
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "nobody serves"))]
pub(crate) fn serve() {
    if !counts::in_use() {
        return;
    }
    if let Err(error) = record::prepare() {
        status::set("allocations", format!("on, without stacks: {error}"));
    }
}

#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
static INIT: extern "C" fn() = init;

/// The counters, whenever something was allocated or freed, and at first.
fn tell_counters(collector: &mut Collector<'_>) {
    /// The latest capture and the sum of both when they were told.
    static TOLD: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    if !record::enabled(Group::Memory) {
        return;
    }
    let counters = counters();
    let now = [record::epoch(), counters.allocated_bytes.0.wrapping_add(counters.freed_bytes.0)];
    let told = [0, 1].map(|index| TOLD[index].swap(now[index], Ordering::Relaxed));
    if told != now {
        collector.emit(0, collector.now(), counters);
    }
}

/// The counters, by a thread that has just sampled an allocation or its free, `change` bytes more or less: when some
/// time has passed since they were told here, or the heap has changed by a step.
pub(super) fn tell_step(change: i64) {
    static CHANGED: AtomicI64 = AtomicI64::new(0);
    static TOLD_AT: AtomicU64 = AtomicU64::new(0);
    let changed = CHANGED.fetch_add(change, Ordering::Relaxed).wrapping_add(change);
    let (now, told_at) = (clock::ticks(), TOLD_AT.load(Ordering::Relaxed));
    let is_due =
        changed.unsigned_abs() >= HEAP_STEP_BYTES || clock::nanos_between(told_at, now) >= HEAP_STEP_NS;
    if !is_due || TOLD_AT.compare_exchange(told_at, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return;
    }
    CHANGED.store(0, Ordering::Relaxed);
    record::emit(counters());
}

fn counters() -> HeapCounters {
    let counts = counts::heap_counts();
    HeapCounters {
        live_bytes: Bytes(counts.live_bytes()),
        live_objects: Count(counts.live_objects()),
        allocated_bytes: Bytes(counts.allocated_bytes),
        freed_bytes: Bytes(counts.freed_bytes),
    }
}

/// What lives and what was ever allocated, by stack.
fn tell_heap(collector: &mut Collector<'_>) {
    let now = collector.now();
    collector.emit(0, now, counters());
    let sampling = HeapSampling {
        mean_bytes: Bytes(sampler::mem_profile_rate()),
        samples: Count(live::len() as u64),
        overflowed: Count(live::overflowed()),
    };
    collector.emit(0, now, sampling);
    for total in totals::all() {
        let event = LiveHeap {
            stack: total.stack,
            allocated_objects: Count(total.allocated_objects),
            allocated_bytes: Bytes(total.allocated_bytes),
            live_objects: Count(total.live_objects),
            live_bytes: Bytes(total.live_bytes),
        };
        collector.emit(0, now, event);
    }
}
