//! The typed ids of everything that lives in a slab.
pub use crate::lib::slab::{Id, Slab};

pub type NsId = Id<crate::net::netns::NetNs>;
pub type DevId = Id<crate::net::core::dev::NetDevice>;
pub type TcpId = Id<crate::net::tcp::sock::TcpSock>;
pub type UdpId = Id<crate::net::udp::UdpSock>;
pub type RawId = Id<crate::net::raw::RawSock>;
pub type PacketId = Id<crate::net::packet::PacketSock>;
pub type XskId = Id<crate::net::xsk::XskSock>;
pub type XskPoolId = Id<crate::net::xsk::Pool>;
pub type ReqId = Id<crate::net::tcp::handshake::request::RequestSock>;
pub type TwId = Id<crate::net::tcp::handshake::time_wait::TimeWaitSock>;
pub type NeighId = Id<crate::net::core::neighbour::Neighbour>;
pub type CtId = Id<crate::net::netfilter::conntrack::Conn>;
pub type FragId = Id<crate::net::ipv4::reassembly::FragQueue>;
pub type CallId = Id<crate::task::call::ParkedCall>;
pub type ProcId = Id<crate::task::process::Process>;
pub type TaskId = Id<crate::task::process::Task>;
pub type FileId = Id<crate::fs::file::File>;
pub type EpollId = Id<crate::fs::eventpoll::EventPoll>;
pub type EpItemId = Id<crate::fs::eventpoll::EpItem>;
pub type WaitId = Id<crate::task::wait::WaitEntry>;

/// A socket of any kind: one slab per kind, no `dyn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SockId {
    Tcp(TcpId),
    Udp(UdpId),
    /// Raw and ping sockets.
    Raw(RawId),
    Packet(PacketId),
    /// AF_XDP.
    Xsk(XskId),
}

impl SockId {
    pub fn tcp(self) -> Option<TcpId> {
        match self {
            SockId::Tcp(id) => Some(id),
            _ => None,
        }
    }

    pub fn udp(self) -> Option<UdpId> {
        match self {
            SockId::Udp(id) => Some(id),
            _ => None,
        }
    }

    pub fn raw(self) -> Option<RawId> {
        match self {
            SockId::Raw(id) => Some(id),
            _ => None,
        }
    }
}
