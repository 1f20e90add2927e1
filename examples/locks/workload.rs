//! Three threads and a mutex: `reaper` holds it for long, `peek` for next to nothing, `victim` waits and measures.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How long the slow holder keeps the lock, and how long everybody does something else in between. The first is long
/// beside what a busy machine lets a thread wait for its CPU: parking_lot yields a few times before it sleeps.
const HELD: Duration = Duration::from_secs(1);
const ELSEWHERE: Duration = Duration::from_millis(2);

/// What the victim measured: begin and end of each of its waits, nanoseconds since the epoch.
pub(crate) type Waits = Mutex<Vec<(u64, u64)>>;

macro_rules! workload {
    ($(#[$doc:meta])* $name:ident, $mutex:ty, |$lock:ident| $locked:expr) => {
        $(#[$doc])*
        pub(crate) mod $name {
            use super::*;

            /// Works slowly while it holds the lock.
            #[inline(never)]
            fn reaper($lock: &$mutex) {
                let mut guard = $locked;
                thread::sleep(HELD);
                *guard += 1;
            }

            /// Looks at what the lock guards, and lets go at once.
            #[inline(never)]
            fn peek($lock: &$mutex) {
                std::hint::black_box(*$locked);
            }

            /// Measures how long it takes to get the lock.
            #[inline(never)]
            fn victim($lock: &$mutex) -> (Instant, Instant) {
                let begin = Instant::now();
                drop($locked);
                (begin, Instant::now())
            }

            /// Runs until told to stop.
            pub(crate) fn run(stop: &AtomicBool, waits: &Waits) {
                let lock = <$mutex>::new(0);
                let (start, since_epoch) = (Instant::now(), now());
                let again = |work: &dyn Fn()| {
                    while !stop.load(Ordering::Relaxed) {
                        work();
                        thread::sleep(ELSEWHERE);
                    }
                };
                let at = |instant: Instant| since_epoch + (instant - start).as_nanos() as u64;
                thread::scope(|scope| {
                    let named = |name: &str| thread::Builder::new().name(name.into());
                    let reaping = named("reaper").spawn_scoped(scope, || again(&|| reaper(&lock)));
                    let peeking = named("peek").spawn_scoped(scope, || again(&|| peek(&lock)));
                    let waiting = named("victim").spawn_scoped(scope, || {
                        again(&|| {
                            let (begin, end) = victim(&lock);
                            waits.lock().unwrap().push((at(begin), at(end)));
                        });
                    });
                    for thread in [reaping, peeking, waiting] {
                        thread.unwrap().join().unwrap();
                    }
                });
            }
        }
    };
}

workload! {
    /// With std's mutex.
    std_mutex, Mutex<u64>, |lock| lock.lock().unwrap()
}
workload! {
    /// With parking_lot's.
    parking_lot_mutex, parking_lot::Mutex<u64>, |lock| lock.lock()
}

/// Nanoseconds since the epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// What the victim waited inside a window, of the waits that lie in it, nanoseconds.
pub(crate) fn waited(waits: &Waits, from: u64, until: u64) -> u64 {
    let waits = waits.lock().unwrap();
    let inside = waits.iter().filter(|&&(begin, end)| from <= begin && end <= until);
    inside.map(|&(begin, end)| end - begin).sum()
}
