//! The checks themselves, over whichever atomics stand in `super::sync`.

use std::sync::Arc;

use super::registry::Registry;
use super::ring::{Chunk, ChunkRef, Exchange, Label, Lane, steal};
use super::sync::UnsafeCell;
use crate::events::{Counter, EventKind, StrId, Value};
use crate::wire::{Cursor, EVENT_MAX};

fn label(thread: u32) -> Label {
    Label { ticks: 0, thread, lane: 0, epoch: 0 }
}

fn chunk() -> ChunkRef {
    let chunk = ChunkRef(Box::into_raw(Box::new(Chunk::new())));
    chunk.begin(label(1));
    chunk
}

fn event(value: i64) -> Counter {
    Counter { name: StrId(0), value: Value(value) }
}

/// The bytes of whole events 1, 2, …, as a chunk holds them.
fn whole_events(count: i64) -> Vec<u8> {
    (1..=count)
        .flat_map(|value| {
            let mut room = [0; EVENT_MAX];
            let mut cursor = Cursor::new(&mut room);
            event(value).put(0, &mut cursor);
            let len = cursor.len();
            room[..len].to_vec()
        })
        .collect()
}

fn assert_whole(chunk: &ChunkRef) -> usize {
    let bytes = chunk.read(<[u8]>::to_vec);
    let found = (0..=2).find(|&count| bytes == whole_events(count));
    found.unwrap_or_else(|| panic!("{bytes:?} are not whole events")) as usize
}

/// A writer writes two events while the drain steals its chunk: the drain ends up with whole events, and what it has
/// is never written to again.
pub fn steal_while_writing() {
    let lane = Arc::new(Lane::new(EVENT_MAX + 16));
    lane.give(chunk()).ok().unwrap();
    let writer = {
        let lane = lane.clone();
        loom::thread::spawn(move || {
            let first = lane.write(0, event(1)).is_ok();
            let second = first && lane.write(0, event(2)).is_ok();
            usize::from(first) + usize::from(second)
        })
    };
    let (resting, lingering) = steal(std::iter::once(&*lane));
    let early = resting.iter().map(assert_whole).next();
    let late = lingering.iter().find_map(|lingerer| {
        while !lingerer.lane.left(lingerer.turn) {
            loom::thread::yield_now();
        }
        lingerer.chunk.as_ref().map(assert_whole)
    });
    let written = writer.join().unwrap();
    assert_eq!(early.or(late), Some(written), "each event that was written is in the stolen chunk");
}

/// A writer trades a full chunk for a free one while the drain empties the full queue.
pub fn trade_through_the_queues() {
    let exchange = Arc::new(Exchange::new(vec![chunk(), chunk()], 2, false));
    let writer = {
        let exchange = exchange.clone();
        loom::thread::spawn(move || {
            let lane = Lane::new(EVENT_MAX);
            for value in [1, 2] {
                let traded = lane.trade(|| exchange.take_free().inspect(|chunk| chunk.begin(label(1))));
                if let Some(filled) = traded.unwrap() {
                    assert!(exchange.give_full(filled).is_none());
                }
                lane.write(0, event(value)).unwrap();
            }
        })
    };
    let mut arrived = 0;
    if let Some(filled) = exchange.take_full() {
        assert_eq!(filled.events(), 1);
        arrived += assert_whole(&filled);
        exchange.give_free(filled);
    }
    writer.join().unwrap();
    while let Some(filled) = exchange.take_full() {
        arrived += assert_whole(&filled);
    }
    assert_eq!(arrived, 1, "the second event is still with its writer");
}

/// Two threads register while the drain walks: whoever is seen has filled in its number, and no two share a place.
pub fn register_and_walk() {
    let registry = Arc::new(Registry::new((0..2).map(|_| UnsafeCell::new(0))));
    let threads: Vec<_> = (1..=2)
        .map(|number| {
            let registry = registry.clone();
            loom::thread::spawn(move || {
                let place = registry.claim().expect("two threads, two places");
                // SAFETY: the place is this thread's alone until it retires it, as the registry promises; loom checks.
                place.item.with_mut(|item| unsafe { *item = number });
                place.settle();
                read(&place.item) == number
            })
        })
        .collect();
    while registry.used().next().is_none() {
        loom::thread::yield_now();
    }
    for (_, place) in registry.used() {
        while !place.is_live() {
            loom::thread::yield_now();
        }
        assert_ne!(read(&place.item), 0, "a settled place is filled in");
    }
    for thread in threads {
        assert!(thread.join().unwrap(), "nobody else has written to this thread's place");
    }
}

fn read(cell: &UnsafeCell<u32>) -> u32 {
    // SAFETY: the place is settled, so nobody writes; loom checks.
    cell.with(|item| unsafe { *item })
}
