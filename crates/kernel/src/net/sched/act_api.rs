//! Actions by themselves: RTM_NEWACTION, RTM_DELACTION, RTM_GETACTION (`tc actions`).
use super::act::{self, ActId, Kind, Maker};
use super::act_dump;
use super::api::TcError;
use super::dump::Asker;
use super::opts::Opts;
use crate::ids::NsId;
use crate::net::Net;
use belljar_abi::Errno;
use belljar_abi::netlink::{Msg, NLM_F_DUMP, NLM_F_MULTI, NLM_F_REPLACE, NLM_F_ROOT, attrs};
use belljar_abi::pkt_sched::*;
use std::collections::BTreeMap;

/// `tcamsg`, and what is behind it.
const TCA_MSG: usize = 4;
const TCA_ROOT_TAB: u16 = 1;
const TCA_ROOT_COUNT: u16 = 3;
/// Actions in one message of a dump.
const PER_MESSAGE: usize = 256;

impl Net {
    /// Answers are whole messages; a dump has them without the one that ends it.
    #[doc(alias = "tc_ctl_action")]
    pub(crate) fn tc_actions(
        &mut self,
        ns: NsId,
        kind: u16,
        flags: u16,
        body: &[u8],
        asker: Asker,
    ) -> Result<Vec<Vec<u8>>, TcError> {
        let root = Opts::new(body.get(TCA_MSG..).unwrap_or(&[]));
        let tab = root.get(TCA_ROOT_TAB);
        if kind == RTM_GETACTION && flags & NLM_F_DUMP == NLM_F_DUMP {
            return Ok(self.dump_actions(ns, tab.unwrap_or(&[]), asker));
        }
        let tab = tab.ok_or(TcError::of(Errno::EINVAL, "Netlink action attributes missing"))?;
        let done = match kind {
            RTM_NEWACTION => {
                let by = if flags & NLM_F_REPLACE != 0 { Maker::Replacing } else { Maker::Itself };
                act::init(self, ns, tab, by).map(|_| Vec::new())
            }
            RTM_DELACTION if flags & NLM_F_ROOT != 0 => self.flush_actions(ns, tab).map(|()| Vec::new()),
            RTM_DELACTION => self.named(ns, tab).and_then(|ids| self.del_actions(&ids)).map(|()| Vec::new()),
            _ => self.named(ns, tab).map(|ids| vec![self.message(&ids, (1, 0), None, asker)]),
        };
        self.settle_actions();
        done
    }

    /// Those that a request names by kind and index.
    #[doc(alias = "tcf_action_get_1")]
    fn named(&self, ns: NsId, tab: &[u8]) -> Result<Vec<ActId>, TcError> {
        let list: BTreeMap<u16, &[u8]> = attrs(tab).collect();
        let list = (1..=TCA_ACT_MAX_PRIO as u16).map_while(|n| list.get(&n));
        let one = |b: &&[u8]| {
            let o = Opts::new(b);
            let index = o.u32(TCA_ACT_INDEX).ok_or(TcError::of(Errno::EINVAL, "Invalid TC action index value"))?;
            let kind = o.text(TCA_ACT_KIND).and_then(Kind::by_name);
            let kind = kind.ok_or(TcError::of(Errno::EINVAL, "Specified TC action kind not found"))?;
            let missing = TcError::of(Errno::ENOENT, "TC action with specified index not found");
            self.tc.acts.find(ns, kind, index).ok_or(missing)
        };
        list.map(one).collect()
    }

    fn del_actions(&mut self, ids: &[ActId]) -> Result<(), TcError> {
        for id in ids {
            if self.tc.acts.get(*id).is_some_and(|a| a.binds > 0) {
                return Err(TcError::of(Errno::EPERM, "Failed to delete TC action"));
            }
            self.tc.acts.remove(*id);
        }
        Ok(())
    }

    #[doc(alias = "tca_action_flush")]
    fn flush_actions(&mut self, ns: NsId, tab: &[u8]) -> Result<(), TcError> {
        let first = attrs(tab).find(|(n, _)| *n == 1).map(|(_, b)| Opts::new(b));
        let first = first.ok_or(TcError::of(Errno::EINVAL, "Invalid netlink attributes while flushing TC action"))?;
        let kind = first.text(TCA_ACT_KIND).and_then(Kind::by_name);
        let kind = kind.ok_or(TcError::of(Errno::EINVAL, "Cannot flush unknown TC action"))?;
        let all: Vec<ActId> = self.tc.acts.of(ns, kind).collect();
        let bound = |id: &ActId| self.tc.acts.get(*id).is_some_and(|a| a.binds > 0);
        let (kept, gone): (Vec<ActId>, Vec<ActId>) = all.into_iter().partition(bound);
        if !kept.is_empty() && gone.is_empty() {
            return Err(TcError::plain(Errno::EPERM));
        }
        gone.into_iter().for_each(|id| self.tc.acts.remove(id));
        Ok(())
    }

    /// All of a kind, which is in the first entry of the table.
    #[doc(alias = "tc_dump_action")]
    fn dump_actions(&mut self, ns: NsId, tab: &[u8], asker: Asker) -> Vec<Vec<u8>> {
        let first = attrs(tab).find(|(n, _)| *n == 1).map(|(_, b)| Opts::new(b));
        let Some(kind) = first.and_then(|o| o.text(TCA_ACT_KIND)).and_then(Kind::by_name) else { return Vec::new() };
        let all: Vec<ActId> = self.tc.acts.of(ns, kind).collect();
        for id in &all {
            if let Some(a) = self.tc.acts.get_mut(*id) {
                a.looked_at = true;
            }
        }
        all.chunks(PER_MESSAGE).map(|ids| self.message(ids, (0, NLM_F_MULTI), Some(ids.len() as u32), asker)).collect()
    }

    fn message(&self, ids: &[ActId], (from, flags): (u16, u16), count: Option<u32>, (seq, pid): Asker) -> Vec<u8> {
        let mut out = Vec::new();
        let mut m = Msg::new(&mut out, RTM_GETACTION, flags, seq, pid);
        m.body(&[0; TCA_MSG]);
        if let Some(n) = count {
            m.attr_u32(TCA_ROOT_COUNT, n);
        }
        m.nest(TCA_ROOT_TAB, |m| {
            for (n, a) in (from..).zip(ids.iter().filter_map(|id| self.tc.acts.get(*id))) {
                m.nest(n, |m| act_dump::one(self, a, m));
            }
        });
        out
    }
}
