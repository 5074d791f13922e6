//! `belljar run`: a program in a new jar.
use crate::account;
use crate::out::{Done, Fail};
use belljar_jar::{NetMode, Options, PublishSpec};
use belljar_link::{Conditions, parse_delay, parse_percent, parse_rate};
use clap::Args;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "\
The program is unmodified and needs no rights; it runs on a network stack of belljar's own, as host 10.0.2.15. What it
connects to outside is reached with this machine's sockets; 10.0.2.2 is this machine's own loopback address.

Examples: belljar run -p 8080:80 -- python3 -m http.server 80
          belljar run --sysctl net.core.somaxconn=4 --pcap slow.pcapng -p 8080:80 -- nginx -g 'daemon off;'
          belljar run --delay 40ms --loss 1% -- curl -O https://example.org/big")]
pub struct RunCommand {
    /// Name of the jar (default: the program's, then -2, -3, …)
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Publish a port of the program on this machine, on 127.0.0.1 unless an address is given; HOST 0 chooses one
    #[arg(short, long = "publish", value_name = "[IP:]HOST:PORT[/udp]", value_parser = publish)]
    pub publish: Vec<PublishSpec>,
    /// Set a kernel setting of the program's host
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::parse::pair)]
    pub sysctl: Vec<(String, String)>,
    /// Set up the program's network card: rx, tx (ring sizes), tso, gro, tx-checksumming, rx-checksumming (on, off)
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::parse::pair)]
    pub nic: Vec<(String, String)>,
    /// Delay of the link, each way: 20ms
    #[arg(long, value_name = "TIME", value_parser = parse_delay)]
    pub delay: Option<u64>,
    /// Variation of the delay: 5ms
    #[arg(long, value_name = "TIME", value_parser = parse_delay)]
    pub jitter: Option<u64>,
    /// Packets lost: 1%
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub loss: Option<f64>,
    /// Packets that overtake others: 10%
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub reorder: Option<f64>,
    /// Packets that arrive twice
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub duplicate: Option<f64>,
    /// Packets with a flipped bit
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub corrupt: Option<f64>,
    /// Speed of the link: 10mbit
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub rate: Option<u64>,
    /// Packets that the link holds at most
    #[arg(long, value_name = "PACKETS", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// MTU of the link
    #[arg(long, value_name = "BYTES", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(68..=65535))]
    pub mtu: u32,
    /// Address of the program's host
    #[arg(long, value_name = "ADDRESS/PREFIX", default_value = "10.0.2.15/24", value_parser = cidr)]
    pub ip: (Ipv4Addr, u8),
    /// How the jar is connected: user (through this machine's sockets) or none (only lo)
    #[arg(long, value_name = "MODE", default_value = "user", value_parser = net)]
    pub net: NetMode,
    /// Seed of everything random in the stack and on the link
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Show the program the stack's own /proc/net, /proc/sys/net and /sys/class/net
    #[arg(long)]
    pub with_proc: bool,
    /// Take the network capabilities away: no ports below 1024, no raw sockets
    #[arg(long)]
    pub drop_caps: bool,
    /// Keep the jar until the last descendant ends, for daemons
    #[arg(long)]
    pub linger: bool,
    /// Write the program's packets, and those dropped, to a pcapng file
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// Write all events as JSON lines
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Set a variable in the environment of the program
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = crate::parse::pair)]
    pub env: Vec<(String, String)>,
    /// The program and its arguments
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub program: Vec<OsString>,
}

/// `[IP:]HOST:PORT[/udp]`.
fn publish(text: &str) -> Result<PublishSpec, String> {
    let wrong = || "write [IP:]HOST:PORT[/udp], as in 8080:80 or 0.0.0.0:5353:53/udp".to_owned();
    let (ports, udp) = match text.rsplit_once('/') {
        Some((p, "udp")) => (p, true),
        Some((p, "tcp")) => (p, false),
        Some(_) => return Err(wrong()),
        None => (text, false),
    };
    let (rest, port) = ports.rsplit_once(':').ok_or_else(wrong)?;
    let (ip, host) = match rest.rsplit_once(':') {
        Some((ip, host)) => (ip.trim_matches(['[', ']']).parse().map_err(|_| wrong())?, host),
        None => (IpAddr::from([127, 0, 0, 1]), rest),
    };
    let port = port.parse().ok().filter(|p| *p != 0).ok_or_else(wrong)?;
    Ok(PublishSpec { ip, host_port: host.parse().map_err(|_| wrong())?, port, udp })
}

fn cidr(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let wrong = || "write ADDRESS/PREFIX with a prefix from 8 to 30, as in 10.0.2.15/24".to_owned();
    let (ip, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let prefix = prefix.parse().ok().filter(|p| (8..=30).contains(p)).ok_or_else(wrong)?;
    Ok((ip.parse().map_err(|_| wrong())?, prefix))
}

fn net(text: &str) -> Result<NetMode, String> {
    match text {
        "user" => Ok(NetMode::User),
        "none" => Ok(NetMode::None),
        _ => Err("it is user or none".to_owned()),
    }
}

pub fn run(c: &RunCommand) -> Done {
    let mut program = c.program.iter().cloned();
    let mut o = Options::new(program.next().unwrap_or_default(), program.collect());
    o.name = c.name.clone();
    o.publish = c.publish.clone();
    o.sysctls = c.sysctl.clone();
    o.nic = c.nic.clone();
    let none = Conditions::default();
    o.conditions = Conditions {
        delay_ns: c.delay.unwrap_or(0),
        jitter_ns: c.jitter.unwrap_or(0),
        loss: c.loss.unwrap_or(0.0),
        duplicate: c.duplicate.unwrap_or(0.0),
        corrupt: c.corrupt.unwrap_or(0.0),
        reorder: c.reorder.unwrap_or(0.0),
        rate_bps: c.rate,
        limit: c.limit.map_or(none.limit, |n| n as usize),
    };
    (o.mtu, o.ip, o.net, o.seed) = (c.mtu, c.ip, c.net, c.seed);
    (o.with_proc, o.drop_caps, o.linger) = (c.with_proc, c.drop_caps, c.linger);
    (o.pcap, o.trace) = (c.pcap.clone(), c.trace.clone());
    o.env = c.env.iter().map(|(k, v)| (k.into(), v.into())).collect();
    let ended = belljar_jar::run(o).map_err(|e| Fail::new(&e.message).code(e.code))?;
    account::print(&ended);
    Ok(ended.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports_are_read() {
        let p = publish("8080:80").unwrap();
        assert_eq!(p.to_string(), "127.0.0.1:8080->80/tcp");
        assert_eq!(publish("0.0.0.0:53:5353/udp").unwrap().to_string(), "0.0.0.0:53->5353/udp");
        assert_eq!(publish("[::1]:1:2").unwrap().to_string(), "[::1]:1->2/tcp");
        for bad in ["", "80", "a:b", "1:0", "70000:1", "1:2/sctp", "x:1:2"] {
            assert!(publish(bad).is_err(), "{bad}");
        }
        assert!(cidr("10.0.0.1/24").is_ok() && cidr("10.0.0.1").is_err() && cidr("10.0.0.1/31").is_err());
    }
}
