//! The recorder's protocol in every interleaving that loom can think of: chunks published, stolen and traded, places
//! registered and freed.
//!
//! The very files of `src/record` are compiled here again, on loom's atomics instead of std's; and once more for each
//! mutant, which lacks one release or one fence and which a check must catch. The fence's halves are full fences here:
//! membarrier(2) makes a running writer pass one just where its light half stands.

#![allow(dead_code, unreachable_pub, reason = "the files are used in part, and not by a crate")]
#![allow(clippy::duplicate_mod, reason = "the point: the same files on other atomics")]
#![allow(clippy::arc_with_non_send_sync, reason = "loom runs its threads one at a time")]
#![allow(unsafe_code, reason = "loom's cells are read and written through pointers, as in the recorder")]

use kymo::{events, limits, wire};

/// The recorder's files on loom and the checks over them: published with these orderings, ordered by this fence.
macro_rules! on_loom {
    ($name:ident, length $length:ident, busy $busy:ident, holder $holder:ident, fence $fence:ident) => {
        #[path = "loom"]
        mod $name {
            mod sync {
                pub(super) use loom::cell::UnsafeCell;
                pub(super) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

                pub(super) use crate::bytes::{Bytes, CHUNK_ROOM};
                pub(super) use crate::fences::{Fence, $fence as heavy_fence};
                pub(super) use crate::queue::ArrayQueue;

                pub(super) const PUBLISH_LENGTH: Ordering = Ordering::$length;
                pub(super) const PUBLISH_BUSY: Ordering = Ordering::$busy;
                pub(super) const PUBLISH_HOLDER: Ordering = Ordering::$holder;
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

#[path = "loom/bytes.rs"]
mod bytes;
#[path = "loom/fences.rs"]
mod fences;
#[path = "loom/queue.rs"]
mod queue;

on_loom!(sound, length Release, busy Release, holder Release, fence full);
on_loom!(relaxed_length, length Relaxed, busy Release, holder Release, fence full);
on_loom!(relaxed_busy, length Release, busy Relaxed, holder Release, fence full);
on_loom!(relaxed_holder, length Release, busy Release, holder Relaxed, fence full);
on_loom!(without_fence, length Release, busy Release, holder Release, fence none);

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
fn b9_loom_ring_a_stolen_chunk_holds_whole_events_and_nobody_writes_to_it() {
    assert!(holds(sound::checks::steal_while_writing));
}

#[test]
fn b9_loom_ring_what_a_writer_has_published_can_be_read_while_it_is_inside() {
    assert!(holds(sound::checks::read_while_writing));
}

#[test]
fn b9_loom_ring_chunks_traded_through_the_queues_arrive_once() {
    assert!(holds(sound::checks::trade_while_stealing));
}

#[test]
fn b9_loom_ring_a_registered_thread_is_seen_whole_and_alone() {
    assert!(holds(sound::checks::register_and_walk));
}

#[test]
fn b9_loom_ring_a_place_is_given_to_the_next_thread_only_after_the_drain_had_it() {
    assert!(holds(sound::checks::retire_and_claim_again));
}

#[test]
fn b10_loom_mutant() {
    assert!(!holds(relaxed_busy::checks::steal_while_writing), "a relaxed `busy` must be caught");
    assert!(!holds(without_fence::checks::steal_while_writing), "a missing fence must be caught");
    assert!(!holds(relaxed_length::checks::read_while_writing), "a relaxed length must be caught");
    assert!(!holds(relaxed_busy::checks::trade_while_stealing), "a relaxed `busy` must be caught");
    assert!(!holds(relaxed_holder::checks::register_and_walk), "a relaxed settle must be caught");
}

#[test]
fn b11_lifecycle() {
    assert!(holds(sound::checks::lifecycle));
    assert!(!holds(relaxed_holder::checks::lifecycle), "a relaxed settle must be caught");
    assert!(!holds(without_fence::checks::lifecycle), "a missing fence must be caught");
}
