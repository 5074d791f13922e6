//! Neighbours: who on the link has which address, and what waits until that is known.

#[derive(Clone, Debug)]
pub struct Neighbour {}
