//! `belljar sysctl`: settings of a host, read and written while it runs.
use crate::out::{self, Done, Fail};
use crate::session::{Session, Target};
use belljar_jar::control::{ClientError, Reply, Request};
use belljar_kernel::net::sysctl::nearest;
use belljar_kernel::view::{SysctlView, Value};
use clap::Args;
use regex_lite::Regex;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
pub struct SysctlCommand {
    /// The jar, and which of its hosts (default: host)
    #[arg(value_name = "JAR[/HOST]")]
    pub target: Target,
    /// Display all settings
    #[arg(short, long)]
    pub all: bool,
    /// Write: every argument must be NAME=VALUE
    #[arg(short, long)]
    pub write: bool,
    /// Print only the values
    #[arg(short = 'n', long)]
    pub values: bool,
    /// Print only the names
    #[arg(short = 'N', long)]
    pub names: bool,
    /// Say nothing about unknown settings
    #[arg(short = 'e', long)]
    pub ignore: bool,
    /// Do not print what was set
    #[arg(short, long)]
    pub quiet: bool,
    /// Only settings in whose name this extended regular expression is found
    #[arg(short = 'r', long, value_name = "REGEX", value_parser = Regex::new)]
    pub pattern: Option<Regex>,
    /// Read NAME = VALUE lines from this file (- is standard input)
    #[arg(short = 'p', long, value_name = "FILE")]
    pub load: Option<PathBuf>,
    /// JSON
    #[arg(short, long)]
    pub json: bool,
    /// NAME, or NAME=VALUE to set it; dots or slashes between the parts
    #[arg(value_name = "NAME[=VALUE]", required_unless_present_any = ["all", "load"])]
    pub settings: Vec<String>,
}

pub fn run(c: &SysctlCommand) -> Done {
    let mut session = Session::open(&c.target)?;
    let known: Vec<SysctlView> = session.view("sysctls")?;
    let mut shown: Vec<SysctlView> = Vec::new();
    if c.all {
        shown.extend(known.iter().filter(|s| c.pattern.as_ref().is_none_or(|p| p.is_match(&s.key))).cloned());
    }
    let mut failed: Option<Fail> = None;
    let lines = c.load.as_deref().map(lines).transpose()?.unwrap_or_default();
    let given = c.settings.iter().map(|text| (text.as_str(), false));
    for (text, mine) in lines.iter().map(|l| (l.text.as_str(), l.forgiven)).chain(given) {
        let name = text.split_once('=').map_or(text, |t| t.0).trim().replace('/', ".");
        if c.pattern.as_ref().is_some_and(|p| !p.is_match(&name)) {
            continue;
        }
        match one(c, text, &known, &mut session) {
            Err(_) if mine => {}
            Ok(Some(s)) => shown.push(s),
            Ok(None) => {}
            // The last one is reported by who called us.
            Err(f) => _ = failed.replace(f).inspect(|earlier| earlier.report(out::Paint::default())),
        }
    }
    out::print(&render(c, &shown))?;
    failed.map_or(Ok(0), Err)
}

/// A line of a file; what goes wrong with it is `forgiven` when a hyphen stands before its name.
struct Line {
    text: String,
    forgiven: bool,
}

/// The settings in a file as of sysctl.conf(5).
fn lines(path: &Path) -> Result<Vec<Line>, Fail> {
    let text = match path.as_os_str().to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin())?,
        _ => out::text_of(path)?,
    };
    let mut all = Vec::new();
    for (n, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let (line, forgiven) = line.strip_prefix('-').map_or((line, false), |rest| (rest.trim(), true));
        if !line.contains('=') {
            let place = format!("{}:{}", path.display(), n + 1);
            return Err(Fail::usage(format!("sysctl: {place}: {line:?} is not NAME = VALUE")));
        }
        all.push(Line { text: line.to_owned(), forgiven });
    }
    Ok(all)
}

/// Reads or writes what one argument names; `None`: nothing to print.
fn one(c: &SysctlCommand, text: &str, known: &[SysctlView], session: &mut Session) -> Result<Option<SysctlView>, Fail> {
    let (name, value) = match text.split_once('=') {
        Some((n, v)) => (n.trim(), Some(v.trim())),
        None if c.write => {
            return Err(
                Fail::usage(format!("sysctl: {text:?} is not NAME=VALUE")).hint("-w writes: leave it away to read")
            );
        }
        None => (text.trim(), None),
    };
    let key = name.replace('/', ".");
    let Some(found) = known.iter().find(|s| s.key == key) else {
        return if c.ignore { Ok(None) } else { Err(unknown(&key)) };
    };
    let Some(value) = value else { return Ok(Some(found.clone())) };
    let request = Request::SysctlSet { host: session.host.clone(), key: key.clone(), value: value.to_owned() };
    match session.client.request(&request, &[]) {
        Ok(Reply::Ok | Reply::Value { .. }) => Ok((!c.quiet).then(|| SysctlView { key, value: value.to_owned() })),
        Ok(other) => Err(Fail::new(format!("unexpected answer {other:?}"))),
        Err(ClientError::Refused { message, .. }) => {
            Err(Fail::new(format!("sysctl: setting key \"{key}\" to {value:?}: {message}")))
        }
        Err(e) => Err(e.into()),
    }
}

/// The sentence for a setting that is not there, with the nearest name that is.
pub fn unknown(key: &str) -> Fail {
    let f = Fail::new(format!("sysctl: cannot stat /proc/sys/{}: No such file or directory", key.replace('.', "/")));
    match nearest(key) {
        Some(n) => f.hint(format!("did you mean {n}?")),
        None => f.hint("belljar sysctl JAR -a lists the settings that there are"),
    }
}

fn render(c: &SysctlCommand, shown: &[SysctlView]) -> String {
    if c.json {
        let fields = shown.iter().map(|s| (s.key.clone().into(), Value::Text(s.value.clone()))).collect();
        return out::json(&Value::Map(fields));
    }
    let line = |s: &SysctlView| match (c.values, c.names) {
        (true, _) => format!("{}\n", s.value),
        (_, true) => format!("{}\n", s.key),
        _ => format!("{} = {}\n", s.key, s.value),
    };
    shown.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_sysctl_conf() {
        let path = std::env::temp_dir().join(format!("belljar-sysctl-{}", std::process::id()));
        std::fs::write(&path, "# words\n; more\n\n net.ipv4.tcp_sack = 0\n-net/core/none=1\n").unwrap();
        let all: Vec<_> = lines(&path).unwrap().into_iter().map(|l| (l.text, l.forgiven)).collect();
        assert_eq!(all, [("net.ipv4.tcp_sack = 0".to_owned(), false), ("net/core/none=1".to_owned(), true)]);
        std::fs::write(&path, "net.ipv4.tcp_sack\n").unwrap();
        assert!(format!("{:?}", lines(&path).err().unwrap()).contains(":1: "));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn unknown_settings_name_the_nearest() {
        let text = format!("{:?}", unknown("net.core.somaxcon"));
        assert!(
            text.contains("/proc/sys/net/core/somaxcon: No such file") && text.contains("net.core.somaxconn?"),
            "{text}"
        );
    }
}
