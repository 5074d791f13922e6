//! What there is, as netlink tells it: RTM_GETQDISC, RTM_GETTCLASS, RTM_GETTFILTER.
use super::act_dump;
use super::cls::{self, Filters};
use super::opts::Opts;
use super::{Kind, Qdisc, Sched, Stats};
use crate::ids::NsId;
use crate::net::Net;
use crate::net::core::dev::NetDevice;
use belljar_abi::Errno;
use belljar_abi::netlink::{Msg, NLM_F_DUMP, NLM_F_MULTI};
use belljar_abi::pkt_sched::*;
use belljar_abi::rtnetlink::{RTM_GETQDISC, RTM_NEWQDISC};

/// Who asks: number of the request, port.
pub type Asker = (u32, u32);

/// A discipline as a message; `refs` is what holds it.
struct Row<'a> {
    q: &'a Qdisc,
    refs: u32,
}

impl Net {
    /// Answers a request for disciplines, classes or filters with whole messages, one each.
    #[doc(alias = "tc_dump_qdisc")]
    pub fn tc_get(
        &self,
        ns: NsId,
        kind: u16,
        flags: u16,
        body: &[u8],
        asker: Asker,
    ) -> Result<Vec<Vec<u8>>, super::TcError> {
        let t = TcMsg::parse(body).unwrap_or_default();
        let opts = Opts::new(body.get(TcMsg::LEN..).unwrap_or(&[]));
        let dump = flags & NLM_F_DUMP == NLM_F_DUMP;
        let devs = || self.ns_devs(ns).filter_map(|id| self.devs.get(id));
        let one = devs().find(|d| d.ifindex == t.ifindex);
        let now = self.env.now;
        let enodev = super::TcError::plain(Errno::ENODEV);
        match kind {
            RTM_GETQDISC if dump => {
                let all = opts.get(TCA_DUMP_INVISIBLE).is_some();
                let wanted = devs().filter(|d| t.ifindex == 0 || d.ifindex == t.ifindex);
                Ok(wanted.flat_map(|d| qdiscs(d, all, now, NLM_F_MULTI, asker)).collect())
            }
            RTM_GETQDISC => {
                let d = one.ok_or(enodev)?;
                let found = match t.parent {
                    TC_H_ROOT => Some(&d.qdisc.root),
                    _ => d.qdisc.root.find(t.handle),
                };
                let missing = "Failed to find qdisc with specified handle";
                let q = found.ok_or(super::TcError::of(Errno::ENOENT, missing))?;
                Ok(vec![qdisc(d, &row(&d.qdisc, q), now, 0, asker)])
            }
            RTM_GETTCLASS => {
                // A device that there is not has no classes, and says so as Linux does: not at all.
                let Some(d) = one else { return Ok(Vec::new()) };
                Ok(classes(d, &d.qdisc.root, &t, asker))
            }
            RTM_GETTFILTER if dump => {
                let Some(d) = one else { return Ok(Vec::new()) };
                Ok(filters(self, d, &t, asker))
            }
            RTM_GETTFILTER => Ok(vec![one_filter(self, one.ok_or(enodev)?, &t, opts.text(TCA_KIND), asker)?]),
            _ => Err(super::TcError::plain(Errno::EOPNOTSUPP)),
        }
    }
}

fn row<'a>(s: &'a Sched, q: &'a Qdisc) -> Row<'a> {
    // The device and its one queue hold the root.
    Row { q, refs: if std::ptr::eq(q, &s.root) { 2 } else { 1 } }
}

fn qdiscs(d: &NetDevice, invisible: bool, now: u64, flags: u16, asker: Asker) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut rows: Vec<&Qdisc> = Vec::new();
    if !matches!(d.qdisc.root.kind, Kind::Noop) {
        rows.push(&d.qdisc.root);
        below(&d.qdisc.root, &mut rows);
    }
    for q in rows {
        // What a class has by itself is not shown unless asked for.
        let own = q.handle == 0 && q.parent != TC_H_ROOT && !of_mq(&d.qdisc.root, q);
        if matches!(q.kind, Kind::Noop) || own && !invisible {
            continue;
        }
        out.push(qdisc(d, &row(&d.qdisc, q), now, flags, asker));
    }
    if let Some(i) = &d.qdisc.ingress {
        out.push(ingress(d, i, flags, asker));
    }
    out
}

/// One of those at a transmit queue, which are shown although they were given no handle.
fn of_mq(root: &Qdisc, q: &Qdisc) -> bool {
    matches!(&root.kind, Kind::Mq(m) if m.queues.iter().any(|c| std::ptr::eq(c, q)))
}

