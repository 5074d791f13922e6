//! Arguments of a call as the kernel wants them: numbers, addresses, option values, structures.
use super::Run;
use crate::ast::*;
use crate::problem::Problem;
use belljar_abi::{AF_INET, AF_INET6, SockAddr};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A call's arguments, asked for by position.
pub(super) struct Args<'a> {
    pub line: &'a CallLine,
}

impl<'a> Args<'a> {
    pub fn get(&self, n: usize) -> Option<&'a Expr> {
        self.line.args.get(n)
    }

    pub fn want(&self, n: usize, what: &str) -> Result<&'a Expr, Problem> {
        self.get(n).ok_or_else(|| {
            Problem::new(self.line.span, format!("`{}` wants {what} as argument {}", self.line.name, n + 1))
        })
    }

    pub fn int(&self, n: usize, what: &str) -> Result<i64, Problem> {
        int(self.want(n, what)?, what)
    }

    /// As `int`; absent is 0.
    pub fn int_or_0(&self, n: usize, what: &str) -> Result<i64, Problem> {
        self.get(n).map_or(Ok(0), |e| int(e, what))
    }

    pub fn i32(&self, n: usize, what: &str) -> Result<i32, Problem> {
        // Flags up to 2^32 are bit patterns.
        self.int(n, what).map(|v| v as i32)
    }

    pub fn i32_or_0(&self, n: usize, what: &str) -> Result<i32, Problem> {
        self.int_or_0(n, what).map(|v| v as i32)
    }

    pub fn size(&self, n: usize, what: &str) -> Result<usize, Problem> {
        let v = self.int(n, what)?;
        usize::try_from(v).ok().filter(|v| *v <= MAX_BYTES).ok_or_else(|| {
            Problem::new(self.want(n, what).map_or(self.line.span, |e| e.span), format!("at most {MAX_BYTES} bytes"))
        })
    }
}

/// Bytes that one call moves.
pub(super) const MAX_BYTES: usize = 64_000_000;

pub(super) fn int(e: &Expr, what: &str) -> Result<i64, Problem> {
    match &e.kind {
        ExprKind::Int(v) => Ok(*v),
        // `[4]`: what an argument points at.
        ExprKind::List(l) if l.len() == 1 => l.first().map_or(Ok(0), |e| int(e, what)),
        _ => Err(Problem::new(e.span, format!("{what} is expected here, a number"))),
    }
}

pub(super) fn field<'e>(e: &'e Expr, name: &str) -> Option<&'e Expr> {
    match &e.kind {
        ExprKind::Struct(fields) => fields.iter().find(|f| f.0 == name).map(|f| &f.1),
        _ => None,
    }
}

/// A field by one of its names, or by its position.
pub(super) fn one_of<'e>(e: &'e Expr, names: &[&str]) -> Option<&'e Expr> {
    names.iter().find_map(|n| field(e, n))
}

/// The structure itself where a script writes `[{…}]`.
pub(super) fn inner(e: &Expr) -> &Expr {
    match &e.kind {
        ExprKind::List(l) if l.len() == 1 => l.first().unwrap_or(e),
        _ => e,
    }
}

impl Run<'_> {
    /// The kernel's number of a script's descriptor; one that the script does not know goes through as it is.
    pub(super) fn fd(&self, e: &Expr) -> Result<u32, Problem> {
        let script = int(e, "a descriptor")?;
        if let Some(fd) = self.fds.get(&script) {
            return Ok(*fd);
        }
        // A number that no open file can have: EBADF, as for one that is closed.
        Ok(u32::try_from(script).unwrap_or(u32::MAX).saturating_add(1_000_000))
    }

    /// A socket address as bytes; `...` is the script's own side or its peer.
    pub(super) fn addr(&self, e: &Expr, default: (IpAddr, u16)) -> Result<Vec<u8>, Problem> {
        match &e.kind {
            ExprKind::Default => Ok(SockAddr::ip(self.script.settings.mapped(default.0), default.1).emit().to_vec()),
            ExprKind::Addr(a, p) => Ok(SockAddr::ip(*a, *p).emit().to_vec()),
            ExprKind::Struct(_) if one_of(e, SIN6).is_some() => sockaddr_in6(e),
            ExprKind::Struct(_) => {
                let family = field(e, "sa_family").map_or(Ok(i64::from(AF_INET)), |f| int(f, "a family"))?;
                let port = field(e, "sin_port").map_or(Ok(0), |p| int(p, "a port"))?;
                let addr = match field(e, "sin_addr").map(|a| &a.kind) {
                    Some(ExprKind::Ip(IpAddr::V4(a))) => *a,
                    None => Ipv4Addr::UNSPECIFIED,
                    Some(ExprKind::Int(v)) => Ipv4Addr::from((*v as u32).to_be_bytes()),
                    Some(_) => return Err(Problem::new(e.span, "an address is expected here: inet_addr(\"…\")")),
                };
                let mut b = SockAddr::V4(addr, port as u16).emit().to_vec();
                if let Some(f) = b.get_mut(..2) {
                    f.copy_from_slice(&(family as u16).to_ne_bytes());
                }
                Ok(b)
            }
            _ => Err(Problem::new(
                e.span,
                "a socket address is expected here: ..., 192.0.2.1:80, [2001:db8::1]:80 or {sa_family = …}",
            )),
        }
    }

    /// Whether an address that a call returned is what the line says; `...` and numbers (NULL) say nothing.
    pub(super) fn same_addr(&self, e: Option<&Expr>, came: SockAddr) -> Result<(), Problem> {
        let Some(e) = e.filter(|e| matches!(e.kind, ExprKind::Addr(..) | ExprKind::Struct(_))) else { return Ok(()) };
        let expected = self.addr(e, (Ipv4Addr::UNSPECIFIED.into(), 0))?;
        if came.emit()[..] == expected[..] {
            return Ok(());
        }
        let shown = SockAddr::parse(&expected).map_or_else(|e| e.to_string(), |a| format!("{a}"));
        Err(Problem::new(e.span, "the address differs").note("expected", shown).note("came", format!("{came}")))
    }
}

