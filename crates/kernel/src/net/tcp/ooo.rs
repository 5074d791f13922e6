//! The out-of-order queue, which most connections never have.
use crate::net::core::skb::Skb;
use std::collections::VecDeque;

/// A queue that most connections never need: one pointer while it is empty.
#[derive(Clone, Debug, Default)]
#[allow(clippy::box_collection)] // the point is the pointer
pub struct Ooo(Option<Box<VecDeque<Skb>>>);

impl Ooo {
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|q| q.is_empty())
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |q| q.len())
    }

    pub fn get(&self, at: usize) -> Option<&Skb> {
        self.0.as_ref()?.get(at)
    }

    pub fn get_mut(&mut self, at: usize) -> Option<&mut Skb> {
        self.0.as_mut()?.get_mut(at)
    }

    pub fn front(&self) -> Option<&Skb> {
        self.get(0)
    }

    pub fn back(&self) -> Option<&Skb> {
        self.0.as_ref()?.back()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Skb> {
        self.0.iter().flat_map(|q| q.iter())
    }

    pub fn insert(&mut self, at: usize, skb: Skb) {
        self.0.get_or_insert_default().insert(at, skb);
    }

    pub fn remove(&mut self, at: usize) -> Option<Skb> {
        let skb = self.0.as_mut()?.remove(at);
        if self.is_empty() {
            self.0 = None;
        }
        skb
    }

    pub fn pop_front(&mut self) -> Option<Skb> {
        self.remove(0)
    }

    pub fn pop_back(&mut self) -> Option<Skb> {
        self.remove(self.len().checked_sub(1)?)
    }

    /// What `take` gave, or what became of it.
    pub fn put(&mut self, queue: VecDeque<Skb>) {
        self.0 = (!queue.is_empty()).then(|| Box::new(queue));
    }

    /// All of it, leaving nothing.
    pub fn take(&mut self) -> VecDeque<Skb> {
        self.0.take().map(|q| *q).unwrap_or_default()
    }
}
