//! What `kymo::Alloc` costs: a pair of an allocation and a free, through it and through the system's allocator alone.
//!
//! `cargo bench --bench alloc`. Both take turns in one process; kymo's allocator is the program's, sampling at its
//! default rate, and the system's is called beside it.
#![allow(unsafe_code, reason = "calls allocators as the language does")]

mod harness;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;

use harness::{budget, compare, figure};

#[global_allocator]
static ALLOC: kymo::Alloc = kymo::Alloc::new();

const PAIRS: u32 = 20_000;

/// Sizes of the mixed workload, and how many of its allocations live at the same time.
const LIVE: usize = 4096;

/// Pairs of one size, one after the other.
fn pairs<A: GlobalAlloc>(alloc: &A, times: u32) {
    let layout = Layout::new::<[u64; 8]>();
    for _ in 0..times {
        // SAFETY: the layout has a size.
        let place = black_box(unsafe { alloc.alloc(black_box(layout)) });
        // SAFETY: it was allocated above, with this layout.
        unsafe { alloc.dealloc(place, layout) };
    }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("it is small")
}

/// Pairs of 16 to 784 bytes, among many that live.
fn mixed<A: GlobalAlloc>(alloc: &A, live: &mut [(usize, usize)], times: u32) {
    let mut random = 1_u64;
    for _ in 0..times {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let (place, size) = &mut live[random as usize % LIVE];
        if *place != 0 {
            // SAFETY: it was allocated below, with this layout.
            unsafe { alloc.dealloc(*place as *mut u8, layout(*size)) };
        }
        *size = 16 + (random >> 32) as usize % 769;
        // SAFETY: the size is above zero.
        *place = unsafe { alloc.alloc(layout(*size)) } as usize;
    }
}

fn main() {
    assert!(kymo::heap_counts().allocated_objects > 0);
    let [plain, watched] =
        compare(PAIRS, [&mut |times| pairs(&System, times), &mut |times| pairs(&ALLOC, times)]);
    let (mut by_system, mut by_kymo) = (vec![(0, 0); LIVE], vec![(0, 0); LIVE]);
    let [mixed_plain, mixed_watched] = compare(
        PAIRS,
        [&mut |times| mixed(&System, &mut by_system, times), &mut |times| mixed(&ALLOC, &mut by_kymo, times)],
    );
    figure("alloc_pair_system", plain, "ns");
    figure("alloc_pair_kymo", watched, "ns");
    figure("alloc_mixed_system", mixed_plain, "ns");
    figure("alloc_mixed_kymo", mixed_watched, "ns");
    budget("alloc_pair", watched - plain, 1.0);
    budget("alloc_mixed", mixed_watched - mixed_plain, 2.0);
}
