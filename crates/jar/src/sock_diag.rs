//! NETLINK_SOCK_DIAG, the kernel's side: `ss` of the distribution lists the stack's TCP, UDP and raw sockets, filtered by
//! its own compiled filter.
//!
//! Packet sockets are `packet_diag.rs`; AF_UNIX and netlink are not told (ENOENT, as without their modules).
use belljar_abi::netlink::{self as nl, Msg, NlMsgHdr};
use belljar_abi::sock_diag::*;
use belljar_abi::tcp_info::*;
use belljar_abi::{self as abi, Errno};
use belljar_kernel::ids::{Id, SockId};
use belljar_kernel::net::tcp::state::State;
use belljar_kernel::view::{SkmemView, SockView};
use belljar_wire::ipv4::{IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP};
use std::net::IpAddr;

/// `struct inet_diag_req_v2` and the part of it and of the answer that names a connection.
const REQ_LEN: usize = 56;
const ID_AT: usize = 8;
const IPPROTO_RAW: u8 = 255;
/// Only bound: a state of the dump alone.
const TCP_BOUND_INACTIVE: u8 = 13;
const IPPROTO_MPTCP: u32 = 262;

/// What a request asks for.
#[derive(Debug)]
struct Request<'a> {
    family: i32,
    protocol: u32,
    ext: u8,
    states: u32,
    sport: u16,
    dport: u16,
    src: [u8; 16],
    dst: [u8; 16],
    ifindex: u32,
    cookie: [u32; 2],
    bytecode: Option<&'a [u8]>,
}

fn be16(b: &[u8], at: usize) -> u16 {
    b.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_be_bytes(*b))
}

fn word(b: &[u8], at: usize) -> u32 {
    nl::u32_at(b, at).unwrap_or(0)
}

fn addr16(b: &[u8], at: usize) -> [u8; 16] {
    b.get(at..).and_then(|b| b.first_chunk()).copied().unwrap_or_default()
}

impl<'a> Request<'a> {
    fn parse(body: &'a [u8]) -> Option<Request<'a>> {
        let fixed = body.get(..REQ_LEN)?;
        let attrs = nl::attrs(body.get(REQ_LEN..).unwrap_or(&[]));
        // INET_DIAG_REQ_BYTECODE
        let bytecode = attrs.filter(|(kind, _)| *kind == 1).map(|(_, v)| v).next();
        let mut attrs = nl::attrs(body.get(REQ_LEN..).unwrap_or(&[]));
        // INET_DIAG_REQ_PROTOCOL: a number that has no room in the byte, whose lower bits then say nothing.
        let wide = attrs.find(|(kind, _)| *kind == 3).and_then(|(_, v)| nl::u32_at(v, 0));
        Some(Request {
            family: i32::from(*fixed.first()?),
            protocol: wide.unwrap_or(u32::from(*fixed.get(1)?)),
            ext: *fixed.get(2)?,
            states: word(fixed, 4),
            sport: be16(fixed, ID_AT),
            dport: be16(fixed, ID_AT + 2),
            src: addr16(fixed, ID_AT + 4),
            dst: addr16(fixed, ID_AT + 20),
            ifindex: word(fixed, ID_AT + 36),
            cookie: [word(fixed, ID_AT + 40), word(fixed, ID_AT + 44)],
            bytecode,
        })
    }

    fn netid(&self) -> Option<&'static str> {
        match u8::try_from(self.protocol).unwrap_or(0) {
            // Whose sockets there are none of.
            _ if self.protocol == IPPROTO_MPTCP => Some("mptcp"),
            IPPROTO_TCP => Some("tcp"),
            IPPROTO_UDP => Some("udp"),
            IPPROTO_RAW => Some("raw"),
            IPPROTO_ICMP => Some("icmp"),
            _ => None,
        }
    }

    fn wants(&self, attribute: u16) -> bool {
        self.ext & 1 << (attribute - 1) != 0
    }
}

fn state(s: &SockView) -> u8 {
    match State::ALL.into_iter().find(|t| t.name() == s.state) {
        Some(State::Close) | None if s.netid == "tcp" => TCP_BOUND_INACTIVE,
        Some(state) => state as u8,
        None => TCP_CLOSE,
    }
}

