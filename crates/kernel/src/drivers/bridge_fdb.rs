//! The table of a bridge: where hardware addresses are.
use super::bridge::Bridge;
use crate::env::Jiffies;
use crate::ids::DevId;
use crate::net::Net;
use crate::net::netlink::notify;
use belljar_abi::rtnetlink::{NTF_EXT_LEARNED, NTF_STICKY, RTM_DELNEIGH, RTM_NEWNEIGH};
use belljar_wire::Mac;

/// Addresses that are learned from frames: who sends from more of them gets no more memory for it.
const MOST_LEARNED: usize = 16_384;

/// An address in a VLAN, 0 where VLANs do not matter.
pub type FdbKey = (Mac, u16);

/// Where a hardware address is (`struct net_bridge_fdb_entry`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    /// `None`: the bridge itself.
    pub port: Option<DevId>,
    pub kind: FdbKind,
    pub updated: Jiffies,
    pub used: Jiffies,
    pub made: u64,
    /// NTF_STICKY: frames do not move it. NTF_EXT_LEARNED: somebody else looks after it, it has no age.
    pub flags: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdbKind {
    Learned,
    /// By the administrator, without age.
    Static,
    /// An address of this machine: of the bridge or of a port.
    Local,
}

impl FdbEntry {
    fn ages(&self) -> bool {
        self.kind == FdbKind::Learned && self.flags & NTF_EXT_LEARNED == 0
    }
}

/// An address of the bridge or of a port. Of several that have the same the first stands there.
#[doc(alias = "fdb_add_local")]
pub(super) fn fdb_local(net: &mut Net, br: DevId, key: FdbKey, port: Option<DevId>) {
    let now = net.env.jiffies();
    let known = net.bridge(br).and_then(|b| b.fdb.get(&key));
    if key.0.is_zero() || known.is_some_and(|e| e.kind == FdbKind::Local) {
        return;
    }
    insert(net, br, key, FdbEntry { port, kind: FdbKind::Local, updated: now, used: now, made: 0, flags: 0 });
}

/// Into the table, over what was there.
pub fn insert(net: &mut Net, br: DevId, key: FdbKey, e: FdbEntry) {
    let Some(b) = net.bridge_mut(br) else { return };
    b.made += 1;
    let e = FdbEntry { made: b.fdb.get(&key).map_or(b.made, |old| old.made), ..e };
    let old = b.fdb.insert(key, e);
    b.learned += usize::from(e.kind == FdbKind::Learned);
    b.learned -= usize::from(old.is_some_and(|o| o.kind == FdbKind::Learned));
    notify::fdb(net, RTM_NEWNEIGH, br, key, &e);
}

/// Out of the table, what `which` names.
pub fn forget(net: &mut Net, br: DevId, which: impl Fn(&FdbKey, &FdbEntry) -> bool) -> usize {
    let Some(b) = net.bridge_mut(br) else { return 0 };
    let gone: Vec<(FdbKey, FdbEntry)> = b.fdb.iter().filter(|(m, e)| which(m, e)).map(|(m, e)| (*m, *e)).collect();
    for (key, e) in &gone {
        if let Some(b) = net.bridge_mut(br) {
            b.fdb.remove(key);
            b.learned -= usize::from(e.kind == FdbKind::Learned);
        }
        notify::fdb(net, RTM_DELNEIGH, br, *key, e);
    }
    gone.len()
}

/// Addresses of this machine that stand there as a port's, or as the bridge's own, and that `which` names, do so no more:
/// another one that has the same takes the place.
#[doc(alias = "fdb_delete_local")]
pub(super) fn forget_local(net: &mut Net, br: DevId, port: Option<DevId>, which: impl Fn(&FdbKey) -> bool) {
    let Some(b) = net.bridge(br) else { return };
    let own =
        |(key, e): (&FdbKey, &FdbEntry)| (e.kind == FdbKind::Local && e.port == port && which(key)).then_some(*key);
    let keys: Vec<FdbKey> = b.fdb.iter().filter_map(own).collect();
    for key in keys {
        let Some(b) = net.bridge(br) else { return };
        let has = |p: Option<DevId>| {
            let in_vlan = key.1 == 0 || b.vlans.group(p).is_some_and(|g| g.vlans.contains_key(&key.1));
            in_vlan && net.devs.get(p.unwrap_or(br)).is_some_and(|d| d.mac == key.0)
        };
        let others = b.ports.iter().map(|p| Some(*p)).chain(port.is_some().then_some(None));
        match others.into_iter().find(|p| *p != port && has(*p)) {
            Some(to) => {
                if let Some(e) = net.bridge_mut(br).and_then(|b| b.fdb.get_mut(&key)) {
                    e.port = to;
                }
            }
            None => drop(forget(net, br, |k, _| *k == key)),
        }
    }
}

/// What the table knows of an address.
pub fn entry(net: &Net, br: DevId, key: FdbKey) -> Option<FdbEntry> {
    net.bridge(br)?.fdb.get(&key).copied().filter(|e| !expired(net, br, e))
}

/// The table, by address, without what is too old.
pub fn entries(net: &Net, br: DevId) -> impl Iterator<Item = (FdbKey, FdbEntry)> + '_ {
    let all = net.bridge(br).into_iter().flat_map(|b| b.fdb.iter());
    all.map(|(m, e)| (*m, *e)).filter(move |(_, e)| !expired(net, br, e))
}

