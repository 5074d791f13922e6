//! What devices take over from the stack, bit by bit (`netdev_features_t`, `ethtool -k`): what can be switched on a card, a
//! VLAN, a veth and on lo, what needs what, and which of it the stack acts on. Veth and lo as Linux 6.18 showed them; VLANs
//! and cards after its sources, there was no kernel with either to measure.
//!
//! Some bits are about packets that nothing here makes (SCTP, super-segments within tunnels, lists of segments) or about
//! memory that this stack does not know (highdma, nocache-copy): they are kept. Left out, and fixed here: lists of GRO and
//! GRO of datagrams that are forwarded (rx-gro-list, rx-udp-gro-forwarding).
use crate::drivers::nic::How;
use crate::drivers::veth_rx;
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::dev::{DevKind, NetDevice};
use belljar_wire::{Encap, Gso, GsoType};

const SG: u64 = 1;
const HW_CSUM: u64 = 1 << 3;
const HIGHDMA: u64 = 1 << 5;
const FRAGLIST: u64 = 1 << 6;
const VLAN_TX: u64 = 1 << 7;
const VLAN_RX: u64 = 1 << 8;
const VLAN_FILTER: u64 = 1 << 9;
const VLAN_CHALLENGED: u64 = 1 << 10;
const GSO: u64 = 1 << 11;
const GRO: u64 = 1 << 14;
const LRO: u64 = 1 << 15;
const TSO: u64 = 1 << 16;
const GSO_ROBUST: u64 = 1 << 17;
const TSO_ECN: u64 = 1 << 18;
const TSO_MANGLEID: u64 = 1 << 19;
const TSO6: u64 = 1 << 20;
const GRE: u64 = 1 << 22;
const GRE_CSUM: u64 = 1 << 23;
const IPXIP4: u64 = 1 << 24;
const UDP_TNL: u64 = 1 << 26;
const UDP_TNL_CSUM: u64 = 1 << 27;
const PARTIAL: u64 = 1 << 28;
/// gre, gre-csum, ipxip4, ipxip6, udp_tnl, udp_tnl-csum.
const GSO_ENCAP_ALL: u64 = 0b11_1111 << 22;
const GSO_SCTP: u64 = 1 << 30;
const GSO_UDP_L4: u64 = 1 << 33;
const GSO_FRAGLIST: u64 = 1 << 34;
const GSO_ACCECN: u64 = 1 << 35;
const SCTP_CRC: u64 = 1 << 37;
const RXHASH: u64 = 1 << 39;
const RXCSUM: u64 = 1 << 40;
const NOCACHE_COPY: u64 = 1 << 41;
const LOOPBACK: u64 = 1 << 42;
const STAG_TX: u64 = 1 << 45;
const STAG_RX: u64 = 1 << 46;
const STAG_FILTER: u64 = 1 << 47;
pub const GRO_HW: u64 = 1 << 55;
const ALL_TSO: u64 = TSO | TSO6 | TSO_ECN | TSO_MANGLEID;

/// Segmentation that is done in software where a device has none (`NETIF_F_GSO_SOFTWARE`).
const GSO_SOFTWARE: u64 = ALL_TSO | GSO_ACCECN | GSO_SCTP | GSO_UDP_L4 | GSO_FRAGLIST;
const LO_HW: u64 = GSO | GRO | GSO_SOFTWARE;
const LO_FIXED: u64 = SG | HW_CSUM | HIGHDMA | FRAGLIST | VLAN_CHALLENGED | SCTP_CRC | RXCSUM | LOOPBACK;
const VLAN: u64 = VLAN_TX | VLAN_RX | STAG_TX | STAG_RX;
const VETH_HW: u64 =
    LO_HW | SG | HW_CSUM | HIGHDMA | FRAGLIST | SCTP_CRC | RXCSUM | VLAN | GSO_ENCAP_ALL | NOCACHE_COPY;

/// What a card can do, and what it always does (the rules of mlx5 where drivers differ): it tells provider's tags apart,
/// but leaves them where they are.
const NIC_HW: u64 =
    SG | HW_CSUM | GSO | GRO | TSO | TSO_ECN | TSO6 | GSO_UDP_L4 | RXCSUM | LRO | GRO_HW | NIC_VLAN | NIC_ENCAP;
