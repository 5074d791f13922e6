//! Sets and maps: keys in order, so that intervals are found by their beginning.
use super::expr::{Names, read_data};
use super::tell::put_data;
use super::{Data, MAX_ELEMENTS, Value};
use crate::net::netfilter::nfnetlink::be32;
use crate::net::netlink::Done;
use belljar_abi::Errno;
use belljar_abi::netlink::{self as nl, Msg, NLA_F_NESTED};
use belljar_abi::nf_tables::*;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Element {
    pub data: Option<Data>,
    pub userdata: Arc<[u8]>,
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
    pub userdata: Arc<[u8]>,
    pub txn: (u32, u32),
    /// By key, and whether the element begins something (`true`) or ends an interval, which comes first at one key.
    pub elements: BTreeMap<(Value, bool), Element>,
}

impl Set {
    pub fn is_anonymous(&self) -> bool {
        self.flags & NFT_SET_ANONYMOUS != 0
    }

    /// The element that a key is in.
    #[doc(alias = "nft_set_lookup")]
    pub fn find(&self, key: &Value) -> Option<&Element> {
        if self.flags & NFT_SET_INTERVAL == 0 {
            return self.elements.get(&(*key, true));
        }
        let ((_, begins), e) = self.elements.range(..=(*key, true)).next_back()?;
        begins.then_some(e)
    }

    /// One element of a request.
    pub fn read(&self, names: &Names<'_>, b: &[u8]) -> Done<((Value, bool), Element)> {
        const KNOWN: [u16; 4] = [NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_FLAGS, NFTA_SET_ELEM_USERDATA];
        if nl::attrs(b).any(|(k, _)| !KNOWN.contains(&k)) {
            // Time-outs, counters, ends of concatenated ranges.
            return Err(Errno::EOPNOTSUPP.into());
        }
        let get = |kind| nl::attrs(b).find(|(k, _)| *k == kind).map(|(_, v)| v);
        let flags = get(NFTA_SET_ELEM_FLAGS).map(be32).transpose()?.unwrap_or(0);
        let ends = flags & NFT_SET_ELEM_INTERVAL_END != 0;
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
        Ok(((key, !ends), Element { data, userdata: userdata.into() }))
    }

    /// The same of one that is to go: its key is enough.
    pub fn named(&self, names: &Names<'_>, b: &[u8]) -> Done<((Value, bool), Element)> {
        let get = |kind| nl::attrs(b).find(|(k, _)| *k == kind).map(|(_, v)| v);
        let ends = get(NFTA_SET_ELEM_FLAGS).map(be32).transpose()?.unwrap_or(0) & NFT_SET_ELEM_INTERVAL_END != 0;
        match read_data(names, get(NFTA_SET_ELEM_KEY).ok_or(Errno::EINVAL)?)? {
            Data::Value(v) if usize::from(v.len) == self.key_len => {
                Ok(((v, !ends), Element { data: None, userdata: Arc::default() }))
            }
            _ => Err(Errno::EINVAL.into()),
        }
    }

    #[doc(alias = "nft_add_set_elem")]
    pub fn add(&mut self, (key, e): ((Value, bool), Element), exclusive: bool) -> Done {
        if let Some(old) = self.elements.get(&key) {
            return match old.data == e.data {
                _ if exclusive => Err(Errno::EEXIST.into()),
                true => Ok(()),
                false => Err(Errno::EBUSY.into()),
            };
        }
        let most = if self.size == 0 { MAX_ELEMENTS } else { (self.size as usize).min(MAX_ELEMENTS) };
        // Ends of intervals are not counted by who said how many there may be.
        let room = if self.flags & NFT_SET_INTERVAL == 0 { most } else { most.saturating_mul(2).saturating_add(1) };
        if self.elements.len() >= room {
            return Err(Errno::ENFILE.into());
        }
        self.elements.insert(key, e);
        Ok(())
    }
}

/// One element of an answer.
pub fn fill(m: &mut Msg<'_>, names: &Names<'_>, ((key, begins), e): (&(Value, bool), &Element)) {
    m.nest(NFTA_LIST_ELEM | NLA_F_NESTED, |m| {
        put_data(m, names, NFTA_SET_ELEM_KEY, &Data::Value(*key));
        if let Some(d) = &e.data {
            put_data(m, names, NFTA_SET_ELEM_DATA, d);
        }
        if !begins {
            m.attr(NFTA_SET_ELEM_FLAGS, &NFT_SET_ELEM_INTERVAL_END.to_be_bytes());
        }
        if !e.userdata.is_empty() {
            m.attr(NFTA_SET_ELEM_USERDATA, &e.userdata);
        }
    });
}
