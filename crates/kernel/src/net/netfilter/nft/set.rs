//! Sets and maps: keys in order, so that intervals are found by their beginning.
use super::expr::{Expr, Names, read_data};
use super::tell::put_data;
use super::{Data, MAX_ELEMENTS, Value, dynamic};
use crate::net::netfilter::nfnetlink::{be32, be64};
use crate::net::netlink::Done;
use belljar_abi::Errno;
use belljar_abi::netlink::{self as nl, Msg, NLA_F_NESTED};
use belljar_abi::nf_tables::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub struct Element {
    /// In a set of concatenated ranges: the upper ends, where the key has the lower ones.
    pub key_end: Option<Value>,
    pub data: Option<Data>,
    pub userdata: Arc<[u8]>,
    /// What it lives, in nanoseconds, where it was said; 0: for ever. Else as the set has it.
    pub timeout: Option<u64>,
    /// When that is over; 0: never.
    pub expires: u64,
    pub exprs: Vec<Expr>,
}

impl Element {
    /// Each part of the key lies in its range.
    fn covers(&self, fields: &[u8], from: &Value, key: &Value) -> bool {
        let to = self.key_end.as_ref().unwrap_or(from);
        let bounds = parts(fields, from).zip(parts(fields, to));
        bounds.zip(parts(fields, key)).all(|((a, b), k)| a <= k && k <= b)
    }

    pub fn is_over(&self, now: u64) -> bool {
        self.expires != 0 && self.expires <= now
    }
}

#[derive(Clone, Debug)]
pub struct Set {
    pub name: Arc<str>,
    pub handle: u64,
    /// `NFT_SET_*`.
    pub flags: u32,
    pub key_type: u32,
    pub key_len: usize,
    pub data_type: u32,
    pub data_len: usize,
    pub policy: u32,
    /// Elements that it may have (`size`), 0: as many as there is room for.
    pub size: u32,
    /// `NFTA_SET_DESC_CONCAT` as it was given.
    pub concat: Arc<[u8]>,
    /// Lengths of the parts of a key, where each has a range of its own.
    pub fields: Arc<[u8]>,
    pub userdata: Arc<[u8]>,
    pub txn: (u32, u32),
    /// What elements live, in nanoseconds; 0: for ever.
    pub timeout: u64,
    /// Milliseconds between two looks for those whose time is over; 0: a second.
    pub gc_interval: u32,
    pub created: u64,
    /// What each element begins with.
    pub exprs: Vec<Expr>,
    /// By key, and whether the element begins something (`true`) or ends an interval, which comes first at one key.
    pub elements: BTreeMap<(Value, bool), Element>,
}

impl Set {
    pub fn is_anonymous(&self) -> bool {
        self.flags & NFT_SET_ANONYMOUS != 0
    }

    /// The element that a key is in.
    #[doc(alias = "nft_set_lookup")]
    pub fn find(&mut self, key: &Value, now: u64) -> Option<&mut Element> {
        if self.flags & NFT_SET_INTERVAL == 0 {
            return self.elements.get_mut(&(*key, true)).filter(|e| !e.is_over(now));
        }
        if !self.fields.is_empty() {
            // What begins behind the key in its first part cannot have it in any.
            let fields = &self.fields;
            let holds =
                |((from, _), e): &(&(Value, bool), &mut Element)| !e.is_over(now) && e.covers(fields, from, key);
            return self.elements.range_mut(..=(*key, true)).find(holds).map(|(_, e)| e);
        }
        let ((_, begins), e) = self.elements.range_mut(..=(*key, true)).next_back()?;
        (*begins && !e.is_over(now)).then_some(e)
    }

    /// The element that a key is in as it is stored; of an interval its beginning, or for the key behind one in it its `end`.
    #[doc(alias = "nft_rbtree_get")]
    pub fn entry(&self, key: &Value, end: bool) -> Option<(&(Value, bool), &Element)> {
        if self.flags & NFT_SET_INTERVAL == 0 {
            return self.elements.get_key_value(&(*key, true));
        }
        if !self.fields.is_empty() {
            return self.elements.range(..=(*key, true)).find(|((from, _), e)| e.covers(&self.fields, from, key));
        }
        let found = match end {
            true => self.elements.range((*key, false)..).next(),
            false => self.elements.range(..=(*key, true)).next_back(),
        };
        found.filter(|((_, begins), _)| *begins != end)
    }

    /// Elements whose time is not over, without the ends of those whose is.
    pub fn alive(&self, now: u64) -> impl Iterator<Item = (&(Value, bool), &Element)> {
        let mut over = false;
        self.elements.iter().filter(move |((_, begins), e)| {
            let skip = if *begins { e.is_over(now) } else { over };
            over = *begins && skip;
            !skip
        })
    }

