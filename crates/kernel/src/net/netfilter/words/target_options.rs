//! Options of targets.
use super::super::Pf;
use super::super::packet;
use super::super::rules::*;
use super::options::Ext;
use super::parse::Words;
use super::value::*;
use super::{Done, Fail, usage};
use crate::net::netfilter::xt::target::{self, XtTarget};
use core::net::IpAddr;

/// A target while its options are read.
pub struct TargetBuilding {
    pf: Pf,
    target: Target,
    /// An option that it cannot be without has been given.
    given: bool,
    /// CONNMARK: what its masks are.
    masks: bool,
}

/// Names that are targets, and therefore no chains.
pub fn is_extension(name: &str) -> bool {
    TargetBuilding::new(Pf::V4, name).is_some()
}

/// Levels of the log, by number.
pub const LOG_LEVELS: [(&str, u8); 10] = [
    ("alert", 1),
    ("crit", 2),
    ("debug", 7),
    ("emerg", 0),
    ("error", 3),
    ("info", 6),
    ("notice", 5),
    ("panic", 0),
    ("warning", 4),
    ("warn", 4),
];

impl TargetBuilding {
    pub fn new(pf: Pf, name: &str) -> Option<TargetBuilding> {
        let range = NatRange::default();
        let target = match name {
            "ACCEPT" => Target::Accept,
            "DROP" => Target::Drop,
            "QUEUE" => Target::Queue,
            "RETURN" => Target::Return,
            "REJECT" => Target::Reject(RejectWith::default(pf)),
            "SNAT" => Target::Snat(range),
            "DNAT" => Target::Dnat(range),
            "MASQUERADE" => Target::Masquerade(range),
            "REDIRECT" => Target::Redirect(range),
            "MARK" => Target::Mark { value: 0, mask: 0 },
            "CONNMARK" => Target::Connmark { mode: ConnmarkMode::Set, ctmark: 0, ctmask: u32::MAX, nfmask: u32::MAX },
            "LOG" => Target::Log { level: 4, flags: 0, prefix: "".into() },
            "NFLOG" => Target::Nflog(Nflog::default()),
            "TPROXY" => Target::Tproxy { addr: 0, port: 0, mark: 0, mask: 0 },
            "NOTRACK" => Target::Notrack { ct: false },
            "CT" => Target::Notrack { ct: true },
            "TCPMSS" => Target::Tcpmss(0),
            _ => Target::Xt(Box::new(target::load(pf, name)?)),
        };
        Some(TargetBuilding { pf, target, given: false, masks: false })
    }

