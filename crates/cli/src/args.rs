//! The command line.
use crate::lab::LabCommand;
use crate::out::When;
use crate::script::ScriptCommand;
use crate::tools::{
    cable, dmesg, doctor, exec, ip, link, netstat, nstat, path, ps, run, ss, sysctl, tables, tc, tcpdump, trace, up,
};
use clap::{Parser, Subcommand};

/// The Linux network stack, under glass
///
/// belljar runs unmodified programs on a network stack of its own, in user space and without root, and shows every
/// queue, packet, counter and setting of it.
#[derive(Parser, Debug)]
#[command(name = "belljar", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    max_term_width = 100,
    after_help = "\
Exit codes: the program's own; 128 + N when signal N ended it; 2 a wrong command line;
            125 belljar failed, 126 the program cannot be run, 127 it is not there.
Files:      jars are found under $XDG_RUNTIME_DIR/belljar (/run/belljar for root).
More about a command: belljar COMMAND --help"
)]
pub struct Cli {
    /// Colours in what is printed; NO_COLOR turns them off as well
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, global = true, env = "BELLJAR_COLOR")]
    pub color: When,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a program on a network stack of its own, in a new jar
    Run(Box<run::RunCommand>),
    /// Run another program in a host of a running jar
    Exec(exec::ExecCommand),
    /// Run hosts, links and programs that a file describes, in a new jar
    Up(up::UpCommand),
    /// List the running jars
    Ps(ps::PsCommand),
    /// Show sockets, as ss
    Ss(ss::SsCommand),
    /// Show connections, counters, interfaces, routes, as netstat
    Netstat(netstat::NetstatCommand),
    /// Show counters that moved since the last look, as nstat
    Nstat(nstat::NstatCommand),
    /// Show links, addresses, routes, neighbours, as ip
    Ip(ip::IpCommand),
    /// Show and change queueing disciplines, classes and filters, as tc
    Tc(tc::TcCommand),
    /// Read and write settings while the jar runs, as sysctl
    Sysctl(sysctl::SysctlCommand),
    /// Show and change the rules of IPv4, as iptables
    #[command(after_help = tables::IPTABLES)]
    Iptables(tables::TablesCommand),
    /// Show and change the rules of IPv6, as ip6tables
    #[command(after_help = tables::IPTABLES)]
    Ip6tables(tables::TablesCommand),
    /// Print the rules of IPv4 for iptables-restore
    #[command(name = "iptables-save")]
    IptablesSave(tables::TablesCommand),
    /// Read rules of IPv4 from standard input
    #[command(name = "iptables-restore")]
    IptablesRestore(tables::TablesCommand),
    /// Print the rules of IPv6 for ip6tables-restore
    #[command(name = "ip6tables-save")]
    Ip6tablesSave(tables::TablesCommand),
    /// Read rules of IPv6 from standard input
    #[command(name = "ip6tables-restore")]
    Ip6tablesRestore(tables::TablesCommand),
    /// Show and delete tracked connections, as conntrack
    #[command(after_help = tables::CONNTRACK)]
    Conntrack(tables::TablesCommand),
    /// Let a card drop, pass, send back or redirect packets by a list, before the stack sees them (XDP)
    #[command(after_help = tables::XDP)]
    Xdp(tables::TablesCommand),
    /// Print what the kernel logged: lines of LOG rules, a full connection table, as dmesg
    Dmesg(dmesg::DmesgCommand),
    /// Print or save packets while they pass, as tcpdump
    Tcpdump(tcpdump::TcpdumpCommand),
    /// Follow packets as they cross the layers, with times and drop reasons
    Trace(trace::TraceCommand),
    /// Draw the receive and the send path with rates, queues and drops at each stage
    Path(path::PathCommand),
    /// Show or change the conditions of a jar's link while it runs
    Link(link::LinkCommand),
    /// A link of its own between two TAP devices, for comparisons with this machine's kernel
    #[command(hide = true)]
    Cable(cable::CableCommand),
    /// Experiments in virtual time, deterministic from a seed
    Lab(LabCommand),
    /// Run packetdrill-like scripts in virtual time
    Script(ScriptCommand),
    /// Say what works on this machine and what is missing
    Doctor(doctor::DoctorCommand),
}