    /// Those go whose time was over when somebody last looked.
    #[doc(alias = "nft_rhash_gc")]
    fn purge(&mut self, now: u64) {
        let every = if self.gc_interval == 0 { 1_000_000_000 } else { u64::from(self.gc_interval) * 1_000_000 };
        let looked = now.saturating_sub(now.saturating_sub(self.created) % every);
        let alive: BTreeSet<_> = self.alive(looked).map(|(k, _)| *k).collect();
        self.elements.retain(|k, _| alive.contains(k));
    }

    /// One element of a request.
    pub fn read(&self, names: &Names<'_>, b: &[u8], now: u64) -> Done<((Value, bool), Element)> {
        const KNOWN: [u16; 9] = [
            NFTA_SET_ELEM_KEY,
            NFTA_SET_ELEM_KEY_END,
            NFTA_SET_ELEM_DATA,
            NFTA_SET_ELEM_FLAGS,
            NFTA_SET_ELEM_USERDATA,
            NFTA_SET_ELEM_TIMEOUT,
            NFTA_SET_ELEM_EXPIRATION,
            NFTA_SET_ELEM_EXPR,
            NFTA_SET_ELEM_EXPRESSIONS,
        ];
        if nl::attrs(b).any(|(k, _)| !KNOWN.contains(&k)) {
            // Objects.
            return Err(Errno::EOPNOTSUPP.into());
        }
        let get = |kind| nl::attrs(b).find(|(k, _)| *k == kind).map(|(_, v)| v);
        let flags = get(NFTA_SET_ELEM_FLAGS).map(be32).transpose()?.unwrap_or(0);
        let ends = flags & NFT_SET_ELEM_INTERVAL_END != 0;
        let key_end = self.key_end(names, get(NFTA_SET_ELEM_KEY_END))?;
        if flags & !NFT_SET_ELEM_INTERVAL_END != 0 || (ends && self.flags & NFT_SET_INTERVAL == 0) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let key = match read_data(names, get(NFTA_SET_ELEM_KEY).ok_or(Errno::EINVAL)?)? {
            Data::Value(v) if usize::from(v.len) == self.key_len => v,
            _ => return Err(Errno::EINVAL.into()),
        };
        let data = get(NFTA_SET_ELEM_DATA).map(|d| read_data(names, d)).transpose()?;
        let fits = match &data {
            None => self.flags & NFT_SET_MAP == 0 || ends,
            Some(_) if self.flags & NFT_SET_MAP == 0 || ends => false,
            Some(Data::Verdict(_)) => self.data_type == NFT_DATA_VERDICT,
            Some(Data::Value(v)) => self.data_type != NFT_DATA_VERDICT && usize::from(v.len) == self.data_len,
        };
        let userdata = get(NFTA_SET_ELEM_USERDATA).unwrap_or(&[]);
        if !fits || userdata.len() > NFT_USERDATA_MAXLEN {
            return Err(Errno::EINVAL.into());
        }
        let (timeout, expires) = if ends { (None, 0) } else { self.life(get, now)? };
        let mut exprs = dynamic::stateful(names, get(NFTA_SET_ELEM_EXPR), get(NFTA_SET_ELEM_EXPRESSIONS))?;
        if exprs.is_empty() && !ends {
            exprs.clone_from(&self.exprs);
        }
        Ok(((key, !ends), Element { key_end, data, userdata: userdata.into(), timeout, expires, exprs }))
    }

