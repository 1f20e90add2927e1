//! Spans and events of the `tracing` crates, as a layer beside others.
//!
//! A span is told with its name, parent and fields when it is made, then each time that a thread or a task enters and
//! leaves it: a span of an async function is left at each await and entered again at the next poll, and stays one span
//! with several active stretches. Events are messages; their category is the event's target. With recording off each
//! callback costs one load. A span that lives already when a capture starts tells its name when it is entered next;
//! its earlier fields are not known.
//!
//! Values are formatted on the stack, cut at a bound, and say so with `…` at their end.
//!
//! The layer is interested in everything. What a filter in front of it turns off it does not see.

use std::fmt::Debug;

use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Id as TracingId, Record};
use tracing_core::{Event, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::span::{new_span, tell_field};
use super::text::Text;
use crate::events::{Group, Id, Log, SpanBegin, SpanEnd, SpanEnter, SpanExit};
use crate::record;

/// The field that holds an event's message.
const MESSAGE: &str = "message";

/// Records spans, their fields and events: made by [`layer`].
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Layer;

/// A layer that records spans, their fields and events while a capture runs.
///
/// ```
/// use tracing_subscriber::layer::SubscriberExt;
/// let subscriber = tracing_subscriber::registry().with(kymo::tracing::layer());
/// tracing::subscriber::set_global_default(subscriber).unwrap();
///
/// let _request = tracing::info_span!("request", id = 7).entered();
/// tracing::warn!(rows = 48_000, "slow query");
/// ```
pub fn layer() -> Layer {
    Layer
}

/// What a span knows of itself, kept beside it.
struct Told {
    span: Id,
    /// The capture that knows.
    epoch: u64,
}

/// The span's number, told to the latest capture if it did not know it yet.
fn tell<'a, S: LookupSpan<'a>>(span: &SpanRef<'a, S>) -> Id {
    let epoch = record::epoch();
    if let Some(told) = span.extensions().get::<Told>().filter(|told| told.epoch == epoch) {
        return told.span;
    }
    // Before this span is locked: a capture that knows a child knows its parent.
    let parent = span.parent().map_or(Id(0), |parent| tell(&parent));
    let mut extensions = span.extensions_mut();
    let number = match extensions.get_mut::<Told>() {
        Some(told) if told.epoch == epoch => return told.span,
        Some(told) => {
            told.epoch = epoch;
            told.span
        }
        None => {
            let number = new_span();
            extensions.insert(Told { span: number, epoch });
            number
        }
    };
    record::emit(SpanBegin { span: number, name: record::string(span.name()), parent });
    number
}

fn told<'a, S: LookupSpan<'a>>(span: &SpanRef<'a, S>) -> Option<Id> {
    span.extensions().get::<Told>().map(|told| told.span)
}

impl<S> tracing_subscriber::Layer<S> for Layer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &TracingId, context: Context<'_, S>) {
        if record::enabled(Group::User)
            && let Some(span) = context.span(id)
        {
            attributes.record(&mut Fields(tell(&span)));
        }
    }

    fn on_record(&self, id: &TracingId, values: &Record<'_>, context: Context<'_, S>) {
        if record::enabled(Group::User)
            && let Some(span) = context.span(id)
        {
            values.record(&mut Fields(tell(&span)));
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !record::enabled(Group::User) {
            return;
        }
        let mut text = Text::of(format_args!("{}", event.metadata().level()));
        event.record(&mut Message(&mut text));
        let category = record::string(event.metadata().target());
        record::emit(Log { category, message: record::spare_string(text.as_str()) });
    }

    fn on_enter(&self, id: &TracingId, context: Context<'_, S>) {
        if record::enabled(Group::User)
            && let Some(span) = context.span(id)
        {
            record::emit(SpanEnter { span: tell(&span) });
        }
    }

    fn on_exit(&self, id: &TracingId, context: Context<'_, S>) {
        if record::enabled(Group::User)
            && let Some(span) = context.span(id).and_then(|span| told(&span))
        {
            record::emit(SpanExit { span });
        }
    }

    fn on_close(&self, id: TracingId, context: Context<'_, S>) {
        if record::enabled(Group::User)
            && let Some(span) = context.span(&id).and_then(|span| told(&span))
        {
            record::emit(SpanEnd { span });
        }
    }
}

/// Tells a span's fields, each as an event of its own.
struct Fields(Id);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        tell_field(self.0, field.name(), format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        tell_field(self.0, field.name(), format_args!("{value:?}"));
    }
}

/// Writes an event's message as it is, and its other fields as `name=value`.
struct Message<'a>(&'a mut Text);

impl Visit for Message<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            MESSAGE => self.0.add(format_args!(" {value}")),
            name => self.0.add(format_args!(" {name}={value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            MESSAGE => self.0.add(format_args!(" {value:?}")),
            name => self.0.add(format_args!(" {name}={value:?}")),
        }
    }
}
