//! The checks themselves, over whichever atomics stand in `super::sync`.

use std::sync::Arc;

use super::registry::{Place, Registry};
use super::ring::{Chunk, ChunkRef, Exchange, Label, Lane, Stolen, steal};
use super::sync::{Fence, UnsafeCell};
use crate::events::{Counter, EventKind, StrId, Value};
use crate::wire::{Cursor, EVENT_MAX};

fn chunk() -> ChunkRef {
    let chunk = ChunkRef(Box::into_raw(Box::new(Chunk::new())));
    chunk.begin(Label { thread: 1, slot: 0, lane: 0 });
    chunk
}

fn event(value: i64) -> Counter {
    Counter { name: StrId(0), value: Value(value) }
}

fn write(lane: &Lane, value: i64) -> bool {
    lane.write(Fence, 0, event(value)).is_ok()
}

/// A lane with a chunk that is about to get its first event.
fn lane_with_chunk() -> Lane {
    let lane = Lane::default();
    let traded = lane.trade(Fence, 0, || Some(chunk()), |_| unreachable!("there was none"));
    assert!(traded.is_ok());
    lane
}

/// The bytes of whole events `first`, `first + 1`, …, as a chunk holds them.
fn whole_events(first: i64, count: i64) -> Vec<u8> {
    (first..first + count)
        .flat_map(|value| {
            let mut room = [0; EVENT_MAX];
            let mut cursor = Cursor::new(&mut room);
            event(value).put(0, &mut cursor);
            let len = cursor.len();
            room[..len].to_vec()
        })
        .collect()
}

/// How many events a chunk has, which are whole and begin with number `first`.
fn events_from(first: i64, chunk: &ChunkRef) -> i64 {
    let bytes = chunk.read(<[u8]>::to_vec);
    let found = (0..=2).find(|&count| bytes == whole_events(first, count));
    found.unwrap_or_else(|| panic!("{bytes:?} are not whole events"))
}

fn see_away(stolen: &Stolen<'_>) {
    while stolen.busy && stolen.lane.is_busy() {
        loom::thread::yield_now();
    }
}

/// A writer writes two events while the drain steals its chunk: the drain ends up with whole events, and what it has
/// is never written to again.
pub fn steal_while_writing() {
    let lane = Arc::new(lane_with_chunk());
    let writer = {
        let lane = lane.clone();
        loom::thread::spawn(move || (1..=2).take_while(|&value| write(&lane, value)).count() as i64)
    };
    let stolen = steal(std::iter::once(&*lane));
    stolen.iter().for_each(see_away);
    let chunk = stolen.iter().find_map(|stolen| stolen.chunk.as_ref()).expect("nobody else takes it");
    let found = events_from(1, chunk);
    let written = writer.join().unwrap();
    assert_eq!(found, written, "each event that was written is in the stolen chunk");
}

/// The drain reads a stolen chunk without waiting for its writer: it finds whole events, if not all.
pub fn read_while_writing() {
    let lane = Arc::new(lane_with_chunk());
    let writer = {
        let lane = lane.clone();
        loom::thread::spawn(move || (1..=2).take_while(|&value| write(&lane, value)).count() as i64)
    };
    let stolen = steal(std::iter::once(&*lane));
    let chunk = stolen.iter().find_map(|stolen| stolen.chunk.as_ref()).expect("nobody else takes it");
    let found = events_from(1, chunk);
    assert!(found <= writer.join().unwrap());
}

/// A writer fills a chunk, trades it and goes on, while the drain empties the full queue, steals, and empties the
/// queue again: each event arrives once.
pub fn trade_while_stealing() {
    let exchange = Arc::new(Exchange::new(vec![chunk()], 2));
    let lane = Arc::new(lane_with_chunk());
    assert!(write(&lane, 1));
    let writer = {
        let (lane, exchange) = (lane.clone(), exchange.clone());
        loom::thread::spawn(move || {
            let wrote = |value| write(&lane, value);
            let second = wrote(2);
            let pass_on = |filled| assert!(exchange.give_full(filled).is_none());
            let traded = lane.trade(Fence, 0, || exchange.take_free(), pass_on);
            assert!(traded.is_ok());
            i64::from(second) + i64::from(wrote(if second { 3 } else { 2 }))
        })
    };
    let mut arrived = Vec::new();
    let mut take = |chunk: ChunkRef| arrived.push(chunk.read(<[u8]>::to_vec));
    let stolen = steal(std::iter::once(&*lane));
    stolen.iter().for_each(see_away);
    let stolen: Vec<_> = stolen.into_iter().filter_map(|stolen| stolen.chunk).collect();
    // What was traded before the steal stands in the queue, and is older.
    exchange.take_full().into_iter().for_each(&mut take);
    stolen.into_iter().for_each(&mut take);
    let written = 1 + writer.join().unwrap();
    exchange.take_full().into_iter().for_each(&mut take);
    lane.take().into_iter().for_each(&mut take);
    assert_eq!(arrived.concat(), whole_events(1, written), "each event once, in order");
}