/// Those below, in the order in which they are kept; of mq the last first.
fn below<'a>(q: &'a Qdisc, out: &mut Vec<&'a Qdisc>) {
    if let Kind::Mq(m) = &q.kind {
        return m.queues.iter().rev().for_each(|c| {
            out.push(c);
            below(c, out);
        });
    }
    for c in q.children() {
        out.push(c);
        below(c, out);
    }
}

fn head<'a>(out: &'a mut Vec<u8>, kind: u16, flags: u16, (seq, pid): Asker, t: TcMsg) -> Msg<'a> {
    let mut m = Msg::new(out, kind, flags, seq, pid);
    m.body(&t.to_bytes());
    m
}

#[doc(alias = "tc_fill_qdisc")]
fn qdisc(d: &NetDevice, r: &Row<'_>, now: u64, flags: u16, asker: Asker) -> Vec<u8> {
    let mut out = Vec::new();
    let t = TcMsg { ifindex: d.ifindex, handle: r.q.handle, parent: r.q.parent, info: r.refs };
    let mut m = head(&mut out, RTM_NEWQDISC, flags, asker, t);
    m.attr_str(TCA_KIND, r.q.name());
    options(r.q, &mut m);
    m.attr_u8(TCA_HW_OFFLOAD, 0);
    let app = match &r.q.kind {
        Kind::Fq(q) => Some(q.xstats(now)),
        Kind::FqCodel(q) => Some(q.xstats()),
        _ => None,
    };
    stats(&mut m, &r.q.stats, r.q.stats.qlen, app);
    out
}

fn options(q: &Qdisc, m: &mut Msg<'_>) {
    if matches!(q.kind, Kind::Noop | Kind::Noqueue | Kind::Mq(_)) {
        return;
    }
    m.nest(TCA_OPTIONS, |m| match &q.kind {
        Kind::Noop | Kind::Noqueue | Kind::Mq(_) => {}
        Kind::PfifoFast(_) => {
            let mut b = 3u32.to_ne_bytes().to_vec();
            b.extend_from_slice(&super::PRIO2BAND);
            m.body(&b);
        }
        Kind::Fifo(f) => {
            m.body(&f.limit.to_ne_bytes());
        }
        Kind::Tbf(q) => q.dump(m),
        Kind::Netem(q) => q.dump(m),
        Kind::Fq(q) => q.dump(m),
        Kind::FqCodel(q) => q.dump(m),
        Kind::Prio(q) => q.dump(m),
        Kind::Htb(q) => q.dump(m),
    });
}

/// TCA_STATS2, and what came before it.
pub(super) fn stats(m: &mut Msg<'_>, s: &Stats, qlen: u32, app: Option<Vec<u8>>) {
    let low = |v: u64| v as u32;
    let mut basic = s.bytes.to_ne_bytes().to_vec();
    basic.extend_from_slice(&low(s.packets).to_ne_bytes());
    basic.resize(16, 0);
    let queue = [qlen, low(s.backlog), low(s.drops), low(s.requeues), low(s.overlimits)];
    let queue: Vec<u8> = queue.iter().flat_map(|w| w.to_ne_bytes()).collect();
    m.nest(TCA_STATS2, |m| {
        m.attr(TCA_STATS_BASIC, &basic);
        if s.packets > u32::MAX.into() {
            m.attr(TCA_STATS_PKT64, &s.packets.to_ne_bytes());
        }
        m.attr(TCA_STATS_QUEUE, &queue);
        if let Some(app) = &app {
            m.attr(TCA_STATS_APP, app);
        }
    });
    let mut old = s.bytes.to_ne_bytes().to_vec();
    let words = [low(s.packets), low(s.drops), low(s.overlimits), 0, 0, qlen, low(s.backlog)];
    words.iter().for_each(|w| old.extend_from_slice(&w.to_ne_bytes()));
    old.resize(40, 0);
    m.attr(TCA_STATS, &old);
    if let Some(app) = &app {
        m.attr(TCA_XSTATS, app);
    }
}

fn ingress(d: &NetDevice, i: &cls::Ingress, flags: u16, asker: Asker) -> Vec<u8> {
    let mut out = Vec::new();
    let t = TcMsg { ifindex: d.ifindex, handle: 0xffff_0000, parent: TC_H_INGRESS, info: 1 };
    let mut m = head(&mut out, RTM_NEWQDISC, flags, asker, t);
    m.attr_str(TCA_KIND, i.name()).attr(TCA_OPTIONS, &[]).attr_u8(TCA_HW_OFFLOAD, 0);
    stats(&mut m, &i.stats, 0, None);
    out
}

/// Classes of all disciplines of a device, or of one.
#[doc(alias = "tc_dump_tclass")]
fn classes(d: &NetDevice, root: &Qdisc, t: &TcMsg, asker: Asker) -> Vec<Vec<u8>> {
    let mut all = vec![root];
    below(root, &mut all);
    let major = t.parent & TC_H_MAJ_MASK;
    let wanted = all.into_iter().filter(|q| t.parent == 0 || q.handle == major && major != 0);
    wanted.filter(|q| q.handle != 0 || matches!(q.kind, Kind::Mq(_))).flat_map(|q| classes_of(d, q, asker)).collect()
}

