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
    /// Print help
    #[arg(short, long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// What the command itself takes
    #[arg(value_name = "ARGS", allow_hyphen_values = true, trailing_var_arg = true)]
    pub args: Vec<String>,
}

/// Words of iptables and ip6tables.
pub const IPTABLES: &str = "\
Commands: -L [CHAIN] -S [CHAIN]   list, -v with counters, -n numbers, -x exact, --line-numbers
          -A -I -R -D -C CHAIN RULE   append, insert, replace, delete, check
          -F -Z [CHAIN]   flush, zero; -N -X -E CHAIN   new, delete, rename; -P CHAIN TARGET   policy
Options:  -t filter|nat|mangle|raw, -p -s -d -i -o -m MATCH ... -j TARGET ... as in iptables(8)
Matches:  tcp udp icmp icmp6 conntrack state comment mark connmark statistic addrtype multiport limit
          length owner physdev set
Targets:  ACCEPT DROP RETURN REJECT SNAT DNAT MASQUERADE REDIRECT MARK CONNMARK LOG NFLOG SET TPROXY CT
          NOTRACK TCPMSS

Examples: belljar iptables web -L -n -v
          belljar iptables web -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080
          belljar iptables web -A INPUT -m conntrack --ctstate INVALID -j DROP";

/// Those of conntrack.
pub const CONNTRACK: &str = "\
Commands: -L list, -D delete, -F flush, -C count, -S statistics
Options:  -f ipv4|ipv6, -p PROTOCOL, -s -d -r -q ADDRESS, --sport --dport PORT, -m MARK[/MASK],
          -u STATUS, -o extended,id

Examples: belljar conntrack web -L -p tcp
          belljar conntrack web -D -s 10.0.2.15";

/// And of xdp.
pub const XDP: &str = "\
Commands: show [dev IF]
          set dev IF native|generic ACTION [MATCH]... [, ACTION [MATCH]...]...
          off dev IF
Actions:  pass, drop, tx, redirect IF, xsk
Matches:  proto arp|ip|ipv6|tcp|udp|icmp|NUMBER, src PREFIX, dst PREFIX, sport N[-M], dport N[-M]

Examples: belljar xdp web set dev eth0 native drop proto udp dport 53
          belljar xdp web show";

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
