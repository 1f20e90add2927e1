//! The known-bad ring that ThreadSanitizer must report: its length is published without release.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const ROOM: usize = 1 << 16;

struct Ring {
    events: [UnsafeCell<u64>; ROOM],
    length: AtomicUsize,
}

// SAFETY: it is not; that is what tests/sanitize wants to see reported.
unsafe impl Sync for Ring {}

#[test]
#[ignore = "a data race: tests/sanitize runs it and expects the report"]
fn a_length_published_without_release_is_a_race() {
    static RING: Ring = Ring { events: [const { UnsafeCell::new(0) }; ROOM], length: AtomicUsize::new(0) };
    thread::scope(|scope| {
        scope.spawn(|| {
            for (at, event) in RING.events.iter().enumerate() {
                // SAFETY: as above.
                unsafe { *event.get() = 1 };
                RING.length.store(at + 1, Ordering::Relaxed);
            }
        });
        let (mut read, mut sum) = (0, 0);
        while read < ROOM {
            let length = RING.length.load(Ordering::Relaxed);
            // SAFETY: as above.
            sum += RING.events[read..length].iter().map(|event| unsafe { *event.get() }).sum::<u64>();
            read = length;
        }
        assert_eq!(sum, ROOM as u64);
    });
}
