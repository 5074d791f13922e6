//! Fragments waiting for the rest.

#[derive(Clone, Debug)]
pub struct FragQueue {}
