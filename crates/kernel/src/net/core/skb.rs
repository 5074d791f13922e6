//! The packet buffer (Linux: `struct sk_buff`): linear headers, shared payload, and what the layers know about it.
//!
//! A packet ends only in `kfree_skb` (with a reason) or `consume_skb`; both live in [`Net`](crate::net::Net) because
//! they give buffers back to the pool and bytes back to the owner. The pool counts births and ends, and
//! `Kernel::check()` compares the difference with what all queues hold.
use crate::env::Rise;
use crate::env::time::Nanos;
use crate::ids::*;
use crate::mem::pages::PAGE_SIZE;
use crate::net::core::vlan::push_inside;
use crate::net::ipv4::route::Dst;
use crate::net::netfilter::conntrack::NfCt;
use belljar_wire::ethernet::{ETH_HLEN, VLAN_HLEN};
use belljar_wire::frame::HEAD_CAPACITY;
use belljar_wire::ipv4::Ipv4Header;
use belljar_wire::udp::UDP_HLEN;
use belljar_wire::{Csum, Gso, GsoType, Head, Mac, Segs, gso};
use core::net::IpAddr;

/// What `eth_type_trans` found about the destination address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PktType {
    #[default]
    Host,
    Broadcast,
    Multicast,
    OtherHost,
    Outgoing,
}

/// A VLAN tag beside the packet (`vlan_proto`, `vlan_tci`); without a protocol there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VlanTag {
    pub proto: u16,
    pub tci: u16,
}

impl VlanTag {
    pub const NONE: VlanTag = VlanTag { proto: 0, tci: 0 };

    /// `skb_vlan_tag_present`.
    #[inline]
    pub fn present(self) -> bool {
        self.proto != 0
    }

    /// The network's number.
    pub fn vid(self) -> u16 {
        self.tci & 0xfff
    }
}

/// Which socket's memory the packet is charged to; released by the destructor in `kfree_skb`/`consume_skb`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    #[default]
    None,
    /// `sock_wfree`: in `sk_wmem_alloc` until a device or receiver is done with it.
    Tx(SockId),
    /// The same of a frame in a transmit ring, which is its program's again then (`tpacket_destruct_skb`).
    TxRing { sock: PacketId, frame: u32 },
    /// Descriptors of an AF_XDP socket that go to its completion ring then (`xsk_destruct_skb`).
    Xsk { sock: XskId, slot: u32 },
}

impl Owner {
    /// Whose memory it is.
    pub fn sock(self) -> Option<SockId> {
        match self {
            Owner::None => None,
            Owner::Tx(sock) => Some(sock),
            Owner::TxRing { sock, .. } => Some(SockId::Packet(sock)),
            Owner::Xsk { sock, .. } => Some(SockId::Xsk(sock)),
        }
    }

    /// What its owner is told when `truesize` bytes are free.
    #[inline(always)]
    pub(crate) fn free(self, truesize: u32) -> Option<Rise> {
        match self {
            Owner::None => None,
            Owner::Tx(sock) => Some(Rise::TxFree { sock, truesize }),
            Owner::TxRing { sock, frame } => Some(Rise::RingFree { sock, frame, truesize }),
            Owner::Xsk { sock, slot } => Some(Rise::XskFree { sock, slot, truesize }),
        }
    }
}

/// Who holds the socket that a packet leaves by: what rules about users ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sender {
    /// Forwarded, or of a connection that nobody has accepted or that was closed.
    #[default]
    None,
    /// A socket without a file: errors, echoes and resets.
    Kernel,
    User {
        uid: u32,
        gid: u32,
    },
}

/// What a socket that asked hears of a packet on its way out (Linux: `tx_flags`, `tskey` and the `ubuf_info` of
/// `skb_shared_info`).
#[derive(Clone, Copy, Debug)]
pub struct TxMeta {
    pub sock: SockId,
    /// `SKBTX_*` below.
    pub flags: u8,
    pub tskey: u32,
    /// MSG_ZEROCOPY: the call, and whether its bytes were copied on the way.
    pub zerocopy: Option<u32>,
    pub copied: bool,
}

