//! The Linux network stack as a sans-I/O value: no clock, no threads, no sockets of its own.
//!
//! A [`Kernel`] is one machine. Whoever embeds it is its driver loop: makes [calls](Kernel::call) for its programs, hands in
//! [frames](Kernel::rx), carries away what [comes out](Kernel::pop_output), and says when time [has passed](Kernel::tick). Two
//! machines with a cable between them, and a listener whose accept queue is too short:
//!
//! ```
//! use belljar_abi::{AF_INET, SOCK_NONBLOCK, SOCK_STREAM, SockAddr};
//! use belljar_kernel::drivers::nic::NicConfig;
//! use belljar_kernel::ids::{DevId, NsId, TaskId};
//! use belljar_kernel::net::mib::Mib;
//! use belljar_kernel::task::call::{Call, Fd, Ret, Submitted};
//! use belljar_kernel::task::process::Caps;
//! use belljar_kernel::{Kernel, Output};
//! use belljar_wire::Mac;
//! use std::net::Ipv4Addr;
//!
//! /// A machine with an address on its one card, and a process with one task.
//! fn machine(n: u8) -> (Kernel, NsId, DevId, TaskId) {
//!     let mut k = Kernel::new(n.into()); // the seed: ports, sequence numbers and cookies come of it
//!     let nic = NicConfig { mac: Mac([2, 0, 0, 0, 0, n]), ..NicConfig::default() };
//!     let (ns, dev) = k.add_host("host", &nic, (Ipv4Addr::new(10, 0, 0, n), 24), None).unwrap();
//!     let process = k.add_process(ns, 1000, Caps::NONE, 1024, "program");
//!     let task = k.add_task(process, 0).unwrap();
//!     (k, ns, dev, task)
//! }
//!
//! /// A socket call; a descriptor that does not block never sleeps, so the answer is there at once.
//! fn call(k: &mut Kernel, now: u64, task: TaskId, call: Call<'_>) -> Result<Ret, belljar_abi::Errno> {
//!     match k.call(now, task, call) {
//!         Submitted::Done(result) => result,
//!         Submitted::Parked(_) => unreachable!("it would come as Output::Complete later"),
//!     }
//! }
//!
//! fn socket(k: &mut Kernel, task: TaskId) -> Fd {
//!     let what = Call::Socket { family: AF_INET, kind: SOCK_STREAM | SOCK_NONBLOCK, protocol: 0 };
//!     let Ok(Ret::Fd(fd)) = call(k, 0, task, what) else { panic!("no socket") };
//!     fd
//! }
//!
//! let (mut client, _, client_dev, client_task) = machine(1);
//! let (mut server, ns, server_dev, server_task) = machine(2);
//! let addr = SockAddr::V4(Ipv4Addr::new(10, 0, 0, 2), 8080).emit();
//!
//! let listener = socket(&mut server, server_task);
//! call(&mut server, 0, server_task, Call::Bind { fd: listener, addr: &addr }).unwrap();
//! call(&mut server, 0, server_task, Call::Listen { fd: listener, backlog: 1 }).unwrap();
//! for _ in 0..3 {
//!     let fd = socket(&mut client, client_task);
//!     let _ = call(&mut client, 0, client_task, Call::Connect { fd, addr: &addr }); // EINPROGRESS
//! }
//!
//! // Half a second, a millisecond at a time: the cable carries frames, timers fire. `next_deadline` would say when to look.
//! for now in (0..500_000_000).step_by(1_000_000) {
//!     client.tick(now);
//!     server.tick(now);
//!     loop {
//!         let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
//!         while let Some(out) = client.pop_output() {
//!             if let Output::Frame { frame, .. } = out {
//!                 to_server.push(frame);
//!             }
//!         }
//!         while let Some(out) = server.pop_output() {
//!             if let Output::Frame { frame, .. } = out {
//!                 to_client.push(frame);
//!             }
//!         }
//!         if to_server.is_empty() && to_client.is_empty() {
//!             break;
//!         }
//!         to_server.into_iter().for_each(|f| server.rx(now, server_dev, f));
//!         to_client.into_iter().for_each(|f| client.rx(now, client_dev, f));
//!     }
//! }
//!
//! // Two wait where the limit is one (one more is admitted); the last ACK of the third came when no place was left.
//! let net = server.net.ns.get(ns).unwrap();
//! assert_eq!(net.mib.get(Mib::TcpExtListenOverflows), 1);
//! let full = &net.tcp.account.overflows[0];
//! assert_eq!((full.port, full.limit, full.count), (8080, 1, 1));
//! // What a tool shows is a view; a program's sysctl is a call as well.
//! assert_eq!(server.view_sockets(ns)[0].recv_q, 2);
//! server.sysctl_set(ns, "net.core.somaxconn", "128").unwrap();
//! ```
//!
//! The whole is a value: `client.clone()` is the same machine at this moment, to be tried in two ways. The receive path begins in
//! `drivers/`, the send path in `syscall/message.rs`; `ARCHITECTURE.md` has both step by step, and the crate `belljar-lab` is a
//! driver loop with links, workloads and checks.
#![forbid(unsafe_code)]

pub mod check;
pub mod drivers;
pub mod env;
pub mod fs;
pub mod ids;
pub mod kernel;
#[path = "lib/mod.rs"]
pub mod lib;
pub mod mem;
pub mod net;
pub mod syscall;
pub mod task;
pub mod view;

pub use kernel::{Kernel, Output};
