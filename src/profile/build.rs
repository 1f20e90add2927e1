//! A profile from a trace's stacks and weights: equal stacks with equal labels become one sample.
//!
//! The frames of the machinery at a contention's leaf (the hook, the lock's own code) are left out, so that the first
//! frame is the function that its author knows; a CPU sample keeps them, since it is they that use the CPU. Weights are summed as floating-point numbers, since a sampled event
//! stands for a fraction more than itself, and rounded at the end.

use std::collections::HashMap;

use super::{Label, LabelValue, Location, Profile, Sample, ValueType};
use crate::events::StackId;
use crate::format::Frame;
use crate::model::{Trace, labels};

/// Where a sample was taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// At a stack of the trace.
    Stack(StackId),
    /// Nobody knows: a word that says why stands in a function's place.
    Word(String),
}

/// Where a sample's stack begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaf {
    /// Where it was taken.
    Itself,
    /// At the caller of the machinery.
    Callers,
}

/// A profile under way, of `N` values a sample.
#[derive(Debug)]
pub(super) struct Builder<'a, const N: usize> {
    trace: &'a Trace,
    profile: Profile,
    leaf: Leaf,
    samples: HashMap<(Vec<u32>, Vec<Label>), usize>,
    weights: Vec<[f64; N]>,
    /// Index of the value that is shown first.
    first: usize,
    /// By address and the number of frames left out, or by word.
    locations: HashMap<(u64, usize), u32>,
    words: HashMap<String, u32>,
}

impl<'a> Builder<'a, 2> {
    /// Of contentions and the time that they took: Go's types for `block` and `mutex`.
    pub(super) fn contentions(trace: &'a Trace) -> Builder<'a, 2> {
        let contentions = ValueType::new("contentions", "count");
        let types = [contentions.clone(), ValueType::new("delay", "nanoseconds")];
        let mut builder = Builder::new(trace, types, 1);
        builder.period(contentions, 1);
        builder
    }
}

impl<'a, const N: usize> Builder<'a, N> {
    /// Of values of these types; that at index `first` is shown first.
    pub(super) fn new(trace: &'a Trace, types: [ValueType; N], first: usize) -> Builder<'a, N> {
        let info = &trace.info;
        let profile = Profile {
            default_sample_type: types[first].kind.clone(),
            sample_types: types.into(),
            mappings: trace.stacks.modules.clone(),
            time_ns: info.start_realtime_ns as i64,
            duration_ns: info.duration_ns as i64,
            ..Profile::default()
        };
        let (samples, locations, words) = (HashMap::new(), HashMap::new(), HashMap::new());
        Builder { trace, profile, leaf: Leaf::Callers, samples, weights: Vec::new(), first, locations, words }
    }

    /// Keeps what machinery there is at a stack's leaf.
    pub(super) fn keep_leaves(&mut self) {
        self.leaf = Leaf::Itself;
    }

    /// How many events of a type lie between two samples.
    pub(super) fn period(&mut self, kind: ValueType, period: i64) {
        (self.profile.period_type, self.profile.period) = (kind, period);
    }

    /// Words for people.
    pub(super) fn comments(&mut self, comments: Vec<String>) {
        self.profile.comments = comments;
    }

    /// Adds to a place's values.
    pub(super) fn add(&mut self, place: &Place, labels: Vec<Label>, weights: [f64; N]) {
        let locations = match place {
            Place::Stack(stack) => self.stack(*stack),
            Place::Word(word) => vec![self.word(word)],
        };
        let next = self.weights.len();
        let index = *self.samples.entry((locations, labels)).or_insert(next);
        if index == next {
            self.weights.push([0.0; N]);
        }
        for (sum, weight) in self.weights[index].iter_mut().zip(weights) {
            *sum += weight;
        }
    }

    /// The profile, heaviest samples first.
    pub(super) fn finish(mut self) -> Profile {
        self.profile.comments.extend(lost(self.trace));
        let mut samples: Vec<_> = self.samples.into_iter().collect();
        samples.sort_by(|(a, x), (b, y)| {
            self.weights[*y][self.first].total_cmp(&self.weights[*x][self.first]).then_with(|| a.cmp(b))
        });
        self.profile.samples = samples
            .into_iter()
            .map(|((locations, labels), index)| {
                let values = self.weights[index].iter().map(|weight| weight.round() as i64).collect();
                Sample { locations, values, labels }
            })
            .collect();
        self.profile
    }

    /// A stack's locations, from its [`Leaf`] on.
    fn stack(&mut self, stack: StackId) -> Vec<u32> {
        let stacks = &self.trace.stacks;
        let mut machinery = match self.leaf {
            Leaf::Itself => 0,
            Leaf::Callers => stacks.frames(stack).count() - stacks.user_frames(stack).count(),
        };
        let mut locations = Vec::new();
        for &address in stacks.addresses(stack) {
            let frames = stacks.symbols.get(&address).map_or(0, Vec::len);
            let left_out = machinery.min(frames);
            machinery -= left_out;
            if left_out < frames || frames == 0 {
                locations.push(self.location(address, left_out));
            }
        }
        match locations.is_empty() {
            true => vec![self.word("[no stack]")],
            false => locations,
        }
    }

    fn location(&mut self, address: u64, left_out: usize) -> u32 {
        let next = self.profile.locations.len() as u32;
        let index = *self.locations.entry((address, left_out)).or_insert(next);
        if index == next {
            let stacks = &self.trace.stacks;
            let frames = match stacks.symbols.get(&address) {
                Some(frames) => frames[left_out..].to_vec(),
                None => vec![word_frame(&format!("{address:#x}"))],
            };
            let mapping =
                stacks.modules.iter().position(|module| (module.start..module.end).contains(&address));
            let mapping = mapping.map(|index| index as u32);
            // A stack holds return addresses; profiles hold the call's.
            self.profile.locations.push(Location { address: address.saturating_sub(1), mapping, frames });
        }
        index
    }

    fn word(&mut self, word: &str) -> u32 {
        let next = self.profile.locations.len() as u32;
        let index = *self.words.entry(word.to_owned()).or_insert(next);
        if index == next {
            let frames = vec![word_frame(word)];
            self.profile.locations.push(Location { address: 0, mapping: None, frames });
        }
        index
    }
}

/// What a profile must say of a trace that lacks something.
fn lost(trace: &Trace) -> Option<String> {
    let lost = trace.lost();
    (lost > 0).then(|| format!("kymo: {lost} events were lost, so this is less than there was"))
}

fn word_frame(word: &str) -> Frame {
    Frame { function: word.into(), ..Frame::default() }
}

/// The labels that the program gave to what happened: a set of [`Trace::label_sets`].
pub(super) fn labels_in(trace: &Trace, set: u32) -> impl Iterator<Item = Label> {
    trace.labels_in(set).iter().map(|label| Label {
        key: trace.text(label.key).into(),
        value: match label.value {
            labels::LabelValue::Text(text) => LabelValue::Text(trace.text(text).into()),
            labels::LabelValue::Number(number, unit) => LabelValue::Number(number, trace.text(unit).into()),
        },
    })
}

/// A label that says a text.
pub(super) fn text(key: &str, text: &str) -> Label {
    Label { key: key.into(), value: LabelValue::Text(text.into()) }
}
