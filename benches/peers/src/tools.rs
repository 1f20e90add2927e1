//! Each tool, ready to watch a runtime's tasks.
//!
//! kymo and dial9 see spawns, polls, wakes and parks. fastrace and tracing-chrome see polls only, as spans around them
//! that a program writes itself.

use std::pin::Pin;

use dial9_core::{buffer::MemoryBuffer, recorder::recorder, recording::Recorder};
use dial9_tokio_telemetry::telemetry::{Dial9HandleTokioExt, TokioAttachOptions};
use fastrace::collector::{Config, Reporter, SpanContext, SpanRecord};
use fastrace::future::FutureExt as _;
use kymo::events::{Group, Groups};
use kymo::record::session::Capture;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tracing::Instrument as _;
use tracing_subscriber::prelude::*;

use crate::rounds;

/// Their names; the first is none.
pub(crate) const TOOLS: [&str; 5] = ["plain", "kymo", "dial9", "fastrace", "tracing-chrome"];

/// How tasks are spawned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spawn {
    Plain,
    Kymo,
    Dial9,
    Fastrace,
    Tracing,
}

/// A tool that watches a runtime.
pub(crate) struct Tool {
    spawn: Spawn,
    pub(crate) runtime: Runtime,
    _recorder: Option<Recorder>,
    _capture: Option<Capture>,
    _guard: Option<tracing_chrome::FlushGuard>,
}

/// How a workload spawns: cheap to hand to its tasks.
#[derive(Clone, Copy)]
pub(crate) struct Spawner(Spawn);

struct Nothing;

impl Reporter for Nothing {
    fn report(&mut self, _spans: Vec<SpanRecord>) {}
}

impl Tool {
    /// Sets a tool up, and a runtime of one worker that it watches.
    pub(crate) fn start(name: &str) -> Tool {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).enable_all();
        let plain = |spawn, mut builder: Builder| Tool {
            spawn,
            runtime: builder.build().expect("a runtime"),
            _recorder: None,
            _capture: None,
            _guard: None,
        };
        match name {
            "plain" => plain(Spawn::Plain, builder),
            "kymo" => {
                kymo::tokio::instrument(&mut builder, "main");
                let groups = Groups::NONE.with(Group::Task).with(Group::Worker);
                Tool { _capture: Some(rounds::record(groups)), ..plain(Spawn::Kymo, builder) }
            }
            "dial9" => {
                let recorder = recorder(MemoryBuffer::new(16 << 20).expect("memory")).build();
                let options = TokioAttachOptions::builder().task_tracking_enabled(true).build();
                let runtime = recorder.handle().attach_tokio_runtime(builder, options).expect("a runtime");
                Tool { spawn: Spawn::Dial9, runtime, _recorder: Some(recorder), _capture: None, _guard: None }
            }
            "fastrace" => {
                fastrace::set_reporter(Nothing, Config::default());
                plain(Spawn::Fastrace, builder)
            }
            "tracing-chrome" => {
                let builder_of_layer = tracing_chrome::ChromeLayerBuilder::new();
                let (layer, guard) = builder_of_layer.writer(std::io::sink()).include_args(false).build();
                tracing_subscriber::registry().with(layer).init();
                Tool { _guard: Some(guard), ..plain(Spawn::Tracing, builder) }
            }
            other => panic!("no tool is called {other}"),
        }
    }

    pub(crate) fn spawner(&self) -> Spawner {
        Spawner(self.spawn)
    }
}

impl Spawner {
    /// Spawns as the tool's users do.
    pub(crate) fn spawn<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match self.0 {
            Spawn::Plain => tokio::spawn(future),
            Spawn::Kymo => kymo::spawn(future),
            Spawn::Dial9 => dial9_tokio_telemetry::telemetry::spawn(future),
            Spawn::Fastrace => {
                let root = fastrace::Span::root("task", SpanContext::random());
                tokio::spawn(future.enter_on_poll("poll").in_span(root))
            }
            Spawn::Tracing => tokio::spawn(future.instrument(tracing::info_span!("task"))),
        }
    }
}

/// A boxed future of a workload.
pub(crate) type Work = Pin<Box<dyn Future<Output = u64> + Send>>;