fn ticks(net: &Net, hundredths: u32) -> Jiffies {
    (u64::from(hundredths) * u64::from(net.env.hz) / 100) as Jiffies
}

/// How long an address is remembered: shorter while the tree changes.
fn hold_time(net: &Net, b: &Bridge) -> Jiffies {
    if b.stp.topology_change { b.stp.times.forward_delay } else { ticks(net, b.ageing_time) }
}

fn expired(net: &Net, br: DevId, e: &FdbEntry) -> bool {
    let Some(b) = net.bridge(br) else { return true };
    e.ages() && net.env.jiffies().wrapping_sub(e.updated) >= hold_time(net, b)
}

/// What was not heard of for the ageing time goes.
#[doc(alias = "br_fdb_cleanup")]
pub fn sweep(net: &mut Net, br: DevId) {
    let now = net.env.jiffies();
    let Some(age) = net.bridge(br).map(|b| hold_time(net, b)) else { return };
    forget(net, br, |_, e| e.ages() && now.wrapping_sub(e.updated) >= age);
    if let Some(b) = net.bridge_mut(br) {
        b.swept = now;
    }
}

/// The sender of a frame is where the frame came from; an address of this machine is believed of nobody else.
#[doc(alias = "br_fdb_update")]
pub(crate) fn learn(net: &mut Net, br: DevId, from: DevId, key: FdbKey) {
    let now = net.env.jiffies();
    let Some(b) = net.bridge_mut(br) else { return };
    if b.ageing_time == 0 {
        return;
    }
    if let Some(e) = b.fdb.get_mut(&key) {
        match e.kind {
            FdbKind::Local => return,
            FdbKind::Static if e.port == Some(from) => return,
            _ => {}
        }
        e.updated = now;
        if e.port != Some(from) && e.flags & NTF_STICKY == 0 {
            e.port = Some(from);
            e.flags &= !NTF_EXT_LEARNED;
            let e = *e;
            notify::fdb(net, RTM_NEWNEIGH, br, key, &e);
        }
        return;
    }
    let (old, full) = (now.wrapping_sub(b.swept), b.learned >= MOST_LEARNED);
    if full || old >= ticks(net, net.bridge(br).map_or(0, |b| b.ageing_time)) {
        sweep(net, br);
    }
    if net.bridge(br).is_some_and(|b| b.learned < MOST_LEARNED) {
        insert(
            net,
            br,
            key,
            FdbEntry { port: Some(from), kind: FdbKind::Learned, updated: now, used: now, made: 0, flags: 0 },
        );
    }
}

/// Where frames to this address go.
pub(super) enum Way {
    /// Up to this machine.
    Here,
    Port(DevId),
    /// Nobody knows: everywhere.
    Flood,
}

pub(super) fn lookup(net: &mut Net, br: DevId, to: FdbKey) -> Way {
    let now = net.env.jiffies();
    let e = net.bridge(br).and_then(|b| b.fdb.get(&to)).copied().filter(|e| !expired(net, br, e));
    match e {
        Some(FdbEntry { kind: FdbKind::Local, .. } | FdbEntry { port: None, .. }) => Way::Here,
        Some(FdbEntry { port: Some(p), .. }) => {
            if let Some(e) = net.bridge_mut(br).and_then(|b| b.fdb.get_mut(&to)) {
                e.used = now;
            }
            Way::Port(p)
        }
        None => Way::Flood,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::bridge;
    use crate::kernel::Kernel;

    fn mac(n: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, n])
    }

    /// As measured on Linux 6.18.
    #[test]
    fn of_several_with_one_address_the_first_stands_in_the_table() {
        let mut k = Kernel::new(1);
        let ns = k.net.add_ns("t");
        let (_, p) = k.net.add_veth((ns, "v0"), (ns, "v1")).unwrap();
        let (_, q) = k.net.add_veth((ns, "v2"), (ns, "v3")).unwrap();
        let br = k.net.add_bridge(ns, "br0").unwrap();
        for (dev, n) in [(p, 0xa1), (q, 0xa3)] {
            k.net.set_mac(dev, mac(n)).unwrap();
        }
        let table = |k: &Kernel| -> Vec<(u8, Option<DevId>)> {
            let local = entries(&k.net, br).filter(|(key, e)| key.1 == 0 && e.kind == FdbKind::Local);
            local.map(|(key, e)| (key.0.0[5], e.port)).collect()
        };
        bridge::enslave(&mut k.net, br, p).unwrap();
        assert_eq!(table(&k), [(0xa1, Some(p))]);
        bridge::enslave(&mut k.net, br, q).unwrap();
        let both = [(0xa1, Some(p)), (0xa3, Some(q))];
        assert_eq!(table(&k), both);
        k.net.set_mac(br, mac(0xa3)).unwrap();
        k.net.bridge_mut(br).unwrap().mac_set = true;
        assert_eq!(table(&k), both, "the bridge has a port's address");
        k.net.set_mac(br, mac(0xb0)).unwrap();
        assert_eq!(table(&k), [both[0], both[1], (0xb0, None)]);
        k.net.set_mac(br, mac(0xa3)).unwrap();
        bridge::release(&mut k.net, q);
        assert_eq!(table(&k), [both[0], (0xa3, None)], "the port with the bridge's address left");
        k.net.set_mac(p, mac(0xa3)).unwrap();
        bridge::enslave(&mut k.net, br, q).unwrap();
        bridge::release(&mut k.net, p);
        assert_eq!(table(&k), [(0xa3, None)]);
    }
}
