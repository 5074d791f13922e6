//! Changes of the tree, as netlink asks for them: RTM_NEWQDISC, RTM_DELQDISC, RTM_NEWTCLASS, RTM_DELTCLASS and the filters'.
//!
//! What is refused is refused with the kernel's error and its words (extended acknowledgement).
use super::opts::Opts;
use super::{Ctx, Kind, MAX_DEPTH, Qdisc, Sched, cls_api, fifo, fq, fq_codel, htb, mq, netem, prio, tbf};
use crate::ids::{DevId, NsId};
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::drop::DropReason;
use belljar_abi::Errno;
use belljar_abi::netlink::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use belljar_abi::pkt_sched::*;
use belljar_abi::rtnetlink::{RTM_DELQDISC, RTM_NEWQDISC};
use std::borrow::Cow;

/// The kernel's error, and its words if it has any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcError {
    pub errno: Errno,
    pub text: Cow<'static, str>,
}

impl TcError {
    pub const fn of(errno: Errno, text: &'static str) -> TcError {
        TcError { errno, text: Cow::Borrowed(text) }
    }

    pub const fn plain(errno: Errno) -> TcError {
        TcError::of(errno, "")
    }
}

impl std::fmt::Display for TcError {
    /// As `tc` prints it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.text {
            "" => write!(f, "RTNETLINK answers: {}", self.errno.text()),
            text => write!(f, "Error: {}{}", text, if text.ends_with('.') { "" } else { "." }),
        }
    }
}

pub(super) fn einval() -> TcError {
    TcError::plain(Errno::EINVAL)
}

/// A request succeeded; sometimes with a warning.
pub type Done = Result<Option<String>, TcError>;

pub(super) const NOT_FOUND: TcError = TcError::of(Errno::ENOENT, "Specified class not found");
pub(super) const NAME: TcError = TcError::of(Errno::EINVAL, "Invalid qdisc name: must match existing qdisc");

/// A request, taken apart.
pub(super) struct Req<'a> {
    pub t: TcMsg,
    pub flags: u16,
    pub attrs: Opts<'a>,
    /// Actions of the filter.
    pub acts: cls_api::Named,
}

impl Req<'_> {
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub fn kind(&self) -> Option<&str> {
        self.attrs.text(TCA_KIND)
    }

    fn is_other_kind(&self, q: &Qdisc) -> bool {
        self.kind().is_some_and(|k| k != q.name())
    }
}

impl Kernel {
    /// A request of traffic control: its message type, its flags, its fixed part with attributes.
    pub fn tc(&mut self, ns: NsId, kind: u16, flags: u16, body: &[u8]) -> Done {
        let done = self.net.tc(ns, kind, flags, body);
        self.drain_rises();
        done
    }
}

impl Net {
    #[doc(alias = "tc_modify_qdisc")]
    pub(crate) fn tc(&mut self, ns: NsId, kind: u16, flags: u16, body: &[u8]) -> Done {
        let t = TcMsg::parse(body).ok_or_else(einval)?;
        let dev = self.dev_by_index(ns, t.ifindex).ok_or(TcError::plain(Errno::ENODEV))?;
        let before = super::notify::Look::before(self, ns, kind, body);
        let attrs = Opts::new(body.get(TcMsg::LEN..).unwrap_or(&[]));
        let acts = match kind {
            RTM_NEWTFILTER => cls_api::actions(self, ns, &attrs),
            _ => Ok(cls_api::Named::default()),
        };
        let done = acts.and_then(|acts| {
            let req = Req { t, flags, attrs, acts };
            self.with_sched(dev, |s, cx, auto| s.request(kind, &req, cx, auto))
        });
        self.settle_actions();
        if let (Ok(_), Some(before)) = (&done, before) {
            before.tell(self, ns);
        }
        if matches!(self.devs.get(dev).map(|d| &d.qdisc.root.kind), Some(Kind::Noop)) {
            self.attach_default_qdisc(dev);
        }
        done
    }

