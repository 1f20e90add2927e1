//! Measuring things against each other: short batches in turn, so that what the machine does meanwhile hits all alike.

#![allow(dead_code, reason = "each bench uses its part")]

use std::time::Instant;

use kymo::events::Groups;
use kymo::record::session::{Capture, CaptureOptions};
use kymo::record::sink::{Offer, Sink};

/// Nanoseconds of one operation for each subject: the median over rounds in which each has its turn.
pub(crate) fn medians<const N: usize>(
    rounds: usize,
    operations: u32,
    subjects: &mut [&mut dyn FnMut(u32); N],
) -> [f64; N] {
    let mut times: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for _ in 0..rounds {
        for (subject, times) in subjects.iter_mut().zip(&mut times) {
            let begin = Instant::now();
            subject(operations);
            times.push(begin.elapsed().as_nanos() as f64 / f64::from(operations));
        }
    }
    times.map(median)
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One line for people and scripts: whether a figure is within its limit.
pub(crate) fn budget(name: &str, value: f64, limit: f64) {
    let word = if value <= limit { "ok" } else { "miss" };
    println!("budget {name} {value:.2} {limit} {word}");
}

/// Takes everything and keeps nothing: what a trace costs whoever reads it is not the bench's subject.
struct Nowhere;

impl Sink for Nowhere {
    fn offer(&mut self, _sections: Vec<u8>) -> Offer {
        Offer::Taken
    }
}

/// Starts recording these groups.
pub(crate) fn record(groups: Groups) -> Capture {
    let options = CaptureOptions { groups, cpu_hz: 0, sink: Box::new(Nowhere), resolver: None };
    Capture::start(options).expect("a bench can record")
}
