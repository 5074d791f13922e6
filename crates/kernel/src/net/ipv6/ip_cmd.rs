//! The `ip` command for IPv6: `route`, `addr` and `neigh` with addresses of this family. Rules and tables other than main are
//! not there.
use super::fib::{Route6, mask};
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::dst_metrics::DstMetrics;
use crate::net::ipv4::ip_cmd::{Done, Line, refusing, words};
use belljar_abi::rtax::rtax_of;
use core::net::Ipv6Addr;

/// Whether words are about this family: `-6` in front says so, or an address.
pub(crate) fn is_v6(line: &str) -> bool {
    let address = |w: &str| w.split('/').next().is_some_and(|a| a.parse::<Ipv6Addr>().is_ok());
    line.split_whitespace().any(|w| w == "-6" || address(w))
}

impl Line<'_> {
    /// An address with or without a length; `default` and `all` are everything.
    fn prefix6(&mut self) -> Done<(Ipv6Addr, u8)> {
        let w = self.next("a prefix")?;
        if matches!(w, "default" | "all" | "any") {
            return Ok((Ipv6Addr::UNSPECIFIED, 0));
        }
        let (a, len) = w.split_once('/').unwrap_or((w, "128"));
        let found = a.parse().ok().zip(len.parse().ok().filter(|l| *l <= 128));
        found.ok_or_else(|| words(format!("`{w}` is not a prefix")))
    }
}

impl Kernel {
    pub(crate) fn ip6(&mut self, ns: NsId, object: &str, verb: &str, l: &mut Line<'_>) -> Done {
        match (object, verb) {
            ("route" | "r", "add" | "del") => self.ip6_route(ns, verb == "add", l),
            ("addr" | "address" | "a", "add" | "del") => self.ip6_addr(ns, verb == "add", l),
            ("neigh" | "neighbour" | "n", "add" | "replace" | "del") => self.ip_neigh::<Ipv6Addr>(ns, verb != "del", l),
            _ => Err(words(format!("`ip -6 {object} {verb}` is not understood"))),
        }
    }

    fn ip6_route(&mut self, ns: NsId, add: bool, l: &mut Line<'_>) -> Done {
        let mut route = Route6::unicast(None, None);
        if let Some(kind) = l.words.peek().and_then(|w| refusing(w)) {
            l.words.next();
            route.kind = kind;
        }
        let (dst, len) = l.prefix6()?;
        let mut metrics = DstMetrics::default();
        while let Some(w) = l.words.next() {
            match w {
                "metric" | "priority" => route.metric = l.number("a metric")?,
                "src" => route.prefsrc = Some(l.parse("an address")?),
                "via" => route.gateway = Some(l.parse("an address")?),
                "dev" => route.dev = Some(self.dev(ns, l)?),
                _ => match rtax_of(w) {
                    Some(which) => l.metric(which, &mut metrics)?,
                    None => return Err(words(format!("`{w}` means nothing to a route"))),
                },
            }
        }
        let dst = Ipv6Addr::from_bits(dst.to_bits() & mask(len));
        route.metrics = self.metrics_id(ns, &metrics)?;
        match add {
            true => self.net.add_route6(ns, dst, len, route)?,
            false => self.net.del_route6(ns, dst, len, route.dev)?,
        }
        Ok(())
    }

    fn ip6_addr(&mut self, ns: NsId, add: bool, l: &mut Line<'_>) -> Done {
        let (addr, len) = l.prefix6()?;
        let (mut dev, mut nodad) = (None, false);
        while let Some(w) = l.words.next() {
            match w {
                "dev" => dev = Some(self.dev(ns, l)?),
                "nodad" => nodad = true,
                _ => return Err(words(format!("`{w}` means nothing to an address"))),
            }
        }
        let dev = dev.ok_or_else(|| words("`dev` and a device are missing"))?;
        match add {
            true => self.net.add_address6(dev, addr, len, nodad)?,
            false => self.net.del_address6(dev, addr)?,
        }
        Ok(())
    }
}
