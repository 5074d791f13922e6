//! ethtool's requests (SIOCETHTOOL): a command and its bytes in, bytes out. What the card has not got is EOPNOTSUPP.
use super::{MAX_RING, Nic, channels, dim, stats, tx};
use crate::ids::DevId;
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::dev::{DevKind, NetDevice};
use crate::net::core::features;
use belljar_abi::Errno;
use belljar_abi::ethtool::*;

/// Words of 32 features.
const BLOCKS: usize = 2;
/// 32-bit words of a link mode mask.
const LINK_MODE_WORDS: i8 = 4;

/// Bytes of a request that are read; the rest of what it points at is room for the answer.
pub fn request_len(cmd: u32) -> usize {
    match cmd {
        ETHTOOL_SCOALESCE => 92,
        ETHTOOL_SRINGPARAM | ETHTOOL_SCHANNELS => 36,
        ETHTOOL_GLINKSETTINGS => 48,
        ETHTOOL_GSSET_INFO => 16,
        ETHTOOL_GSTRINGS => 12,
        // As much again as these ask for: [`whole_len`].
        ETHTOOL_GRSSH | ETHTOOL_SRSSH => channels::RXFH_LEN,
        ETHTOOL_SFEATURES => 8 + BLOCKS * 8,
        _ => 8,
    }
}

/// Bytes of the whole request, when its beginning says how long it is.
pub fn whole_len(head: &[u8]) -> usize {
    match word(head, 0) {
        ETHTOOL_SRSSH => channels::rxfh_len(head),
        cmd => request_len(cmd),
    }
}

pub(super) fn word(request: &[u8], at: usize) -> u32 {
    request.get(at * 4..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b))
}

pub(super) fn words(all: &[u32]) -> Vec<u8> {
    all.iter().flat_map(|w| w.to_ne_bytes()).collect()
}

fn text<const N: usize>(s: &str) -> [u8; N] {
    let mut out = [0; N];
    out.iter_mut().take(N - 1).zip(s.bytes()).for_each(|(o, b)| *o = b);
    out
}

impl Kernel {
    /// Carries out the request whose first [`whole_len`] bytes are given; returns the value of ioctl(2) and what is written
    /// over the request. The caller has looked whether the process may ([`ETHTOOL_READS`]).
    #[doc(alias = "dev_ethtool")]
    pub fn ethtool(&mut self, dev: DevId, request: &[u8]) -> Result<(i64, Vec<u8>), Errno> {
        let d = self.net.devs.get(dev).ok_or(Errno::ENODEV)?;
        let cmd = word(request, 0);
        let Some(nic) = d.nic() else { return virtual_device(&self.net, d, request).map(|r| (0, r)) };
        let reply = match cmd {
            ETHTOOL_GDRVINFO => drvinfo(["belljar", env!("CARGO_PKG_VERSION"), "", ""], stats::len(nic) as u32),
            ETHTOOL_GLINKSETTINGS => link_settings(nic, request),
            ETHTOOL_GSSET_INFO => sset_info(|s| set(nic, s), request),
            ETHTOOL_GSTRINGS => strings(word(request, 1), set(nic, word(request, 1)))?,
            ETHTOOL_GSTATS => {
                let values = stats::values(d, nic).into_iter().flat_map(u64::to_ne_bytes);
                words(&[cmd, stats::len(nic) as u32]).into_iter().chain(values).collect()
            }
            ETHTOOL_GRINGPARAM => {
                let (rx, tx) = nic.ring_sizes();
                words(&[cmd, MAX_RING, 0, 0, MAX_RING, rx, 0, 0, tx])
            }
            ETHTOOL_SRINGPARAM => return set_rings(&mut self.net, dev, request).map(|()| (0, Vec::new())),
            ETHTOOL_GCOALESCE => {
                let mut all = [0; 23];
                let irq = nic.queues.first().map(|q| &q.irq);
                [all[0], all[1], all[2]] = [cmd, irq.map_or(0, |i| i.rx_usecs), irq.map_or(0, |i| i.rx_frames)];
                all[USE_ADAPTIVE_RX] = irq.is_some_and(|i| i.dim.is_some()).into();
                words(&all)
            }
            ETHTOOL_SCOALESCE => return set_coalesce(&mut self.net, dev, request).map(|()| (0, Vec::new())),
            ETHTOOL_GCHANNELS => channels::get(nic),
            ETHTOOL_SCHANNELS => return channels::set(&mut self.net, dev, request).map(|()| (0, Vec::new())),
            ETHTOOL_GRXRINGS => words(&[cmd, 0, nic.active as u32, 0]),
            ETHTOOL_GRSSH => channels::get_rxfh(nic, request)?,
            ETHTOOL_SRSSH => {
                let nic = self.net.devs.get_mut(dev).and_then(|d| d.nic_mut()).ok_or(Errno::EOPNOTSUPP)?;
                return channels::set_rxfh(nic, request).map(|()| (0, Vec::new()));
            }
            ETHTOOL_GFEATURES => get_features(d, word(request, 1)),
            ETHTOOL_SFEATURES => return set_features(&mut self.net, dev, request).map(|r| (r, Vec::new())),
            ETHTOOL_GRXCSUM => words(&[cmd, d.features.rx_csum.into()]),
            ETHTOOL_GTXCSUM => words(&[cmd, d.features.tx_csum.into()]),
            ETHTOOL_GSG => words(&[cmd, d.features.sg.into()]),
            ETHTOOL_GGSO => words(&[cmd, d.features.gso.into()]),
            ETHTOOL_GTSO => words(&[cmd, (d.features.tso || d.features.tso6).into()]),
            ETHTOOL_GGRO => words(&[cmd, d.features.gro.into()]),
            ETHTOOL_GUFO | ETHTOOL_GFLAGS => words(&[cmd, 0]),
            ETHTOOL_GPERMADDR => {
                let room = word(request, 1);
                if room < 6 {
                    // ETOOSMALL, a number of the kernel's own.
                    return Err(Errno(525));
                }
                [&words(&[cmd, 6])[..], &d.mac.0].concat()
            }
            _ => simple(d, request)?,
        };
        Ok((0, reply))
    }
}