    /// Lends a device's tree with what it may use; what it gave up dies afterwards, and what it wants sent is sent.
    fn with_sched(&mut self, dev: DevId, f: impl FnOnce(&mut Sched, &mut Ctx<'_>, &mut u32) -> Done) -> Done {
        let default = self.sysctl.default_qdisc.0;
        let Net { devs, env, pool, tc, .. } = self;
        let Some(d) = devs.get_mut(dev) else { return Err(TcError::plain(Errno::ENODEV)) };
        let mut cx = Ctx::new((env, pool, &mut tc.acts), d.mtu, d.tx_queue_len);
        (cx.tx_queues, cx.default_qdisc) = (d.num_tx_queues(), default);
        let done = f(&mut d.qdisc, &mut cx, &mut tc.autohandle);
        d.qdisc.root.recount();
        let drops = std::mem::take(&mut cx.drops);
        for (skb, reason, at) in drops {
            self.kfree_skb(skb, reason, at);
        }
        crate::net::core::softirq::netif_schedule(self, dev);
        done
    }

    /// A device comes up for the first time, or its own discipline was taken away (`attach_default_qdiscs`).
    pub fn attach_default_qdisc(&mut self, dev: DevId) {
        let name = self.sysctl.default_qdisc.0;
        let Net { devs, env, pool, tc, .. } = self;
        let Some(d) = devs.get_mut(dev).filter(|d| d.up && matches!(d.qdisc.root.kind, Kind::Noop)) else { return };
        d.qdisc.root = if d.is_noqueue() {
            Qdisc::noqueue()
        } else {
            let mut cx = Ctx::new((env, pool, &mut tc.acts), d.mtu, d.tx_queue_len);
            (cx.tx_queues, cx.default_qdisc) = (d.num_tx_queues(), name);
            let name = if cx.tx_queues > 1 { "mq" } else { name };
            create(name, None, 0, TC_H_ROOT, &mut cx).unwrap_or_else(|_| Qdisc::noqueue())
        };
    }
}

/// A new discipline by its name.
#[doc(alias = "qdisc_create")]
fn create(kind: &str, opts: Option<&[u8]>, handle: u32, parent: u32, cx: &mut Ctx<'_>) -> Result<Qdisc, TcError> {
    let kind = match kind {
        "pfifo" | "bfifo" => {
            let mut f = fifo::Fifo::new(kind == "bfifo", 0);
            f.change(opts, cx)?;
            Kind::Fifo(Box::new(f))
        }
        "pfifo_fast" => Kind::PfifoFast(Box::default()),
        "noqueue" if parent == TC_H_ROOT => Kind::Noqueue,
        "tbf" => Kind::Tbf(Box::new(tbf::Tbf::new(handle, opts, cx)?)),
        "netem" => {
            let mut n = netem::Netem::default();
            n.reset_model(cx);
            n.change(opts)?;
            Kind::Netem(Box::new(n))
        }
        "fq" => Kind::Fq(Box::new(fq::Fq::new(opts, cx)?)),
        "fq_codel" => Kind::FqCodel(Box::new(fq_codel::FqCodel::new(opts, cx)?)),
        "prio" => Kind::Prio(Box::new(prio::Prio::new(handle, opts, cx)?)),
        "htb" => Kind::Htb(Box::new(htb::Htb::new(opts, cx)?)),
        "mq" if parent == TC_H_ROOT && cx.tx_queues > 1 => Kind::Mq(Box::new(mq::Mq::new(each_queue(handle, cx)))),
        // One queue is not many.
        "mq" | "noqueue" => return Err(TcError::plain(Errno::EOPNOTSUPP)),
        _ => return Err(TcError::of(Errno::ENOENT, "Specified qdisc kind is unknown")),
    };
    Ok(Qdisc::of(kind, handle, parent))
}

/// The default discipline for each transmit queue; one that cannot be without options is left out.
#[doc(alias = "mq_init")]
fn each_queue(handle: u32, cx: &mut Ctx<'_>) -> Vec<Qdisc> {
    let name = if cx.default_qdisc == "mq" { "pfifo_fast" } else { cx.default_qdisc };
    let n = u32::from(cx.tx_queues);
    let one = |class: u32| {
        let parent = handle | class;
        create(name, None, 0, parent, cx).unwrap_or_else(|_| Qdisc::of(Kind::PfifoFast(Box::default()), 0, parent))
    };
    (1..=n).map(one).collect()
}

impl Sched {
    /// A request about this device; `auto` is the last handle that nobody asked for.
    pub(super) fn request(&mut self, kind: u16, req: &Req<'_>, cx: &mut Ctx<'_>, auto: &mut u32) -> Done {
        match kind {
            RTM_NEWQDISC => self.new_qdisc(req, cx, auto),
            RTM_DELQDISC => self.del_qdisc(req, cx),
            RTM_NEWTCLASS => self.new_class(req, cx),
            RTM_DELTCLASS => self.del_class(req, cx),
            RTM_NEWTFILTER => self.new_filter(req),
            RTM_DELTFILTER => self.del_filter(req),
            _ => Err(TcError::plain(Errno::EOPNOTSUPP)),
        }
    }