/// The sums of tunnels are the same in all pieces but the last, and made by the stack (`gso_partial_features`).
const NIC_ENCAP: u64 = GRE | GRE_CSUM | IPXIP4 | UDP_TNL | UDP_TNL_CSUM | PARTIAL;
const NIC_VLAN: u64 = VLAN_TX | VLAN_RX | VLAN_FILTER | STAG_TX;
const NIC_FIXED: u64 = HIGHDMA | GSO_ROBUST | STAG_FILTER;
/// Tunnels leave sums and pieces to the device below; what arrives they take as it is.
const TUNNEL_HW: u64 = SG | HW_CSUM | GSO | TSO | TSO_ECN | TSO6 | GSO_UDP_L4;
const VLAN_HW: u64 =
    GSO | GRO | GSO_SOFTWARE | SG | HW_CSUM | HIGHDMA | FRAGLIST | SCTP_CRC | GSO_ENCAP_ALL | NOCACHE_COPY;

/// Offloads (`ethtool -k`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// tx-scatter-gather, tx-generic-segmentation: without the former the device segments nothing; the latter is the stack's, which
    /// does not ask for it.
    pub sg: bool,
    pub gso: bool,
    /// tx-tcp-segmentation, tx-tcp6-segmentation, tx-udp-segmentation: super-segments go out whole.
    pub tso: bool,
    pub tso6: bool,
    pub uso: bool,
    /// tx-tcp-ecn-segmentation: those with CWR, too.
    pub tso_ecn: bool,
    /// tx-vlan-hw-insert, tx-vlan-stag-hw-insert: tags stay beside the packet, if it is of a kind that lets them.
    pub vlan_tx: bool,
    pub stag_tx: bool,
    /// rx-vlan-hw-parse: a card puts the tag of what it receives beside it; rx-vlan-filter: it takes no tag that nobody wants.
    pub vlan_rx: bool,
    pub vlan_filter: bool,
    /// tx-checksumming: partial checksums go out as they are.
    pub tx_csum: bool,
    /// rx-checksumming: the device says which checksums are good.
    pub rx_csum: bool,
    /// generic-receive-offload; without it super-segments are cut on arrival.
    pub gro: bool,
    /// large-receive-offload, rx-gro-hw: a card joins segments itself ([`lro`](crate::drivers::nic)).
    pub lro: bool,
    pub gro_hw: bool,
    /// tx-gre-segmentation, tx-gre-csum-segmentation, tx-ipxip4-segmentation, tx-udp_tnl-segmentation, tx-udp_tnl-csum-segmentation:
    /// super-segments in such tunnels go out whole, or those with sums of their own as far as they can with tx-gso-partial.
    pub gre: bool,
    pub gre_csum: bool,
    pub ipxip4: bool,
    pub udp_tnl: bool,
    pub udp_tnl_csum: bool,
    pub partial: bool,
    /// Those with sums are whole even so: nobody looks at them.
    pub csum_whole: bool,
    /// The driver lets go of the sender as it takes a packet (`skb_orphan`, as TUN does): what lies below counts against no
    /// TCP socket.
    pub orphan: bool,
}

/// One of the switches.
type Switch = fn(&mut Features) -> &mut bool;

const SWITCHES: [(u64, Switch); 21] = [
    (SG, |f| &mut f.sg),
    (HW_CSUM, |f| &mut f.tx_csum),
    (VLAN_TX, |f| &mut f.vlan_tx),
    (VLAN_RX, |f| &mut f.vlan_rx),
    (VLAN_FILTER, |f| &mut f.vlan_filter),
    (GSO, |f| &mut f.gso),
    (GRO, |f| &mut f.gro),
    (LRO, |f| &mut f.lro),
    (GRO_HW, |f| &mut f.gro_hw),
    (TSO, |f| &mut f.tso),
    (TSO_ECN, |f| &mut f.tso_ecn),
    (TSO6, |f| &mut f.tso6),
    (GSO_UDP_L4, |f| &mut f.uso),
    (RXCSUM, |f| &mut f.rx_csum),
    (STAG_TX, |f| &mut f.stag_tx),
    (GRE, |f| &mut f.gre),
    (GRE_CSUM, |f| &mut f.gre_csum),
    (IPXIP4, |f| &mut f.ipxip4),
    (UDP_TNL, |f| &mut f.udp_tnl),
    (UDP_TNL_CSUM, |f| &mut f.udp_tnl_csum),
    (PARTIAL, |f| &mut f.partial),
];