    pub fn option(&mut self, word: &str, inv: bool, w: &mut Words<'_>) -> Done<Ext> {
        let done = match &mut self.target {
            Target::Reject(with) if word == "--reject-with" => {
                let text = w.value(word)?;
                match RejectWith::parse(self.pf, text) {
                    Some(r) => *with = r,
                    None => return usage(format!("unknown reject type \"{text}\"")),
                }
                Ext::Taken
            }
            Target::Snat(r) => nat_option(self.pf, r, "--to-source", word, w, &mut self.given)?,
            Target::Dnat(r) => nat_option(self.pf, r, "--to-destination", word, w, &mut self.given)?,
            Target::Masquerade(r) | Target::Redirect(r) => {
                nat_option(self.pf, r, "--to-ports", word, w, &mut self.given)?
            }
            Target::Mark { value, mask } => {
                let done = mark_option(value, mask, word, w)?;
                self.given |= done == Ext::Taken;
                done
            }
            Target::Connmark { .. } => self.connmark(word, w)?,
            Target::Tcpmss(mss) => match word {
                "--clamp-mss-to-pmtu" => {
                    (*mss, self.given) = (TCPMSS_CLAMP, true);
                    Ext::Taken
                }
                "--set-mss" => {
                    let text = w.value(word)?;
                    match number(text).and_then(|n| u16::try_from(n).ok()).filter(|n| *n < TCPMSS_CLAMP - 40) {
                        Some(n) => (*mss, self.given) = (n, true),
                        None => return usage(format!("TCPMSS: Bad value for \"--set-mss\" option: \"{text}\"")),
                    }
                    Ext::Taken
                }
                _ => Ext::Unknown,
            },
            Target::Log { level, flags, prefix } => log_option(level, flags, prefix, word, w)?,
            Target::Nflog(l) => nflog_option(l, word, w)?,
            Target::Tproxy { addr, port: to, mark, mask } => match word {
                "--on-port" => {
                    let text = w.value(word)?;
                    match number(text).and_then(|n| u16::try_from(n).ok()) {
                        Some(n) => (*to, self.given) = (n, true),
                        None => return usage(format!("TPROXY: Bad value for \"--on-port\" option: \"{text}\"")),
                    }
                    Ext::Taken
                }
                "--on-ip" => {
                    let text = w.value(word)?;
                    match address(self.pf, text) {
                        Some(a) => *addr = a,
                        None => return usage(format!("TPROXY: Bad value for \"--on-ip\" option: \"{text}\"")),
                    }
                    Ext::Taken
                }
                "--tproxy-mark" => {
                    let (v, m) = masked_number(w.value(word)?, "TPROXY")?;
                    (*mark, *mask) = (v, m.unwrap_or(u32::MAX));
                    Ext::Taken
                }
                _ => Ext::Unknown,
            },
            Target::Notrack { ct: true } if word.starts_with("--zone") => match XtTarget::zone_option(word, w)? {
                Some(zone) => {
                    (self.target, self.given) = (Target::Xt(Box::new(zone)), true);
                    return if inv { usage(format!("option \"{word}\" cannot be inverted")) } else { Ok(Ext::Taken) };
                }
                None => Ext::Unknown,
            },
            Target::Xt(x) => {
                let done = x.option(self.pf, word, w)?;
                self.given |= done == Ext::Taken;
                done
            }
            Target::Notrack { ct: true } if word == "--notrack" => {
                self.given = true;
                Ext::Taken
            }
            _ => Ext::Unknown,
        };
        if done == Ext::Taken && inv {
            return usage(format!("option \"{word}\" cannot be inverted"));
        }
        Ok(done)
    }

    fn connmark(&mut self, word: &str, w: &mut Words<'_>) -> Done<Ext> {
        let Target::Connmark { mode, ctmark, ctmask, nfmask } = &mut self.target else { return Ok(Ext::Unknown) };
        match word {
            "--save-mark" => (*mode, self.given) = (ConnmarkMode::Save, true),
            "--restore-mark" => (*mode, self.given) = (ConnmarkMode::Restore, true),
            "--nfmask" | "--ctmask" | "--mask" => {
                let (v, _) = masked_number(w.value(word)?, "CONNMARK")?;
                if word != "--ctmask" {
                    *nfmask = v;
                }
                if word != "--nfmask" {
                    *ctmask = v;
                }
                self.masks = true;
            }
            _ => {
                let (mut value, mut mask) = (0, 0);
                if mark_option(&mut value, &mut mask, word, w)? == Ext::Unknown {
                    return Ok(Ext::Unknown);
                }
                (*mode, *ctmark, *ctmask, self.given) = (ConnmarkMode::Set, value, mask, true);
            }
        }
        Ok(Ext::Taken)
    }

