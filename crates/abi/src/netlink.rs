//! Netlink framing: headers, attributes, and the error and done messages. Everything is in the machine's byte order and
//! padded to four bytes.
use crate::Errno;

/// Protocols of socket(AF_NETLINK, …).
pub const NETLINK_ROUTE: i32 = 0;
pub const NETLINK_USERSOCK: i32 = 2;
pub const NETLINK_SOCK_DIAG: i32 = 4;
pub const NETLINK_XFRM: i32 = 6;
pub const NETLINK_AUDIT: i32 = 9;
pub const NETLINK_NETFILTER: i32 = 12;
pub const NETLINK_KOBJECT_UEVENT: i32 = 15;
pub const NETLINK_GENERIC: i32 = 16;

pub const NLM_F_REQUEST: u16 = 0x01;
pub const NLM_F_MULTI: u16 = 0x02;
pub const NLM_F_ACK: u16 = 0x04;
pub const NLM_F_ECHO: u16 = 0x08;
pub const NLM_F_DUMP_INTR: u16 = 0x10;
pub const NLM_F_DUMP_FILTERED: u16 = 0x20;
/// In GET requests.
pub const NLM_F_ROOT: u16 = 0x100;
pub const NLM_F_MATCH: u16 = 0x200;
pub const NLM_F_ATOMIC: u16 = 0x400;
pub const NLM_F_DUMP: u16 = NLM_F_ROOT | NLM_F_MATCH;
/// In NEW requests.
pub const NLM_F_REPLACE: u16 = 0x100;
pub const NLM_F_EXCL: u16 = 0x200;
pub const NLM_F_CREATE: u16 = 0x400;
/// Of deletions: all that fit.
pub const NLM_F_BULK: u16 = 0x200;
pub const NLM_F_APPEND: u16 = 0x800;
/// In error messages.
pub const NLM_F_CAPPED: u16 = 0x100;
pub const NLM_F_ACK_TLVS: u16 = 0x200;

// Attributes of error messages
pub const NLMSGERR_ATTR_MSG: u16 = 1;
pub const NLMSGERR_ATTR_OFFS: u16 = 2;

pub const NLMSG_NOOP: u16 = 1;
pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;
pub const NLMSG_MIN_TYPE: u16 = 0x10;

pub const NLMSG_HDRLEN: usize = 16;
pub const NLA_HDRLEN: usize = 4;
pub const NLA_F_NESTED: u16 = 1 << 15;
pub const NLA_TYPE_MASK: u16 = 0x3fff;

pub const fn align(len: usize) -> usize {
    (len + 3) & !3
}

fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    b.get(at..)?.first_chunk::<2>().map(|b| u16::from_ne_bytes(*b))
}

/// A native 32-bit number in an attribute or a fixed part.
pub fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    b.get(at..)?.first_chunk::<4>().map(|b| u32::from_ne_bytes(*b))
}

/// `struct nlmsghdr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NlMsgHdr {
    /// Header and body, without padding at the end.
    pub len: u32,
    pub kind: u16,
    pub flags: u16,
    pub seq: u32,
    pub pid: u32,
}

impl NlMsgHdr {
    pub fn parse(b: &[u8]) -> Option<NlMsgHdr> {
        Some(NlMsgHdr {
            len: u32_at(b, 0)?,
            kind: u16_at(b, 4)?,
            flags: u16_at(b, 6)?,
            seq: u32_at(b, 8)?,
            pid: u32_at(b, 12)?,
        })
    }

    pub fn to_bytes(self) -> [u8; NLMSG_HDRLEN] {
        let mut b = [0; NLMSG_HDRLEN];
        b[..4].copy_from_slice(&self.len.to_ne_bytes());
        b[4..6].copy_from_slice(&self.kind.to_ne_bytes());
        b[6..8].copy_from_slice(&self.flags.to_ne_bytes());
        b[8..12].copy_from_slice(&self.seq.to_ne_bytes());
        b[12..].copy_from_slice(&self.pid.to_ne_bytes());
        b
    }
}

