//! Sinks that end, fail and panic cost their own capture, and nothing else.

use kymo::events::Group;
use kymo::record::enabled;
use kymo::record::sink::{Offer, Sink, WriteSink, channel};

use super::captured::{USER, all_counters, alone, count, start, start_into};

/// Does as told from the second offer on; the first one is the header, on the thread that starts.
struct Then<F: FnMut() -> Offer + Send>(bool, F);

impl<F: FnMut() -> Offer + Send> Sink for Then<F> {
    fn offer(&mut self, _sections: Vec<u8>) -> Offer {
        match std::mem::replace(&mut self.0, true) {
            false => Offer::Taken,
            true => (self.1)(),
        }
    }
}

/// A thread's end passes its chunk on, so the drain has something to offer within a moment.
fn emit_and_pass_on() {
    std::thread::spawn(|| count(1)).join().unwrap();
}

#[test]
fn a_sink_that_closes_ends_its_capture() {
    let _alone = alone();
    let capture = start_into(USER, Box::new(Then(false, || Offer::Closed)));
    emit_and_pass_on();
    while enabled(Group::User) {
        std::thread::yield_now();
    }
    assert!(capture.progress().closed);
    assert_eq!(kymo::record::usage().captures, 0);
}

#[test]
fn a_sink_that_panics_ends_its_capture_and_no_other() {
    let _alone = alone();
    let (whole, whole_sink) = start(USER);
    let broken = start_into(USER, Box::new(Then(false, || panic!("a sink's own fault"))));
    emit_and_pass_on();
    while !broken.progress().closed {
        std::thread::yield_now();
    }
    emit_and_pass_on();
    assert_eq!(whole.stop().lost, 0);
    assert_eq!(all_counters(&whole_sink.take()), [1, 1]);
}

/// Closes, and panics when the drain drops it.
struct Grenade(bool);

impl Sink for Grenade {
    fn offer(&mut self, _sections: Vec<u8>) -> Offer {
        match std::mem::replace(&mut self.0, true) {
            false => Offer::Taken,
            true => Offer::Closed,
        }
    }
}

impl Drop for Grenade {
    fn drop(&mut self) {
        if self.0 && std::thread::current().name() == Some("kymo-drain") {
            panic!("on the drain's own thread");
        }
    }
}

#[test]
fn g3_consumer_dies_a_panic_of_the_drain_ends_the_captures_but_not_the_program_and_the_next_capture_works() {
    let _alone = alone();
    let (lost, _sink) = start(USER);
    let grenade = start_into(USER, Box::new(Grenade(false)));
    emit_and_pass_on();
    while enabled(Group::User) {
        std::thread::yield_now();
    }
    while !lost.progress().closed {
        std::thread::yield_now();
    }
    emit_and_pass_on();
    drop((lost, grenade));
    assert!(kymo::status::sources().iter().any(|(_, state)| state.starts_with("consumer_dead")));
    let (next, sink) = start(USER);
    emit_and_pass_on();
    assert_eq!(next.stop().lost, 0);
    assert_eq!(all_counters(&sink.take()), [1]);
}

#[test]
fn a_full_disk_ends_the_capture_with_the_reason() {
    let _alone = alone();
    let sink = WriteSink::new(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let error = sink.error();
    let capture = start_into(USER, Box::new(sink));
    assert!(capture.progress().closed);
    let reason = error.lock().unwrap().as_ref().map(std::io::Error::kind);
    assert_eq!(reason, Some(std::io::ErrorKind::StorageFull));
}

#[test]
fn a_capture_written_to_a_file_is_the_same_trace() {
    let _alone = alone();
    let mut file = tempfile::tempfile().unwrap();
    let capture = start_into(USER, Box::new(WriteSink::new(file.try_clone().unwrap())));
    (0..20_000).for_each(count);
    capture.stop();
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut file).unwrap();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    assert!(all_counters(&bytes).into_iter().eq(0..20_000));
}

#[test]
fn a_reader_that_leaves_ends_its_capture() {
    let _alone = alone();
    let (sink, received) = channel(1 << 20);
    let capture = start_into(USER, Box::new(sink));
    drop(received);
    emit_and_pass_on();
    while !capture.progress().closed {
        std::thread::yield_now();
    }
}
