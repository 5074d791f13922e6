//! `belljar nstat`: counters since the last look, in iproute2's columns. What was seen last is kept beside the jar's
//! socket and forgotten with the jar.
use crate::out::{self, Done, Fail};
use crate::session::{Session, Target};
use belljar_host::rundir;
use belljar_kernel::view::{CounterView, Value};
use clap::Args;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(after_help = "\
There is no daemon that averages (-d, -t): belljar exec JAR nstat -d 1 is the machine's own.")]
pub struct NstatCommand {
    /// The jar, and which of its hosts (default: host)
    #[arg(value_name = "JAR[/HOST]")]
    pub target: Target,
    /// Absolute values: ignore what was seen before
    #[arg(short = 'a', long)]
    pub ignore: bool,
    /// Show counters that did not move as well
    #[arg(short, long)]
    pub zeros: bool,
    /// Do not remember this look
    #[arg(short = 's', long)]
    pub noupdate: bool,
    /// Remember only, print nothing
    #[arg(short, long)]
    pub nooutput: bool,
    /// Forget what was seen before
    #[arg(short, long)]
    pub reset: bool,
    /// JSON
    #[arg(short, long)]
    pub json: bool,
    /// Names to show, with * and ? as in file names: TcpExtListen*
    #[arg(value_name = "PATTERN")]
    pub patterns: Vec<String>,
}

/// Settings rather than counters, and the number of connections now: nstat leaves them out.
const NOT_COUNTERS: [&str; 7] =
    ["IpForwarding", "IpDefaultTTL", "TcpRtoAlgorithm", "TcpRtoMin", "TcpRtoMax", "TcpMaxConn", "TcpCurrEstab"];

pub fn run(c: &NstatCommand) -> Done {
    let mut session = Session::open(&c.target)?;
    let counters: Vec<CounterView> = session.view("counters")?;
    let now: Vec<(String, u64)> = counters
        .into_iter()
        .map(|c| (c.group + &c.name, c.value))
        .filter(|(name, _)| !NOT_COUNTERS.contains(&name.as_str()))
        .collect();
    let dir = rundir::dir()?;
    forget_dead(&dir);
    let history =
        History { path: dir.join(format!("{}@{}.nstat", c.target.jar, c.target.host)), pid: session.client.hello.pid };
    let before = if c.ignore || c.reset { HashMap::new() } else { history.read() };
    if !c.nooutput {
        let shown = changes(&now, &before, c.zeros, &c.patterns);
        out::print(&if c.json { json(&shown) } else { table(&shown) })?;
    }
    if !c.noupdate {
        history
            .write(&now)
            .map_err(|e| Fail::new(format!("cannot remember the counters in {}: {e}", history.path.display())))?;
    }
    Ok(0)
}

/// What was seen last of one host of one supervisor.
struct History {
    path: PathBuf,
    pid: u32,
}

impl History {
    fn read(&self) -> HashMap<String, u64> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let mut lines = text.lines();
        // Another supervisor of the same name began at zero.
        if lines.next() != Some(self.pid.to_string().as_str()) {
            return HashMap::new();
        }
        lines.filter_map(|l| l.split_once(' ')).filter_map(|(k, v)| Some((k.to_owned(), v.parse().ok()?))).collect()
    }

    fn write(&self, now: &[(String, u64)]) -> std::io::Result<()> {
        let lines: String = now.iter().map(|(k, v)| format!("{k} {v}\n")).collect();
        fs::write(&self.path, format!("{}\n{lines}", self.pid))
    }
}

/// Removes the memory of jars that do not run any more; also the last thing that a run does.
pub fn forget_dead(dir: &Path) {
    let Ok(living) = rundir::living(dir) else { return };
    for e in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = e.file_name();
        let jar = name.to_str().and_then(|n| n.strip_suffix(".nstat")).and_then(|n| n.split_once('@'));
        if jar.is_some_and(|(jar, _)| living.iter().all(|l| l.name != jar)) {
            let _ = fs::remove_file(e.path());
        }
    }
}

fn changes<'a>(
    now: &'a [(String, u64)],
    before: &HashMap<String, u64>,
    zeros: bool,
    patterns: &[String],
) -> Vec<(&'a str, u64)> {
    let chosen = |name: &str| patterns.is_empty() || patterns.iter().any(|p| glob(p.as_bytes(), name.as_bytes()));
    now.iter()
        .filter(|(name, _)| chosen(name))
        .map(|(name, v)| (name.as_str(), v.wrapping_sub(before.get(name).copied().unwrap_or(0))))
        .filter(|(_, v)| zeros || *v != 0)
        .collect()
}

/// `*` and `?` as in file names.
pub fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|n| glob(rest, &text[n..])),
        Some((b'?', rest)) => text.split_first().is_some_and(|(_, t)| glob(rest, t)),
        Some((c, rest)) => text.split_first().is_some_and(|(d, t)| c == d && glob(rest, t)),
    }
}

fn table(shown: &[(&str, u64)]) -> String {
    let lines: String = shown.iter().map(|(name, v)| format!("{name:<32}{v:<16}{:6.1}\n", 0.0)).collect();
    format!("#kernel\n{lines}")
}

fn json(shown: &[(&str, u64)]) -> String {
    let fields = shown.iter().map(|(name, v)| (name.to_string().into(), Value::Uint(*v))).collect();
    out::json(&out::map([("kernel", Value::Map(fields))]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_moved() {
        let now: Vec<_> = [("TcpExtListenOverflows", 5), ("TcpExtListenDrops", 5), ("TcpInSegs", 7)]
            .map(|(k, v)| (k.to_owned(), v))
            .into();
        let before = HashMap::from([("TcpExtListenDrops".to_owned(), 5), ("TcpInSegs".to_owned(), 4)]);
        let shown = changes(&now, &before, false, &[]);
        assert_eq!(shown, [("TcpExtListenOverflows", 5), ("TcpInSegs", 3)]);
        assert_eq!(
            table(&shown),
            "#kernel\nTcpExtListenOverflows           5                  0.0\nTcpInSegs                       3                  0.0\n"
        );
        assert_eq!(json(&shown), "{\"kernel\":{\"TcpExtListenOverflows\":5,\"TcpInSegs\":3}}\n");
        assert_eq!(changes(&now, &before, true, &["*Listen?rops".into()]), [("TcpExtListenDrops", 0)]);
    }

    #[test]
    fn the_memory_is_of_one_supervisor() {
        let path = std::env::temp_dir().join(format!("belljar-nstat-{}", std::process::id()));
        let h = History { path: path.clone(), pid: 7 };
        h.write(&[("TcpInSegs".into(), 3)]).unwrap();
        assert_eq!(h.read(), HashMap::from([("TcpInSegs".to_owned(), 3)]));
        assert!(History { path: path.clone(), pid: 8 }.read().is_empty());
        fs::remove_file(path).unwrap();
    }
}