fn octets(a: IpAddr) -> Vec<u8> {
    match a {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

const SIN6: &[&str] = &["sin6_port", "sin6_addr", "sin6_flowinfo", "sin6_scope_id"];

/// `{sa_family=AF_INET6, sin6_port=htons(80), sin6_addr=::1, sin6_scope_id=0}`.
fn sockaddr_in6(e: &Expr) -> Result<Vec<u8>, Problem> {
    let number = |name: &str| field(e, name).map_or(Ok(0), |v| int(v, "a number"));
    let family = field(e, "sa_family").map_or(Ok(i64::from(AF_INET6)), |f| int(f, "a family"))?;
    let addr = match field(e, "sin6_addr").map(|a| &a.kind) {
        Some(ExprKind::Ip(IpAddr::V6(a))) => *a,
        None => Ipv6Addr::UNSPECIFIED,
        Some(_) => return Err(Problem::new(e.span, "an IPv6 address is expected here: sin6_addr=::1")),
    };
    let (flowinfo, scope) = (number("sin6_flowinfo")? as u32, number("sin6_scope_id")? as u32);
    let mut b = SockAddr::V6 { addr, port: number("sin6_port")? as u16, flowinfo, scope }.emit().to_vec();
    if let Some(f) = b.get_mut(..2) {
        f.copy_from_slice(&(family as u16).to_ne_bytes());
    }
    Ok(b)
}

/// The bytes of an option's value: an int, two ints (linger, timeval), a string, a BPF program as tcpdump -dd writes it,
/// a key.
pub(super) fn option_value(e: &Expr, len: usize) -> Result<Vec<u8>, Problem> {
    let e = inner(e);
    match &e.kind {
        ExprKind::Default => Ok(vec![0; len.min(4096)]),
        ExprKind::Int(v) => Ok(v.to_ne_bytes().get(..len.min(8)).unwrap_or(&[]).to_vec()),
        ExprKind::Str(s) => Ok(s.clone()),
        ExprKind::Ip(a) => Ok(octets(*a)),
        ExprKind::List(insns) => insns.iter().try_fold(Vec::new(), |all, i| Ok([all, instruction(i)?].concat())),
        ExprKind::Struct(_) if field(e, "key").is_some() => md5sig(e),
        ExprKind::Struct(fields) if fields.len() == 4 && fields.iter().all(|f| f.0.parse::<u8>().is_ok()) => {
            instruction(e)
        }
        ExprKind::Struct(fields) => {
            let wide = one_of(e, &["sec", "tv_sec", "usec", "tv_usec"]).is_some() || len == 16;
            let mut b = Vec::new();
            for (_, v) in fields {
                if let ExprKind::Ip(a) = &v.kind {
                    b.extend(octets(*a));
                    continue;
                }
                let v = int(v, "a number")?;
                if wide { b.extend(v.to_ne_bytes()) } else { b.extend((v as i32).to_ne_bytes()) }
            }
            if len > 0 {
                b.truncate(len);
            }
            Ok(b)
        }
        _ => Err(Problem::new(e.span, "a value is expected here: a number, a string or a structure")),
    }
}

/// `{ 0x28, 0, 0, 0x0000000c }`: `struct sock_filter`.
fn instruction(e: &Expr) -> Result<Vec<u8>, Problem> {
    let ExprKind::Struct(fields) = &e.kind else { return Err(Problem::new(e.span, "an instruction is expected here")) };
    let [code, jt, jf, k] = &fields[..] else {
        return Err(Problem::new(e.span, "an instruction has four parts: code, jt, jf, k"));
    };
    let part = |f: &(String, Expr)| int(&f.1, "a number");
    let mut b = (part(code)? as u16).to_ne_bytes().to_vec();
    b.extend([part(jt)? as u8, part(jf)? as u8]);
    b.extend((part(k)? as u32).to_ne_bytes());
    Ok(b)
}

/// `{addr=192.0.2.1, prefixlen=24, key="secret"}`: `struct tcp_md5sig`.
fn md5sig(e: &Expr) -> Result<Vec<u8>, Problem> {
    let addr = match field(e, "addr").map(|a| &a.kind) {
        Some(ExprKind::Ip(a)) => *a,
        _ => return Err(Problem::new(e.span, "a key is for an address: addr=192.0.2.1")),
    };
    let prefixlen = field(e, "prefixlen").map(|p| int(p, "a prefix length")).transpose()?;
    let Some(ExprKind::Str(key)) = field(e, "key").map(|k| &k.kind) else {
        return Err(Problem::new(e.span, "a key is a string"));
    };
    let mut b = SockAddr::ip(addr, 0).emit().to_vec();
    b.resize(128, 0);
    b.extend([u8::from(prefixlen.is_some()), prefixlen.unwrap_or(0) as u8]);
    b.extend((key.len() as u16).to_ne_bytes());
    b.extend([0; 4]);
    b.extend_from_slice(key);
    b.resize(b.len().max(216), 0);
    Ok(b)
}
