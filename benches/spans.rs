//! What the `tracing` layer adds to a span that is made, entered, left and closed: with recording off, and on.
//!
//! `cargo bench --features tracing --bench spans`. The floor is tracing's own registry.

mod harness;

use harness::{budget, compare, figure};
use kymo::events::Groups;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::{Offer, Sink};
use tracing::Dispatch;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

const OPERATIONS: u32 = 2_000;

/// Takes everything and keeps nothing: the recorder alone is measured.
struct Discard;

impl Sink for Discard {
    fn offer(&mut self, _sections: Vec<u8>) -> Offer {
        Offer::Taken
    }
}

fn spans(dispatch: &Dispatch, operations: u32) {
    tracing::dispatcher::with_default(dispatch, || {
        for index in 0..operations {
            let _span = tracing::info_span!("step", index).entered();
        }
    });
}

/// Nanoseconds of a span: with the registry alone, and with the layer.
fn measure() -> [f64; 2] {
    let (bare, layered) = (Dispatch::new(registry()), Dispatch::new(registry().with(kymo::tracing::layer())));
    let mut bare = |operations| spans(&bare, operations);
    let mut layered = |operations| spans(&layered, operations);
    compare(OPERATIONS, [&mut bare, &mut layered])
}

fn main() {
    let [bare, off] = measure();
    figure("span_registry_ns", bare, "ns");
    budget("span_layer_off_ns", (off - bare).max(0.0), 20.0);
    let options = CaptureOptions { groups: Groups::ALL, cpu_hz: 0, sink: Box::new(Discard), resolver: None };
    let capture = Capture::start(options).expect("nothing else records");
    let [bare, on] = measure();
    figure("span_layer_on_ns", on - bare, "ns");
    capture.stop();
}
