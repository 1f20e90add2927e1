//! What captures are told: the heap's counters while they run, what lives at their end.
//!
//! Before `main` it is found out whether kymo's allocator is the program's; only then is anything prepared or told.

#![allow(unsafe_code, reason = "runs before main; pthread_atfork(3)")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{counts, live, sampler, totals};
use crate::events::{Bytes, Count, Group, HeapCounters, HeapSampling, LiveHeap};
use crate::record::switches::{self, Collector};
use crate::{record, status};

/// Prepares for stacks now, while no thread can hold a lock: a sample may be taken under any lock of the program.
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
    match sampler::unsampled(record::prepare) {
        Ok(()) => status::set("allocations", "on"),
        Err(error) => status::set("allocations", format!("on, without stacks: {error}")),
    }
}

#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
static INIT: extern "C" fn() = init;

/// The counters, whenever something was allocated or freed.
fn tell_counters(collector: &mut Collector<'_>) {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    if !record::enabled(Group::Memory) {
        return;
    }
    let counts = counts::heap_counts();
    let sum = counts.allocated_bytes.wrapping_add(counts.freed_bytes);
    if TOLD.swap(sum, Ordering::Relaxed) != sum {
        tell_now(collector);
    }
}

fn tell_now(collector: &mut Collector<'_>) {
    let counts = counts::heap_counts();
    let event = HeapCounters {
        live_bytes: Bytes(counts.live_bytes()),
        live_objects: Count(counts.live_objects()),
        allocated_bytes: Bytes(counts.allocated_bytes),
        freed_bytes: Bytes(counts.freed_bytes),
    };
    collector.emit(0, collector.now(), event);
}

/// What lives and what was ever allocated, by stack.
fn tell_heap(collector: &mut Collector<'_>) {
    let now = collector.now();
    tell_now(collector);
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
