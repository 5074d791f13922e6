//! Opening and ending: half-open requests, cookies, sequence numbers, TIME_WAIT.
pub mod cookies;
pub mod isn;
pub mod request;
pub mod synack;
pub mod time_wait;
