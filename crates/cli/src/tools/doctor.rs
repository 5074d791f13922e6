//! `belljar doctor`: what works on this machine and what is missing.
use crate::out::{self, Done, Paint, map};
use belljar_host::doctor::{Probe, probes};
use belljar_kernel::view::Value;
use clap::Args;

#[derive(Args, Debug)]
pub struct DoctorCommand {
    /// JSON
    #[arg(short, long)]
    pub json: bool,
}

/// Exit code 1 when something that `run` needs is missing.
pub fn run(c: &DoctorCommand, paint: Paint) -> Done {
    let found = probes();
    out::print(&if c.json { json(&found) } else { text(&found, paint) })?;
    Ok(u8::from(found.iter().any(|p| p.required && !p.ok)))
}

fn text(probes: &[Probe], paint: Paint) -> String {
    let width = probes.iter().map(|p| p.name.chars().count()).max().unwrap_or(0);
    let line = |p: &Probe| {
        let mark = match (p.ok, p.required) {
            (true, _) => paint.green("ok  "),
            (_, true) => paint.red("FAIL"),
            _ => paint.yellow("no  "),
        };
        format!("{mark} {:<width$}  {}: {}\n", p.name, p.found, p.follows)
    };
    let lines: String = probes.iter().map(line).collect();
    let missing = probes.iter().filter(|p| p.required && !p.ok).count();
    let verdict = match missing {
        0 => "belljar run works here.".to_owned(),
        1 => "belljar run does not work here: one thing that it needs is missing.".to_owned(),
        n => format!("belljar run does not work here: {n} things that it needs are missing."),
    };
    format!("{lines}{verdict}\n")
}

fn json(probes: &[Probe]) -> String {
    let one = |p: &Probe| {
        map([
            ("name", Value::Text(p.name.into())),
            ("ok", Value::Bool(p.ok)),
            ("required", Value::Bool(p.required)),
            ("found", Value::Text(p.found.clone())),
            ("follows", Value::Text(p.follows.into())),
        ])
    };
    out::json(&Value::List(probes.iter().map(one).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_from_what_is_required() {
        let p = |name, ok, required| Probe { name, ok, required, found: "6.18".into(), follows: "so be it" };
        let fine = text(&[p("kernel", true, true), p("user namespaces", false, false)], Paint::default());
        assert_eq!(
            fine,
            "ok   kernel           6.18: so be it\nno   user namespaces  6.18: so be it\nbelljar run works here.\n"
        );
        assert!(text(&[p("kernel", false, true)], Paint::default()).starts_with("FAIL kernel"));
    }
}
