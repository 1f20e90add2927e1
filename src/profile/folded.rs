//! A profile as folded stacks: a line for each stack, root first, and its weight.
//!
//! What flame graph tools read. Labels are left out; equal stacks become one line.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Profile;

impl Profile {
    /// The profile as folded stacks, by one of its sample types; lines are sorted.
    ///
    /// ```text
    /// main;serve;handle 1200
    /// main;serve;idle 40
    /// ```
    pub fn folded(&self, sample_type: usize) -> String {
        let mut stacks: BTreeMap<String, i64> = BTreeMap::new();
        for sample in &self.samples {
            let mut frames: Vec<String> =
                self.frames(sample).map(|frame| frame.function.replace([';', '\n'], ":")).collect();
            frames.reverse();
            *stacks.entry(frames.join(";")).or_default() +=
                sample.values.get(sample_type).copied().unwrap_or(0);
        }
        let mut out = String::new();
        for (stack, weight) in stacks.into_iter().filter(|&(_, weight)| weight != 0) {
            let _infallible = writeln!(out, "{stack} {weight}");
        }
        out
    }
}