    pub fn finish(self, pf: Pf, proto: u16, inverted: bool) -> Done<Target> {
        let must = |name: &str, option: &str| -> Done<Target> {
            Err(Fail::Extension(format!("{name}: option \"{option}\" must be specified")))
        };
        let has_ports = matches!(proto, 6 | 17 | 33 | 132 | 136 | 1 | 58) && !inverted;
        match &self.target {
            Target::Snat(_) if !self.given => return must("SNAT", "--to-source"),
            Target::Dnat(_) if !self.given => return must("DNAT", "--to-destination"),
            Target::Snat(r) | Target::Dnat(r) | Target::Masquerade(r) | Target::Redirect(r)
                if r.flags & NAT_PROTO_SPECIFIED != 0 && !has_ports =>
            {
                return usage("Need TCP, UDP, SCTP or DCCP with port specification");
            }
            Target::Mark { .. } if !self.given => {
                return usage("MARK: One of the --set-xmark, --{and,or,xor,set}-mark options is required");
            }
            Target::Connmark { .. } if !self.given => {
                return usage("CONNMARK target: No operation specified".to_owned());
            }
            Target::Tproxy { .. } if !self.given => return must("TPROXY", "--on-port"),
            Target::Xt(x) => x.finish(self.given)?,
            Target::Tcpmss(_) if !self.given => return usage("TCPMSS target: At least one parameter is required"),
            Target::Notrack { ct: true } if !self.given => {
                return usage("CT: only --notrack and --zone are supported here");
            }
            _ => {}
        }
        let _ = pf;
        Ok(self.target)
    }
}

fn nat_option(pf: Pf, r: &mut NatRange, kind: &str, word: &str, w: &mut Words<'_>, given: &mut bool) -> Done<Ext> {
    match word {
        _ if word == kind || (kind == "--to-ports" && word == "--to-port") => {
            *given = true;
            if kind == "--to-ports" {
                ports_to(r, w.value(word)?)?;
            } else {
                to(pf, r, w.value(word)?, kind == "--to-destination")?;
            }
        }
        "--random" => r.flags |= NAT_PROTO_RANDOM,
        "--random-fully" if kind != "--to-destination" => r.flags |= NAT_PROTO_RANDOM_FULLY,
        "--persistent" if kind != "--to-ports" => r.flags |= NAT_PERSISTENT,
        _ => return Ok(Ext::Unknown),
    }
    Ok(Ext::Taken)
}

fn ports_to(r: &mut NatRange, text: &str) -> Done {
    match port_range(text).filter(|p| p.0 <= p.1) {
        Some(p) => {
            r.ports = p;
            r.flags |= NAT_PROTO_SPECIFIED;
            Ok(())
        }
        None => usage(format!("Port `{text}' not valid")),
    }
}

/// `[ADDRESS[-ADDRESS]][:PORT[-PORT][/BASE]]`, IPv6 addresses with ports in brackets.
fn to(pf: Pf, r: &mut NatRange, text: &str, shifts: bool) -> Done {
    let (ips, ports) = match pf {
        Pf::V4 => text.split_once(':').map_or((text, None), |(a, p)| (a, Some(p))),
        Pf::V6 => match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
            Some((a, rest)) => (a, rest.strip_prefix(':')),
            None if text.starts_with(':') && !text.starts_with("::") => ("", text.strip_prefix(':')),
            None => (text, None),
        },
    };
    if let Some(p) = ports {
        let (p, base) = p.split_once('/').map_or((p, None), |(p, b)| (p, Some(b)));
        ports_to(r, p)?;
        if let Some(b) = base.filter(|_| shifts) {
            match number(b).and_then(|n| u16::try_from(n).ok()) {
                Some(b) => r.base = b,
                None => return usage(format!("Port `{b}' not valid")),
            }
            r.flags |= NAT_PROTO_OFFSET;
        }
    }
    if ips.is_empty() {
        return Ok(());
    }
    let (lo, hi) = ips.split_once('-').unwrap_or((ips, ips));
    match (address(pf, lo), address(pf, hi)) {
        (Some(a), Some(b)) if a <= b => {
            (r.min, r.max) = (a, b);
            r.flags |= NAT_MAP_IPS;
            Ok(())
        }
        _ => usage(format!("Bad IP address \"{ips}\"")),
    }
}

