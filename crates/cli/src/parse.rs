//! Values of options: what people write, checked before anything starts. Every error is one sentence that says what to
//! write instead.
use belljar_kernel::net::sysctl::{check, is_known, nearest};
use core::net::{Ipv4Addr, Ipv6Addr};
use std::net::IpAddr;

/// `-p [IP:]HOST:PORT[/udp]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    pub ip: IpAddr,
    /// 0: the machine chooses.
    pub host_port: u16,
    pub port: u16,
    pub udp: bool,
}

const PUBLISH: &str = "write [IP:]HOST_PORT:PORT, as in 8080:80, 0.0.0.0:8080:80 or 5353:53/udp";

pub fn publish(text: &str) -> Result<Publish, String> {
    let (ports, proto) = text.split_once('/').unwrap_or((text, "tcp"));
    let udp = match proto {
        "tcp" => false,
        "udp" => true,
        other => return Err(format!("{other:?} is neither tcp nor udp: {PUBLISH}")),
    };
    let Some((front, port)) = ports.rsplit_once(':') else {
        return Err(format!("the port inside is missing: {PUBLISH}"));
    };
    let (ip, host_port) = match front.rsplit_once(':') {
        Some((ip, p)) => {
            let ip = ip.trim_matches(['[', ']']);
            (ip.parse().map_err(|_| format!("{ip:?} is no IP address: {PUBLISH}"))?, p)
        }
        None => (IpAddr::V4(Ipv4Addr::LOCALHOST), front),
    };
    let number = |p: &str| p.parse::<u16>().map_err(|_| format!("{p:?} is no port (1 to 65535): {PUBLISH}"));
    let (host_port, port) = (number(host_port)?, number(port)?);
    if port == 0 {
        return Err(format!("0 is no port of a program: {PUBLISH}"));
    }
    Ok(Publish { ip, host_port, port, udp })
}

/// `K=V` with a non-empty key.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((k, v)) if !k.trim().is_empty() => Ok((k.trim().to_owned(), v.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// `--sysctl K=V`: the setting must exist and take the value.
pub fn sysctl(text: &str) -> Result<(String, String), String> {
    let (key, value) = pair(text)?;
    let key = key.replace('/', ".");
    if !is_known(&key) {
        let near = nearest(&key).map_or(String::new(), |n| format!("; did you mean {n}?"));
        return Err(format!("there is no setting {key}{near}"));
    }
    check(&key, &value).map_err(|e| format!("{key} does not take {value:?}: {e}"))?;
    Ok((key, value))
}

/// The mask of a prefix; longer than 32 is 32.
pub fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32u32.saturating_sub(prefix.into())).unwrap_or(0)
}

/// `--ip ADDRESS/PREFIX`.
pub fn cidr(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let form = "write ADDRESS/PREFIX, as in 10.0.2.15/24";
    let (addr, prefix) = text.split_once('/').ok_or(format!("the length of the prefix is missing: {form}"))?;
    let addr: Ipv4Addr = addr.parse().map_err(|_| format!("{addr:?} is no IPv4 address: {form}"))?;
    let prefix: u8 = prefix.parse().map_err(|_| format!("{prefix:?} is no length of a prefix: {form}"))?;
    let mask = mask(prefix);
    let host = addr.to_bits() & !mask;
    if !(8..=30).contains(&prefix) {
        return Err(format!("a prefix of {prefix} is not from 8 to 30, which leaves room for the gateway"));
    }
    if addr.is_loopback() || addr.is_multicast() || addr.is_unspecified() || host == 0 || host == !mask {
        return Err(format!("{text} is no address that a host can have"));
    }
    Ok((addr, prefix))
}

pub fn delay(text: &str) -> Result<u64, String> {
    belljar_link::parse_delay(text).map_err(|e| e.to_string())
}

pub fn percent(text: &str) -> Result<f64, String> {
    belljar_link::parse_percent(text).map_err(|e| e.to_string())
}

pub fn rate(text: &str) -> Result<u64, String> {
    belljar_link::parse_rate(text).map_err(|e| e.to_string())
}

/// A size of memory: `512M`.
pub fn memory(text: &str) -> Result<u64, String> {
    belljar_kernel::mem::ledger::parse_size(text)
}

/// `--limit N`.
pub fn packets(text: &str) -> Result<usize, String> {
    let n = text.parse().ok().filter(|n| *n > 0);
    n.ok_or_else(|| format!("{text:?} is no positive number of packets"))
}

