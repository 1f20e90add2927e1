//! A map by number that is looked up at every event: std's, with one multiplication as its hash.
//!
//! Numbers here are counters of our own recorder, not chosen by strangers to collide; a file that forges them makes
//! its own loading slow, and no more.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

#[derive(Debug, Default)]
pub(super) struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// By number.
#[derive(Debug)]
pub(super) struct IdMap<T>(HashMap<u64, T, BuildHasherDefault<Multiply>>);

impl<T> Default for IdMap<T> {
    fn default() -> IdMap<T> {
        IdMap(HashMap::default())
    }
}

impl<T> IdMap<T> {
    #[inline]
    pub(super) fn get(&self, id: u64) -> Option<&T> {
        self.0.get(&id)
    }

    pub(super) fn insert(&mut self, id: u64, value: T) {
        self.0.insert(id, value);
    }

    #[inline]
    pub(super) fn get_or_insert_with(&mut self, id: u64, make: impl FnOnce() -> T) -> &T {
        self.0.entry(id).or_insert_with(make)
    }
}
