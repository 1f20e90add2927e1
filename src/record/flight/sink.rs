//! The flight recorder as the drain sees it: a sink that takes everything and keeps the newest.
//!
//! Events, and the threads that have ended, go into the ring. Stacks and strings don't: the recorder's tables hold them
//! for the process's life, and a snapshot takes those that its events name. Only the ring's file, if there is one, gets
//! them as they come, and the names of threads while they live.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ring::Ring;
use super::saving::Saver;
use super::watch::{News, Watch};
use crate::clock;
use crate::format::{EventsHead, Lane, Section, file};
use crate::record::run::Run;
use crate::record::sink::{Extent, Offer, Sink};

/// The ring, shared with whoever takes snapshots.
pub(super) type SharedRing = Arc<Mutex<Ring>>;

/// Takes everything, keeps the newest.
pub(super) struct FlightSink {
    ring: SharedRing,
    min_age: Duration,
    saver: Option<Arc<Saver>>,
    watch: Option<Watch>,
}

impl FlightSink {
    /// Keeps what is younger than `min_age`, as far as the ring's bytes allow.
    pub(super) fn new(ring: SharedRing, min_age: Duration, saver: Option<Arc<Saver>>) -> FlightSink {
        let watch = saver.as_ref().and_then(|saver| Watch::new(&saver.saving));
        FlightSink { ring, min_age, saver, watch }
    }

    /// Saves a snapshot if something has lasted too long.
    fn watch(&mut self, look: impl FnOnce(&mut Watch) -> Option<News>) {
        let (Some(saver), Some(watch)) = (&self.saver, &mut self.watch) else { return };
        if let Some(why) = look(watch) {
            saver.save_soon(why);
        }
    }

    fn look(&mut self, section: &[u8]) {
        self.watch(|watch| file::events(section).and_then(|(head, bytes)| watch.look(&head, bytes)));
    }

    fn expire(&self, ring: &mut Ring) {
        let (now, most) = (clock::ticks(), self.min_age.as_nanos() as u64);
        ring.expire(|ticks| ticks < now && clock::nanos_between(ticks, now) > most);
    }
}

impl Sink for FlightSink {
    /// Once a second, or when a thread has ended: so what is too old goes here.
    fn offer(&mut self, sections: Vec<u8>) -> Offer {
        for (_, section) in file::sections(&sections).filter(|(kind, _)| *kind == Section::Events) {
            self.look(section);
        }
        let mut ring = lock(&self.ring);
        for (kind, section) in file::sections(&sections) {
            match kind {
                Section::Events => {
                    let extent = extent(section);
                    ring.push(section, extent.events, extent.last_ticks);
                }
                Section::Threads => ring.push(section, 0, clock::ticks()),
                // It tells of the whole time, the ring of its last part.
                Section::End => {}
                _ => ring.append_words(section),
            }
        }
        self.expire(&mut ring);
        drop(ring);
        self.watch(|watch| watch.overdue(clock::ticks()));
        Offer::Taken
    }

    fn wants_the_living(&self) -> bool {
        lock(&self.ring).has_file()
    }

    fn offer_living(&mut self, section: &[u8]) {
        lock(&self.ring).append_words(section);
    }

    fn offer_events(&mut self, section: Vec<u8>, extent: Extent) -> Offer {
        lock(&self.ring).push(&section, extent.events, extent.last_ticks);
        self.look(&section);
        Offer::Taken
    }
}

/// What is in a section of events.
fn extent(section: &[u8]) -> Extent {
    let (head, bytes) = file::events(section).unwrap_or((NO_EVENTS, &[]));
    let run = Run::new(head, bytes);
    Extent { events: run.events, last_ticks: run.last_ticks }
}

const NO_EVENTS: EventsHead =
    EventsHead { thread: crate::events::ThreadId(0), lane: Lane::Normal, base_ticks: 0 };

/// The ring is whole between two of its statements, so a panic elsewhere doesn't spoil it.
pub(super) fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}