/// The messages of one datagram with their bodies; ends at the first that does not fit.
pub fn messages(mut b: &[u8]) -> impl Iterator<Item = (NlMsgHdr, &[u8])> {
    std::iter::from_fn(move || {
        let hdr = NlMsgHdr::parse(b)?;
        let body = b.get(NLMSG_HDRLEN..hdr.len as usize)?;
        b = b.get(align(hdr.len as usize)..).unwrap_or(&[]);
        Some((hdr, body))
    })
}

/// Attributes (type without its flag bits, value); ends at the first that does not fit.
pub fn attrs(mut b: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = u16_at(b, 0)? as usize;
        let kind = u16_at(b, 2)? & NLA_TYPE_MASK;
        let value = b.get(NLA_HDRLEN..len)?;
        b = b.get(align(len)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// Appends one message to a buffer; its length is right after every call.
#[derive(Debug)]
pub struct Msg<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Msg<'a> {
    /// Begins a message behind what is in `out`.
    pub fn new(out: &'a mut Vec<u8>, kind: u16, flags: u16, seq: u32, pid: u32) -> Msg<'a> {
        out.resize(align(out.len()), 0);
        let start = out.len();
        out.extend_from_slice(&NlMsgHdr { len: NLMSG_HDRLEN as u32, kind, flags, seq, pid }.to_bytes());
        Msg { out, start }
    }

    fn patch(&mut self) {
        let len = (self.out.len() - self.start) as u32;
        if let Some(to) = self.out.get_mut(self.start..self.start + 4) {
            to.copy_from_slice(&len.to_ne_bytes());
        }
    }

    /// Bytes of the buffer so far.
    pub fn written(&self) -> usize {
        self.out.len()
    }

    /// The fixed part, padded.
    pub fn body(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self.out.resize(align(self.out.len()), 0);
        self.patch();
        self
    }

    pub fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.out.extend_from_slice(&((NLA_HDRLEN + value.len()) as u16).to_ne_bytes());
        self.out.extend_from_slice(&kind.to_ne_bytes());
        self.body(value)
    }

    pub fn attr_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.attr(kind, &[value])
    }

    pub fn attr_u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    pub fn attr_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// With the NUL that Linux writes.
    pub fn attr_str(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// An attribute that holds the attributes which `fill` writes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Msg<'_>)) -> &mut Self {
        let at = self.out.len();
        self.attr(kind, &[]);
        fill(self);
        let len = (self.out.len() - at) as u16;
        if let Some(to) = self.out.get_mut(at..at + 2) {
            to.copy_from_slice(&len.to_ne_bytes());
        }
        self
    }
}

/// NLMSG_ERROR for `request` (its header, then its body unless capped); `Ok` is the acknowledgement.
pub fn error(out: &mut Vec<u8>, request: NlMsgHdr, body: &[u8], result: Result<(), Errno>, pid: u32) {
    let code = result.map_or_else(|e| -e.0, |()| 0);
    let flags = if code == 0 { NLM_F_CAPPED } else { 0 };
    let mut m = Msg::new(out, NLMSG_ERROR, flags, request.seq, pid);
    m.body(&code.to_ne_bytes()).body(&request.to_bytes());
    if code != 0 {
        m.body(body);
    }
}

/// How a socket wants its errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorForm {
    /// NETLINK_EXT_ACK: with a text that says why.
    pub ext_ack: bool,
    /// NETLINK_CAP_ACK: without the request's body.
    pub cap_ack: bool,
}

/// What an extended acknowledgement says: text, and where in the request the attribute stands that it is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExtAck<'a> {
    pub text: Option<&'a str>,
    pub offset: Option<u32>,
}

