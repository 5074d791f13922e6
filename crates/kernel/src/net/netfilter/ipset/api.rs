//! Messages about sets, as `ipset` sends them.
use super::adt::{self, Adt};
use super::*;
use crate::net::netlink::{Caller, Done, Head, Refusal, Req, str_of};
use belljar_abi::netlink::{self as nl, Msg};
use belljar_abi::nfnetlink::{NFGENMSG_LEN, nfgenmsg};

pub(super) fn fail<T>(errno: i32) -> Done<T> {
    Err(Errno(errno).into())
}

/// A request that is answered by all there is, whether it says so or not.
pub(crate) fn is_dump(kind: u16) -> bool {
    matches!(kind as u8, IPSET_CMD_LIST | IPSET_CMD_SAVE)
}

pub(super) fn attr<'a>(r: &Req<'a>, kind: u16) -> Option<&'a [u8]> {
    r.attr(NFGENMSG_LEN, kind)
}

fn byte(r: &Req<'_>, kind: u16) -> Option<u8> {
    attr(r, kind).and_then(|v| v.first().copied())
}

pub(super) fn text<'a>(r: &Req<'a>, kind: u16) -> Done<&'a str> {
    let Some(v) = attr(r, kind) else { return fail(IPSET_ERR_PROTOCOL) };
    match str_of(v) {
        Ok(n) if n.len() < IPSET_MAXNAMELEN => Ok(n),
        _ => fail(IPSET_ERR_PROTOCOL),
    }
}

/// What is so already is no error (`-exist`).
#[doc(alias = "flag_exist")]
fn may_be(r: &Req<'_>) -> bool {
    !r.flag(nl::NLM_F_EXCL)
}

pub(super) fn flags(r: &Req<'_>) -> u32 {
    attr(r, IPSET_ATTR_FLAGS).and_then(|v| v.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b))
}

pub(super) fn begin<'a>(out: &'a mut Vec<u8>, h: Head) -> Msg<'a> {
    let mut m = Msg::new(out, h.kind, h.flags, h.seq, h.port);
    m.body(&nfgenmsg(NFPROTO_IPV4, 0)).attr_u8(IPSET_ATTR_PROTOCOL, IPSET_PROTOCOL);
    m
}

pub(super) fn be(m: &mut Msg<'_>, kind: u16, v: u32) {
    m.attr(kind | NLA_F_NET_BYTEORDER, &v.to_be_bytes());
}

/// What a request is about.
struct On<'a> {
    sets: &'a mut Sets,
    nf: Option<&'a Netfilter>,
    now: u64,
}

/// Carries out one request; `out` takes the answer of those that ask for something.
pub(crate) fn request(net: &mut Net, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<u8>) -> Done {
    let command = r.hdr.kind as u8;
    match byte(&r, IPSET_ATTR_PROTOCOL) {
        _ if command == 0 => return Err(Errno::EOPNOTSUPP.into()),
        _ if command > IPSET_CMD_GET_BYINDEX => return Err(Errno::EINVAL.into()),
        Some(p) if p >= IPSET_PROTOCOL_MIN => {}
        _ => return fail(IPSET_ERR_PROTOCOL),
    }
    let (now, seed) = (net.env.now, if command == IPSET_CMD_CREATE { net.env.rng.next_u32() } else { 0 });
    let Some(n) = net.ns.get_mut(c.ns) else { return Err(Errno::ENOENT.into()) };
    let on = On { sets: n.ipset.get_or_insert_default(), nf: n.nf.as_deref(), now };
    let head = Head::reply(r.hdr.kind, c, r);
    match command {
        IPSET_CMD_PROTOCOL => {
            begin(out, head).attr_u8(IPSET_ATTR_PROTOCOL_MIN, IPSET_PROTOCOL_MIN);
            Ok(())
        }
        IPSET_CMD_CREATE => on.create(&r, seed),
        IPSET_CMD_DESTROY => on.destroy(&r),
        IPSET_CMD_FLUSH => on.flush(&r),
        IPSET_CMD_RENAME => on.rename(&r),
        IPSET_CMD_SWAP => on.swap(&r),
        IPSET_CMD_ADD => on.change(&r, c, Adt::Add, out),
        IPSET_CMD_DEL => on.change(&r, c, Adt::Del, out),
        IPSET_CMD_TEST => on.test(&r),
        IPSET_CMD_TYPE => kind(&r, out, head),
        IPSET_CMD_GET_BYINDEX => {
            let index = attr(&r, IPSET_ATTR_INDEX).and_then(|v| v.first_chunk()).map(|b| u16::from_be_bytes(*b));
            let Some(index) = index else { return fail(IPSET_ERR_PROTOCOL) };
            let name = on.sets.name(index).ok_or(Errno::ENOENT)?;
            begin(out, head).attr_str(IPSET_ATTR_SETNAME, &name);
            Ok(())
        }
        _ => on.about(&r, command, out, head),
    }
}

