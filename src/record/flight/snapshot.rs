//! What the ring holds, made a trace: a header whose window begins where the ring is complete, the sections, the
//! tables that their events name, and an end mark.

use std::panic::catch_unwind;

use super::ring::Ring;
use crate::clock::{self, Sync, Timebase};
use crate::events::{Event, ThreadId};
use crate::format::file::{File, FileError};
use crate::format::{End, Header, MAGIC, Module, ThreadInfo, encode};
use crate::record::named::{Named, put_stacks, put_strings};
use crate::record::run::Run;
use crate::record::session::Resolver;
use crate::record::{Recorder, recording};

/// More than the schema takes.
const SCHEMA_ROOM: usize = 8 * 1024;

/// What was held at one moment.
pub(super) struct Held {
    /// A file without header: the schema, then sections of events, of what live tables tell, and of threads that have
    /// ended.
    file: Vec<u8>,
    /// The window, in ticks.
    start_ticks: u64,
    end_ticks: u64,
    /// The threads that live.
    living: Vec<ThreadInfo>,
}

impl Held {
    /// Copies what the ring has, and adds what live tables tell.
    pub(super) fn copy(ring: &Ring, live: &[u8], end_ticks: u64, living: Vec<ThreadInfo>) -> Held {
        let mut file = Vec::with_capacity(ring.held() + live.len() + SCHEMA_ROOM);
        encode::magic(&mut file);
        encode::schema(&mut file);
        ring.copy_to(&mut file);
        file.extend_from_slice(live);
        Held { file, start_ticks: ring.complete_from(), end_ticks, living }
    }

    /// As a trace. Naming addresses may take a second.
    ///
    /// # Errors
    /// The ring held what is no trace.
    pub(super) fn into_trace(
        self,
        begun: Sync,
        recorder: &Recorder,
        resolver: Option<Resolver>,
    ) -> Result<Vec<u8>, FileError> {
        let file = File::parse(&self.file)?;
        let told = Told::by(&file);
        let mut out = Vec::with_capacity(self.file.len() + self.file.len() / 8);
        encode::magic(&mut out);
        encode::header(&mut out, &header(&file, begun, self.start_ticks));
        out.extend_from_slice(&self.file[MAGIC.len()..]);
        self.put_tables(&mut out, told, &file, recorder, resolver);
        Ok(out)
    }

    fn put_tables(
        &self,
        out: &mut Vec<u8>,
        mut told: Told,
        file: &File<'_>,
        recorder: &Recorder,
        resolver: Option<Resolver>,
    ) {
        for info in file.threads.iter().chain(&self.living) {
            told.strings.note(&[info.name.0]);
        }
        put_stacks(out, &told.stacks.untold(), &recorder.stacks);
        put_strings(out, &told.strings.untold(), &recorder.strings);
        encode::threads(out, &self.living);
        let modules = recording::modules();
        encode::modules(out, &modules);
        if let Some(resolver) = resolver {
            put_symbols(out, resolver, &told.stacks.addresses(&recorder.stacks), &modules);
        }
        encode::end(out, &End { end_ticks: self.end_ticks, events: told.events, lost: told.lost });
    }
}

/// A resolver that panics names nothing; whoever reads the trace can still do so.
fn put_symbols(out: &mut Vec<u8>, resolver: Resolver, addresses: &[u64], modules: &[Module]) {
    let named = catch_unwind(|| resolver(addresses, modules));
    encode::symbols(out, &named.unwrap_or_default());
}

/// What the events that are held tell of.
#[derive(Default)]
struct Told {
    stacks: Named,
    strings: Named,
    events: u64,
    lost: u64,
}

impl Told {
    fn by(file: &File<'_>) -> Told {
        let mut told = Told::default();
        for run in &file.runs {
            let looked = Run::new(run.head, run.bytes);
            told.stacks.note(&looked.stacks);
            told.strings.note(&looked.strings);
            told.events += looked.events;
            if run.head.thread == ThreadId(0) {
                told.lost += file.events(run).flatten().map(|stamped| lost(&stamped.event)).sum::<u64>();
            }
        }
        told
    }
}

fn lost(event: &Event) -> u64 {
    match event {
        Event::Loss(loss) => loss.count.0,
        _ => 0,
    }
}

/// The header of a trace that begins at `start_ticks`, in the clocks of then.
fn header(file: &File<'_>, begun: Sync, start_ticks: u64) -> Header {
    let now = recording::header(clock::sync());
    let at = |header: &Header| Sync {
        ticks: header.start_ticks,
        monotonic_ns: header.start_monotonic_ns,
        realtime_ns: header.start_realtime_ns,
    };
    let mut syncs = vec![begun, at(&now)];
    syncs.extend_from_slice(file.timebase().syncs());
    let start_monotonic_ns = Timebase::new(syncs).nanos(start_ticks);
    let since = now.start_monotonic_ns.saturating_sub(start_monotonic_ns);
    let start_realtime_ns = now.start_realtime_ns.saturating_sub(since);
    Header { start_ticks, start_monotonic_ns, start_realtime_ns, ..now }
}
