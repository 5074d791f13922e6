//! The Linux network stack as a sans-I/O value.
#![forbid(unsafe_code)]
