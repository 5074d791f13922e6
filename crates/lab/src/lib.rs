//! Virtual time: hosts, links, workloads, invariants.
#![forbid(unsafe_code)]