/// Time stamps wanted: when a driver has it, when a queueing discipline gets it, when its end is acknowledged, when the
/// driver is done with it.
pub const SKBTX_SW_TSTAMP: u8 = 1;
pub const SKBTX_SCHED_TSTAMP: u8 = 2;
pub const SKBTX_ACK_TSTAMP: u8 = 4;
pub const SKBTX_COMPLETION_TSTAMP: u8 = 8;

/// What traffic control knows of a packet that it sent elsewhere (`redirected`, `skb_iif`, `tc_skip_classify`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redirect {
    #[default]
    None,
    /// To an ifb: from there it goes back to where it came from.
    From { dev: DevId, at_ingress: bool },
    /// It comes back: no action sends it there again.
    Skip,
}

/// The socket that a packet is for, as rules ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenSock {
    /// It takes foreign addresses (IP_TRANSPARENT).
    pub transparent: bool,
    /// Its mark, and whether it is bound to every address; of requests and TIME_WAIT there are none.
    pub whole: Option<(u32, bool)>,
}

/// What the tables of the network layer are told of a bridged packet (Linux: `struct nf_bridge_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NfBridge {
    /// Ports that it came in by and leaves by.
    pub physin: DevId,
    pub physout: Option<DevId>,
    /// It is at the bridge's PRE_ROUTING just now.
    pub pre_routing: bool,
    /// The machine's PRE_ROUTING has let it pass, as it met it on the bridge (`sabotage_in_done`).
    pub passed: bool,
    /// Its sender's address on the link, while the one of a neighbour is asked for (`neigh_header`).
    pub source: Option<Mac>,
}

/// TCP's control block (Linux: `TCP_SKB_CB`), filled by `tcp_v4_fill_cb`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpCb {
    pub seq: u32,
    pub end_seq: u32,
    pub ack: u32,
    pub window: u16,
    pub flags: belljar_wire::tcp::Flags,
    pub urg_ptr: u16,
    /// Offset of the TCP header in the head, and its length with options.
    pub header: u8,
    pub header_len: u8,
    /// tcpi/ss: the time stamp of the segment was seen.
    pub saw_tstamp: bool,
    /// Its beginning was old: it keeps its buffer to itself.
    pub trimmed: bool,
    /// A SYN that takes the place of a TIME_WAIT entry: the initial sequence number to answer with, else 0.
    pub tw_isn: u32,
}

/// See the module. Moved as a box: a queue entry is one pointer.
#[derive(Clone, Debug, Default)]
pub struct SkBuff {
    pub head: Head,
    pub frags: Segs,
    pub id: belljar_wire::PacketId,
    pub ns: Option<NsId>,
    /// Receive: where it came in. Send: where it goes out.
    pub dev: Option<DevId>,
    pub protocol: u16,
    /// A tag that was taken off, or is still to be put on.
    pub vlan: VlanTag,
    pub pkt_type: PktType,
    pub mac_header: u8,
    pub network_header: u8,
    pub transport_header: u8,
    pub csum: Csum,
    pub gso: Option<Gso>,
    pub hash: u32,
    pub priority: u32,
    pub mark: u32,
    pub truesize: u32,
    pub owner: Owner,
    /// On its way out.
    pub sender: Sender,
    /// When it came in; on the way out when it is to leave, 0 at once.
    pub tstamp: Nanos,
    /// Bytes a second that its sender wants (SO_MAX_PACING_RATE), for fq; 0 is any.
    pub pacing_rate: u64,
    pub dst: Option<Dst>,
    /// The identification that the IPv4 header gets, when it is chosen already.
    pub ip_id: Option<u16>,
    /// The largest piece that it was put together from; 0: it came in one (`IPCB(skb)->frag_max_size`).
    pub frag_max: u16,
    /// The queue of the device: that it goes out by, or that it came in by.
    pub queue_mapping: u16,
    /// The NAPI that polled it; 0: none did.
    pub napi_id: u32,
    /// Its sender does not want to hear its own multicast (IP_MULTICAST_LOOP 0).
    pub no_mc_loop: bool,
    /// The copy of a broadcast or multicast that its own host hears (`PACKET_LOOPBACK`).
    pub looped: bool,
    /// Its bytes lie in a buffer of its own, not in pages, and cannot be joined to those of another packet
    /// (`skb_head_is_locked`).
    pub head_locked: bool,
    /// So many more would fit into that buffer (`skb_tailroom`).
    pub tailroom: u16,
    /// Its connection, as netfilter sees it.
    pub nf: NfCt,
    /// It tells whoever listens what rules it meets (`nft monitor trace`).
    pub nf_trace: bool,
    /// Where a TPROXY rule sends it.
    pub tproxy: Option<(IpAddr, u16)>,
    /// Where rules ask for it, the socket that it is for.
    pub seen_sock: Option<SeenSock>,
    /// It came in by a port of a bridge, and met tables there.
    pub nf_bridge: Option<NfBridge>,
    pub redirect: Redirect,
    /// How often mirred sent it on.
    pub sent_on: u8,
    pub tcp: TcpCb,
    /// Somebody wants to hear of its fate.
    pub tx: Option<Box<TxMeta>>,
}