    /// The discipline at `parent`: the root, a class's, the ingress one. `None`: its own default one.
    fn at_parent(&self, clid: u32, missing: &'static str) -> Result<Option<&Qdisc>, TcError> {
        if clid == TC_H_ROOT {
            return Ok(Some(&self.root).filter(|q| q.handle != 0));
        }
        let p = self.find(clid).filter(|p| p.handle != 0).ok_or(TcError::of(Errno::ENOENT, missing))?;
        Ok(p.leaf_of(clid)?.filter(|q| q.handle != 0))
    }

    fn new_qdisc(&mut self, req: &Req<'_>, cx: &mut Ctx<'_>, auto: &mut u32) -> Done {
        for kind in [TCA_STAB, TCA_RATE, TCA_INGRESS_BLOCK, TCA_EGRESS_BLOCK] {
            if req.attrs.get(kind).is_some() {
                let text = "Size tables, estimators and shared blocks are not supported by belljar";
                return Err(TcError::of(Errno::EOPNOTSUPP, text));
            }
        }
        let (clid, handle) = (req.t.parent, req.t.handle);
        if clid == TC_H_INGRESS {
            return self.new_ingress(req);
        }
        let mut named = None;
        if clid != 0 {
            let q = self.at_parent(clid, "Failed to find specified qdisc")?;
            if q.is_none_or(|q| handle == 0 || q.handle != handle) {
                if handle != 0 {
                    if q.is_some() && !req.has(NLM_F_REPLACE) {
                        return Err(TcError::of(Errno::EEXIST, "NLM_F_REPLACE needed to override"));
                    }
                    if handle & TC_H_MIN_MASK != 0 {
                        return Err(TcError::of(Errno::EINVAL, "Invalid minor handle"));
                    }
                    if let Some(other) = self.root.find(handle) {
                        return Err(misplaced(req, other));
                    }
                    return self.create_and_graft(req, cx, auto, q.is_some());
                }
                match q {
                    Some(q) if !req.is_other_kind(q) => named = Some(q.handle),
                    q => {
                        let forced = q.is_some();
                        return self.create_and_graft(req, cx, auto, forced);
                    }
                }
            } else {
                named = q.map(|q| q.handle);
            }
        } else if handle == 0 {
            return Err(TcError::of(Errno::EINVAL, "Handle cannot be zero"));
        } else if self.root.find(handle).is_some() {
            named = Some(handle);
        }
        let Some(q) = named.and_then(|h| self.root.find_mut(h)) else {
            return Err(TcError::of(Errno::ENOENT, "Specified qdisc not found"));
        };
        if req.has(NLM_F_EXCL) {
            return Err(TcError::of(Errno::EEXIST, "Exclusivity flag on, cannot modify"));
        }
        if req.is_other_kind(q) {
            return Err(NAME);
        }
        q.change(req.attrs.get(TCA_OPTIONS), cx)?;
        self.check_netem()?;
        Ok(None)
    }

