//! getsockopt and setsockopt: which level answers.
use super::Caller;
use crate::env::Nanos;
use crate::ids::{NsId, SockId, TaskId};
use crate::kernel::Kernel;
use crate::net::core::sock::Family;
use crate::net::ipv4::mcast_opt;
use crate::net::ipv6::flowlabel;
use crate::net::netfilter::Pf;
use crate::net::netfilter::blob::OldCounters;
use crate::net::switch;
use crate::task::call::*;
use belljar_abi::{Errno, SockAddr};

pub(super) fn setsockopt(k: &mut Kernel, who: Caller, fd: Fd, level: i32, name: i32, value: &[u8]) -> SysResult {
    let (_, sock) = k.fd_sock(who.process, fd)?;
    switch::setsockopt(k, sock, level, name, value, k.cred(who.process)).map(|()| Ret::Int(0))
}

/// The value is cut to the room that the caller has.
pub(super) fn getsockopt(k: &mut Kernel, who: Caller, fd: Fd, level: i32, name: i32, len: usize) -> SysResult {
    let (_, sock) = k.fd_sock(who.process, fd)?;
    let mut value = switch::getsockopt(k, sock, level, name, len)?;
    value.truncate(len);
    Ok(Ret::Opt(value))
}

impl Kernel {
    /// IP_MSFILTER asks about what stands in the program's memory: the group, and how many sources there is room for.
    pub fn getsockopt_msfilter(&mut self, task: TaskId, fd: Fd, asked: &[u8]) -> Result<Vec<u8>, Errno> {
        let process = self.tasks.tasks.get(task).ok_or(Errno::ESRCH)?.process;
        let (_, sock) = self.fd_sock(process, fd)?;
        mcast_opt::get_msfilter(self, sock, asked)
    }

    /// IPV6_FLOWLABEL_MGR of process number `pid`: the label that the request is given back with.
    pub fn ipv6_flowlabel(&mut self, now: Nanos, task: TaskId, fd: Fd, value: &[u8], pid: u32) -> Result<u32, Errno> {
        self.begin_step(now);
        let process = self.tasks.tasks.get(task).ok_or(Errno::ESRCH)?.process;
        let (_, sock) = self.fd_sock(process, fd)?;
        if self.socks.sk(sock).is_none_or(|sk| sk.family != Family::Inet6) {
            return Err(Errno::ENOPROTOOPT);
        }
        flowlabel::set(self, sock, value, flowlabel::Who { cred: self.cred(process), pid })
    }

    /// What stands in the program's memory says what it asks.
    pub fn getsockopt_flowlabel(&mut self, task: TaskId, fd: Fd, asked: &[u8]) -> Result<Vec<u8>, Errno> {
        let process = self.tasks.tasks.get(task).ok_or(Errno::ESRCH)?.process;
        let (_, sock) = self.fd_sock(process, fd)?;
        flowlabel::get(self, sock, asked)
    }

    /// The namespace of a socket whose program may change tables.
    fn xt_ns(&self, task: TaskId, fd: Fd) -> Result<NsId, Errno> {
        let process = self.tasks.tasks.get(task).ok_or(Errno::ESRCH)?.process;
        let (_, sock) = self.fd_sock(process, fd)?;
        if !self.cred(process).caps.net_admin {
            return Err(Errno::EPERM);
        }
        self.socks.sk(sock).map(|s| s.ns).ok_or(Errno::ENOTSOCK)
    }

    /// Options about tables of iptables (`IPT_SO_GET_*`), which say in the program's memory what they ask for.
    pub fn xt_getsockopt(&mut self, task: TaskId, fd: Fd, pf: Pf, name: i32, asked: &[u8]) -> Result<Vec<u8>, Errno> {
        let ns = self.xt_ns(task, fd)?;
        self.net.xt_getsockopt(ns, pf, name, asked)
    }

    /// `IPT_SO_SET_*`: what the program is to be given back, and where.
    pub fn xt_setsockopt(
        &mut self,
        task: TaskId,
        fd: Fd,
        pf: Pf,
        name: i32,
        value: &[u8],
    ) -> Result<OldCounters, Errno> {
        let ns = self.xt_ns(task, fd)?;
        self.net.xt_setsockopt(ns, pf, name, value)
    }

    /// SO_ORIGINAL_DST: where a connection that was translated on its way here was sent.
    #[doc(alias = "getorigdst")]
    pub fn original_dst(&self, task: TaskId, fd: Fd) -> Result<SockAddr, Errno> {
        let process = self.tasks.tasks.get(task).ok_or(Errno::ESRCH)?.process;
        let (_, sock) = self.fd_sock(process, fd)?;
        let SockId::Tcp(_) = sock else { return Err(Errno::ENOPROTOOPT) };
        let s = self.socks.sk(sock).ok_or(Errno::ENOTSOCK)?;
        self.net.original_dst(s.ns, (s.saddr, s.num), (s.daddr, s.dport)).ok_or(Errno::ENOENT)
    }
}