pub type Skb = Box<SkBuff>;

/// Linux charges a packet by what its buffers take there, not by its payload: the overhead of the head
/// (`SKB_TRUESIZE(0)` with a small head, 6.18).
pub const SKB_OVERHEAD: u32 = SKB_HEAD + SMALL_HEAD as u32;
/// `struct sk_buff` itself.
pub const SKB_HEAD: u32 = 256;
/// Room in front of what a driver receives.
pub const NET_SKB_PAD: usize = 64;
/// `struct skb_shared_info`, at the end of each buffer.
pub const SHARED_INFO: usize = 320;
/// The buffer of a packet whose octets lie elsewhere (`skbuff_small_head`).
const SMALL_HEAD: usize = 576;

impl SkBuff {
    /// As new, in place: the bytes of the head are not cleared, they are written before they are read.
    pub fn reset(&mut self) {
        let SkBuff {
            head, frags, id, ns, dev, protocol, pkt_type, mac_header, network_header, transport_header, ..
        } = self;
        head.reset();
        frags.clear();
        (*id, *ns, *dev, *protocol, *pkt_type) = (0, None, None, 0, PktType::Host);
        (*mac_header, *network_header, *transport_header) = (0, 0, 0);
        (self.ip_id, self.frag_max, self.queue_mapping, self.napi_id) = (None, 0, 0, 0);
        (self.no_mc_loop, self.looped, self.head_locked, self.tailroom) = (false, false, false, 0);
        (self.nf, self.nf_trace, self.tproxy, self.sender) = (NfCt::default(), false, None, Sender::None);
        (self.nf_bridge, self.seen_sock) = (None, None);
        (self.pacing_rate, self.vlan, self.redirect, self.sent_on) = (0, VlanTag::NONE, Redirect::None, 0);
        let SkBuff { csum, gso, hash, priority, mark, truesize, owner, tstamp, dst, tcp, tx, .. } = self;
        (*csum, *gso, *hash, *priority, *mark, *truesize) = (Csum::None, None, 0, 0, 0, 0);
        (*owner, *tstamp, *dst, *tcp, *tx) = (Owner::None, 0, None, TcpCb::default(), None);
    }

    pub fn len(&self) -> usize {
        self.head.len() + self.frags.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Charges by Linux's formula: overhead once, payload rounded up as its page fragments are.
    pub fn set_truesize(&mut self) {
        self.truesize = truesize(self.len());
    }

    /// All bytes after the pulled headers as segments: what is left in the linear part is copied, fragments are shared.
    pub fn take_payload(&mut self) -> Segs {
        let rest = self.head.bytes();
        if rest.is_empty() {
            return std::mem::take(&mut self.frags);
        }
        let mut all = Segs::from(rest.to_vec());
        let n = self.head.len();
        let _ = self.head.pull(n);
        all.append(std::mem::take(&mut self.frags));
        all
    }

    /// The first `N` bytes after the pulled headers, wherever they lie; `None` when there are fewer.
    pub fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        let mut out = [0; N];
        let linear = self.head.bytes();
        let n = linear.len().min(N);
        out[..n].copy_from_slice(&linear[..n]);
        (n + self.frags.copy_to(0, &mut out[n..]) == N).then_some(out)
    }
}