    /// `forced`: there is one already, of another kind or handle, that has to go.
    fn create_and_graft(&mut self, req: &Req<'_>, cx: &mut Ctx<'_>, auto: &mut u32, forced: bool) -> Done {
        if !req.has(NLM_F_CREATE) && !forced {
            return Err(TcError::of(Errno::ENOENT, "Qdisc not found. To create specify NLM_F_CREATE flag"));
        }
        let clid = req.t.parent;
        let handle = match req.t.handle {
            0 => self.alloc_handle(auto),
            h => h,
        };
        let kind = req.kind().unwrap_or("");
        if clid != TC_H_ROOT && self.depth_of(clid) >= MAX_DEPTH {
            return Err(TcError::plain(Errno::ELOOP));
        }
        let q = create(kind, req.attrs.get(TCA_OPTIONS), handle, clid, cx)?;
        let duplicates = |q: &Qdisc| matches!(&q.kind, Kind::Netem(n) if n.set.duplicate != 0);
        let is_netem = |q: &Qdisc| matches!(q.kind, Kind::Netem(_));
        if clid != TC_H_ROOT
            && (duplicates(&q) && self.root.any(&is_netem) || is_netem(&q) && self.root.any(&duplicates))
        {
            return Err(MIXED);
        }
        self.graft(clid, Some(q), cx)?;
        Ok(None)
    }

    #[doc(alias = "check_netem_in_tree")]
    fn check_netem(&self) -> Result<(), TcError> {
        let (mut netems, mut copying) = (0, false);
        let mut stack = vec![&self.root];
        while let Some(q) = stack.pop() {
            if let Kind::Netem(n) = &q.kind {
                netems += 1;
                copying |= n.set.duplicate != 0;
            }
            stack.extend(q.children());
        }
        if copying && netems > 1 { Err(MIXED) } else { Ok(()) }
    }

    #[doc(alias = "qdisc_alloc_handle")]
    fn alloc_handle(&self, auto: &mut u32) -> u32 {
        loop {
            *auto = match auto.wrapping_add(0x1_0000) {
                0xffff_0000 => 0x8000_0000,
                next => next,
            };
            if self.root.find(*auto).is_none() {
                return *auto;
            }
        }
    }

    /// How deep the discipline with this class is.
    fn depth_of(&self, clid: u32) -> u32 {
        fn look(q: &Qdisc, handle: u32, depth: u32) -> Option<u32> {
            if q.handle == handle {
                return Some(depth);
            }
            q.children().find_map(|c| look(c, handle, depth + 1))
        }
        look(&self.root, clid & TC_H_MAJ_MASK, 1).unwrap_or(0)
    }

    /// Puts a discipline in the place of another, which dies with its packets.
    #[doc(alias = "qdisc_graft")]
    fn graft(&mut self, clid: u32, new: Option<Qdisc>, cx: &mut Ctx<'_>) -> Result<(), TcError> {
        let mut gone = Vec::new();
        if clid == TC_H_ROOT {
            gone.extend(self.reset());
            self.root = new.unwrap_or_else(Qdisc::noop);
        } else {
            let handle = clid & TC_H_MAJ_MASK;
            let p = self.root.find_mut(handle).ok_or(TcError::plain(Errno::ENOENT))?;
            if let Some(mut old) = p.graft(clid, new, cx)? {
                old.reset(&mut gone);
            }
        }
        for skb in gone {
            cx.drop(skb, DropReason::QueuePurge, "qdisc_reset");
        }
        Ok(())
    }

    fn del_qdisc(&mut self, req: &Req<'_>, cx: &mut Ctx<'_>) -> Done {
        let (clid, handle) = (req.t.parent, req.t.handle);
        if clid == TC_H_INGRESS {
            return self.del_ingress(req);
        }
        let q = match clid {
            0 => {
                let missing = TcError::of(Errno::ENOENT, "Failed to find qdisc with specified handle");
                Some(self.root.find(handle).filter(|_| handle != 0).ok_or(missing)?)
            }
            TC_H_ROOT => Some(&self.root),
            _ => {
                let missing = TcError::of(Errno::ENOENT, "Failed to find qdisc with specified classid");
                let p = self.find(clid).filter(|p| p.handle != 0).ok_or(missing)?;
                p.leaf_of(clid)?
            }
        };
        let Some(q) = q else {
            return Err(TcError::of(Errno::ENOENT, "Cannot find specified qdisc on specified device"));
        };
        if clid != 0 && handle != 0 && q.handle != handle {
            return Err(TcError::of(Errno::EINVAL, "Invalid handle"));
        }
        if req.is_other_kind(q) {
            return Err(NAME);
        }
        if clid == 0 {
            return Err(TcError::of(Errno::EINVAL, "Classid cannot be zero"));
        }
        if q.handle == 0 {
            return Err(TcError::of(Errno::ENOENT, "Cannot delete qdisc with handle of zero"));
        }
        self.graft(clid, None, cx)?;
        Ok(None)
    }

