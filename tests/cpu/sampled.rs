//! What the tests share: work of a known length, captures of samples.

use std::hint::black_box;
use std::time::Duration;

use kymo::events::{Group, Groups};
use kymo::model::Trace;
use kymo::record::session::{Capture, CaptureOptions, Progress, Resolver};
use kymo::record::sink::MemorySink;

pub(crate) const SAMPLES: Groups = Groups::NONE.with(Group::Cpu).with(Group::Thread).with(Group::Label);

/// A capture of CPU samples.
pub(crate) struct Sampling {
    capture: Capture,
    sink: MemorySink,
}

/// What it saw.
pub(crate) struct Sampled {
    pub(crate) trace: Trace,
    pub(crate) progress: Progress,
}

impl Sampling {
    /// Functions are named, which takes seconds in a build without optimization.
    pub(crate) fn start(hz: u32) -> Sampling {
        Sampling::start_with(Some(kymo::model::symbols::resolve), hz)
    }

    fn start_with(resolver: Option<Resolver>, hz: u32) -> Sampling {
        let sink = MemorySink::new(64 << 20);
        let options = CaptureOptions { groups: SAMPLES, cpu_hz: hz, sink: Box::new(sink.clone()), resolver };
        Sampling { capture: Capture::start(options).unwrap(), sink }
    }

    pub(crate) fn stop(self) -> Sampled {
        let progress = self.capture.stop();
        let (trace, problems) = kymo::model::load::load(&self.sink.take()).unwrap();
        assert_eq!(problems, []);
        Sampled { trace, progress }
    }
}

/// Samples while `work` runs.
pub(crate) fn sample<R>(hz: u32, work: impl FnOnce() -> R) -> (R, Sampled) {
    let sampling = Sampling::start(hz);
    let result = work();
    (result, sampling.stop())
}

/// The same; stacks are addresses without names.
pub(crate) fn sample_unnamed<R>(hz: u32, work: impl FnOnce() -> R) -> (R, Sampled) {
    let sampling = Sampling::start_with(None, hz);
    let result = work();
    (result, sampling.stop())
}

impl Sampled {
    /// CPU time of all samples.
    pub(crate) fn total(&self) -> Duration {
        Duration::from_nanos(self.trace.samples.iter().map(|sample| sample.weight_ns).sum())
    }

    /// CPU time of the samples that have a function on their stack.
    pub(crate) fn in_function(&self, name: &str) -> Duration {
        let stacks = &self.trace.stacks;
        let inside = |sample: &&kymo::model::CpuSample| {
            stacks.frames(sample.stack).any(|frame| frame.function.contains(name))
        };
        let samples = self.trace.samples.iter().filter(inside);
        Duration::from_nanos(samples.map(|sample| sample.weight_ns).sum())
    }
}

/// What `status` says of the source.
pub(crate) fn status() -> String {
    let sources = kymo::status::sources();
    sources.into_iter().find(|(name, _)| name == "cpu").map(|(_, state)| state).unwrap_or_default()
}

/// CPU time of this thread.
pub(crate) fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes one timespec.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Uses this thread's CPU for so long.
#[inline(never)]
pub(crate) fn burn(time: Duration) {
    let end = thread_time() + time;
    while thread_time() < end {
        churn();
    }
}

/// Some 20 µs of nothing.
#[inline(never)]
pub(crate) fn churn() {
    let mut x = 1u64;
    for _ in 0..4_000 {
        x = black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    black_box(x);
}
