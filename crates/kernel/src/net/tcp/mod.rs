//! TCP, cut by what wakes it up (a segment, a SYN, a write, a timer), then by algorithm.
//!
//! `sock.rs` is data and constructors only; behaviour takes `&mut TcpSock` beside `&mut Net`.
pub mod cong;
pub mod handshake;
pub mod seq;
pub mod sock;
pub mod state;
pub mod tables;
