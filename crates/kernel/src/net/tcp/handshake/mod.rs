//! Opening and the little socks around it: connect, requests, cookies, TIME_WAIT.
pub mod request;
pub mod time_wait;
