//! A bounded queue with the interface of crossbeam's, on loom's mutex: what a queue promises, without its internals,
//! which are crossbeam's to prove.

use std::collections::VecDeque;

use loom::sync::Mutex;

pub struct ArrayQueue<T> {
    items: Mutex<VecDeque<T>>,
    room: usize,
}

impl<T> ArrayQueue<T> {
    pub fn new(room: usize) -> ArrayQueue<T> {
        ArrayQueue { items: Mutex::new(VecDeque::new()), room }
    }

    pub fn push(&self, item: T) -> Result<(), T> {
        let mut items = self.items.lock().unwrap();
        if items.len() == self.room {
            return Err(item);
        }
        items.push_back(item);
        Ok(())
    }

    pub fn force_push(&self, item: T) -> Option<T> {
        let mut items = self.items.lock().unwrap();
        let oldest = if items.len() == self.room { items.pop_front() } else { None };
        items.push_back(item);
        oldest
    }

    pub fn pop(&self) -> Option<T> {
        self.items.lock().unwrap().pop_front()
    }

    pub fn len(&self) -> usize {
        self.items.lock().unwrap().len()
    }
}
