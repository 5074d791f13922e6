//! The script language: a dialect of packetdrill, run in virtual time against one [`Kernel`](belljar_kernel::Kernel).
//!
//! [`parse`] takes text and returns a [`Script`]; [`run`] drives a fresh kernel through it and returns a [`Report`];
//! [`reach`] stops on the way and hands the kernel over.
//! No file is read, nothing is printed, the same script gives the same report. The language is described in
//! `docs/script.md`. Left out: file descriptors that are no sockets, packetdrill's code blocks.
#![forbid(unsafe_code)]

mod ast;
mod lex;
mod names;
mod packet;
mod packet6;
mod parse;
mod problem;
mod report;
mod run;

pub use ast::Script;
pub use names::option_name;
pub use parse::parse;
pub use problem::{Problem, Span};
pub use report::{Outcome, Report};
pub use run::{Reached, reach, run};

/// Parses and runs: what a command or a test wants to know about one file.
pub fn check(name: &str, text: &str) -> Report {
    match parse(name, text) {
        Ok(script) => run(&script),
        Err(problem) => Report::unreadable(name, text, problem),
    }
}