/// What a packet of `len` bytes from a device is charged: one buffer for a frame, pages for a super-segment.
pub fn truesize(len: usize) -> u32 {
    match NET_SKB_PAD + len {
        frame @ ..PAGE_SIZE => SKB_HEAD + linear_buffer(frame) as u32,
        _ => SKB_OVERHEAD + (len as u32).next_multiple_of(64),
    }
}

/// The buffer that Linux takes for `len` octets in one piece, with what lies at its end (`kmalloc_reserve`).
pub fn linear_buffer(len: usize) -> usize {
    match len.next_multiple_of(64) + SHARED_INFO {
        0..=SMALL_HEAD => SMALL_HEAD,
        more => more.next_power_of_two(),
    }
}

/// The same for a piece of a write queue: its pages are shared with what follows, so bytes count as they are.
pub fn tx_truesize(len: usize) -> u32 {
    SKB_OVERHEAD + len as u32
}

impl SkBuff {
    /// The packet as it would be on a wire at this stage, sharing its payload.
    pub fn to_frame(&self) -> belljar_wire::Frame {
        belljar_wire::Frame {
            head: self.head.clone(),
            payload: self.frags.clone(),
            csum: self.csum,
            gso: self.gso,
            hash: self.hash,
            id: self.id,
        }
    }

    /// The same with the tag that stands beside it, as the wire carries it.
    #[inline]
    pub fn to_wire(&self) -> belljar_wire::Frame {
        if self.vlan.present() { self.to_tagged() } else { self.to_frame() }
    }

    #[cold]
    fn to_tagged(&self) -> belljar_wire::Frame {
        let mut tagged =
            SkBuff { head: self.head.clone(), frags: self.frags.clone(), vlan: self.vlan, ..SkBuff::default() };
        push_inside(&mut tagged);
        belljar_wire::Frame { head: tagged.head, payload: tagged.frags, ..self.to_frame() }
    }

    /// The packet from its first known header on, also when layers have pulled theirs: what a capture shows of a drop.
    pub fn whole_frame(&self) -> belljar_wire::Frame {
        let mut f = self.to_frame();
        let net = self.network_header;
        if net == 0 || self.head.start() < net {
            return f;
        }
        let behind_mac = self.mac_header.checked_add(ETH_HLEN as u8) == Some(net);
        f.head.rewind(if behind_mac { self.mac_header } else { net });
        // Payload that was taken out of the linear part lies in both.
        if let Ok(ip) = Ipv4Header::parse(self.head.at(net)) {
            let wire = (net - f.head.start()) as usize + ip.total_len as usize;
            let twice = f.len().saturating_sub(wire).min(f.payload.len());
            f.head.trim(f.head.len().saturating_sub(twice));
        }
        f
    }

    /// Length of the longest packet that this one is on the wire, `hlen` bytes of it the network header, where `head` begins.
    #[doc(alias = "skb_gso_network_seglen")]
    pub fn network_seglen(&self, hlen: usize) -> usize {
        let Some(g) = self.gso else { return self.len() };
        if g.is_encapsulated() {
            let headers = gso::transport(self.head.bytes(), g.encap).map_or(self.head.len(), |(_, end)| end);
            return headers + usize::from(g.size);
        }
        let transport = match g.kind {
            GsoType::UdpL4 => UDP_HLEN,
            _ => self.head.bytes().get(hlen + 12).map_or(0, |b| usize::from(b >> 4) * 4),
        };
        hlen + transport + usize::from(g.size)
    }

