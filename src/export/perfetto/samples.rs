//! CPU samples: rows of threads and of the process, flame graphs of what is selected.
//!
//! Perfetto's samples have no weights, so one that stands for several periods is written as often.

use std::io;

use super::Export;
use super::packets::{Sample, Sequence};
use crate::profile::sample_period;

/// Writes the samples.
pub(super) fn write(export: &mut Export<'_, '_>, sequence: &mut Sequence) -> io::Result<()> {
    let trace = export.trace;
    if trace.samples.is_empty() {
        return Ok(());
    }
    let period = sample_period(trace);
    sequence.sample_each(period, &mut export.out.raw);
    for sample in &trace.samples {
        let tid = trace.threads.get(sample.thread as usize).map_or(0, |thread| thread.tid as u32);
        let packet = Sample { cpu: sample.cpu, pid: trace.info.pid, tid, stack: sample.stack };
        for _ in 0..(sample.weight_ns / period).clamp(1, MOST) {
            sequence.sample(sample.at, &packet, &mut export.dictionary, &mut export.out.raw);
        }
        export.out.settle()?;
    }
    Ok(())
}

/// Packets of one sample: what a thread that blocked the signal used meanwhile is cut here.
const MOST: u64 = 1000;
