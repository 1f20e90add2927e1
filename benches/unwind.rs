//! What a stack costs, ten and thirty calls deep, beside two things measured in the same run: following as many
//! frame pointers, which nothing could beat but x86_64 programs don't have, and framehop, which reads the same frame
//! descriptions at the moment they are needed.
//!
//! `cargo bench --bench unwind`. A time is the fastest of many short batches, so that what else the machine does
//! stays out. Ends with a line for each budget.
#![allow(unsafe_code, reason = "the oracle reads registers and the stack")]

#[path = "../tests/oracle/mod.rs"]
mod oracle;

use std::hint::black_box;
use std::time::Instant;

use oracle::{Oracle, registers, stack_end};

/// Frames that the deepest measured stack has at most.
const FRAMES: usize = 128;

/// Nanoseconds of one call: the fastest of 400 batches of 250.
fn fastest(mut once: impl FnMut()) -> f64 {
    let batch = |once: &mut dyn FnMut()| {
        let begin = Instant::now();
        (0..250).for_each(|_| once());
        begin.elapsed().as_nanos() as f64 / 250.0
    };
    (0..400).map(|_| batch(&mut once)).fold(f64::INFINITY, f64::min)
}

/// Calls itself, then `then`.
#[inline(never)]
fn deeper(depth: u32, then: &mut dyn FnMut()) {
    if depth == 0 {
        then();
    } else {
        deeper(depth - 1, then);
    }
    // Keeps the call from becoming a jump.
    black_box(depth);
}

/// Frame records as frame pointers would chain them: each one's place of the next, and a return address.
fn chain(frames: usize) -> Vec<[usize; 2]> {
    // A frame of six words or so lies between two records.
    const SPACING: usize = 4;
    (0..frames * SPACING).map(|place| [place + SPACING, place]).collect()
}

/// What a walk by frame pointers does.
#[inline(never)]
fn follow(chain: &[[usize; 2]], frames: &mut [u64]) -> usize {
    let (mut at, mut count) = (0, 0);
    while let Some(&[next, address]) = chain.get(at)
        && count < frames.len()
    {
        frames[count] = address as u64;
        count += 1;
        at = next;
    }
    count
}

fn measure(depth: u32, limit: f64, oracle: &mut Oracle) {
    let mut frames = [0; FRAMES];
    let (mut count, mut ours, mut theirs) = (0, 0.0, 0.0);
    let end = stack_end();
    deeper(depth, &mut || {
        count = kymo::unwind::capture(&mut frames);
        ours = fastest(|| {
            black_box(kymo::unwind::capture(black_box(&mut frames)));
        });
        theirs = fastest(|| {
            black_box(oracle.stack(registers(), end, black_box(&mut frames)));
        });
    });
    let chain = chain(count);
    let floor = fastest(|| {
        black_box(follow(black_box(&chain), black_box(&mut frames)));
    });
    println!("depth {depth}: {count} frames, {:.1} ns a frame", ours / count as f64);
    println!("  floor, frame pointers  {floor:7.1} ns");
    println!("  kymo                   {ours:7.1} ns   {:.1} x floor", ours / floor);
    println!("  framehop               {theirs:7.1} ns   {:.1} x kymo", theirs / ours);
    let word = if ours <= limit { "ok" } else { "miss" };
    println!("budget stack_depth_{depth} {ours:.1} {limit} {word}");
}

fn main() {
    let begin = Instant::now();
    kymo::unwind::prepare();
    println!("prepare: {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    let begin = Instant::now();
    kymo::unwind::prepare();
    println!("prepare again, nothing loaded since: {:.1} us", begin.elapsed().as_secs_f64() * 1e6);
    let mut oracle = Oracle::new();
    let first = |_| {
        let stack = || {
            let mut frames = [0; FRAMES];
            let begin = Instant::now();
            black_box(kymo::unwind::capture(&mut frames));
            begin.elapsed().as_secs_f64() * 1e6
        };
        std::thread::spawn(stack).join().unwrap()
    };
    println!("a thread's first stack: {:.1} us", (0..50).map(first).fold(f64::INFINITY, f64::min));
    measure(10, 120.0, &mut oracle);
    measure(30, 240.0, &mut oracle);
}