    /// The discipline and class that a class request names.
    #[doc(alias = "tc_ctl_tclass")]
    fn class_ids(&self, t: &TcMsg) -> Result<(u32, u32, u32), TcError> {
        let (mut parent, id) = (t.parent, t.handle);
        let mut qid = id & TC_H_MAJ_MASK;
        if parent != TC_H_ROOT {
            let above = parent & TC_H_MAJ_MASK;
            if qid != 0 && above != 0 && qid != above {
                return Err(einval());
            }
            qid = [qid, above, self.root.handle].into_iter().find(|q| *q != 0).unwrap_or(0);
            if parent != 0 {
                parent = qid | parent & TC_H_MIN_MASK;
            }
        } else if qid == 0 {
            qid = self.root.handle;
        }
        let id = match id {
            0 if parent == TC_H_ROOT => qid,
            0 => 0,
            id => qid | id & TC_H_MIN_MASK,
        };
        Ok((qid, id, parent))
    }

    fn new_class(&mut self, req: &Req<'_>, cx: &mut Ctx<'_>) -> Done {
        let (qid, id, parent) = self.class_ids(&req.t)?;
        let missing = TcError::plain(Errno::ENOENT);
        let q = self.root.find_mut(qid).filter(|_| qid != 0).ok_or(missing.clone())?;
        if !q.has_classes() {
            return Err(einval());
        }
        match q.has_class(id) {
            false if !req.has(NLM_F_CREATE) => return Err(missing),
            true if req.has(NLM_F_EXCL) => return Err(TcError::plain(Errno::EEXIST)),
            _ => {}
        }
        if req.attrs.get(TCA_RATE).is_some() {
            return Err(TcError::of(Errno::EOPNOTSUPP, "Estimators are not supported by belljar"));
        }
        match &mut q.kind {
            Kind::Htb(h) => h.change_class(q.handle, id, parent, req.attrs.get(TCA_OPTIONS), cx),
            Kind::Tbf(_) | Kind::Netem(_) => Err(TcError::plain(Errno::ENOSYS)),
            _ => Err(TcError::plain(Errno::EOPNOTSUPP)),
        }
    }

    fn del_class(&mut self, req: &Req<'_>, cx: &mut Ctx<'_>) -> Done {
        let (qid, id, _) = self.class_ids(&req.t)?;
        let missing = TcError::plain(Errno::ENOENT);
        let q = self.root.find_mut(qid).filter(|_| qid != 0).ok_or(missing.clone())?;
        if !q.has_classes() {
            return Err(einval());
        }
        if !q.has_class(id) {
            return Err(missing);
        }
        match &mut q.kind {
            Kind::Htb(h) => h.delete_class(id, cx).map(|()| None),
            Kind::Tbf(_) | Kind::Netem(_) => Err(TcError::plain(Errno::ENOSYS)),
            _ => Err(TcError::plain(Errno::EOPNOTSUPP)),
        }
    }
}

const MIXED: TcError = TcError::of(Errno::EINVAL, "netem: cannot mix duplicating netems with other netems in tree");

/// A handle that is in use elsewhere.
fn misplaced(req: &Req<'_>, q: &Qdisc) -> TcError {
    if q.parent != req.t.parent {
        return TcError::of(Errno::EINVAL, "Cannot move an existing qdisc to a different parent");
    }
    if req.has(NLM_F_EXCL) {
        return TcError::of(Errno::EEXIST, "Exclusivity flag on, cannot override");
    }
    NAME
}

impl Qdisc {
    fn change(&mut self, opts: Option<&[u8]>, cx: &mut Ctx<'_>) -> Result<(), TcError> {
        let Some(o) = opts else { return Ok(()) };
        match &mut self.kind {
            Kind::Fifo(q) => q.change(Some(o), cx),
            Kind::Tbf(q) => q.change(Some(o), cx),
            Kind::Netem(q) => q.change(Some(o)),
            Kind::Fq(q) => q.change(o, &mut self.stats, cx),
            Kind::FqCodel(q) => q.change(o, Some((&mut self.stats, cx))),
            Kind::Prio(q) => q.change(self.handle, Some(o), cx),
            _ => Err(TcError::of(Errno::EINVAL, "Change operation not supported by specified qdisc")),
        }
    }