fn address(a: IpAddr, inet6: bool) -> [u8; 16] {
    let mut b = [0; 16];
    let a = match a {
        IpAddr::V4(a) => a,
        IpAddr::V6(a) => return a.octets(),
    };
    match (inet6, a.is_unspecified()) {
        (false, _) => b[..4].copy_from_slice(&a.octets()),
        (true, true) => {}
        (true, false) => b = a.to_ipv6_mapped().octets(),
    }
    b
}

/// One socket beside the numbers by which it is found.
struct Row<'a> {
    s: &'a SockView,
    state: u8,
    src: [u8; 16],
    dst: [u8; 16],
    ifindex: u32,
}

impl<'a> Row<'a> {
    fn new(s: &'a SockView, index: &dyn Fn(&str) -> u32) -> Row<'a> {
        Row {
            s,
            state: state(s),
            src: address(s.local, s.inet6),
            dst: address(s.peer, s.inet6),
            ifindex: s.device.as_deref().map_or(0, index),
        }
    }
}

/// Answers one message; what it says goes to `push`, a datagram at a time.
pub fn request(
    rows: &[SockView],
    index: &dyn Fn(&str) -> u32,
    hdr: NlMsgHdr,
    body: &[u8],
    port: u32,
    push: &mut dyn FnMut(Vec<u8>),
) {
    let dump = hdr.flags & nl::NLM_F_DUMP == nl::NLM_F_DUMP;
    let mut out = Vec::new();
    let result = match hdr.kind {
        // Of a family that is not told of here, as without its module; their requests are shorter.
        SOCK_DIAG_BY_FAMILY if body.len() > 1 && !inet(body) => Err(Errno::ENOENT),
        SOCK_DIAG_BY_FAMILY => match Request::parse(body) {
            None => Err(Errno::EINVAL),
            Some(r) if r.netid().is_none() => Err(Errno::ENOENT),
            Some(r) if dump => match r.bytecode.is_some_and(|b| !valid(b)) {
                true => Err(Errno::EINVAL),
                false => {
                    for row in rows.iter().map(|s| Row::new(s, index)).filter(|row| matches(&r, row)) {
                        answer(&mut out, &r, &row, nl::NLM_F_MULTI, hdr.seq, port);
                        if out.len() > crate::netlink::DATAGRAM {
                            push(std::mem::take(&mut out));
                        }
                    }
                    Ok(true)
                }
            },
            Some(r) => find(rows, index, &r).map(|row| {
                answer(&mut out, &r, &row, 0, hdr.seq, port);
                false
            }),
        },
        _ => Err(Errno::EINVAL),
    };
    match result {
        Ok(true) => {
            if !out.is_empty() {
                push(std::mem::take(&mut out));
            }
            nl::done(&mut out, hdr.seq, port);
        }
        Ok(false) if hdr.flags & nl::NLM_F_ACK == 0 => {}
        r => nl::error(&mut out, hdr, body, r.map(drop), port),
    }
    push(out);
}

fn inet(body: &[u8]) -> bool {
    matches!(body.first().map(|f| i32::from(*f)), Some(abi::AF_INET | abi::AF_INET6))
}

/// The socket that SOCK_DESTROY is about. Requests and TIME_WAIT entries are none (EOPNOTSUPP).
pub fn target(rows: &[SockView], index: &dyn Fn(&str) -> u32, body: &[u8]) -> Result<SockId, Errno> {
    let r = Request::parse(body).ok_or(Errno::EINVAL)?;
    if !inet(body) || r.netid().is_none() {
        return Err(Errno::ENOENT);
    }
    let row = find(rows, index, &r)?;
    let full = row.s.skmem.is_some();
    let id = match row.s.netid.as_str() {
        "tcp" if full => Id::from_bits(row.s.cookie).map(SockId::Tcp),
        "udp" => Id::from_bits(row.s.cookie).map(SockId::Udp),
        _ => None,
    };
    id.ok_or(Errno::EOPNOTSUPP)
}

fn matches(r: &Request<'_>, row: &Row<'_>) -> bool {
    let s = row.s;
    r.netid() == Some(s.netid.as_str())
        && s.inet6 == (r.family == abi::AF_INET6)
        && r.states & 1u32.wrapping_shl(row.state.into()) != 0
        && (r.sport == 0 || r.sport == s.lport)
        && (r.dport == 0 || r.dport == s.pport)
        && (r.ifindex == 0 || r.ifindex == row.ifindex)
        && r.bytecode.is_none_or(|b| accepts(b, row))
}

/// The one socket of a request that is no dump: the connection, else the listener or the unconnected socket.
fn find<'a>(rows: &'a [SockView], index: &dyn Fn(&str) -> u32, r: &Request<'_>) -> Result<Row<'a>, Errno> {
    let all: Vec<Row<'a>> = rows
        .iter()
        .filter(|s| Some(s.netid.as_str()) == r.netid() && s.inet6 == (r.family == abi::AF_INET6) && s.lport == r.sport)
        .map(|s| Row::new(s, index))
        .collect();
    let connected = |row: &Row<'_>| row.s.pport == r.dport && row.dst == r.dst && row.src == r.src;
    let open = |row: &Row<'_>| row.s.pport == 0 && (row.src == r.src || row.s.local.is_unspecified());
    let at = all.iter().position(connected).or_else(|| all.iter().position(open)).ok_or(Errno::ENOENT)?;
    let row = all.into_iter().nth(at).ok_or(Errno::ENOENT)?;
    let cookie = [row.s.cookie as u32, (row.s.cookie >> 32) as u32];
    if r.cookie != [u32::MAX; 2] && r.cookie != cookie {
        return Err(Errno::ESTALE);
    }
    Ok(row)
}

fn words(w: &[u32]) -> Vec<u8> {
    w.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

fn answer(out: &mut Vec<u8>, r: &Request<'_>, row: &Row<'_>, flags: u16, seq: u32, port: u32) {
    let s = row.s;
    let (timer, expires, retrans) = s.timer.as_ref().map_or((0, 0, 0), |t| {
        let number = match t.kind.as_str() {
            "on" => 1,
            "keepalive" => 2,
            "timewait" => 3,
            _ => 4,
        };
        (number, t.expires_ms as u32, t.retrans as u8)
    });
    let mut b = vec![r.family as u8, row.state, timer, retrans];
    b.extend_from_slice(&s.lport.to_be_bytes());
    b.extend_from_slice(&s.pport.to_be_bytes());
    b.extend_from_slice(&row.src);
    b.extend_from_slice(&row.dst);
    b.extend(words(&[row.ifindex, s.cookie as u32, (s.cookie >> 32) as u32]));
    b.extend(words(&[expires, s.recv_q as u32, s.send_q as u32, s.uid, s.inode]));
    let mut m = Msg::new(out, SOCK_DIAG_BY_FAMILY, flags, seq, port);
    m.body(&b);
    let Some(mem) = &s.skmem else { return };
    m.attr_u8(INET_DIAG_SHUTDOWN, s.shutdown);
    // Only where it still decides something.
    if s.inet6 && matches!(row.state, TCP_CLOSE | TCP_LISTEN) {
        m.attr_u8(INET_DIAG_SKV6ONLY, s.v6only.into());
    }
    if r.wants(INET_DIAG_MEMINFO) {
        m.attr(INET_DIAG_MEMINFO, &words(&[mem.rmem_alloc, mem.wmem_queued, mem.fwd_alloc, mem.wmem_alloc]));
    }
    if r.wants(INET_DIAG_SKMEMINFO) {
        m.attr(INET_DIAG_SKMEMINFO, &skmem(mem));
    }
    if let Some(cong) = s.cong.as_deref().filter(|_| r.wants(INET_DIAG_CONG)) {
        m.attr_str(INET_DIAG_CONG, cong);
    }
    if let Some(info) = s.info.as_ref().filter(|_| r.wants(INET_DIAG_INFO)) {
        m.attr(INET_DIAG_INFO, &info.to_bytes());
    }
    if let Some(bbr) = s.bbr.as_ref().filter(|_| r.ext != 0) {
        let bw = [bbr.bw as u32, (bbr.bw >> 32) as u32, bbr.min_rtt, bbr.pacing_gain, bbr.cwnd_gain];
        m.attr(INET_DIAG_BBRINFO, &words(&bw));
    }
}

fn skmem(m: &SkmemView) -> Vec<u8> {
    words(&[m.rmem_alloc, m.rcvbuf, m.wmem_alloc, m.sndbuf, m.fwd_alloc, m.wmem_queued, m.optmem, m.backlog, m.drops])
}

// Filters: operations of four bytes (code, step when true, step when false), some with an argument behind them. A filter
// accepts when the steps end exactly at its end.

const OP: usize = 4;

fn op(b: &[u8]) -> Option<(u8, usize, usize)> {
    let head = b.first_chunk::<OP>()?;
    Some((head[0], head[1].into(), u16::from_ne_bytes([head[2], head[3]]).into()))
}

/// Every step leads on, and none beyond the end but the refusing ones.
fn valid(code: &[u8]) -> bool {
    let mut rest = code;
    while !rest.is_empty() {
        let Some((kind, yes, no)) = op(rest) else { return false };
        let argument = match kind {
            2..=5 | 9..=13 => OP,
            7 | 8 => OP + 8,
            0 | 1 | 6 => 0,
            _ => return false,
        };
        let steps = yes >= OP && yes % 4 == 0 && no >= OP && no % 4 == 0 && yes <= rest.len();
        if !steps || rest.len() < OP + argument {
            return false;
        }
        rest = rest.get(yes..).unwrap_or(&[]);
    }
    true
}

fn accepts(code: &[u8], row: &Row<'_>) -> bool {
    let mut rest = code;
    while let Some((kind, yes, no)) = op(rest) {
        let argument = rest.get(OP..).unwrap_or(&[]);
        // Ports stand in the second half of an operation without meaning.
        let port = argument.get(2..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_ne_bytes(*b));
        let s = row.s;
        let holds = match kind {
            0 => true,
            1 => false,
            2 => s.lport >= port,
            3 => s.lport <= port,
            4 => s.pport >= port,
            5 => s.pport <= port,
            // Chosen by the kernel, not by bind.
            6 => false,
            7 => host(argument, s.inet6, &row.src, s.lport),
            8 => host(argument, s.inet6, &row.dst, s.pport),
            9 => word(argument, 0) == row.ifindex,
            11 => s.lport == port,
            12 => s.pport == port,
            // Marks and control groups: none.
            _ => false,
        };
        let step = if holds { yes } else { no };
        if step > rest.len() || step == 0 {
            return false;
        }
        rest = rest.get(step..).unwrap_or(&[]);
    }
    true
}

/// `struct inet_diag_hostcond`: family, bits of the prefix, port (-1: any), address.
fn host(b: &[u8], inet6: bool, addr: &[u8; 16], port: u16) -> bool {
    let (family, prefix) = (b.first().copied().unwrap_or(0), b.get(1).copied().unwrap_or(0));
    let wanted = word(b, 4) as i32;
    if wanted != -1 && wanted != i32::from(port) {
        return false;
    }
    let of_family = match i32::from(family) {
        abi::AF_UNSPEC => true,
        abi::AF_INET => !inet6 || addr.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255]),
        _ => inet6,
    };
    let addr = if inet6 && i32::from(family) == abi::AF_INET { addr.get(12..).unwrap_or(&[]) } else { addr.as_slice() };
    let cond = b.get(8..).unwrap_or(&[]);
    let bit = |b: &[u8], n: usize| b.get(n / 8).map(|v| v >> (7 - n % 8) & 1);
    of_family && (0..usize::from(prefix)).all(|n| bit(cond, n).is_some() && bit(cond, n) == bit(addr, n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use belljar_kernel::kernel::Kernel;

    fn ask(states: u32, protocol: u8, code: &[u8]) -> Vec<u8> {
        let mut b = vec![2, protocol, 0xff, 0];
        b.extend_from_slice(&states.to_ne_bytes());
        b.resize(REQ_LEN, 0);
        if !code.is_empty() {
            b.extend_from_slice(&((code.len() + 4) as u16).to_ne_bytes());
            b.extend_from_slice(&1u16.to_ne_bytes());
            b.extend_from_slice(code);
        }
        b
    }

    fn rows() -> Vec<SockView> {
        let c = crate::machine::MachineConfig {
            name: "t".into(),
            now: 0,
            wall: 0,
            seed: 1,
            addr: None,
            via: None,
            addr6: None,
            via6: None,
            ipv6: false,
            mtu: 1500,
            nic: Vec::new(),
            cpus: 1,
            mem: None,
            sysctls: Vec::new(),
            drop_caps: false,
        };
        let mut m = crate::machine::Machine::new(&c).unwrap();
        for port in [80, 443] {
            let fd = m.socket(0, abi::AF_INET, abi::SOCK_STREAM, 0).unwrap();
            m.bind(0, fd, abi::SockAddr::V4([127, 0, 0, 1].into(), port)).unwrap();
            m.listen(0, fd, 9).unwrap();
        }
        let k: &Kernel = &m.k;
        k.view_sockets(m.ns)
    }

    fn dump(body: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let hdr =
            NlMsgHdr { kind: SOCK_DIAG_BY_FAMILY, flags: nl::NLM_F_REQUEST | nl::NLM_F_DUMP, ..NlMsgHdr::default() };
        let mut out = Vec::new();
        request(&rows(), &|_| 0, hdr, body, 7, &mut |b| out.extend(b));
        nl::messages(&out).map(|(h, b)| (h.kind, b.to_vec())).collect()
    }

    #[test]
    fn listeners_by_state_and_filter() {
        let all = dump(&ask(1 << TCP_LISTEN, IPPROTO_TCP, &[]));
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].1[1], be16(&all[0].1, 4), word(&all[0].1, 60)), (TCP_LISTEN, 80, 9));
        assert_eq!(all[2].0, nl::NLMSG_DONE);
        assert_eq!(dump(&ask(1 << TCP_ESTABLISHED, IPPROTO_TCP, &[])).len(), 1);
        // sport >= 100: one operation with its port in a second, refusing jumps beyond the end.
        let code = [[2, 8], 12u16.to_ne_bytes(), [0, 0], 100u16.to_ne_bytes()].concat();
        let some = dump(&ask(1 << TCP_LISTEN, IPPROTO_TCP, &code));
        assert_eq!((some.len(), be16(&some[0].1, 4)), (2, 443));
        // 127.0.0.0/8 port 80
        let cond = [vec![7, 16], 20u16.to_ne_bytes().to_vec(), vec![2, 8, 0, 0], 80i32.to_ne_bytes().to_vec()].concat();
        let cond = [cond, vec![127, 0, 0, 0]].concat();
        let some = dump(&ask(1 << TCP_LISTEN, IPPROTO_TCP, &cond));
        assert_eq!((some.len(), be16(&some[0].1, 4)), (2, 80));
    }

    #[test]
    fn what_is_not_told_and_what_is_broken() {
        let error = |body: &[u8]| -(word(&dump(body)[0].1, 0) as i32);
        assert_eq!(error(&ask(1, 132, &[])), Errno::ENOENT.0);
        assert_eq!(error(&[2, 6, 0]), Errno::EINVAL.0);
        // AF_UNIX: a request of its own, and shorter.
        assert_eq!(error(&[&[1, 0, 0, 0][..], &[0; 20]].concat()), Errno::ENOENT.0);
        let of = |port: u16| {
            let mut b = ask(0, IPPROTO_TCP, &[]);
            b[ID_AT..ID_AT + 2].copy_from_slice(&port.to_be_bytes());
            b[ID_AT + 4..ID_AT + 8].copy_from_slice(&[127, 0, 0, 1]);
            b[ID_AT + 40..ID_AT + 48].fill(255);
            target(&rows(), &|_| 0, &b)
        };
        assert!(matches!(of(443), Ok(SockId::Tcp(_))));
        assert_eq!(of(444), Err(Errno::ENOENT));
        for code in [&[2, 0, 0, 0][..], &[7, 4, 4, 0], &[1, 4, 3, 0], &[99, 4, 4, 0], &[2, 200, 4, 0]] {
            assert_eq!(error(&ask(1 << TCP_LISTEN, IPPROTO_TCP, code)), Errno::EINVAL.0);
        }
    }
}
