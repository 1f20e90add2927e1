//! How benches measure and report: ratios inside one run, one line a budget.
//!
//! A shared machine's clock drifts by several percent within seconds, so things that are compared take turns, batch by
//! batch, and each is given by its fast batches: the tenth percentile, which interruptions hardly touch.
//! A budget line reads `budget NAME VALUE LIMIT ok` (or `miss`), for people and scripts alike.

#![allow(dead_code, reason = "each bench uses its part")]

use std::time::{Duration, Instant};

/// Batches that each contender runs.
pub(crate) const BATCHES: usize = 300;

/// Something to measure: runs its operation as often as it is told.
pub(crate) type Contender<'a> = &'a mut dyn FnMut(u32);

/// Nanoseconds per operation of each contender, in their order; `operations` make a batch.
pub(crate) fn compare<const N: usize>(operations: u32, contenders: [Contender<'_>; N]) -> [f64; N] {
    let mut batches = [const { Vec::new() }; N];
    let mut contenders = contenders;
    for contender in &mut contenders {
        contender(operations); // Warms caches and branch predictors.
    }
    for _ in 0..BATCHES {
        for (contender, batches) in contenders.iter_mut().zip(&mut batches) {
            let begin = Instant::now();
            contender(operations);
            batches.push(begin.elapsed());
        }
    }
    batches.map(|batches| fast(batches).as_nanos() as f64 / f64::from(operations))
}

/// The tenth percentile.
pub(crate) fn fast(mut batches: Vec<Duration>) -> Duration {
    batches.sort_unstable();
    batches[batches.len() / 10]
}

/// Prints a figure that has no budget.
pub(crate) fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.2} {unit}");
}

/// Prints a budget's line.
pub(crate) fn budget(name: &str, value: f64, limit: f64) {
    let word = if value <= limit { "ok" } else { "miss" };
    println!("budget {name} {value:.2} {limit} {word}");
}
