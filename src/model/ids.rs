//! A map by number that is looked up at every event.
//!
//! The recorder's numbers are counters, so those near the first one seen index an array. The others, of which there
//! are few (old tasks) or which a forged file scatters on purpose, are in std's map: slower, but nobody can choose
//! numbers that collide there.

use std::collections::HashMap;

use crate::limits::DENSE_IDS;

/// Indices into one of the trace's tables, by number.
#[derive(Debug, Default)]
pub(super) struct IdMap {
    /// Of `base + index`: the value plus one, 0 for none.
    near: Vec<u32>,
    base: Option<u64>,
    far: HashMap<u64, u32>,
}

impl IdMap {
    #[inline]
    pub(super) fn get(&self, id: u64) -> Option<u32> {
        let place = id.wrapping_sub(self.base.unwrap_or(u64::MAX));
        match usize::try_from(place).ok().and_then(|place| self.near.get(place)) {
            Some(&value) => value.checked_sub(1),
            None if self.far.is_empty() => None,
            None => self.far.get(&id).copied(),
        }
    }

    /// `value` must be below `u32::MAX`: it is an index.
    pub(super) fn insert(&mut self, id: u64, value: u32) {
        // Half of the array below the first number seen: older ones are still about.
        let base = *self.base.get_or_insert(id.saturating_sub(DENSE_IDS as u64 / 2));
        let Some(place) = id.checked_sub(base).filter(|&place| place < DENSE_IDS as u64) else {
            self.far.insert(id, value);
            return;
        };
        let place = place as usize;
        if place >= self.near.len() {
            self.near.resize(place + 1, 0);
        }
        self.near[place] = value + 1;
    }

    /// The value of `id`, which `make` gives if there is none.
    #[inline]
    pub(super) fn get_or_insert_with(&mut self, id: u64, make: impl FnOnce() -> u32) -> u32 {
        if let Some(value) = self.get(id) {
            return value;
        }
        let value = make();
        self.insert(id, value);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn answers_as_stds_map_does(
            first: u64,
            steps in prop::collection::vec((any::<i32>(), any::<bool>()), 0..200),
        ) {
            let (mut fast, mut naive) = (IdMap::default(), HashMap::new());
            for (value, (step, near)) in steps.into_iter().enumerate() {
                let step = if near { step % 100 } else { step };
                let id = first.wrapping_add_signed(i64::from(step));
                prop_assert_eq!(fast.get(id), naive.get(&id).copied());
                fast.insert(id, value as u32);
                naive.insert(id, value as u32);
                prop_assert_eq!(fast.get(id), naive.get(&id).copied());
            }
            for (&id, &value) in &naive {
                prop_assert_eq!(fast.get_or_insert_with(id, || unreachable!()), value);
            }
        }
    }
}
