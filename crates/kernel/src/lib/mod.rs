//! Data structures of the core that know nothing of the core.
pub mod slab;