impl Features {
    /// Nothing is segmented, summed or merged.
    pub const NONE: Features = Features {
        sg: true,
        gso: true,
        tso: false,
        tso6: false,
        uso: false,
        tso_ecn: true,
        vlan_tx: true,
        stag_tx: true,
        vlan_rx: true,
        vlan_filter: true,
        tx_csum: false,
        rx_csum: false,
        gro: false,
        lro: false,
        gro_hw: false,
        gre: false,
        gre_csum: false,
        ipxip4: false,
        udp_tnl: false,
        udp_tnl_csum: false,
        partial: false,
        csum_whole: true,
        orphan: false,
    };
    pub const ALL: Features = Features {
        tso: true,
        tso6: true,
        uso: true,
        tx_csum: true,
        rx_csum: true,
        gro: true,
        gre: true,
        gre_csum: true,
        ipxip4: true,
        udp_tnl: true,
        udp_tnl_csum: true,
        partial: true,
        ..Features::NONE
    };

    /// All segmentation by the device, or none.
    pub fn set_segmentation(&mut self, on: bool) {
        (self.tso, self.tso6, self.uso) = (on, on, on);
    }

    /// The device takes this packet as it is (`skb_gso_ok`).
    pub fn takes(&self, gso: Option<Gso>) -> bool {
        gso.is_none_or(|g| self.cuts(g.kind) && (!g.is_encapsulated() || self.takes_tunnel(g.encap)))
    }

    fn cuts(&self, kind: GsoType) -> bool {
        match kind {
            GsoType::TcpV4 => self.tso,
            GsoType::TcpV6 => self.tso6,
            GsoType::UdpL4 => self.uso,
        }
    }

    #[cold]
    fn takes_tunnel(&self, encap: Encap) -> bool {
        match encap {
            Encap::None => true,
            Encap::UdpTnl => self.udp_tnl,
            Encap::UdpTnlCsum => self.udp_tnl_csum && self.csum_whole,
            Encap::Gre => self.gre,
            Encap::GreCsum => self.gre_csum && self.csum_whole,
            Encap::IpIp => self.ipxip4,
        }
    }

    /// The device takes it once its pieces are all alike (`gso_partial_features`).
    #[doc(alias = "__skb_gso_segment")]
    pub fn takes_partial(&self, gso: Gso) -> bool {
        let sums = match gso.encap {
            Encap::UdpTnlCsum => self.udp_tnl_csum,
            Encap::GreCsum => self.gre_csum,
            _ => false,
        };
        self.partial && sums && self.cuts(gso.kind)
    }

    /// Who joins segments in a card.
    #[inline]
    pub fn hw_merge(&self) -> Option<How> {
        match (self.lro, self.gro_hw) {
            (true, _) => Some(How::Lro),
            (_, true) => Some(How::GroHw),
            _ => None,
        }
    }

    fn bits(mut self) -> u64 {
        SWITCHES.into_iter().filter(|(_, of)| *of(&mut self)).fold(0, |all, (bit, _)| all | bit)
    }

    fn of_bits(self, bits: u64) -> Features {
        let mut f = self;
        SWITCHES.into_iter().for_each(|(bit, of)| *of(&mut f) = bits & bit != 0);
        f
    }
}

/// The features of a device, by bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    /// Can be changed.
    pub hw: u64,
    pub wanted: u64,
    pub active: u64,
    pub nochange: u64,
}

/// What can be changed, and what is always there.
fn able(d: &NetDevice) -> Option<(u64, u64)> {
    match &d.kind {
        DevKind::Veth(_) => Some((VETH_HW, 0)),
        DevKind::Loopback => Some((LO_HW, LO_FIXED)),
        DevKind::Vlan(_) => Some((VLAN_HW, 0)),
        DevKind::Vxlan(_) => Some((TUNNEL_HW, HIGHDMA | GSO_ROBUST)),
        // What is numbered on is not cut behind the numbers.
        DevKind::Tunnel(t) if t.numbers() => Some((TUNNEL_HW & !(ALL_TSO | GSO_UDP_L4), HIGHDMA | GSO_ROBUST)),
        DevKind::Tunnel(_) => Some((TUNNEL_HW, HIGHDMA | GSO_ROBUST)),
        // Who spreads flows has their hashes.
        DevKind::Nic(n) => Some((NIC_HW, NIC_FIXED | if n.queues.len() > 1 { RXHASH } else { 0 })),
        _ => None,
    }
}

/// What is wanted before anybody said so.
fn at_first(d: &NetDevice, hw: u64) -> u64 {
    let off = match d.kind {
        DevKind::Veth(_) => GRO | NOCACHE_COPY,
        _ => NOCACHE_COPY,
    };
    hw & !off
}

/// What goes together of all that is wanted.
#[doc(alias = "netdev_fix_features")]
fn fix(mut f: u64) -> u64 {
    if f & HW_CSUM == 0 {
        f &= !(TSO | TSO6 | GSO_UDP_L4);
    }
    if f & RXCSUM == 0 {
        f &= !GRO_HW;
    }
    if f & GRO_HW != 0 {
        f &= !LRO;
    }
    if f & TSO == 0 {
        f &= !TSO_MANGLEID;
    }
    if f & ALL_TSO == TSO_ECN {
        f &= !TSO_ECN;
    }
    if f & SG == 0 {
        f &= !(ALL_TSO | GSO);
    }
    f
}