/// Whether a type is there, and in which revisions.
#[doc(alias = "ip_set_type")]
fn kind(r: &Req<'_>, out: &mut Vec<u8>, head: Head) -> Done {
    let name = text(r, IPSET_ATTR_TYPENAME)?;
    let Some(family) = byte(r, IPSET_ATTR_FAMILY) else { return fail(IPSET_ERR_PROTOCOL) };
    let Some(kind) = Type::parse(name).filter(|t| t.takes(family)) else { return fail(IPSET_ERR_FIND_TYPE) };
    let mut m = begin(out, head);
    m.attr_str(IPSET_ATTR_TYPENAME, name).attr_u8(IPSET_ATTR_FAMILY, family);
    m.attr_u8(IPSET_ATTR_REVISION, kind.revision()).attr_u8(IPSET_ATTR_PROTOCOL_MIN, 0);
    Ok(())
}

impl On<'_> {
    fn named(&self, r: &Req<'_>) -> Done<u16> {
        Ok(self.sets.find(text(r, IPSET_ATTR_SETNAME)?).ok_or(Errno::ENOENT)?)
    }

    fn references(&self, index: u16) -> usize {
        self.sets.listed(index) + ruled(self.nf, index)
    }

    fn is_used(&self, index: u16) -> bool {
        self.references(index) > 0
    }

    #[doc(alias = "ip_set_create")]
    fn create(self, r: &Req<'_>, seed: u32) -> Done {
        let (name, kind) = (text(r, IPSET_ATTR_SETNAME)?, text(r, IPSET_ATTR_TYPENAME)?);
        let (revision, family) = (byte(r, IPSET_ATTR_REVISION), byte(r, IPSET_ATTR_FAMILY));
        let (Some(revision), Some(family)) = (revision, family) else { return fail(IPSET_ERR_PROTOCOL) };
        let found = Type::parse(kind).filter(|t| t.takes(family) && revision <= t.revision());
        let Some(kind) = found else { return fail(IPSET_ERR_FIND_TYPE) };
        let data = attr(r, IPSET_ATTR_DATA).unwrap_or(&[]);
        let options = adt::options(kind, family, seed, data)?;
        let family = match kind {
            Type::HashMac | Type::BitmapPort | Type::ListSet => NFPROTO_UNSPEC,
            _ => family,
        };
        if let Some(old) = self.sets.find(name).and_then(|i| self.sets.get(i)) {
            // Where in memory things come to lie is not part of what was asked for.
            let plain = |o: &Options| Options { hashsize: 0, bucketsize: 0, initval: 0, ..o.clone() };
            let same = (old.kind, old.family) == (kind, family) && plain(&old.options) == plain(&options);
            return if same && may_be(r) { Ok(()) } else { Err(Errno::EEXIST.into()) };
        }
        let free = self.sets.by_index.iter().position(Option::is_none);
        let index = free.unwrap_or(self.sets.by_index.len());
        if index >= MAX_SETS {
            return fail(IPSET_ERR_MAX_SETS);
        }
        if free.is_none() {
            self.sets.by_index.push(None);
        }
        if let Some(slot) = self.sets.by_index.get_mut(index) {
            let (elements, nets, members) = Default::default();
            *slot = Some(Set { name: name.into(), kind, family, revision, options, elements, nets, members });
        }
        Ok(())
    }

    #[doc(alias = "ip_set_destroy")]
    fn destroy(self, r: &Req<'_>) -> Done {
        if attr(r, IPSET_ATTR_SETNAME).is_none() {
            let all: Vec<u16> = self.sets.iter().map(|(n, _)| n).collect();
            if all.into_iter().any(|n| self.is_used(n)) {
                return fail(IPSET_ERR_BUSY);
            }
            self.sets.by_index.clear();
            return Ok(());
        }
        let index = match self.named(r) {
            Err(e) if e.errno == Errno::ENOENT && may_be(r) => return Ok(()),
            found => found?,
        };
        if self.is_used(index) {
            return fail(IPSET_ERR_BUSY);
        }
        if let Some(slot) = self.sets.by_index.get_mut(usize::from(index)) {
            *slot = None;
        }
        Ok(())
    }

    fn flush(self, r: &Req<'_>) -> Done {
        if attr(r, IPSET_ATTR_SETNAME).is_none() {
            self.sets.by_index.iter_mut().flatten().for_each(Set::flush);
            return Ok(());
        }
        let index = self.named(r)?;
        self.sets.get_mut(index).into_iter().for_each(Set::flush);
        Ok(())
    }

    fn rename(self, r: &Req<'_>) -> Done {
        let (index, to) = (self.named(r)?, text(r, IPSET_ATTR_SETNAME2)?);
        if self.is_used(index) {
            return fail(IPSET_ERR_REFERENCED);
        }
        if self.sets.find(to).is_some() {
            return fail(IPSET_ERR_EXIST_SETNAME2);
        }
        if let Some(s) = self.sets.get_mut(index) {
            s.name = to.into();
        }
        Ok(())
    }

    /// What two sets hold changes places; their numbers and names stay, and so do the rules that name them.
    #[doc(alias = "ip_set_swap")]
    fn swap(self, r: &Req<'_>) -> Done {
        let (a, other) = (self.named(r)?, text(r, IPSET_ATTR_SETNAME2)?);
        let Some(b) = self.sets.find(other) else { return fail(IPSET_ERR_EXIST_SETNAME2) };
        let what = |i: u16| self.sets.get(i).map(|s| (s.kind.features(), s.family));
        if what(a) != what(b) {
            return fail(IPSET_ERR_TYPE_MISMATCH);
        }
        self.sets.by_index.swap(usize::from(a), usize::from(b));
        let names = (self.sets.name(a), self.sets.name(b));
        for (index, name) in [(a, names.1), (b, names.0)] {
            if let (Some(s), Some(n)) = (self.sets.get_mut(index), name) {
                s.name = n;
            }
        }
        Ok(())
    }

    /// One element, or several with the lines of a file where they stand.
    #[doc(alias = "ip_set_ad")]
    fn change(self, r: &Req<'_>, c: &Caller<'_>, adt: Adt, out: &mut Vec<u8>) -> Done {
        let name = text(r, IPSET_ATTR_SETNAME)?;
        let (one, many) = (attr(r, IPSET_ATTR_DATA), attr(r, IPSET_ATTR_ADT));
        let lines = attr(r, IPSET_ATTR_LINENO);
        if one.is_some() == many.is_some() || (many.is_some() && lines.is_none()) {
            return fail(IPSET_ERR_PROTOCOL);
        }
        let index = self.sets.find(name).ok_or(Errno::ENOENT)?;
        let exist = may_be(r);
        let all = nl::attrs(many.unwrap_or(&[])).map(|(_, v)| v).chain(one);
        for data in all {
            let done = adt::change(self.sets, index, adt, data, exist, self.now);
            let Err(e) = done else { continue };
            let line = nl::attrs(data).find(|(k, _)| *k == IPSET_ATTR_LINENO).map(|(_, v)| v);
            if let (Some(_), Some(line)) = (lines, line) {
                return at_line(r, c, e, line, out);
            }
            return Err(e);
        }
        Ok(())
    }

    fn test(self, r: &Req<'_>) -> Done {
        let index = self.named(r)?;
        let Some(data) = attr(r, IPSET_ATTR_DATA) else { return fail(IPSET_ERR_PROTOCOL) };
        match adt::test(self.sets, index, data, self.now) {
            Ok(true) => Ok(()),
            _ => fail(IPSET_ERR_EXIST),
        }
    }

    /// HEADER and GET_BYNAME.
    fn about(self, r: &Req<'_>, command: u8, out: &mut Vec<u8>, head: Head) -> Done {
        let index = self.named(r)?;
        let s = self.sets.get(index).ok_or(Errno::ENOENT)?;
        let mut m = begin(out, head);
        if command == IPSET_CMD_HEADER {
            m.attr_str(IPSET_ATTR_SETNAME, &s.name).attr_str(IPSET_ATTR_TYPENAME, s.kind.name());
            m.attr_u8(IPSET_ATTR_FAMILY, s.family).attr_u8(IPSET_ATTR_REVISION, s.revision);
        } else {
            m.attr_u8(IPSET_ATTR_FAMILY, s.family);
            m.attr(IPSET_ATTR_INDEX | NLA_F_NET_BYTEORDER, &index.to_be_bytes());
        }
        Ok(())
    }
}

/// An error of one line of many: the request comes back with that line's number in it, and EINTR says that there is no
/// other answer.
#[doc(alias = "call_ad")]
fn at_line(r: &Req<'_>, c: &Caller<'_>, e: Refusal, line: &[u8], out: &mut Vec<u8>) -> Done {
    let mut body = r.body.to_vec();
    if let Some(v) = attr(r, IPSET_ATTR_LINENO) {
        let at = (v.as_ptr() as usize).saturating_sub(r.body.as_ptr() as usize);
        if let Some(to) = body.get_mut(at..at + v.len()).filter(|to| to.len() == line.len()) {
            to.copy_from_slice(line);
        }
    }
    nl::error(out, r.hdr, &body, Err(e.errno), c.port);
    Err(Errno::EINTR.into())
}
