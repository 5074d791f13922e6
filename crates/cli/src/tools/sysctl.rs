//! `belljar sysctl`: settings of a host, read and written while it runs.
use crate::out::{self, Done, Fail};
use crate::session::{Session, Target};
use belljar_jar::control::{ClientError, Reply, Request};
use belljar_kernel::net::sysctl::nearest;
use belljar_kernel::view::{SysctlView, Value};
use clap::Args;

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
    /// Show settings whose name has this in it
    #[arg(short = 'r', long, value_name = "TEXT")]
    pub pattern: Option<String>,
    /// JSON
    #[arg(short, long)]
    pub json: bool,
    /// NAME, or NAME=VALUE to set it; dots or slashes between the parts
    #[arg(value_name = "NAME[=VALUE]", required_unless_present = "all")]
    pub settings: Vec<String>,
}

pub fn run(c: &SysctlCommand) -> Done {
    let mut session = Session::open(&c.target)?;
    let known: Vec<SysctlView> = session.view("sysctls")?;
    let mut shown: Vec<SysctlView> = Vec::new();
    if c.all {
        shown.extend(known.iter().filter(|s| c.pattern.as_ref().is_none_or(|p| s.key.contains(p.as_str()))).cloned());
    }
    let mut failed: Option<Fail> = None;
    for text in &c.settings {
        match one(c, text, &known, &mut session) {
            Ok(Some(s)) => shown.push(s),
            Ok(None) => {}
            // The last one is reported by who called us.
            Err(f) => _ = failed.replace(f).inspect(|earlier| earlier.report(out::Paint::default())),
        }
    }
    out::print(&render(c, &shown))?;
    failed.map_or(Ok(0), Err)
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
    fn unknown_settings_name_the_nearest() {
        let text = format!("{:?}", unknown("net.core.somaxcon"));
        assert!(
            text.contains("/proc/sys/net/core/somaxcon: No such file") && text.contains("net.core.somaxconn?"),
            "{text}"
        );
    }
}
