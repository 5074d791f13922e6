//! `belljar ps`: the jars that run.
use crate::out::{self, Done};
use belljar_jar::control::{JarInfo, client};
use clap::Args;

#[derive(Args, Debug)]
pub struct PsCommand {
    /// Only the names
    #[arg(short, long)]
    pub quiet: bool,
    /// JSON
    #[arg(short, long, conflicts_with = "quiet")]
    pub json: bool,
}

pub fn run(c: &PsCommand) -> Done {
    let jars = client::jars()?;
    let text = if c.json {
        serde_json::to_string(&jars).map_err(std::io::Error::from)? + "\n"
    } else if c.quiet {
        jars.iter().map(|j| format!("{}\n", j.name)).collect()
    } else {
        table(&jars)
    };
    out::print(&text)?;
    Ok(0)
}

/// `42s`, `12m`, `3h05m`, `2d`.
fn age(s: u64) -> String {
    match s {
        0..=59 => format!("{s}s"),
        60..=3599 => format!("{}m{:02}s", s / 60, s % 60),
        3600..=86_399 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

fn table(jars: &[JarInfo]) -> String {
    let mut lines = vec![["NAME", "PID", "AGE", "PROCS", "SOCKETS", "PORTS", "COMMAND"].map(str::to_owned)];
    for j in jars {
        let command = j.command.join(" ");
        // A jar whose program ended lives for its descendants.
        let command = if j.program_pid == 0 { format!("({command})") } else { command };
        let ports = if j.ports.is_empty() { "-".to_owned() } else { j.ports.join(",") };
        let (procs, socks) = (j.processes.to_string(), j.sockets.to_string());
        lines.push([j.name.clone(), j.pid.to_string(), age(j.age_s), procs, socks, ports, command]);
    }
    let width = |n: usize| lines.iter().map(|l| l[n].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let row = |l: &[String; 7]| {
        let cells: String = l.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}  ")).collect();
        format!("{cells}{}\n", l[6])
    };
    lines.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let jar = |name: &str, program_pid, ports: &[&str]| JarInfo {
            name: name.into(),
            pid: 100,
            command: vec!["nginx".into(), "-g".into(), "daemon off;".into()],
            program_pid,
            age_s: 3723,
            hosts: vec!["host".into(), "gw".into()],
            ports: ports.iter().map(|p| p.to_string()).collect(),
            processes: 3,
            sockets: 12,
        };
        assert_eq!(
            table(&[jar("web", 101, &["127.0.0.1:8080->80/tcp"]), jar("nginx-2", 0, &[])]),
            "\
NAME     PID  AGE    PROCS  SOCKETS  PORTS                   COMMAND
web      100  1h02m  3      12       127.0.0.1:8080->80/tcp  nginx -g daemon off;
nginx-2  100  1h02m  3      12       -                       (nginx -g daemon off;)
"
        );
        assert_eq!((age(5), age(75), age(200_000)), ("5s".into(), "1m15s".into(), "2d07h".into()));
    }
}
