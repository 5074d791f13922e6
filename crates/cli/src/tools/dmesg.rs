//! `belljar dmesg`: what the kernel wrote to its log: lines of LOG rules, a full connection table.
use crate::out::{self, Done};
use crate::session::{Session, Target};
use clap::Args;

#[derive(Args, Debug)]
pub struct DmesgCommand {
    /// The jar, and which of its hosts (default: host)
    #[arg(value_name = "JAR[/HOST]")]
    pub target: Target,
}

pub fn run(c: &DmesgCommand) -> Done {
    let text: String = Session::open(&c.target)?.view("kmsg")?;
    out::print(&text)?;
    Ok(0)
}
