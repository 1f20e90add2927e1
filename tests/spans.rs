//! Spans and events of the `tracing` crates are on the timeline of the thread and the task that they belong to.

#![cfg(feature = "tracing")]

mod recorded;

use kymo::limits::STRING_BYTES;
use kymo::model::{Span, Trace};
use recorded::{record_unnamed, this_thread};
use tokio::sync::mpsc;
use tracing::instrument::WithSubscriber;
use tracing::{Instrument, Subscriber};
use tracing_subscriber::layer::SubscriberExt;

fn subscriber() -> impl Subscriber + Send + Sync {
    tracing_subscriber::registry().with(kymo::tracing::layer())
}

fn record_spans(work: impl FnOnce()) -> Trace {
    record_unnamed(|| tracing::subscriber::with_default(subscriber(), work)).1
}

fn span<'a>(trace: &'a Trace, name: &str) -> &'a Span {
    let mut found = trace.spans.iter().filter(|span| trace.text(span.name) == name);
    let span = found.next().unwrap_or_else(|| panic!("no span {name}"));
    assert_eq!(found.count(), 0, "one span {name}");
    span
}

fn fields<'a>(trace: &'a Trace, span: &Span) -> Vec<(&'a str, &'a str)> {
    span.fields.iter().map(|&(key, value)| (trace.text(key), trace.text(value))).collect()
}

fn messages(trace: &Trace) -> Vec<(&str, &str)> {
    trace.logs.iter().map(|log| (trace.text(log.category), trace.text(log.message))).collect()
}

#[test]
fn a_span_has_its_name_parent_fields_and_stretches_on_its_thread() {
    let trace = record_spans(|| {
        let outer = tracing::info_span!("outer", id = 7, who = "me", late = tracing::field::Empty);
        outer.in_scope(|| {
            let _inner = tracing::debug_span!("inner", list = ?[1, 2]).entered();
        });
        outer.record("late", 2.5);
        outer.in_scope(|| {});
    });
    let (outer, inner) = (span(&trace, "outer"), span(&trace, "inner"));
    assert_eq!(fields(&trace, outer), [("id", "7"), ("who", "me"), ("late", "2.5")]);
    assert_eq!(fields(&trace, inner), [("list", "[1, 2]")]);
    assert_eq!((outer.parent, inner.parent), (None, Some(outer.id)));
    assert_eq!((outer.active.len(), inner.active.len()), (2, 1));
    let here = this_thread(&trace);
    for span in [outer, inner] {
        assert_eq!((span.thread, span.task, span.time.open), (here, None, false));
        assert!(span.active.iter().all(|stretch| stretch.thread == here && !stretch.time.open));
    }
    assert!(outer.active_ns() < outer.time.end - outer.time.begin);
}

#[test]
fn a_span_of_an_async_function_is_one_span_of_its_task_with_a_stretch_for_each_poll() {
    #[tracing::instrument(skip(receiver))]
    async fn serve(receiver: &mut mpsc::Receiver<u32>, floor: u32) -> u32 {
        let mut sum = floor;
        while let Some(next) = receiver.recv().await {
            sum += next;
        }
        sum
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let trace = record_spans(|| {
        runtime.block_on(async {
            let (sender, mut receiver) = mpsc::channel(1);
            let server = kymo::spawn_named("server", async move { serve(&mut receiver, 3).await });
            for next in 0..4 {
                sender.send(next).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(sender);
            assert_eq!(server.await.unwrap(), 9);
        });
    });
    let server = trace.tasks.iter().position(|task| task.name == "server").unwrap() as u32;
    let serve = span(&trace, "serve");
    assert_eq!((serve.task, fields(&trace, serve)), (Some(server), vec![("floor", "3")]));
    assert!(serve.active.len() > 2, "{serve:?}");
    for stretch in &serve.active {
        assert_eq!(stretch.task, Some(server));
        let inside = |poll: &kymo::model::Poll| {
            poll.task == server && poll.time.begin <= stretch.time.begin && stretch.time.end <= poll.time.end
        };
        assert!(trace.polls.iter().any(inside), "a stretch lies in a poll: {stretch:?}");
    }
}

#[test]
fn a_span_made_by_the_spawner_is_the_spawned_tasks() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let ((), trace) = record_unnamed(|| {
        runtime.block_on(
            async {
                let span = tracing::info_span!("job");
                let job = async { tokio::task::yield_now().await }.instrument(span);
                kymo::spawn_named("worker", job.with_current_subscriber()).await.unwrap();
            }
            .with_subscriber(subscriber()),
        );
    });
    let worker = trace.tasks.iter().position(|task| task.name == "worker").unwrap() as u32;
    assert_eq!(span(&trace, "job").task, Some(worker));
}

#[test]
fn events_are_messages_with_their_level_and_fields_and_their_targets_category() {
    let trace = record_spans(|| {
        tracing::warn!(target: "db", rows = 48, table = "hats", "slow query {}", 7);
        tracing::info!(ready = true);
    });
    assert_eq!(
        messages(&trace),
        [("db", "WARN slow query 7 rows=48 table=hats"), (module_path!(), "INFO ready=true")]
    );
}

#[test]
fn g7_giant_payload() {
    let giant = "x".repeat(10 << 20);
    let trace = record_spans(|| {
        let _span = tracing::info_span!("giant", body = giant.as_str(), debug = ?giant).entered();
        tracing::info!("{giant}");
        kymo::log!("giant", "{giant}");
        kymo::span!("mine").field("body", &giant);
    });
    let texts = (messages(&trace).into_iter().map(|(_, message)| message))
        .chain(fields(&trace, span(&trace, "giant")).into_iter().map(|(_, value)| value))
        .chain(fields(&trace, span(&trace, "mine")).into_iter().map(|(_, value)| value))
        .collect::<Vec<_>>();
    assert_eq!(texts.len(), 5);
    for text in texts {
        assert!(text.len() <= STRING_BYTES && text.ends_with('…'), "{} bytes, not flagged", text.len());
    }
}

#[test]
fn a_span_that_lives_already_tells_each_capture_its_name_and_parent_once() {
    tracing::subscriber::with_default(subscriber(), || {
        let outer = tracing::info_span!("connection");
        let inner = tracing::info_span!(parent: &outer, "request");
        for _ in 0..2 {
            let ((), trace) = record_unnamed(|| {
                inner.in_scope(|| ());
                inner.in_scope(|| ());
            });
            let (connection, request) = (span(&trace, "connection"), span(&trace, "request"));
            assert_eq!((request.parent, request.active.len()), (Some(connection.id), 2));
            assert!(request.time.open && connection.active.is_empty());
        }
    });
}

#[test]
fn a_span_told_to_a_capture_that_began_later_stays_one_in_the_earlier() {
    tracing::subscriber::with_default(subscriber(), || {
        let ((), earlier) = record_unnamed(|| {
            let span = tracing::info_span!("both");
            span.in_scope(|| ());
            let ((), later) = record_unnamed(|| span.in_scope(|| ()));
            assert_eq!(self::span(&later, "both").active.len(), 1);
        });
        assert_eq!(span(&earlier, "both").active.len(), 2);
    });
}
