//! What the kernel's switches say: which thread was on which CPU, and why a thread's state is what it is.
//!
//! Where switches are told, they decide: a thread is running exactly while it is on a CPU, runnable while one was taken
//! from it, and otherwise does what it is inside (`threads`). They come from the kernel's lane, so they don't count as
//! something that the thread itself told.

use super::timeline::{Builder, close};
use super::{CpuSlice, Ns, SchedTotal, ThreadIndex};
use crate::events::{Event, ThreadId};

/// Where the kernel has a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody says.
    Untold,
    /// On a CPU: an index into [`Trace::cpus`](super::Trace::cpus).
    On { slice: u32 },
    /// Off, because it waits.
    Off,
    /// Off, though it wants to go on.
    Wanted,
}

impl Builder {
    /// Takes an event that the kernel tells of a thread.
    #[cold]
    pub(super) fn sched_event(&mut self, id: ThreadId, at: Ns, event: &Event) {
        let thread = self.thread(id);
        match *event {
            Event::SwitchIn(switch) => self.switched_in(thread, at, switch.cpu.0 as u32),
            Event::SwitchOut(switch) => self.switched_out(thread, at, switch.preempted.0 != 0),
            Event::SwitchGap(_) => self.switches_missing(thread),
            Event::SchedTotals(totals) => {
                let (running, runnable) = (totals.running.0, totals.runnable.0);
                let preemptions = totals.preemptions.0;
                self.trace.sched_totals.push(SchedTotal { at, thread, running, runnable, preemptions });
            }
            _ => {}
        }
    }

    fn switched_in(&mut self, thread: ThreadIndex, at: Ns, cpu: u32) {
        if let Place::On { slice } = self.threads[thread as usize].place {
            let slice = &mut self.trace.cpus[slice as usize];
            // Said again, where another capture began.
            if slice.cpu == cpu {
                return;
            }
            slice.time.end = at;
        }
        let slice = self.trace.cpus.len() as u32;
        self.trace.cpus.push(CpuSlice { cpu, thread, time: self.open_from(at), preempted: false });
        self.go(thread, at, Place::On { slice });
    }

    fn switched_out(&mut self, thread: ThreadIndex, at: Ns, preempted: bool) {
        match self.threads[thread as usize].place {
            Place::On { slice } => {
                let slice = &mut self.trace.cpus[slice as usize];
                close(&mut slice.time, at);
                slice.preempted = preempted;
            }
            // Said again, where another capture began.
            Place::Off | Place::Wanted => return,
            Place::Untold => {}
        }
        self.go(thread, at, if preempted { Place::Wanted } else { Place::Off });
    }

    /// From the latest switch on nothing is known, until the next one.
    fn switches_missing(&mut self, thread: ThreadIndex) {
        let track = &mut self.threads[thread as usize];
        let since = track.states.latest_at();
        if let Place::On { slice } = std::mem::replace(&mut track.place, Place::Untold) {
            let time = &mut self.trace.cpus[slice as usize].time;
            time.end = time.begin;
        }
        track.states.change(since, super::State::Unknown, super::Cause::None);
    }

    /// The kernel makes a thread runnable.
    pub(super) fn waking(&mut self, id: ThreadId, at: Ns) {
        let Some(thread) = self.thread_index.get(u64::from(id.0)) else { return };
        if self.threads[thread as usize].place == Place::Off {
            self.go(thread, at, Place::Wanted);
        }
    }

    fn go(&mut self, thread: ThreadIndex, at: Ns, place: Place) {
        let track = &mut self.threads[thread as usize];
        track.place = place;
        // What a thread does after its end is the kernel's cleaning up.
        if !track.exited {
            self.settle(thread, at);
        }
    }
}