    /// Bytes of headers that each segment of a super-segment has, from where the head begins (`qdisc_pkt_len_segs_init`).
    pub fn gso_headers(&self, g: Gso) -> u32 {
        let before = |at: u8| usize::from(at.saturating_sub(self.head.start()));
        let all = if g.is_encapsulated() {
            let inside = gso::transport(self.head.at(self.network_header), g.encap);
            inside.map_or(self.head.len(), |(_, end)| before(self.network_header) + end)
        } else {
            let own = match g.kind {
                GsoType::UdpL4 => UDP_HLEN,
                _ => self.head.at(self.transport_header).get(12).map_or(20, |b| usize::from(b >> 4) * 4),
            };
            before(self.transport_header) + own
        };
        all as u32
    }

    /// Makes sure that `n` bytes are in the linear part, taking them from the payload if need be (`pskb_may_pull`).
    /// False when the packet is shorter or the headers are longer than the linear part can be.
    #[inline(always)]
    pub fn may_pull(&mut self, n: usize) -> bool {
        self.head.len() >= n || self.pull_tail(n)
    }

    #[doc(alias = "__pskb_pull_tail")]
    #[cold]
    fn pull_tail(&mut self, n: usize) -> bool {
        let have = self.head.len();
        let first = self.mac_header.min(self.network_header).min(self.head.start());
        let kept = self.head.at(first).len();
        let mut bytes = [0; HEAD_CAPACITY];
        if self.len() < n || kept + n - have > HEAD_CAPACITY {
            return false;
        }
        bytes[..kept].copy_from_slice(self.head.at(first));
        let pulled = self.frags.copy_to(0, &mut bytes[kept..kept + n - have]);
        self.frags.advance(pulled);
        let start = self.head.start() - first;
        let bytes = &bytes[..kept + pulled];
        if first == 0 {
            self.head.fill(bytes);
        } else {
            // A packet of ours keeps the room that its link header needs.
            self.head.reset();
            if let Some(room) = self.head.push(bytes.len()) {
                room.copy_from_slice(bytes);
            }
        }
        let now = self.head.start();
        let _ = self.head.pull(start as usize);
        for offset in [&mut self.mac_header, &mut self.network_header, &mut self.transport_header] {
            *offset = offset.saturating_sub(first) + now;
        }
        true
    }

    /// Room for `n` bytes in front of the first that is not pulled (`skb_cow_head`); false when there can be none.
    #[inline]
    pub fn cow_head(&mut self, n: usize) -> bool {
        self.head.start() as usize >= n || self.expand_head(n)
    }

    #[doc(alias = "pskb_expand_head")]
    #[cold]
    fn expand_head(&mut self, n: usize) -> bool {
        let Some((by, rest)) = self.head.make_room(n) else { return false };
        if let Some(rest) = rest {
            let behind = std::mem::replace(&mut self.frags, Segs::from(rest));
            self.frags.append(behind);
        }
        for offset in [&mut self.mac_header, &mut self.network_header, &mut self.transport_header] {
            *offset = u8::try_from(i16::from(*offset) + by).unwrap_or(0);
        }
        true
    }

    /// A super-segment that `overhead` octets of headers can be put in front of without one header or length that has no room.
    /// What is in a tunnel is cut before it gets into another.
    pub fn fits_tunnel(&self, overhead: usize) -> bool {
        let link = ETH_HLEN + VLAN_HLEN;
        self.gso.is_none_or(|g| {
            !g.is_encapsulated()
                && self.head.len() + overhead + link <= HEAD_CAPACITY
                && self.len() + overhead <= usize::from(u16::MAX)
        })
    }

    /// It comes out of a tunnel: a super-segment that was wrapped as one is one again, of anything else nothing is known.
    #[doc(alias = "iptunnel_pull_offloads")]
    pub fn pull_offloads(&mut self) {
        self.gso = self.gso.filter(|g| g.is_encapsulated()).map(|g| Gso::new(g.kind, g.size, g.segs));
        self.csum = if self.gso.is_some() { Csum::Partial } else { Csum::None };
        (self.hash, self.transport_header) = (0, 0);
    }

    /// Cuts the packet to `n` bytes behind the pulled headers (`pskb_trim`).
    pub fn trim(&mut self, n: usize) {
        let linear = self.head.len();
        if n <= linear {
            self.head.trim(n);
            self.frags = Segs::new();
        } else {
            self.frags.truncate(n - linear);
        }
    }

