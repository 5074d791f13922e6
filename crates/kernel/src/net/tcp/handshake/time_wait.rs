//! TIME_WAIT as a small object of its own (`struct tcp_timewait_sock`); also FIN_WAIT2 of orphans.
use crate::env::TimerSlot;
use crate::ids::*;
use core::net::Ipv4Addr;

#[derive(Clone, Debug)]
pub struct TimeWaitSock {
    pub ns: NsId,
    pub laddr: Ipv4Addr,
    pub raddr: Ipv4Addr,
    pub lport: u16,
    pub rport: u16,
    pub rcv_nxt: u32,
    pub snd_nxt: u32,
    pub rcv_wnd: u32,
    pub ts_recent: u32,
    pub ts_recent_stamp: u32,
    pub tsoffset: u32,
    pub hash: u32,
    pub timer: TimerSlot,
}
