//! How a jar begins to end and ends: signals, the program's exit, its descendants, the last bytes.
use crate::jar::Jar;
use belljar_host::process::{self, Exit};
use belljar_host::signal::{SIGCHLD, SIGINT, SIGKILL, SIGSYS, SIGTERM};
use belljar_host::task;
use belljar_kernel::net::tcp::state::State;

/// From SIGTERM to SIGKILL.
const GRACE: u64 = 2_000_000_000;
/// The stack goes on so long after the last process, when it still has bytes to deliver.
const FLUSH: u64 = 10_000_000_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Life {
    /// The program named in `run`.
    pub program: u32,
    pub exit: Option<Exit>,
    /// SIGINT and SIGTERM so far.
    interrupts: u32,
    /// The descendants were told to end; when they are killed.
    kill_at: Option<u64>,
    killed: bool,
    /// All processes are gone; until when bytes may still go out.
    flush_until: Option<u64>,
}

impl Jar {
    pub(crate) fn take_signals(&mut self) {
        while let Some(t) = self.signals.take() {
            match t.signal {
                SIGCHLD => self.reap(),
                SIGINT | SIGTERM => {
                    self.life.interrupts += 1;
                    if self.up.is_some() && self.life.interrupts == 1 {
                        self.up_end(Exit::Signal(t.signal));
                        continue;
                    }
                    self.tell(|_| format!("signal {} comes to the jar", t.signal));
                    if self.life.interrupts == 1 {
                        // From the terminal the whole foreground group has it already.
                        if !t.from_terminal {
                            self.forward(t.signal);
                        }
                        if self.life.exit.is_some() {
                            self.end();
                        }
                    } else {
                        process::kill_descendants(SIGKILL);
                        self.life.killed = true;
                    }
                }
                other if !t.from_terminal => self.forward(other),
                _ => {}
            }
        }
    }

    fn forward(&mut self, signal: i32) {
        if self.life.exit.is_none() {
            let _ = task::kill(self.life.program, signal);
        } else {
            process::kill_descendants(signal);
        }
    }

    fn reap(&mut self) {
        while let Some((pid, exit)) = process::wait_any() {
            if exit == Exit::Signal(SIGSYS) {
                self.warnings.push(format!(
                    "process {pid} was ended by SIGSYS: it made a call of another ABI (int 0x80, 32 bits, x32), which belljar does \
                     not serve; build it for 64 bits"
                ));
            }
            if pid == self.life.program && self.life.exit.is_none() {
                self.life.exit = Some(exit);
                self.tell(|_| match exit {
                    Exit::Code(c) => format!("the program ends with code {c}"),
                    Exit::Signal(s) => format!("signal {s} ends the program"),
                });
                if !self.options.linger {
                    self.end();
                }
            }
            self.up_child_ended(pid, exit);
            self.control_child_ended(pid, exit);
        }
        // A network stays while nobody is in it yet, or any more.
        let ends = self.up.is_none() || self.life.kill_at.is_some();
        if ends && process::no_children() && self.life.flush_until.is_none() {
            self.life.flush_until = Some(self.now + FLUSH);
        }
    }

    /// Tells all descendants to end; those that do not are killed later.
    pub(crate) fn end(&mut self) {
        if self.life.kill_at.is_none() {
            process::kill_descendants(SIGTERM);
            self.life.kill_at = Some(self.now + GRACE);
            if self.up.is_some() && process::no_children() {
                self.life.flush_until = Some(self.now + FLUSH);
            }
        }
    }

    pub(crate) fn life_deadline(&self) -> Option<u64> {
        let kill = self.life.kill_at.filter(|_| !self.life.killed);
        kill.into_iter().chain(self.life.flush_until).min()
    }

    pub(crate) fn life_due(&mut self) {
        if self.life.kill_at.is_some_and(|at| at <= self.now) && !self.life.killed {
            self.life.killed = true;
            process::kill_descendants(SIGKILL);
        }
        // Whoever was forked while we looked.
        if self.life.killed && self.life.flush_until.is_none() {
            process::kill_descendants(SIGKILL);
        }
    }

    /// True when nothing is left to do for anybody.
    pub(crate) fn over(&self) -> bool {
        self.life.flush_until.is_some_and(|until| self.now >= until || self.flushed())
    }

    /// No byte of the programs is still under way.
    fn flushed(&self) -> bool {
        let sending = |m: &crate::machine::Machine| {
            m.k.socks.tcp.iter().any(|(_, t)| matches!(t.state, State::FinWait1 | State::LastAck | State::Closing))
        };
        self.socks.len() == 0
            && !self.machines.iter().enumerate().any(|(i, m)| i != self.gateway.at && sending(m))
            && self.gateway.flows.iter().all(|(_, f)| f.drained())
    }
}
