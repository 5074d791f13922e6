//! A datagram socket's receive queue, looked at from outside a call.
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::skb::SkBuff;
use crate::net::core::virtio_net;
use crate::net::{packet, raw, udp};
use belljar_wire::Segs;

impl Kernel {
    /// Datagrams that wait.
    pub fn datagrams(&self, sock: SockId) -> usize {
        let socks = &self.socks;
        match sock {
            SockId::Udp(id) => socks.udp.get(id).map_or(0, |s| s.queue.len()),
            SockId::Raw(id) => socks.raw.get(id).map_or(0, |s| s.queue.len()),
            SockId::Packet(id) => socks.packet.get(id).filter(|s| s.ring.is_none()).map_or(0, |s| s.queue.len()),
            SockId::Tcp(_) | SockId::Xsk(_) => 0,
        }
    }

    /// What a read of the `nth` datagram that waits would give, which stays where it is.
    pub fn datagram(&mut self, sock: SockId, nth: usize) -> Option<Segs> {
        let Kernel { socks, net, .. } = self;
        let (skb, header): (&SkBuff, Vec<u8>) = match sock {
            SockId::Udp(id) => (socks.udp.get(id)?.queue.get(nth)?, Vec::new()),
            SockId::Raw(id) => (socks.raw.get(id)?.queue.get(nth)?, Vec::new()),
            SockId::Packet(id) => {
                let s = socks.packet.get(id).filter(|s| s.ring.is_none())?;
                let skb = &s.queue.get(nth)?.skb;
                let header = if s.vnet_hdr > 0 { virtio_net::from_skb(skb, s.vnet_hdr.into()) } else { Vec::new() };
                (skb, header)
            }
            SockId::Tcp(_) | SockId::Xsk(_) => return None,
        };
        let mut all = Segs::from(header);
        if !skb.head.is_empty() {
            all.push(net.pool.copy_in(skb.head.bytes(), 0));
        }
        all.append(skb.frags.clone());
        Some(all)
    }

    /// The first datagram was read, and nobody asked for anything but its bytes.
    pub fn datagram_was_read(&mut self, sock: SockId) {
        match sock {
            SockId::Udp(id) => udp::recvmsg::skip(self, id),
            SockId::Raw(id) => raw::recvmsg::skip(self, id),
            SockId::Packet(id) => packet::recvmsg::skip(self, id),
            SockId::Tcp(_) | SockId::Xsk(_) => {}
        }
    }
}
