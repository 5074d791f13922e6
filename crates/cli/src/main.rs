//! The `belljar` command.
#![forbid(unsafe_code)]

mod account;
mod args;
mod lab;
mod out;
mod parse;
mod report;
mod script;
mod session;
mod tools;

use args::{Cli, Command};
use belljar_kernel::net::sysctl::nearest_among;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use out::{Done, Paint};
use std::process::ExitCode;
use tools::{
    cable, dmesg, doctor, exec, ip, link, netstat, nstat, path, ps, run, ss, sysctl, tables, tc, tcpdump, trace, up,
};

fn main() -> ExitCode {
    belljar_host::memory::give_back_large();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return usage(e),
    };
    let paint = Paint::of(cli.color, &std::io::stdout());
    match command(&cli, paint) {
        Ok(code) => ExitCode::from(code),
        Err(f) => {
            f.report(Paint::of(cli.color, &std::io::stderr()));
            ExitCode::from(f.code)
        }
    }
}

/// Help and versions are data; anything else is a wrong command line.
fn usage(mut e: clap::Error) -> ExitCode {
    if e.kind() == ErrorKind::UnknownArgument {
        // That what begins with a hyphen might be meant as a value helps nobody who mistyped an option.
        e.remove(ContextKind::Suggested);
    }
    if let (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word)), None) =
        (e.kind(), e.get(ContextKind::InvalidSubcommand), e.get(ContextKind::SuggestedSubcommand))
    {
        let cli = Cli::command();
        let names = cli.get_subcommands().filter(|c| !c.is_hide_set()).map(|c| c.get_name());
        if let Some(near) = nearest_among(word, names) {
            let near = ContextValue::Strings(vec![near.to_owned()]);
            e.insert(ContextKind::SuggestedSubcommand, near);
        }
    }
    let _ = e.print();
    let asked = matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    ExitCode::from(if asked { 0 } else { out::USAGE })
}

fn command(cli: &Cli, paint: Paint) -> Done {
    match &cli.command {
        Command::Run(c) => run::run(c, cli.color),
        Command::Exec(c) => exec::run(c),
        Command::Up(c) => up::run(c, cli.color),
        Command::Ps(c) => ps::run(c),
        Command::Ss(c) => ss::run(c),
        Command::Netstat(c) => netstat::run(c),
        Command::Nstat(c) => nstat::run(c),
        Command::Ip(c) => ip::run(c),
        Command::Tc(c) => tc::run(c),
        Command::Sysctl(c) => sysctl::run(c),
        Command::Iptables(c) => tables::run("iptables", c),
        Command::Ip6tables(c) => tables::run("ip6tables", c),
        Command::IptablesSave(c) => tables::run("iptables-save", c),
        Command::IptablesRestore(c) => tables::run("iptables-restore", c),
        Command::Ip6tablesSave(c) => tables::run("ip6tables-save", c),
        Command::Ip6tablesRestore(c) => tables::run("ip6tables-restore", c),
        Command::Conntrack(c) => tables::run("conntrack", c),
        Command::Xdp(c) => tables::run("xdp", c),
        Command::Dmesg(c) => dmesg::run(c),
        Command::Tcpdump(c) => tcpdump::run(c),
        Command::Trace(c) => trace::run(c, paint),
        Command::Path(c) => path::run(c, paint),
        Command::Link(c) => link::run(c),
        Command::Cable(c) => cable::run(c),
        Command::Lab(c) => lab::run(c, paint),
        Command::Script(c) => script::run(c, paint),
        Command::Doctor(c) => doctor::run(c, paint),
    }
}