    /// A fragment is of the packet that it was cut from (`ip_copy_metadata`).
    #[doc(alias = "ip_copy_metadata")]
    pub fn copy_metadata(&mut self, from: &SkBuff) {
        (self.id, self.ns, self.dev, self.dst) = (from.id, from.ns, from.dev, from.dst);
        (self.pkt_type, self.protocol) = (from.pkt_type, from.protocol);
        (self.priority, self.mark, self.nf_trace) = (from.priority, from.mark, from.nf_trace);
    }

    /// Becomes the packet around a frame that was cut out of this one.
    pub fn piece(&self, s: &mut SkBuff, frame: belljar_wire::Frame) {
        (s.ns, s.dev, s.protocol, s.vlan) = (self.ns, self.dev, self.protocol, self.vlan);
        (s.priority, s.mark, s.pkt_type) = (self.priority, self.mark, self.pkt_type);
        (s.tstamp, s.pacing_rate, s.queue_mapping) = (self.tstamp, self.pacing_rate, self.queue_mapping);
        (s.head, s.frags, s.csum, s.hash, s.id) = (frame.head, frame.payload, frame.csum, frame.hash, frame.id);
        s.gso = frame.gso;
        (s.redirect, s.sent_on) = (self.redirect, self.sent_on);
        s.mac_header = s.head.start();
        s.network_header = s.mac_header + (self.network_header - self.mac_header);
        s.transport_header = s.mac_header + (self.transport_header - self.mac_header);
        s.truesize = truesize(s.len());
    }

    /// The last piece carries the charge, so that the sender's memory is free when all have left.
    pub fn hand_over(&mut self, last: &mut SkBuff) {
        last.owner = std::mem::take(&mut self.owner);
        last.truesize = self.truesize;
        last.tx = self.tx.take();
    }

    /// Ethernet type to send with.
    pub fn protocol_or_ip(&self) -> u16 {
        if self.protocol == 0 { belljar_wire::ethernet::ETH_P_IP } else { self.protocol }
    }

    /// The IPv4 header, pulled or not.
    pub fn ip_hdr(&self) -> Option<Ipv4Header> {
        Ipv4Header::parse(self.head.at(self.network_header)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_segment_has_all_of_its_headers() {
        let mut skb = SkBuff::default();
        // A TCP header with time stamps behind an IPv6 header.
        let head = skb.head.push(72).unwrap();
        head.fill(0);
        head[52] = 8 << 4;
        skb.frags = Segs::from(vec![0; 5000]);
        assert_eq!(skb.network_seglen(40), 5072);
        skb.gso = Some(Gso::new(GsoType::TcpV6, 1440, 4));
        assert_eq!(skb.network_seglen(40), 40 + 32 + 1440);
        skb.gso = Some(Gso::new(GsoType::UdpL4, 1440, 4));
        assert_eq!(skb.network_seglen(40), 40 + 8 + 1440);
        // What each of them has of headers, and what a queue counts: without a tunnel, and within VXLAN (IPv4, UDP, VXLAN, Ethernet,
        // IPv4, TCP).
        (skb.network_header, skb.transport_header) = (skb.head.start(), skb.head.start() + 40);
        assert_eq!(skb.gso_headers(Gso::new(GsoType::TcpV6, 1440, 4)), 72);
        let mut skb = SkBuff::default();
        let head = skb.head.push(20 + 8 + 8 + 14 + 20 + 32).unwrap();
        head.fill(0);
        (head[0], head[9], head[48], head[50], head[59], head[82]) = (0x45, 17, 8, 0x45, 6, 8 << 4);
        (skb.network_header, skb.transport_header) = (skb.head.start(), skb.head.start() + 20);
        let wrapped = Gso { encap: belljar_wire::Encap::UdpTnl, ..Gso::new(GsoType::TcpV4, 1400, 3) };
        skb.gso = Some(wrapped);
        skb.frags = Segs::from(vec![0; 4200]);
        assert_eq!(skb.gso_headers(wrapped), 102);
        assert_eq!(crate::net::sched::pkt_len(&skb), 4200 + 3 * 102);
    }
}