/// What the driver makes of it. Of a VLAN: what the device below has for VLANs, and what the stack does where that has not.
#[doc(alias = "ndo_fix_features")]
fn driver_fix(d: &NetDevice, f: u64) -> u64 {
    match &d.kind {
        DevKind::Vlan(v) => f & (v.below | GSO | GRO | GSO_SOFTWARE),
        DevKind::Nic(_) => {
            // Nobody joins what he has not looked at.
            let lro = if f & RXCSUM == 0 { LRO } else { 0 };
            let partial = if f & PARTIAL == 0 { UDP_TNL_CSUM | GRE_CSUM } else { 0 };
            f & !(lro | partial)
        }
        _ => f,
    }
}

/// Of any device.
pub fn show(d: &NetDevice) -> Bits {
    if let Some((hw, fixed)) = able(d) {
        let wanted = d.wanted_features.unwrap_or_else(|| at_first(d, hw));
        return Bits { hw, wanted, active: fix(driver_fix(d, wanted | fixed)), nochange: 0 };
    }
    let f = d.features;
    let own =
        [(HW_CSUM, f.tx_csum), (GRO, f.gro), (TSO, f.tso), (TSO6, f.tso6), (GSO_UDP_L4, f.uso), (RXCSUM, f.rx_csum)];
    let software = SG | HIGHDMA | GSO | GSO_ROBUST;
    let active = own.into_iter().filter(|(_, on)| *on).fold(software, |m, (bit, _)| m | bit);
    Bits { active, ..Bits::default() }
}

/// What VLANs on top of a device could have of it (`vlan_features`).
pub fn vlan_features(d: &NetDevice) -> u64 {
    match &d.kind {
        DevKind::Vlan(v) => v.vlan_features,
        DevKind::Dummy => HIGHDMA,
        _ => !(VLAN | VLAN_FILTER | STAG_FILTER),
    }
}

/// A card is made with these offloads.
pub fn of_card(d: &mut NetDevice, f: Features) {
    d.wanted_features = Some(f.bits() & NIC_HW);
    d.features = Features { csum_whole: false, ..f.of_bits(show(d).active) };
}

/// The bits of `mask` become those of `value` as far as the device can change them.
#[doc(alias = "netdev_change_features")]
pub fn set(net: &mut Net, dev: DevId, value: u64, mask: u64) {
    let Some(d) = net.devs.get_mut(dev) else { return };
    let old = show(d);
    let mask = mask & old.hw;
    if mask == 0 {
        return;
    }
    d.wanted_features = Some((old.wanted & !mask | value & mask) & old.hw);
    update(net, dev);
}

/// What is wanted, as far as it goes together, is in effect from now on; devices on top hear of it.
#[doc(alias = "__netdev_update_features")]
pub fn update(net: &mut Net, dev: DevId) {
    let Some(d) = net.devs.get_mut(dev) else { return };
    let now = show(d).active;
    if able(d).is_some() {
        d.features = d.features.of_bits(now);
    }
    let below = vlan_features(d) & now | now & RXCSUM;
    let vlans: Vec<DevId> = d.vlans.values().copied().collect();
    if matches!(d.kind, DevKind::Veth(_)) {
        veth_rx::set_gro(net, dev, now & GRO != 0);
    }
    for vlan in vlans {
        if let Some(v) = net.vlan_mut(vlan) {
            v.below = below;
            update(net, vlan);
        }
    }
}

/// Packets of this device may be sent on, or are looked at by rules that want them as they came: no card below may join them
/// for good any more. Whoever wants can switch it on again.
#[doc(alias = "dev_disable_lro")]
pub fn disable_lro(net: &mut Net, dev: DevId) {
    let mut at = Some(dev);
    while let Some(d) = at.and_then(|id| net.devs.get_mut(id)) {
        let id = at.take();
        let lower = match d.kind {
            DevKind::Vlan(_) | DevKind::Macvlan(_) | DevKind::Vxlan(_) => d.lower(),
            _ => None,
        };
        let joins = d.wanted_features.is_some_and(|w| w & LRO != 0);
        if joins {
            d.wanted_features = d.wanted_features.map(|w| w & !LRO);
        }
        if let Some(id) = id.filter(|_| joins) {
            update(net, id);
        }
        at = lower;
    }
}