    fn has_classes(&self) -> bool {
        matches!(
            self.kind,
            Kind::Tbf(_) | Kind::Netem(_) | Kind::Prio(_) | Kind::Htb(_) | Kind::FqCodel(_) | Kind::Mq(_)
        )
    }

    fn has_class(&self, clid: u32) -> bool {
        let minor = (clid & TC_H_MIN_MASK) as usize;
        match &self.kind {
            Kind::Tbf(_) | Kind::Netem(_) => true,
            Kind::Prio(p) => (1..=p.bands.len()).contains(&minor),
            Kind::Mq(m) => (1..=m.queues.len()).contains(&minor),
            Kind::Htb(h) => h.classes.contains_key(&clid),
            _ => false,
        }
    }

    /// What hangs at a class.
    #[doc(alias = "qdisc_leaf")]
    fn leaf_of(&self, clid: u32) -> Result<Option<&Qdisc>, TcError> {
        if !self.has_classes() {
            return Err(TcError::of(Errno::EOPNOTSUPP, "Parent qdisc is not classful"));
        }
        if !self.has_class(clid) {
            return Err(NOT_FOUND);
        }
        Ok(match &self.kind {
            Kind::Tbf(t) => Some(&t.inner),
            Kind::Netem(n) => n.inner.as_ref(),
            Kind::Prio(p) => p.bands.get((clid & TC_H_MIN_MASK).wrapping_sub(1) as usize),
            Kind::Mq(m) => m.queues.get((clid & TC_H_MIN_MASK).wrapping_sub(1) as usize),
            Kind::Htb(h) => h.classes.get(&clid).and_then(|c| c.leaf.as_ref()),
            _ => None,
        })
    }

    /// Without a new one the class gets what it had at first.
    fn graft(&mut self, clid: u32, new: Option<Qdisc>, cx: &Ctx<'_>) -> Result<Option<Qdisc>, TcError> {
        let own = |new: Option<Qdisc>| new.unwrap_or_else(|| Qdisc::pfifo(clid, cx.tx_queue_len));
        match &mut self.kind {
            Kind::Tbf(t) => Ok(Some(std::mem::replace(&mut t.inner, new.unwrap_or_else(Qdisc::noop)))),
            Kind::Netem(n) => Ok(std::mem::replace(&mut n.inner, new)),
            Kind::Prio(p) => {
                let at = (clid & TC_H_MIN_MASK).wrapping_sub(1) as usize;
                let to = p.bands.get_mut(at).ok_or(NOT_FOUND)?;
                Ok(Some(std::mem::replace(to, own(new))))
            }
            Kind::Mq(m) => {
                let to = m.queues.get_mut((clid & TC_H_MIN_MASK).wrapping_sub(1) as usize).ok_or(NOT_FOUND)?;
                Ok(Some(std::mem::replace(to, new.unwrap_or_else(Qdisc::noop))))
            }
            Kind::Htb(h) => {
                h.deactivate(clid);
                let leaf = h.classes.get_mut(&clid).ok_or(NOT_FOUND)?.leaf.as_mut().ok_or_else(einval)?;
                Ok(Some(std::mem::replace(leaf, own(new))))
            }
            _ => Err(TcError::plain(Errno::EOPNOTSUPP)),
        }
    }

    /// After a change of the tree: what it holds, counted anew.
    pub(super) fn recount(&mut self) {
        let mut sum = (0, 0);
        for c in self.children_mut() {
            c.recount();
            sum = (sum.0 + c.stats.qlen, sum.1 + c.stats.backlog);
        }
        let own: Vec<&crate::net::core::skb::Skb> = match &self.kind {
            Kind::Tbf(_) | Kind::Prio(_) | Kind::Mq(_) => Vec::new(),
            Kind::Netem(n) => n.skbs().collect(),
            Kind::Htb(h) => h.skbs().collect(),
            _ => return,
        };
        let own = own.into_iter().chain(&self.peeked);
        for skb in own {
            sum = (sum.0 + 1, sum.1 + u64::from(super::pkt_len(skb)));
        }
        (self.stats.qlen, self.stats.backlog) = sum;
    }
}
