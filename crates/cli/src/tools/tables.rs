//! `belljar iptables`, `ip6tables`, their `-save` and `-restore`, `conntrack`: words that the jar's kernel itself
//! understands, passed on as they are.
use crate::out::{self, Done, Fail};
use crate::session::{Session, Target};
use belljar_jar::control::{Request, Words};
use clap::Args;
use std::io::{Read, Write};

/// A restore longer than this is no table.
const MAX_INPUT: u64 = 48 << 20;

#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub struct TablesCommand {
    /// The jar, and which of its hosts (default: host)
    #[arg(value_name = "JAR[/HOST]")]
    pub target: Target,
    /// What the command itself takes
    #[arg(value_name = "ARGS", allow_hyphen_values = true, trailing_var_arg = true)]
    pub args: Vec<String>,
}

/// `program`: whose words these are.
pub fn run(program: &str, c: &TablesCommand) -> Done {
    let mut session = Session::open(&c.target)?;
    let mut input = String::new();
    if program.ends_with("-restore") {
        std::io::stdin().take(MAX_INPUT).read_to_string(&mut input)?;
    }
    let words = std::iter::once(program.to_owned()).chain(c.args.iter().cloned()).collect();
    let value = session.client.value(&Request::Tables { host: session.host.clone(), words, input })?;
    let w: Words = serde_json::from_value(value).map_err(|_| Fail::new("the jar's answer is not understood"))?;
    out::print(&w.stdout)?;
    std::io::stderr().write_all(w.stderr.as_bytes())?;
    Ok(u8::try_from(w.code).unwrap_or(1))
}