/// What every device answers.
fn simple(d: &NetDevice, request: &[u8]) -> Result<Vec<u8>, Errno> {
    match word(request, 0) {
        cmd @ ETHTOOL_GLINK => Ok(words(&[cmd, (d.up && d.carrier).into()])),
        // Transmission and reception in software; no clock of its own.
        cmd @ ETHTOOL_GET_TS_INFO => {
            const SOFTWARE: u32 = 1 << 1 | 1 << 3 | 1 << 4;
            Ok(words(&[cmd, SOFTWARE, u32::MAX, 0, 0, 0, 0, 0, 0, 0, 0]))
        }
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// What a veth pair counts for ethtool: its other end, and what XDP did, which is nothing.
const VETH_STATS: [&str; 10] = [
    "peer_ifindex",
    "rx_queue_0_xdp_packets",
    "rx_queue_0_xdp_bytes",
    "rx_queue_0_drops",
    "rx_queue_0_xdp_redirect",
    "rx_queue_0_xdp_drops",
    "rx_queue_0_xdp_tx",
    "rx_queue_0_xdp_tx_errors",
    "tx_queue_0_xdp_xmit",
    "tx_queue_0_xdp_xmit_errors",
];

/// What devices without rings say of their driver and count.
fn virtual_device(net: &Net, d: &NetDevice, request: &[u8]) -> Result<Vec<u8>, Errno> {
    let cmd = word(request, 0);
    let veth = matches!(d.kind, DevKind::Veth(_));
    let strings_of = |which: u32| -> Option<Vec<String>> {
        (veth && which == ETH_SS_STATS).then(|| VETH_STATS.map(str::to_owned).to_vec())
    };
    match (cmd, &d.kind) {
        (ETHTOOL_GDRVINFO, DevKind::Veth(_)) => Ok(drvinfo(["veth", "1.0", "", ""], VETH_STATS.len() as u32)),
        (ETHTOOL_GDRVINFO, DevKind::Bridge(_)) => Ok(drvinfo(["bridge", "2.3", "N/A", "N/A"], 0)),
        (ETHTOOL_GSSET_INFO, DevKind::Veth(_)) => Ok(sset_info(strings_of, request)),
        // Who has no strings at all says so.
        (ETHTOOL_GSSET_INFO, _) => Ok(sset_info(|_| None, request)),
        (ETHTOOL_GSTRINGS, DevKind::Veth(_)) => strings(word(request, 1), strings_of(word(request, 1))),
        (ETHTOOL_GSTATS, DevKind::Veth(_)) => {
            let mut values = [0u64; VETH_STATS.len()];
            values[0] = d.iflink().and_then(|p| net.devs.get(p)).map_or(0, |p| p.ifindex.into());
            let head = words(&[cmd, VETH_STATS.len() as u32]);
            Ok(head.into_iter().chain(values.into_iter().flat_map(u64::to_ne_bytes)).collect())
        }
        _ => simple(d, request),
    }
}

/// `struct ethtool_drvinfo`: driver, version, firmware, bus.
fn drvinfo([driver, version, firmware, bus]: [&str; 4], n_stats: u32) -> Vec<u8> {
    let mut out = words(&[ETHTOOL_GDRVINFO]);
    out.extend(text::<32>(driver));
    out.extend(text::<32>(version));
    out.extend(text::<32>(firmware));
    out.extend(text::<32>(bus));
    // Boot ROM, and what is reserved.
    out.extend([0; 32 + 12]);
    out.extend(words(&[0, n_stats, 0, 0, 0]));
    out
}

/// `struct ethtool_link_settings`. Who does not know how long the masks are is told; a card without a speed has no duplex.
fn link_settings(nic: &Nic, request: &[u8]) -> Vec<u8> {
    const WORDS_AT: usize = 15;
    let mut out = vec![0; 48];
    let mut put = |at: usize, bytes: &[u8]| out.iter_mut().skip(at).zip(bytes).for_each(|(o, b)| *o = *b);
    put(0, &ETHTOOL_GLINKSETTINGS.to_ne_bytes());
    if request.get(WORDS_AT) != Some(&(LINK_MODE_WORDS as u8)) {
        put(WORDS_AT, &(-LINK_MODE_WORDS).to_ne_bytes());
        return out;
    }
    let (speed, duplex) = nic.link();
    put(4, &speed.to_ne_bytes());
    put(8, &[duplex, PORT_OTHER]);
    put(WORDS_AT, &[LINK_MODE_WORDS as u8]);
    // Supported, advertised, of the partner: no modes.
    out.resize(48 + 3 * 4 * LINK_MODE_WORDS as usize, 0);
    out
}

/// Lengths of the string sets that were asked for.
fn sset_info(set: impl Fn(u32) -> Option<Vec<String>>, request: &[u8]) -> Vec<u8> {
    let asked = word(request, 2);
    let known: Vec<_> = (0..32).filter(|set| asked & 1 << set != 0).filter_map(|s| Some((s, set(s)?))).collect();
    let mask = known.iter().fold(0, |m, (set, _)| m | 1 << set);
    let lengths: Vec<u32> = known.iter().map(|k| k.1.len() as u32).collect();
    [words(&[ETHTOOL_GSSET_INFO, 0, mask, 0]), words(&lengths)].concat()
}

/// A set of strings.
fn set(nic: &Nic, set: u32) -> Option<Vec<String>> {
    let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    Some(match set {
        ETH_SS_STATS => stats::names(nic),
        ETH_SS_FEATURES => own(&FEATURES),
        ETH_SS_RSS_HASH_FUNCS => own(&["toeplitz", "xor", "crc32"]),
        _ => return None,
    })
}

fn strings(which: u32, names: Option<Vec<String>>) -> Result<Vec<u8>, Errno> {
    let names = names.ok_or(Errno::EOPNOTSUPP)?;
    let mut out = words(&[ETHTOOL_GSTRINGS, which, names.len() as u32]);
    names.iter().for_each(|n| out.extend(text::<ETH_GSTRING_LEN>(n)));
    Ok(out)
}

/// Available, wanted, in effect and never changed, in words of 32 features.
fn get_features(d: &NetDevice, room: u32) -> Vec<u8> {
    let f = features::show(d);
    let mut out = words(&[ETHTOOL_GFEATURES, BLOCKS as u32]);
    for block in 0..(room as usize).min(BLOCKS) {
        out.extend(words(&[f.hw, f.wanted, f.active, f.nochange].map(|bits| (bits >> (32 * block)) as u32)));
    }
    out
}

#[doc(alias = "ethtool_set_features")]
fn set_features(net: &mut Net, dev: DevId, request: &[u8]) -> Result<i64, Errno> {
    if word(request, 1) as usize != BLOCKS {
        return Err(Errno::EINVAL);
    }
    let wide = |column: usize| u64::from(word(request, 2 + column)) | u64::from(word(request, 4 + column)) << 32;
    let (valid, value) = (wide(0), wide(1));
    if (0..BLOCKS * 32).filter(|n| valid >> n & 1 != 0).any(|n| FEATURES.get(n).is_none_or(|f| f.is_empty())) {
        return Err(Errno::EINVAL);
    }
    let hw = features::show(net.devs.get(dev).ok_or(Errno::ENODEV)?).hw;
    features::set(net, dev, value, valid);
    let active = features::show(net.devs.get(dev).ok_or(Errno::ENODEV)?).active;
    let unsupported = if valid & !hw != 0 { ETHTOOL_F_UNSUPPORTED } else { 0 };
    let wish = if (active ^ value) & valid & hw != 0 { ETHTOOL_F_WISH } else { 0 };
    Ok(unsupported | wish)
}

/// Rings of new sizes, in which everything of the old ones is, in order.
#[doc(alias = "ethtool_set_ringparam")]
fn set_rings(net: &mut Net, dev: DevId, request: &[u8]) -> Result<(), Errno> {
    let [rx, mini, jumbo, tx] = [5, 6, 7, 8].map(|at| word(request, at));
    if mini != 0 || jumbo != 0 || !super::fits(rx) || !super::fits(tx) {
        return Err(Errno::EINVAL);
    }
    for queue in 0..net.devs.get(dev).map_or(0, |d| d.num_tx_queues()) {
        tx::clean(net, dev, queue);
        let q = net.nic_queue(dev, queue).ok_or(Errno::EOPNOTSUPP)?;
        if !q.tx.resize(tx) {
            return Err(Errno::EBUSY);
        }
        let lost = q.rx.resize(rx);
        q.rx.full += lost.len() as u64;
        for frame in lost {
            super::rx::drop_full(net, dev, frame);
        }
    }
    Ok(())
}

/// Where `struct ethtool_coalesce` says that the times of reception are adaptive.
const USE_ADAPTIVE_RX: usize = 10;

/// `struct ethtool_coalesce`: times and frames of reception, adaptive or not; everything else has to stay nought. What is
/// adaptive cannot be set (EINVAL); what was set before it was adaptive comes back.
#[doc(alias = "ethtool_set_coalesce")]
fn set_coalesce(net: &mut Net, dev: DevId, request: &[u8]) -> Result<(), Errno> {
    if (3..23).any(|at| at != USE_ADAPTIVE_RX && word(request, at) != 0) {
        return Err(Errno::EOPNOTSUPP);
    }
    let nic = net.devs.get_mut(dev).and_then(|d| d.nic_mut()).ok_or(Errno::EOPNOTSUPP)?;
    let mut wanted = (word(request, 1), word(request, 2));
    let adaptive = word(request, USE_ADAPTIVE_RX) != 0;
    let first = nic.queues.first().map(|q| &q.irq).ok_or(Errno::EOPNOTSUPP)?;
    let (was, shown) = (first.dim.is_some(), (first.rx_usecs, first.rx_frames));
    match (was, adaptive) {
        (_, true) if wanted != shown => return Err(Errno::EINVAL),
        (true, true) => return Ok(()),
        (false, true) => {
            nic.coalesce = shown;
            nic.queues.iter_mut().for_each(dim::start);
        }
        (_, false) => {
            if was && wanted == shown {
                wanted = nic.coalesce;
            }
            for irq in nic.queues.iter_mut().map(|q| &mut q.irq) {
                (irq.rx_usecs, irq.rx_frames, irq.dim) = (wanted.0, wanted.1, None);
            }
        }
    }
    // What waits by the old times need not wait any more.
    super::irq::coalesce_now(net, dev);
    Ok(())
}
