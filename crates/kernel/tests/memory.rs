//! What the caches say is what the process holds, and it comes back.
// The process's own memory is measured here, in a process of its own.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use belljar_abi::{AF_INET, SOCK_STREAM, SockAddr};
use belljar_kernel::Kernel;
use belljar_kernel::env::SEC;
use belljar_kernel::ids::TaskId;
use belljar_kernel::task::call::{Call, Fd, Ret, Submitted};
use belljar_kernel::task::process::Caps;
use std::net::Ipv4Addr;

struct Machine {
    k: Kernel,
    task: TaskId,
    now: u64,
}

impl Machine {
    fn call(&mut self, call: Call<'_>) -> Ret {
        self.now += 1000;
        match self.k.call(self.now, self.task, call) {
            Submitted::Done(Ok(ret)) => ret,
            Submitted::Done(Err(e)) => panic!("{e}"),
            Submitted::Parked(id) => loop {
                while let Some((call, result)) = self.k.next_completion() {
                    if call == id {
                        return result.unwrap();
                    }
                }
                self.k.tick(self.now);
            },
        }
    }

    fn fd(&mut self, call: Call<'_>) -> Fd {
        match self.call(call) {
            Ret::Fd(fd) | Ret::Accepted { fd, .. } => fd,
            other => panic!("{other:?}"),
        }
    }

    fn held(&self) -> usize {
        self.k.caches().iter().map(|c| c.bytes).sum()
    }

    /// Connections to 127.0.0.1 to 127.0.0.9, both ends.
    fn connect(&mut self, listener: Fd, port: u16, n: usize) -> Vec<Fd> {
        let mut all = Vec::new();
        for i in 0..n {
            let c = self.fd(Call::Socket { family: AF_INET, kind: SOCK_STREAM, protocol: 0 });
            let to = SockAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + (i / 12_000) as u8), port).emit();
            self.call(Call::Connect { fd: c, addr: &to });
            all.extend([c, self.fd(Call::Accept { fd: listener, flags: 0 })]);
        }
        all
    }

    /// Clients first; the minute of TIME_WAIT passes.
    fn close(&mut self, all: Vec<Fd>) {
        for fd in all {
            self.call(Call::Close { fd });
        }
        for _ in 0..130 {
            self.now += SEC;
            self.k.tick(self.now);
        }
        while self.k.more_work() {
            self.k.tick(self.now);
        }
    }
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Runs in a process of its own, whose allocator gives back what is large, as belljar's does.
const OWN: &str = "MALLOC_MMAP_THRESHOLD_";

#[test]
fn slabinfo_explains_what_the_process_holds_and_it_comes_back() {
    if std::env::var_os(OWN).is_some() {
        return a_hundred_thousand_connections();
    }
    let mut c = std::process::Command::new(std::env::current_exe().unwrap());
    c.args(["--exact", "slabinfo_explains_what_the_process_holds_and_it_comes_back", "--nocapture"]);
    let done = c.env(OWN, "131072").output().unwrap();
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

fn a_hundred_thousand_connections() {
    let mut k = Kernel::new(1);
    let ns = k.net.add_ns("host");
    let lo = k.net.ns.get(ns).unwrap().lo;
    k.set_link(lo, true).unwrap();
    let process = k.add_process(ns, 0, Caps::ROOT, 1 << 20, "test");
    let task = k.add_task(process, 0).unwrap();
    let mut b = Machine { k, task, now: 1 };
    let listener = b.fd(Call::Socket { family: AF_INET, kind: SOCK_STREAM, protocol: 0 });
    b.call(Call::Bind { fd: listener, addr: &SockAddr::V4(Ipv4Addr::UNSPECIFIED, 8080).emit() });
    b.call(Call::Listen { fd: listener, backlog: 128 });
    let few = b.connect(listener, 8080, 2000);
    b.close(few);
    let (rss, held) = (resident(), b.held());
    let all = b.connect(listener, 8080, 100_000);
    let (rss_full, held_full) = (resident(), b.held());
    let explained = (held_full - held) as f64 / (rss_full - rss) as f64;
    let dump = |b: &Machine| {
        let rows = b.k.caches().into_iter().filter(|c| c.bytes > 100_000);
        rows.map(|c| format!("{} {} of {}: {}\n", c.name(), c.active, c.total, c.bytes)).collect::<String>()
    };
    eprintln!("held {held} -> {held_full}, resident {rss} -> {rss_full}: {explained:.3}\n{}", dump(&b));
    assert!((0.95..1.05).contains(&explained), "{explained}");
    b.close(all);
    let (rss_after, held_after) = (resident(), b.held());
    eprintln!("after: held {held_after}, resident {rss_after}\n{}", dump(&b));
    assert!(held_after < held + held / 20, "{held} before, {held_after} after");
    let more = rss_after.saturating_sub(rss) as f64;
    assert!(more / ((rss_full - rss) as f64) < 0.01, "{rss} before, {rss_full} with all, {rss_after} after");
    b.k.check().unwrap();
}
