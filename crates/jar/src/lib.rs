//! The supervisor: owns kernels, serves programs, gateway, control socket.
#![forbid(unsafe_code)]

pub mod control;
