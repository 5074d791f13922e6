//! Control messages: what a sendmsg line gives along, and what came with a message against what the line says.
use super::machine::BOOT;
use super::message::expect_int;
use super::value::{field, int, one_of};
use crate::ast::*;
use crate::problem::Problem;
use belljar_abi::*;
use belljar_kernel::task::call::Cmsg;
use std::net::IpAddr;

/// `msg_control=[{cmsg_level=…, cmsg_type=…, cmsg_data=…}]` of a send: the data is a number or a string.
pub(super) fn parse(msg: &Expr) -> Result<Vec<Cmsg>, Problem> {
    let Some(ExprKind::List(all)) = field(msg, "msg_control").map(|e| &e.kind) else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for e in all {
        let number = |names: &[&str]| one_of(e, names).map_or(Ok(0), |e| int(e, "a number"));
        let (level, kind) = (number(&["cmsg_level", "0"])? as i32, number(&["cmsg_type", "1"])? as i32);
        let data = match one_of(e, &["cmsg_data"]).map(|e| &e.kind) {
            Some(ExprKind::Str(s)) => s.clone(),
            // The one that is no int.
            Some(ExprKind::Int(v)) if (level, kind) == (SOL_UDP, UDP_SEGMENT) => (*v as u16).to_ne_bytes().to_vec(),
            Some(ExprKind::Int(v)) => (*v as i32).to_ne_bytes().to_vec(),
            // An address and a number: in6_pktinfo and its like.
            Some(ExprKind::Struct(fields)) => fields.iter().try_fold(Vec::new(), |mut all, (_, v)| {
                match &v.kind {
                    ExprKind::Ip(IpAddr::V6(a)) => all.extend(a.octets()),
                    ExprKind::Ip(IpAddr::V4(a)) => all.extend(a.octets()),
                    _ => all.extend((int(v, "a number")? as i32).to_ne_bytes()),
                }
                Ok(all)
            })?,
            _ => Vec::new(),
        };
        out.push(Cmsg { level, kind, data });
    }
    Ok(out)
}

/// Offsets of the fields of sock_extended_err: name, where, how many bytes.
const EE: &[(&str, usize, usize)] = &[
    ("ee_errno", 0, 4),
    ("ee_origin", 4, 1),
    ("ee_type", 5, 1),
    ("ee_code", 6, 1),
    ("ee_info", 8, 4),
    ("ee_data", 12, 4),
];

/// Fields of a time: seconds, then parts of one.
const SECONDS: &[&str] = &["scm_sec", "tv_sec"];
const PARTS: &[&str] = &["scm_nsec", "tv_nsec", "tv_usec"];

pub(super) fn same(e: &Expr, c: &Cmsg, tolerance: Nanos) -> Result<(), Problem> {
    let same = |names: &[&str], came: i64| match one_of(e, names) {
        Some(x) => expect_int(x, came),
        None => Ok(()),
    };
    same(&["cmsg_level"], c.level.into())?;
    same(&["cmsg_type"], c.kind.into())?;
    let Some(data) = field(e, "cmsg_data") else { return Ok(()) };
    match &data.kind {
        ExprKind::Int(_) => expect_int(data, native(&c.data, 0, 4)),
        ExprKind::Struct(fields) if fields.iter().any(|f| SECONDS.contains(&f.0.as_str())) => {
            same_time(data, c, tolerance)
        }
        ExprKind::Struct(fields) if fields.iter().all(|f| f.0.starts_with("ipi6_")) => same_pktinfo6(data, c),
        ExprKind::Struct(fields) => fields.iter().try_for_each(|(name, v)| match EE.iter().find(|f| f.0 == name) {
            Some((_, at, len)) => expect_int(v, native(&c.data, *at, *len)),
            None if name == "ee_offender" => same_offender(v, c),
            None => Err(Problem::new(v.span, format!("sock_extended_err has no field `{name}`"))),
        }),
        _ => Ok(()),
    }
}

/// Times count from the start of the script, as those of events do.
fn same_time(data: &Expr, c: &Cmsg, tolerance: Nanos) -> Result<(), Problem> {
    let number = |names: &[&str]| one_of(data, names).map_or(Ok(0), |e| int(e, "a number"));
    let micros = c.kind == SO_TIMESTAMP_OLD || c.kind == SO_TIMESTAMP_NEW;
    let scale = if micros { 1000 } else { 1 };
    let expected = number(SECONDS)? * 1_000_000_000 + number(PARTS)? * scale;
    let word = |at: usize| c.data.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| i64::from_ne_bytes(*b));
    let came = word(0).saturating_mul(1_000_000_000).saturating_add(word(8).saturating_mul(scale));
    let came = came.saturating_sub(BOOT as i64);
    if expected.abs_diff(came) <= tolerance {
        return Ok(());
    }
    let shown = |ns: i64| format!("{:.6} s", ns as f64 / 1e9);
    Err(Problem::new(data.span, "the time differs").note("expected", shown(expected)).note("came", shown(came)))
}

/// `struct in6_pktinfo`: address and interface.
fn same_pktinfo6(e: &Expr, c: &Cmsg) -> Result<(), Problem> {
    let came = crate::parse::addr_at(&c.data, 0);
    if let Some(want) = field(e, "ipi6_addr")
        && !matches!((&want.kind, came), (ExprKind::Ip(IpAddr::V6(a)), Some(b)) if *a == b)
    {
        return Err(
            Problem::new(want.span, "the address differs").note("came", came.map_or("none".into(), |a| a.to_string()))
        );
    }
    field(e, "ipi6_ifindex").map_or(Ok(()), |i| expect_int(i, native(&c.data, 16, 4)))
}

/// The socket address behind the error; `...` says that there is none.
fn same_offender(e: &Expr, c: &Cmsg) -> Result<(), Problem> {
    let came = c.data.get(16..).and_then(|b| SockAddr::parse(b).ok());
    let same = match (&e.kind, came) {
        (ExprKind::Ip(IpAddr::V4(a)), Some(SockAddr::V4(b, _))) => *a == b,
        (ExprKind::Ip(IpAddr::V6(a)), Some(SockAddr::V6 { addr, .. })) => *a == addr,
        (ExprKind::Default, came) => !matches!(came, Some(SockAddr::V4(..) | SockAddr::V6 { .. })),
        _ => false,
    };
    if same {
        return Ok(());
    }
    Err(Problem::new(e.span, "the offender differs").note("came", came.map_or("none".into(), |a| a.to_string())))
}

/// An int of `len` bytes at `at`, in the machine's order.
pub(super) fn native(b: &[u8], at: usize, len: usize) -> i64 {
    let b = b.get(at..).unwrap_or(&[]);
    match len {
        1 => b.first().map_or(0, |v| i64::from(*v)),
        _ => b.first_chunk::<4>().map_or(0, |v| i64::from(i32::from_ne_bytes(*v))),
    }
}