/// NLMSG_ERROR with the extended acknowledgement, where the socket takes one.
pub fn error_with(
    out: &mut Vec<u8>,
    request: NlMsgHdr,
    body: &[u8],
    (code, ext): (Errno, ExtAck<'_>),
    form: ErrorForm,
    pid: u32,
) {
    let (text, offset) = (ext.text.filter(|_| form.ext_ack), ext.offset.filter(|_| form.ext_ack));
    let capped = if form.cap_ack { NLM_F_CAPPED } else { 0 };
    let tlvs = if text.is_some() || offset.is_some() { NLM_F_ACK_TLVS } else { 0 };
    let mut m = Msg::new(out, NLMSG_ERROR, capped | tlvs, request.seq, pid);
    m.body(&(-code.0).to_ne_bytes()).body(&request.to_bytes());
    if !form.cap_ack {
        m.body(body);
    }
    if let Some(text) = text {
        m.attr_str(NLMSGERR_ATTR_MSG, text);
    }
    if let Some(offset) = offset {
        m.attr_u32(NLMSGERR_ATTR_OFFS, offset);
    }
}

/// NLMSG_DONE: the end of a dump.
pub fn done(out: &mut Vec<u8>, seq: u32, pid: u32) {
    Msg::new(out, NLMSG_DONE, NLM_F_MULTI, seq, pid).body(&0i32.to_ne_bytes());
}

/// The same of one that failed, with the words of its extended acknowledgement.
pub fn failed(out: &mut Vec<u8>, seq: u32, pid: u32, (code, text): (Errno, Option<&str>)) {
    let tlvs = if text.is_some() { NLM_F_ACK_TLVS } else { 0 };
    let mut m = Msg::new(out, NLMSG_DONE, NLM_F_MULTI | tlvs, seq, pid);
    m.body(&(-code.0).to_ne_bytes());
    if let Some(text) = text {
        m.attr_str(NLMSGERR_ATTR_MSG, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_attributes_go_round() {
        let mut b = Vec::new();
        Msg::new(&mut b, 16, NLM_F_MULTI, 5, 99)
            .body(&[7; 16])
            .attr_str(3, "eth0")
            .attr_u32(4, 1500)
            .nest(26 | NLA_F_NESTED, |n| {
                n.attr_u8(1, 9);
            })
            .attr_u16(8, 2);
        done(&mut b, 5, 99);
        let all: Vec<_> = messages(&b).collect();
        assert_eq!((all.len(), all[0].0.kind, all[0].0.seq, all[1].0.kind), (2, 16, 5, NLMSG_DONE));
        let a: Vec<_> = attrs(&all[0].1[16..]).collect();
        assert_eq!(a[0], (3, &b"eth0\0"[..]));
        assert_eq!((a[1].0, u32_at(a[1].1, 0)), (4, Some(1500)));
        assert_eq!((a[2].0, attrs(a[2].1).next()), (26, Some((1, &[9u8][..]))));
        assert_eq!(a[3], (8, &2u16.to_ne_bytes()[..]));
    }

    #[test]
    fn errors_carry_the_request() {
        let req = NlMsgHdr { len: 20, kind: 18, flags: NLM_F_REQUEST, seq: 3, pid: 0 };
        let mut b = Vec::new();
        error(&mut b, req, &[1, 2, 3, 4], Err(Errno::EOPNOTSUPP), 7);
        let (hdr, body) = messages(&b).next().unwrap();
        assert_eq!((hdr.kind, hdr.len, body[..4].to_vec()), (NLMSG_ERROR, 40, (-95i32).to_ne_bytes().to_vec()));
        assert_eq!(NlMsgHdr::parse(&body[4..]), Some(req));
    }

    #[test]
    fn broken_lengths_end_the_walk() {
        assert_eq!(messages(&[0; 16]).count(), 0);
        assert_eq!(messages(&[255; 40]).count(), 0);
        assert_eq!(attrs(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attrs(&[4, 0, 1, 0, 9]).count(), 1);
    }
}
