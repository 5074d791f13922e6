//! Upward everything is a value: what socket code found out and somebody above has to act on. Add a variant, never a
//! callback.
use crate::ids::{NsId, PacketId, SockId, TcpId, XskId};
use crate::net::core::skb::Skb;
use crate::net::core::timestamp::TxStamp;
use crate::net::packet::bind::NetdevEvent;
use crate::task::wait::PollMask;

#[derive(Clone, Debug)]
pub enum Rise {
    /// Something about the socket changed that a sleeper may wait for: walk its wait queue with these poll bits
    /// (`sk_data_ready`, `sk_write_space`, `sk_state_change`, `sk_error_report`). One exclusive sleeper wakes; with mask 0
    /// or POLLHUP, a change of state, all of them do.
    Wake {
        sock: SockId,
        mask: PollMask,
    },
    /// A device finished with a packet: give the bytes back to the socket's send memory (`sock_wfree`).
    TxFree {
        sock: SockId,
        truesize: u32,
    },
    /// The same, of a frame in a transmit ring (`tpacket_destruct_skb`).
    RingFree {
        sock: PacketId,
        frame: u32,
        truesize: u32,
    },
    /// A packet for an AF_XDP socket, and one of such a socket that ended (`xsk_destruct_skb`).
    Xsk {
        sock: XskId,
        skb: Skb,
    },
    XskFree {
        sock: XskId,
        slot: u32,
        truesize: u32,
    },
    /// A packet that carried the pages of a MSG_ZEROCOPY call ended (`msg_zerocopy_complete`).
    ZerocopyFree {
        sock: SockId,
        call: u32,
        copied: bool,
    },
    /// A packet passed a place of which its sender wants to know the time (`__skb_tstamp_tx`).
    TxStamp {
        sock: SockId,
        stamp: Box<TxStamp>,
    },
    /// A copy of a packet on its way to a driver, for whoever watches everything but its sender (`dev_queue_xmit_nit`).
    Tap {
        skb: Skb,
        sender: Option<PacketId>,
    },
    /// A device came up, went down or away (`call_netdevice_notifiers`).
    Netdev {
        ns: NsId,
        ifindex: u32,
        event: NetdevEvent,
    },
    /// Urgent data was announced: SIGURG for who owns the file (`sk_send_sigurg`).
    Urgent {
        sock: SockId,
    },
    /// A queueing discipline sends this socket's packets at the times they bear (`SK_PACING_FQ`).
    Pacing {
        sock: SockId,
    },
    /// An orphaned or unaccepted socket came to its end: take it out of its slab.
    Reap {
        sock: SockId,
    },
    /// A Fast Open connection of this listener completed its handshake or ended; with `rst` by a RST after accept, and then
    /// it counts against the limit for another minute (`reqsk_fastopen_remove`).
    FastOpenDone {
        listener: TcpId,
        rst: bool,
    },
}