/// One class by its number, its parent and the discipline in it; `fill` says what its kind has.
fn class(
    d: &NetDevice,
    q: &Qdisc,
    asker: Asker,
    (handle, parent, info): (u32, u32, u32),
    fill: impl FnOnce(&mut Msg<'_>),
) -> Vec<u8> {
    let mut one = Vec::new();
    let mut m = head(&mut one, RTM_NEWTCLASS, NLM_F_MULTI, asker, TcMsg { ifindex: d.ifindex, handle, parent, info });
    m.attr_str(TCA_KIND, q.name());
    fill(&mut m);
    one
}

fn classes_of(d: &NetDevice, q: &Qdisc, asker: Asker) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    match &q.kind {
        Kind::Tbf(t) => out.push(class(d, q, asker, (q.handle | 1, q.handle, t.inner.handle), |_| {})),
        Kind::Netem(n) => {
            if let Some(inner) = &n.inner {
                out.push(class(d, q, asker, (q.handle | 1, q.handle, inner.handle), |_| {}));
            }
        }
        Kind::Mq(m) => {
            for (i, b) in m.queues.iter().enumerate() {
                out.push(class(d, q, asker, (q.handle | (i as u32 + 1), TC_H_ROOT, b.handle), |m| {
                    stats(m, &b.stats, b.stats.qlen, None)
                }));
            }
        }
        Kind::Prio(p) => {
            for (i, b) in p.bands.iter().enumerate() {
                out.push(class(d, q, asker, (q.handle | (i as u32 + 1), q.handle, b.handle), |m| {
                    stats(m, &b.stats, b.stats.qlen, None)
                }));
            }
        }
        Kind::Htb(h) => {
            for c in h.in_hash_order() {
                let leaf = c.leaf.as_ref();
                let ids = (c.id, c.parent.unwrap_or(TC_H_ROOT), leaf.map_or(0, |l| l.handle));
                out.push(class(d, q, asker, ids, |m| {
                    m.nest(TCA_OPTIONS, |m| c.dump(m));
                    let mut s = c.stats;
                    s.backlog = leaf.map_or(0, |l| l.stats.backlog);
                    stats(m, &s, leaf.map_or(0, |l| l.stats.qlen), Some(c.xstats()));
                }));
            }
        }
        Kind::FqCodel(f) => {
            for (i, xstats, s) in f.classes() {
                out.push(class(d, q, asker, (q.handle | (i + 1), q.handle, 0), |m| {
                    stats(m, &s, s.qlen, Some(xstats.clone()))
                }));
            }
        }
        _ => {}
    }
    out
}

/// Where the filters are kept that a message is about, and what it is called.
fn place<'a>(d: &'a NetDevice, t: &TcMsg) -> (Option<&'a Filters>, u32) {
    let root = &d.qdisc.root;
    let handle = if t.parent == 0 { root.handle } else { t.parent & TC_H_MAJ_MASK };
    let found = if handle == TC_H_INGRESS & TC_H_MAJ_MASK {
        d.qdisc.ingress.as_ref().and_then(|i| i.filters(t.parent))
    } else {
        root.find(handle).and_then(|q| match &q.kind {
            Kind::Htb(h) if t.parent & TC_H_MIN_MASK != 0 => h.classes.get(&t.parent).map(|c| &c.filters),
            Kind::Htb(h) => Some(&h.filters),
            Kind::Prio(p) => Some(&p.filters),
            Kind::FqCodel(f) => Some(&f.filters),
            _ => None,
        })
    };
    (found, if t.parent == 0 { root.handle } else { t.parent })
}

#[doc(alias = "tc_dump_tfilter")]
fn filters(net: &Net, d: &NetDevice, t: &TcMsg, asker: Asker) -> Vec<Vec<u8>> {
    let (found, parent) = place(d, t);
    found.into_iter().flat_map(|f| &f.protos).flat_map(|p| protos(net, d, parent, p, asker)).collect()
}

