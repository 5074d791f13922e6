//! End-to-end tests: real, unmodified programs under `belljar run`, as an ordinary user.
//!
//! A harness of its own instead of libtest, because a test here may need programs that the machine lacks: it is then
//! skipped with a line that says so, or failed when CI=true, and it never counts as passed. The output is libtest's, so
//! that cargo and people read it as usual. `BELLJAR_E2E=off` runs nothing, `full` the long versions too, anything else
//! the short ones; `BELLJAR_BIN` names another binary to test. A word on the command line selects tests by name.
#![forbid(unsafe_code)]

mod conditions;
mod harness;
mod http;
mod interop;
mod links;
mod netfilter;
mod packet;
mod ping;
mod refusals;
mod servers;
mod signals;
mod six;
mod streams;
mod tc;
mod tools;
mod trees;
mod udp;
mod up;

use harness::{Suite, Test};

fn tests() -> Vec<Test> {
    [
        http::tests(),
        servers::tests(),
        conditions::tests(),
        interop::tests(),
        links::tests(),
        netfilter::tests(),
        signals::tests(),
        six::tests(),
        streams::tests(),
        tc::tests(),
        tools::tests(),
        refusals::tests(),
        ping::tests(),
        packet::tests(),
        trees::tests(),
        udp::tests(),
        up::tests(),
    ]
    .concat()
}

fn main() -> std::process::ExitCode {
    Suite::from_args(tests()).run()
}
