//! pcapng and the event trace: write, read, print.
#![forbid(unsafe_code)]