/// The one with a number.
#[doc(alias = "tc_get_tfilter")]
fn one_filter(
    net: &Net,
    d: &NetDevice,
    t: &TcMsg,
    kind: Option<&str>,
    asker: Asker,
) -> Result<Vec<u8>, super::TcError> {
    let (prio, protocol) = (t.info >> 16, u16::from_be(t.info as u16));
    if prio == 0 {
        return Err(super::TcError::of(Errno::ENOENT, "Invalid filter command with priority of zero"));
    }
    let (found, parent) = place(d, t);
    let found = found.ok_or(super::TcError::of(Errno::EINVAL, "Parent Qdisc doesn't exists"))?;
    let p = &found.protos[found.find(prio, protocol, kind)?];
    match p.rules.iter().find(|r| r.handle == t.handle) {
        Some(r) => Ok(of_rule(net, d, parent, p, (r, 0), asker)),
        None if matches!(p.kind, cls::Kind::U32(table) if table == t.handle) => {
            Ok(table(d, parent, p, (t.handle, 0), asker))
        }
        None => Err(super::TcError::of(Errno::ENOENT, "Specified filter handle not found")),
    }
}

/// A priority: itself, its hash table if it is u32, its rules.
fn protos(net: &Net, d: &NetDevice, parent: u32, p: &cls::Proto, asker: Asker) -> Vec<Vec<u8>> {
    let mut out = vec![filter(d, parent, p, asker, (0, NLM_F_MULTI), |_| {})];
    if let cls::Kind::U32(number) = p.kind {
        out.push(table(d, parent, p, (number, NLM_F_MULTI), asker));
    }
    out.extend(p.rules.iter().map(|r| of_rule(net, d, parent, p, (r, NLM_F_MULTI), asker)));
    out
}

/// A hash table of u32.
fn table(d: &NetDevice, parent: u32, p: &cls::Proto, (number, flags): (u32, u16), asker: Asker) -> Vec<u8> {
    filter(d, parent, p, asker, (number, flags), |m| {
        m.nest(TCA_OPTIONS, |m| _ = m.attr_u32(TCA_U32_DIVISOR, 1));
    })
}

fn of_rule(
    net: &Net,
    d: &NetDevice,
    parent: u32,
    p: &cls::Proto,
    (r, flags): (&cls::Rule, u16),
    asker: Asker,
) -> Vec<u8> {
    filter(d, parent, p, asker, (r.handle, flags), |m| {
        m.nest(TCA_OPTIONS, |m| rule(net, m, p.kind, r));
        if let [id] = r.acts[..]
            && r.old_police
        {
            act_dump::compat_stats(net, id, m);
        }
    })
}

/// One of them, with what `fill` says.
fn filter(
    d: &NetDevice,
    parent: u32,
    p: &cls::Proto,
    asker: Asker,
    (handle, flags): (u32, u16),
    fill: impl FnOnce(&mut Msg<'_>),
) -> Vec<u8> {
    let mut one = Vec::new();
    let info = u32::from(p.prio) << 16 | u32::from(p.protocol.to_be());
    let t = TcMsg { ifindex: d.ifindex, handle, parent, info };
    let mut m = head(&mut one, RTM_NEWTFILTER, flags, asker, t);
    m.attr_str(TCA_KIND, p.kind.name()).attr_u32(TCA_CHAIN, 0);
    fill(&mut m);
    one
}

#[doc(alias = "u32_dump")]
fn rule(net: &Net, m: &mut Msg<'_>, kind: cls::Kind, r: &cls::Rule) {
    match kind {
        cls::Kind::Matchall => {
            if r.classid != 0 {
                m.attr_u32(TCA_MATCHALL_CLASSID, r.classid);
            }
            m.attr_u32(TCA_MATCHALL_FLAGS, r.flags | TCA_CLS_FLAGS_NOT_IN_HW)
                .attr(TCA_MATCHALL_PCNT, &r.hits.to_ne_bytes());
            act_dump::of_rule(net, r, TCA_MATCHALL_ACT, 0, m);
        }
        cls::Kind::Fw => {
            if r.classid != 0 {
                m.attr_u32(TCA_FW_CLASSID, r.classid);
            }
            if r.mask != u32::MAX {
                m.attr_u32(TCA_FW_MASK, r.mask);
            }
            act_dump::of_rule(net, r, TCA_FW_ACT, TCA_FW_POLICE, m);
        }
        cls::Kind::U32(table) => {
            let mut sel = vec![u8::from(r.terminal) * TC_U32_TERMINAL, 0, r.keys.len() as u8, 0];
            sel.resize(16, 0);
            for k in &r.keys {
                sel.extend_from_slice(&k.mask);
                sel.extend_from_slice(&k.val);
                sel.extend_from_slice(&k.off.to_ne_bytes());
                sel.extend_from_slice(&k.offmask.to_ne_bytes());
            }
            m.attr(TCA_U32_SEL, &sel).attr_u32(TCA_U32_HASH, table);
            if r.classid != 0 {
                m.attr_u32(TCA_U32_CLASSID, r.classid);
            }
            m.attr_u32(TCA_U32_FLAGS, r.flags | TCA_CLS_FLAGS_NOT_IN_HW);
            act_dump::of_rule(net, r, TCA_U32_ACT, TCA_U32_POLICE, m);
        }
    }
}
