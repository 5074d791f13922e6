//! The hash tables: ehash (connections, requests, TIME_WAIT), bhash (ports), listeners.
use crate::ids::*;
use crate::net::tcp::handshake::request::RequestSock;
use crate::net::tcp::handshake::time_wait::TimeWaitSock;

/// What an ehash entry stands for: tagged, the tuple lives once in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EhashRef {
    Sock(TcpId),
    Request(ReqId),
    TimeWait(TwId),
}

/// Where a socket stands in bhash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindRef {
    pub port: u16,
}

#[derive(Clone, Debug, Default)]
pub struct TcpTables {
    pub reqs: Slab<RequestSock>,
    pub tws: Slab<TimeWaitSock>,
}