    fn key_end(&self, names: &Names<'_>, b: Option<&[u8]>) -> Done<Option<Value>> {
        let Some(b) = b else { return Ok(None) };
        match read_data(names, b)? {
            Data::Value(v) if !self.fields.is_empty() && usize::from(v.len) == self.key_len => Ok(Some(v)),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// What an element lives, where it is said, and when its end is.
    fn life<'a>(&self, get: impl Fn(u16) -> Option<&'a [u8]>, now: u64) -> Done<(Option<u64>, u64)> {
        let wide = |kind| -> Done<Option<u64>> {
            let ms = get(kind).map(be64).transpose()?;
            Ok(ms.map(|ms| ms.checked_mul(1_000_000).ok_or(Errno::ERANGE)).transpose()?)
        };
        let (timeout, left) = (wide(NFTA_SET_ELEM_TIMEOUT)?, wide(NFTA_SET_ELEM_EXPIRATION)?);
        if (timeout.is_some() || left.is_some()) && self.flags & NFT_SET_TIMEOUT == 0 {
            return Err(Errno::EINVAL.into());
        }
        let whole = timeout.unwrap_or(self.timeout);
        match left {
            Some(_) if whole == 0 => return Err(Errno::EOPNOTSUPP.into()),
            Some(l) if l > whole => return Err(Errno::ERANGE.into()),
            _ => {}
        }
        let ends = now.saturating_add(left.filter(|l| *l != 0).unwrap_or(whole)).max(1);
        Ok((timeout, if whole == 0 { 0 } else { ends }))
    }

    /// The same of one that is to go: its key is enough.
    pub fn named(&self, names: &Names<'_>, b: &[u8]) -> Done<((Value, bool), Element)> {
        let get = |kind| nl::attrs(b).find(|(k, _)| *k == kind).map(|(_, v)| v);
        let ends = get(NFTA_SET_ELEM_FLAGS).map(be32).transpose()?.unwrap_or(0) & NFT_SET_ELEM_INTERVAL_END != 0;
        match read_data(names, get(NFTA_SET_ELEM_KEY).ok_or(Errno::EINVAL)?)? {
            Data::Value(v) if usize::from(v.len) == self.key_len => Ok(((v, !ends), Element::default())),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    #[doc(alias = "nft_add_set_elem")]
    pub fn add(&mut self, (key, e): ((Value, bool), Element), exclusive: bool, now: u64) -> Done {
        if !self.fields.is_empty() {
            self.may_range(&key.0, &e, now)?;
        }
        if let Some(old) = self.elements.get_mut(&key).filter(|o| !o.is_over(now)) {
            return match old.data == e.data {
                _ if exclusive => Err(Errno::EEXIST.into()),
                true => {
                    if e.timeout.is_some() {
                        (old.timeout, old.expires) = (e.timeout, e.expires);
                    }
                    Ok(())
                }
                false => Err(Errno::EBUSY.into()),
            };
        }
        let most = if self.size == 0 { MAX_ELEMENTS } else { (self.size as usize).min(MAX_ELEMENTS) };
        // Ends of intervals are not counted by who said how many there may be.
        let paired = self.flags & NFT_SET_INTERVAL != 0 && self.fields.is_empty();
        let room = if !paired { most } else { most.saturating_mul(2).saturating_add(1) };
        if self.elements.len() >= room {
            self.purge(now);
        }
        if self.elements.len() >= room {
            return Err(Errno::ENFILE.into());
        }
        self.elements.insert(key, e);
        Ok(())
    }
}

impl Set {
    /// EINVAL for a range that ends before it begins, EEXIST for one that meets another.
    #[doc(alias = "nft_pipapo_insert")]
    fn may_range(&mut self, from: &Value, e: &Element, now: u64) -> Done {
        let to = e.key_end.unwrap_or(*from);
        if parts(&self.fields, from).zip(parts(&self.fields, &to)).any(|(a, b)| a > b) {
            return Err(Errno::EINVAL.into());
        }
        let same = self.elements.get(&(*from, true)).is_some_and(|old| old.key_end == e.key_end && !old.is_over(now));
        if !same && (self.find(from, now).is_some() || self.find(&to, now).is_some()) {
            return Err(Errno::EEXIST.into());
        }
        Ok(())
    }
}

/// A key in parts.
fn parts<'a>(fields: &'a [u8], v: &'a Value) -> impl Iterator<Item = &'a [u8]> {
    let mut at = 0;
    fields.iter().map(move |len| {
        let len = usize::from(*len);
        let part = v.get().get(at..at + len).unwrap_or(&[]);
        at += len.next_multiple_of(4);
        part
    })
}

/// One element of an answer.
pub fn fill(m: &mut Msg<'_>, names: &Names<'_>, s: &Set, ((key, begins), e): (&(Value, bool), &Element), now: u64) {
    m.nest(NFTA_LIST_ELEM | NLA_F_NESTED, |m| {
        put_data(m, names, NFTA_SET_ELEM_KEY, &Data::Value(*key));
        if let Some(end) = e.key_end {
            put_data(m, names, NFTA_SET_ELEM_KEY_END, &Data::Value(end));
        }
        if let Some(d) = &e.data {
            put_data(m, names, NFTA_SET_ELEM_DATA, d);
        }
        if !begins {
            m.attr(NFTA_SET_ELEM_FLAGS, &NFT_SET_ELEM_INTERVAL_END.to_be_bytes());
        }
        dynamic::fill_stateful(m, names, (NFTA_SET_ELEM_EXPR, NFTA_SET_ELEM_EXPRESSIONS), &e.exprs);
        if let Some(t) = e.timeout.filter(|t| *t != s.timeout) {
            m.attr(NFTA_SET_ELEM_TIMEOUT, &(t / 1_000_000).to_be_bytes());
        }
        if e.expires != 0 {
            m.attr(NFTA_SET_ELEM_EXPIRATION, &(e.expires.saturating_sub(now) / 1_000_000).to_be_bytes());
        }
        if !e.userdata.is_empty() {
            m.attr(NFTA_SET_ELEM_USERDATA, &e.userdata);
        }
    });
}
