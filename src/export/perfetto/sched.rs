//! The kernel's switches: CPUs' tracks and threads' exact states, which Perfetto makes of one event for each change.
//!
//! Only what the kernel told is written: a thread without switches has no such states.

use std::io;

use super::Export;
use super::packets::{Sequence, TaskState};
use crate::model::CpuSlice;

/// Writes which thread was on which CPU.
pub(super) fn write(export: &mut Export<'_, '_>, sequence: &mut Sequence) -> io::Result<()> {
    let trace = export.trace;
    for slice in &trace.cpus {
        let tid = trace.threads.get(slice.thread as usize).map_or(0, |thread| thread.tid);
        // Thread 0 would be the kernel's idle thread; and of how long one of no length lasted nothing is known.
        if tid == 0 || slice.time.duration() == 0 {
            continue;
        }
        let out = &mut export.out.raw;
        sequence.task_state(slice.time.begin, slice.cpu, tid, TaskState::Running, out);
        if slice.time.end < trace.info.duration_ns {
            sequence.task_state(slice.time.end, slice.cpu, tid, after(slice), out);
        }
        export.out.settle()?;
    }
    Ok(())
}

fn after(slice: &CpuSlice) -> TaskState {
    if slice.preempted { TaskState::Runnable } else { TaskState::Sleeping }
}
