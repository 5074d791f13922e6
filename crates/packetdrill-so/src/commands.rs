//! What a script's `ip` and `tc` commands mean for the stack. `cargo xtask packetdrill` puts programs of these names first
//! on the PATH; they append their words to a file and go on to the real one, and the lines are carried out here.
use crate::world::World;
use std::fs::File;
use std::io::Read;

/// See the module.
#[derive(Default)]
pub struct Commands {
    log: Option<File>,
}

impl Commands {
    /// The file that BELLJAR_PACKETDRILL_COMMANDS names, if any.
    pub fn from_env() -> Commands {
        let log = std::env::var_os("BELLJAR_PACKETDRILL_COMMANDS").and_then(|path| File::open(path).ok());
        Commands { log }
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
        _ => {}
    }
}
