//! Channels and how flows are spread over them: `ethtool -l`, `-L`, `-x`, `-X`.
use super::ethtool::{word, words};
use super::rss::{INDIR_LEN, KEY_LEN};
use super::{Nic, Rss, irq, tx};
use crate::ids::DevId;
use crate::net::Net;
use crate::net::drop::DropReason;
use belljar_abi::Errno;
use belljar_abi::ethtool::*;

/// `struct ethtool_rxfh` before the table and the key.
pub const RXFH_LEN: usize = 24;

/// `struct ethtool_channels`: channels that serve both ways are all there are.
pub(super) fn get(nic: &Nic) -> Vec<u8> {
    words(&[ETHTOOL_GCHANNELS, 0, 0, 0, nic.queues.len() as u32, 0, 0, 0, nic.active as u32])
}

/// Another number of channels in use. Rings that fall out of use are emptied by their NAPI as ever; what waits in the
/// disciplines of their transmit queues goes (`qdisc_reset_all_tx_gt`).
#[doc(alias = "ethtool_set_channels")]
pub(super) fn set(net: &mut Net, dev: DevId, request: &[u8]) -> Result<(), Errno> {
    let [rx, tx_only, other, combined] = [5, 6, 7, 8].map(|at| word(request, at));
    let cpus = net.cpus.len();
    let d = net.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
    let nic = d.nic_mut().ok_or(Errno::EOPNOTSUPP)?;
    let n = combined as usize;
    if rx != 0 || tx_only != 0 || other != 0 || !(1..=nic.queues.len()).contains(&n) {
        return Err(Errno::EINVAL);
    }
    if nic.rss.configured && nic.rss.indir.iter().any(|q| usize::from(*q) >= n) {
        // The table names a queue that would be gone.
        return Err(Errno::EINVAL);
    }
    nic.active = n;
    if !nic.rss.configured {
        nic.rss.spread(n);
    }
    spread_xps(nic, cpus);
    d.tx_queues = n as u16;
    for skb in d.qdisc.reset_beyond(n) {
        net.kfree_skb(skb, DropReason::QdiscDrop, "qdisc_reset_all_tx_gt");
    }
    for queue in 0..net.devs.get(dev).map_or(0, |d| d.num_tx_queues()) {
        tx::clean(net, dev, queue);
    }
    // What waits by its coalescing times in a ring that gets nothing more need not wait.
    irq::coalesce_now(net, dev);
    Ok(())
}

/// The CPUs, divided among the queues in use: what they send goes out by theirs (`virtnet_set_affinity`).
pub(super) fn spread_xps(nic: &mut Nic, cpus: usize) {
    let (n, cpus) = (nic.active, cpus.clamp(1, 64));
    let (stride, more) = ((cpus / n.max(1)).max(1), if cpus >= n { cpus % n.max(1) } else { 0 });
    let mut cpu = 0;
    for (i, q) in nic.queues.iter_mut().enumerate() {
        q.tx.xps_cpus = 0;
        if i >= n || n == 1 {
            continue;
        }
        for _ in 0..stride + usize::from(i < more) {
            q.tx.xps_cpus |= 1 << cpu;
            cpu = (cpu + 1) % cpus;
        }
    }
}

/// `struct ethtool_rxfh`, asked for with the room that there is for table and key: none, or theirs.
#[doc(alias = "ethtool_get_rxfh")]
pub(super) fn get_rxfh(nic: &Nic, request: &[u8]) -> Result<Vec<u8>, Errno> {
    let (context, indir, key) = (word(request, 1), word(request, 2) as usize, word(request, 3) as usize);
    if context != 0 || indir != 0 && indir != INDIR_LEN || key != 0 && key != KEY_LEN {
        return Err(if context != 0 { Errno::EOPNOTSUPP } else { Errno::EINVAL });
    }
    let mut out = words(&[ETHTOOL_GRSSH, 0, INDIR_LEN as u32, KEY_LEN as u32, ETH_RSS_HASH_TOP, 0]);
    if indir != 0 {
        let table: Vec<u32> = nic.rss.indir.iter().map(|q| u32::from(*q)).collect();
        out.extend(words(&table));
    }
    if key != 0 {
        out.extend(nic.rss.key);
    }
    Ok(out)
}

/// The whole of a request of which the beginning is given.
pub fn rxfh_len(head: &[u8]) -> usize {
    let indir = match word(head, 2) {
        ETH_RXFH_INDIR_NO_CHANGE => 0,
        n => n as usize,
    };
    RXFH_LEN + indir.min(INDIR_LEN) * 4 + (word(head, 3) as usize).min(KEY_LEN)
}

/// A table, a key, or both; a table without entries is the default one.
#[doc(alias = "ethtool_set_rxfh")]
pub(super) fn set_rxfh(nic: &mut Nic, request: &[u8]) -> Result<(), Errno> {
    let (context, indir, key, hfunc) = (word(request, 1), word(request, 2), word(request, 3), word(request, 4) & 0xff);
    let (keeps, entries) = (indir == ETH_RXFH_INDIR_NO_CHANGE, indir as usize);
    if context != 0 || hfunc & !ETH_RSS_HASH_TOP != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let sizes = (keeps || entries == 0 || entries == INDIR_LEN) && (key == 0 || key as usize == KEY_LEN);
    if !sizes || keeps && key == 0 && hfunc == 0 {
        return Err(Errno::EINVAL);
    }
    let mut next: Rss = nic.rss.clone();
    let mut at = RXFH_LEN;
    if !keeps && entries == 0 {
        next.spread(nic.active);
    } else if !keeps {
        for (n, e) in next.indir.iter_mut().enumerate() {
            *e = u8::try_from(word(request, RXFH_LEN / 4 + n)).map_err(|_| Errno::EINVAL)?;
        }
        if next.indir.iter().any(|q| usize::from(*q) >= nic.active) {
            return Err(Errno::EINVAL);
        }
        next.configured = true;
        at += INDIR_LEN * 4;
    }
    if key != 0 {
        next.key = *request.get(at..).and_then(|b| b.first_chunk()).ok_or(Errno::EINVAL)?;
    }
    nic.rss = next;
    Ok(())
}