/// Two threads register while the drain walks: whoever is seen has filled in its number, and no two share a place.
pub fn register_and_walk() {
    let registry = Arc::new(registry(2));
    let threads: Vec<_> = (1..=2)
        .map(|number| {
            let registry = registry.clone();
            loom::thread::spawn(move || {
                let (_, place) = registry.claim().expect("two threads, two places");
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

/// A thread retires its place, the drain frees it, another thread claims it: nobody is inside with anybody else.
pub fn retire_and_claim_again() {
    let registry = Arc::new(registry(1));
    let thread = |number| {
        let registry = registry.clone();
        loom::thread::spawn(move || {
            let Some((index, place)) = registry.claim() else { return false };
            // SAFETY: the place is this thread's alone until it retires it, as the registry promises; loom checks.
            place.item.with_mut(|item| unsafe { *item = number });
            place.settle();
            registry.retire(index);
            true
        })
    };
    let (first, second) = (thread(1), thread(2));
    let index = loop {
        match registry.take_retired() {
            Some(index) => break index,
            None => loom::thread::yield_now(),
        }
    };
    assert_ne!(read(&registry.at(index).item), 0);
    registry.free(index);
    let claimed = [first, second].map(|thread| thread.join().unwrap());
    assert!(claimed.contains(&true));
}

/// What a thread has in its place: who it is, and its lane.
#[derive(Default)]
struct Slot {
    number: UnsafeCell<u32>,
    lane: Lane,
}

/// A capture begins and ends while a thread lives from its first event to its last: it claims a place, writes, passes
/// its chunk on and retires, while the drain looks through the places, steals for a seal, takes what was passed on,
/// and frees the place. Each event arrives once, and belongs to the thread whose place it was.
pub fn lifecycle() {
    let registry = Arc::new(Registry::new((0..1).map(|_| Place::<Slot>::default()).collect()));
    let exchange = Arc::new(Exchange::new(vec![chunk()], 2));
    let thread = {
        let (registry, exchange) = (registry.clone(), exchange.clone());
        loom::thread::spawn(move || {
            let (index, place) = registry.claim().expect("one thread, one place");
            // SAFETY: the place is this thread's alone until it settles, as the registry promises; loom checks.
            place.item.number.with_mut(|number| unsafe { *number = 7 });
            place.settle();
            let lane = &place.item.lane;
            let pass_on = |filled| assert!(exchange.give_full(filled).is_none());
            assert!(lane.trade(Fence, 0, || exchange.take_free(), pass_on).is_ok());
            // A seal may have taken the chunk: then the event is lost, and counted where it is written.
            let written = i64::from(write(lane, 1));
            lane.give_up(Fence, |filled| assert!(exchange.give_full(filled).is_none()));
            registry.retire(index);
            written
        })
    };
    let mut arrived = Vec::new();
    let mut take = |chunk: ChunkRef| arrived.push(chunk.read(<[u8]>::to_vec));
    while registry.used().next().is_none() {
        loom::thread::yield_now();
    }
    let live = || registry.used().filter(|(_, place)| place.is_live()).map(|(_, place)| &place.item);
    for slot in live() {
        assert_eq!(read(&slot.number), 7, "a settled place is filled in");
    }
    let stolen = steal(live().map(|slot| &slot.lane));
    stolen.iter().for_each(see_away);
    stolen.into_iter().filter_map(|stolen| stolen.chunk).for_each(&mut take);
    let index = loop {
        match registry.take_retired() {
            Some(index) => break index,
            None => loom::thread::yield_now(),
        }
    };
    exchange.take_full().into_iter().for_each(&mut take);
    assert!(registry.at(index).item.lane.take().is_none(), "a thread that is gone holds no chunk");
    registry.free(index);
    let written = thread.join().unwrap();
    assert_eq!(arrived.concat(), whole_events(1, written), "each event once");
    assert!(registry.claim().is_some(), "the place is free again");
}

fn registry(places: usize) -> Registry<UnsafeCell<u32>> {
    Registry::new((0..places).map(|_| Place::default()).collect())
}

fn read(cell: &UnsafeCell<u32>) -> u32 {
    // SAFETY: the place is settled, so nobody writes; loom checks.
    cell.with(|item| unsafe { *item })
}
