//! A half-open connection (`struct tcp_request_sock`): lives in ehash, counted by its listener.
use crate::env::TimerSlot;
use crate::ids::*;
use core::net::Ipv4Addr;

#[derive(Clone, Debug)]
pub struct RequestSock {
    pub listener: TcpId,
    pub ns: NsId,
    pub laddr: Ipv4Addr,
    pub raddr: Ipv4Addr,
    pub lport: u16,
    pub rport: u16,
    pub rcv_isn: u32,
    pub snt_isn: u32,
    pub ts_recent: u32,
    pub tsoffset: u32,
    pub mss: u16,
    pub snd_wscale: u8,
    pub rcv_wscale: u8,
    pub rcv_wnd: u32,
    pub tstamp_ok: bool,
    pub sack_ok: bool,
    pub wscale_ok: bool,
    /// The third segment came but the accept queue was full.
    pub acked: bool,
    /// SYN-ACKs sent again, and timeouts.
    pub num_retrans: u8,
    pub num_timeout: u8,
    pub snt_synack_us: u64,
    pub timer: TimerSlot,
    pub last_oow_ms: u32,
    pub hash: u32,
}