fn mark_option(value: &mut u32, mask: &mut u32, word: &str, w: &mut Words<'_>) -> Done<Ext> {
    match word {
        "--set-xmark" => {
            let (v, m) = masked_number(w.value(word)?, "MARK")?;
            (*value, *mask) = (v, m.unwrap_or(u32::MAX));
        }
        "--set-mark" => {
            let (v, m) = masked_number(w.value(word)?, "MARK")?;
            (*value, *mask) = (v, m.map_or(u32::MAX, |m| v | m));
        }
        "--and-mark" => (*value, *mask) = (0, !masked_number(w.value(word)?, "MARK")?.0),
        "--or-mark" => {
            let v = masked_number(w.value(word)?, "MARK")?.0;
            (*value, *mask) = (v, v);
        }
        "--xor-mark" => (*value, *mask) = (masked_number(w.value(word)?, "MARK")?.0, 0),
        _ => return Ok(Ext::Unknown),
    }
    Ok(Ext::Taken)
}

fn log_option(
    level: &mut u8,
    flags: &mut u8,
    prefix: &mut std::sync::Arc<str>,
    word: &str,
    w: &mut Words<'_>,
) -> Done<Ext> {
    match word {
        "--log-prefix" => {
            let text = w.value(word)?;
            if text.len() > 29 {
                return usage("Maximum prefix length 29 for --log-prefix");
            }
            *prefix = text.into();
        }
        "--log-level" => {
            let text = w.value(word)?;
            let named = LOG_LEVELS.iter().find(|l| l.0.starts_with(&text.to_ascii_lowercase())).map(|l| l.1);
            match number(text).filter(|n| *n < 8).map(|n| n as u8).or(named) {
                Some(n) => *level = n,
                None => return usage(format!("log-level `{text}' unknown")),
            }
        }
        "--log-tcp-sequence" => *flags |= LOG_TCPSEQ,
        "--log-tcp-options" => *flags |= LOG_TCPOPT,
        "--log-ip-options" => *flags |= LOG_IPOPT,
        "--log-uid" => *flags |= LOG_UID,
        "--log-macdecode" => *flags |= LOG_MACDECODE,
        _ => return Ok(Ext::Unknown),
    }
    Ok(Ext::Taken)
}

fn nflog_option(l: &mut Nflog, word: &str, w: &mut Words<'_>) -> Done<Ext> {
    let short = |text: &str| number(text).and_then(|n| u16::try_from(n).ok());
    let bad = |text: &str| usage(format!("NFLOG: Bad value for \"{word}\" option: \"{text}\""));
    match word {
        "--nflog-prefix" => {
            let text = w.value(word)?;
            if text.len() >= NFLOG_PREFIX {
                return usage(format!("NFLOG: option \"{word}\" value too long"));
            }
            l.prefix = text.into();
        }
        "--nflog-group" | "--nflog-threshold" => {
            let text = w.value(word)?;
            let Some(n) = short(text) else { return bad(text) };
            *(if word == "--nflog-group" { &mut l.group } else { &mut l.threshold }) = n;
        }
        "--nflog-size" => {
            let text = w.value(word)?;
            let Some(n) = number(text).and_then(|n| u32::try_from(n).ok()) else { return bad(text) };
            l.size = Some(n);
        }
        _ => return Ok(Ext::Unknown),
    }
    Ok(Ext::Taken)
}

/// Addresses and ports of a range, as both lists and saved rules have them.
pub fn range_text(pf: Pf, r: &NatRange) -> String {
    let a = |bits: u128| packet::addr(pf, bits);
    let mut o = String::new();
    let brackets = pf == Pf::V6 && r.flags & NAT_PROTO_SPECIFIED != 0;
    if r.flags & NAT_MAP_IPS != 0 {
        if brackets {
            o.push('[');
        }
        let (lo, hi): (IpAddr, IpAddr) = (a(r.min), a(r.max));
        o += &lo.to_string();
        if lo != hi {
            o += &format!("-{hi}");
        }
        if brackets {
            o.push(']');
        }
    }
    if r.flags & NAT_PROTO_SPECIFIED != 0 {
        o += &format!(":{}", r.ports.0);
        if r.ports.0 != r.ports.1 {
            o += &format!("-{}", r.ports.1);
        }
        if r.flags & NAT_PROTO_OFFSET != 0 {
            o += &format!("/{}", r.base);
        }
    }
    o
}