/// A number, decimal or with 0x.
pub fn seed(text: &str) -> Result<u64, String> {
    let n = text.strip_prefix("0x").map_or_else(|| text.parse(), |h| u64::from_str_radix(h, 16));
    n.map_err(|_| "a seed is a number, as in 42 or 0x5eed".to_owned())
}

/// `A..B`, without B; `A` alone is one seed.
pub fn seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let bad = || format!("{text:?} is no range of seeds: write A..B, as in 0..1000 (1000 not included)");
    let Some((a, b)) = text.split_once("..") else {
        let a = seed(text)?;
        return Ok(a..a.checked_add(1).ok_or_else(bad)?);
    };
    let (a, b) = (seed(a).map_err(|_| bad())?, seed(b).map_err(|_| bad())?);
    if a < b { Ok(a..b) } else { Err(format!("{text:?} has no seed in it: A..B ends before B")) }
}

/// `I/N`: shard I of N, from 1.
pub fn shard(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match parts {
        Some((i, n)) if 1 <= i && i <= n => Ok((i, n)),
        _ => Err("write I/N with I from 1 to N, as in 1/4".to_owned()),
    }
}

/// The address of `--ip6`, `None` for `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip6(pub Option<(Ipv6Addr, u8)>);

/// `fd00::15/64`, or `off`.
pub fn cidr6(text: &str) -> Result<Ip6, String> {
    if text == "off" {
        return Ok(Ip6(None));
    }
    let form = "as in fd00::15/64, or off";
    let (addr, len) = text.split_once('/').unwrap_or((text, "64"));
    let addr: Ipv6Addr = addr.parse().map_err(|_| format!("{addr:?} is no IPv6 address: {form}"))?;
    let len = len.parse().ok().filter(|l| (1..=126).contains(l)).ok_or(format!("prefix length {len:?}: 1 to 126"))?;
    if addr.is_multicast() || addr.is_loopback() || addr.is_unspecified() {
        return Err(format!("{addr} is not an address of a host: {form}"));
    }
    Ok(Ip6(Some((addr, len))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports() {
        let p = |ip: &str, host_port, port, udp| Publish { ip: ip.parse().unwrap(), host_port, port, udp };
        assert_eq!(publish("8080:80"), Ok(p("127.0.0.1", 8080, 80, false)));
        assert_eq!(publish("0.0.0.0:53:5353/udp"), Ok(p("0.0.0.0", 53, 5353, true)));
        assert_eq!(publish("[::1]:0:80/tcp"), Ok(p("::1", 0, 80, false)));
        for (bad, part) in [
            ("80", "port inside is missing"),
            ("80:", "\"\" is no port"),
            ("x:80", "\"x\" is no port"),
            ("70000:80", "is no port"),
            ("1:0", "0 is no port"),
            ("1.2.3:1:2", "\"1.2.3\" is no IP"),
            ("1:2/sctp", "neither tcp nor udp"),
        ] {
            assert!(publish(bad).unwrap_err().contains(part), "{bad}");
        }
    }

    #[test]
    fn settings_are_checked_before_the_start() {
        assert_eq!(sysctl("net/core/somaxconn=4"), Ok(("net.core.somaxconn".into(), "4".into())));
        let e = sysctl("net.core.somaxcon=4").unwrap_err();
        assert_eq!(e, "there is no setting net.core.somaxcon; did you mean net.core.somaxconn?");
        let e = sysctl("net.ipv4.tcp_ecn=9").unwrap_err();
        assert_eq!(e, "net.ipv4.tcp_ecn does not take \"9\": Invalid argument (EINVAL)");
        assert!(sysctl("net.ipv4.tcp_rmem").is_err() && sysctl("=1").is_err());
        assert!(sysctl("fs.file-max=1000").is_ok());
    }

    #[test]
    fn addresses_seeds_and_shards() {
        assert_eq!(cidr("10.0.2.15/24"), Ok((Ipv4Addr::new(10, 0, 2, 15), 24)));
        for bad in ["10.0.2.15", "10.0.2.15/33", "10.0.2.15/31", "10.0.2.0/24", "10.0.2.255/24", "127.0.0.1/8", "x/8"] {
            assert!(cidr(bad).is_err(), "{bad}");
        }
        assert_eq!((seeds("0..10"), seeds("7"), seed("0x10")), (Ok(0..10), Ok(7..8), Ok(16)));
        assert!(seeds("5..5").is_err() && seeds("a..b").is_err() && seed("-1").is_err());
        assert_eq!((shard("1/4"), shard("4/4")), (Ok((1, 4)), Ok((4, 4))));
        assert!(shard("0/4").is_err() && shard("5/4").is_err() && shard("x").is_err());
    }
}
