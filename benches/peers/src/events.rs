//! One event, or one span from begin to end, of each tool, on one thread.
//!
//! What a tool's own background thread does with it later is not in these figures.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use dial9_core::{buffer::MemoryBuffer, clock::clock_monotonic_ns, recorder::recorder};
use dial9_trace_format::TraceEvent;
use fastrace::collector::{Config, Reporter, SpanContext, SpanRecord};
use kymo::events::{Counter, Group, Groups, StrId, Value};
use tracing_subscriber::prelude::*;

use crate::rounds::{self, budget, medians};

const ROUNDS: usize = 60;
const OPERATIONS: u32 = 20_000;

#[derive(TraceEvent)]
struct Tick {
    #[traceevent(timestamp)]
    timestamp_ns: u64,
    value: u64,
}

struct Nothing;

impl Reporter for Nothing {
    fn report(&mut self, _spans: Vec<SpanRecord>) {}
}

/// What any recorder must do: read the clock, store it, publish that.
fn floor(operations: u32) {
    static PLACES: [AtomicU64; 512] = [const { AtomicU64::new(0) }; 512];
    for operation in 0..operations as usize {
        PLACES[operation % 512].store(counter(), Ordering::Release);
    }
}

#[cfg(target_arch = "x86_64")]
fn counter() -> u64 {
    // SAFETY: rdtsc has no preconditions.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    clock_monotonic_ns()
}

/// Prints what an event and a span cost, and how kymo stands to the cheapest peer.
pub(crate) fn compare() {
    let dial9 = recorder(MemoryBuffer::new(16 << 20).expect("memory")).build();
    let handle = dial9.handle().clone();
    fastrace::set_reporter(Nothing, Config::default());
    puffin::set_scopes_on(true);
    let (layer, _guard) =
        tracing_chrome::ChromeLayerBuilder::new().writer(std::io::sink()).include_args(false).build();
    let chrome = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    let capture = rounds::record(Groups::NONE.with(Group::User));
    let [floor, event, span, dial9_event, fastrace_span, puffin_span, chrome_event, chrome_span] = medians(
        ROUNDS,
        OPERATIONS,
        &mut [
            &mut floor,
            &mut |operations| {
                for value in 0..i64::from(operations) {
                    kymo::record::emit(Counter { name: StrId(0), value: Value(black_box(value)) });
                }
            },
            &mut |operations| {
                for _ in 0..operations {
                    let _span = kymo::span!("step");
                }
            },
            &mut |operations| {
                for value in 0..u64::from(operations) {
                    handle.record_event(Tick { timestamp_ns: clock_monotonic_ns(), value: black_box(value) });
                }
            },
            &mut |operations| {
                // Roots hold their spans until they end: one for each thousand.
                for _ in 0..operations / 1000 {
                    let root = fastrace::Span::root("root", SpanContext::random());
                    let _guard = root.set_local_parent();
                    for _ in 0..1000 {
                        let _span = fastrace::local::LocalSpan::enter_with_local_parent("step");
                    }
                }
            },
            &mut |operations| {
                for _ in 0..operations {
                    puffin::profile_scope!("step");
                }
                puffin::GlobalProfiler::lock().new_frame();
            },
            &mut |operations| {
                tracing::dispatcher::with_default(&chrome, || {
                    for value in 0..operations {
                        tracing::info!(value);
                    }
                });
            },
            &mut |operations| {
                tracing::dispatcher::with_default(&chrome, || {
                    for _ in 0..operations {
                        let _span = tracing::info_span!("step").entered();
                    }
                });
            },
        ],
    );
    let lost = capture.stop().lost;
    let figure = |name: &str, ns: f64| println!("figure {name}_ns {ns:.1} = {:.2} x floor", ns / floor);
    figure("floor", floor);
    figure("kymo_event", event);
    figure("dial9_event", dial9_event);
    figure("tracing_chrome_event", chrome_event);
    figure("kymo_span", span);
    figure("puffin_span", puffin_span);
    figure("fastrace_span", fastrace_span);
    figure("tracing_chrome_span", chrome_span);
    println!("figure kymo_events_lost {lost}");
    let cheapest = |peers: &[f64]| peers.iter().copied().fold(f64::INFINITY, f64::min);
    budget("event_over_cheapest_peer", event / cheapest(&[dial9_event, chrome_event]), 1.0);
    budget("span_over_cheapest_peer", span / cheapest(&[puffin_span, fastrace_span, chrome_span]), 1.0);
}
