//! What happens between two NICs: delay, loss, reorder, rate, as a value.
#![forbid(unsafe_code)]
