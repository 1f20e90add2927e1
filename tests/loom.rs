//! The recorder's protocol in every interleaving that loom can think of: chunks published, stolen and traded, places
//! registered and freed.
//!
//! The very files of `src/record` are compiled here a second time, on loom's atomics instead of std's; and a third
//! time as a mutant that publishes without ordering, which every check must catch. Both fences are full ones here:
//! membarrier(2) makes a running writer pass one just where its light half stands.

#![allow(dead_code, unreachable_pub, reason = "the files are used in part, and not by a crate")]
#![allow(clippy::duplicate_mod, reason = "the point: the same files on other atomics")]
#![allow(clippy::arc_with_non_send_sync, reason = "loom runs its threads one at a time")]
#![allow(unsafe_code, reason = "loom's cells are read and written through pointers, as in the recorder")]

use kymo::{events, wire};

/// The recorder's files on loom, published with a given ordering, and the checks over them.
macro_rules! on_loom {
    ($name:ident, $publish:ident) => {
        #[path = "loom"]
        mod $name {
            mod sync {
                pub(super) use loom::cell::UnsafeCell;
                pub(super) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

                pub(super) use crate::queue::ArrayQueue;

                pub(super) const CHUNK_ROOM: usize = crate::wire::EVENT_MAX + 16;
                pub(super) const PUBLISH: Ordering = Ordering::$publish;

                pub(super) fn light_fence() {
                    fence(Ordering::SeqCst);
                }

                pub(super) fn heavy_fence() {
                    fence(Ordering::SeqCst);
                }
            }
            #[path = "checks.rs"]
            pub(super) mod checks;
            #[path = "../../src/record/registry.rs"]
            mod registry;
            #[path = "../../src/record/ring.rs"]
            mod ring;
        }
    };
}

#[path = "loom/queue.rs"]
mod queue;

on_loom!(sound, Release);
on_loom!(mutant, Relaxed);

/// Runs a check over every interleaving; says whether all of them hold.
fn holds(check: fn()) -> bool {
    std::panic::catch_unwind(|| {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(check);
    })
    .is_ok()
}

#[test]
fn a_stolen_chunk_holds_whole_events_and_nobody_writes_to_it() {
    assert!(holds(sound::checks::steal_while_writing));
    assert!(!holds(mutant::checks::steal_while_writing), "a relaxed publish must be caught");
}

#[test]
fn chunks_traded_through_the_queues_arrive_once() {
    assert!(holds(sound::checks::trade_through_the_queues));
}

#[test]
fn a_registered_thread_is_seen_whole_and_alone() {
    assert!(holds(sound::checks::register_and_walk));
    assert!(!holds(mutant::checks::register_and_walk), "a relaxed settle must be caught");
}
