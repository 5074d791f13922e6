//! What a script's `ip` and `tc` commands mean for the stack. `cargo xtask packetdrill` puts programs of these names first
//! on the PATH; they append their words to a file and go on to the real one, and the lines are carried out here. The other
//! way round, `nstat` and `grep` read what is written here of the stack's counters and sockets.
use crate::world::World;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// txqueuelen of a TUN device.
const QUEUE: u32 = 500;

/// See the module.
#[derive(Default)]
pub struct Commands {
    log: Option<File>,
    /// Where counters and sockets are written for the script to look at.
    state: Option<PathBuf>,
}

impl Commands {
    /// The file that BELLJAR_PACKETDRILL_COMMANDS names, if any.
    pub fn from_env() -> Commands {
        let log = std::env::var_os("BELLJAR_PACKETDRILL_COMMANDS").and_then(|path| File::open(path).ok());
        Commands { log, state: std::env::var_os("BELLJAR_PACKETDRILL_STATE").map(PathBuf::from) }
    }

    /// Writes what a script may look at next.
    pub fn show(w: &mut World) {
        let Some(dir) = w.commands().state.clone() else { return };
        let moved = w.k.view_counters(w.ns).into_iter().filter(|c| c.value != 0);
        let nstat: String = moved.map(|c| format!("{:<32}{:<16}0.0\n", c.group + &c.name, c.value)).collect();
        let _ = std::fs::write(dir.join("nstat"), nstat);
        for name in ["tcp", "tcp6"] {
            let text = w.k.proc_text(w.ns, &format!("/proc/net/{name}")).unwrap_or_default();
            let _ = std::fs::write(dir.join(name), text);
        }
    }

    /// Carries out the commands that ended since the last time.
    pub fn run_new(w: &mut World) {
        let mut text = String::new();
        if let Some(log) = &mut w.commands().log {
            let _ = log.read_to_string(&mut text);
        }
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            run(w, &words);
        }
    }
}

/// Unknown ones change nothing: most of them look at or prepare the machine.
fn run(w: &mut World, words: &[&str]) {
    match words {
        ["ip", "tcp_metrics", "flush", ..] => {
            if let Some(n) = w.k.net.ns.get_mut(w.ns) {
                n.tcp.metrics.flush();
            }
        }
        // The others stand in /proc; this one the machine may not let a namespace have.
        ["sysctl", words @ ..] => {
            for (key, value) in words.iter().filter_map(|w| w.split_once('=')) {
                if key == "net.ipv4.tcp_congestion_control" {
                    let _ = w.k.sysctl_set(w.ns, key, value);
                }
            }
        }
        ["tc", "qdisc", "add" | "replace" | "change", "dev", "tun0", "root", "fq", ..] => {
            let _ = w.k.tc_line(w.ns, &words.get(1..).unwrap_or_default().join(" "));
        }
        ["tc", "qdisc", "add" | "replace" | "change", "dev", "tun0", "root", rest @ ..] => {
            let limit = rest.iter().skip_while(|w| **w != "limit").nth(1).and_then(|n| n.parse().ok());
            if let Some(d) = w.k.net.devs.get_mut(w.dev) {
                d.tx_queue_len = limit.unwrap_or(QUEUE);
            }
        }
        ["ip", "route", "add" | "replace" | "change", to, rest @ ..] => {
            // The script's device is a TUN, where a gateway changes nothing.
            let mut rest = rest.to_vec();
            if let Some(via) = rest.iter().position(|w| *w == "via") {
                rest.drain(via..(via + 2).min(rest.len()));
            }
            let _ = w.k.ip(w.ns, &format!("route del {to}"));
            let _ = w.k.ip(w.ns, &format!("route add {to} {}", rest.join(" ")));
        }
        _ => {}
    }
}
