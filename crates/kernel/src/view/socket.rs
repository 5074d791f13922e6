//! Sockets as `ss` and `/proc/net/tcp` see them: connections, listeners, half-open requests, TIME_WAIT, UDP.
use super::{Value, View, open_files, views};
use crate::env::time::tick_start;
use crate::env::{Nanos, TimerSlot};
use crate::fs::file::FileKind;
use crate::ids::*;
use crate::kernel::Kernel;
use crate::net::core::sock::{Family, Sock};
use crate::net::netns::NetNs;
use crate::net::packet::PacketSock;
use crate::net::raw::{self, RawSock};
use crate::net::tcp::handshake::time_wait::TimeWaitSock;
use crate::net::tcp::info::{bbr_info, tcp_info};
use crate::net::tcp::sock::{TcpSock, WriteTimer};
use crate::net::tcp::state::State;
use belljar_abi::tcp_info::TcpInfo;
use core::net::IpAddr;

views! {
    /// A running timer: `on`, `keepalive`, `timewait` or `persist`, as ss names them.
    struct TimerView { kind: String, expires_ms: u64, retrans: u32, }

    /// `SK_MEMINFO_*`.
    struct SkmemView {
        rmem_alloc: u32, rcvbuf: u32, wmem_alloc: u32, sndbuf: u32, fwd_alloc: u32, wmem_queued: u32, optmem: u32,
        backlog: u32, drops: u32,
    }

    /// `struct tcp_bbr_info`: bytes a second, microseconds, gains in 256ths.
    struct BbrView { bw: u64, min_rtt: u32, pacing_gain: u32, cwnd_gain: u32, }

    /// Who has the socket open.
    struct UserView { name: String, pid: u32, fd: u32, }

    /// A descriptor of a program, and the inode of the socket behind it: how a driver loop says whose the sockets are.
    struct OwnerView { inode: u64, name: String, pid: u32, fd: u32, }

    /// One row.
    struct SockView {
        /// `tcp`, `udp`, `raw` (its local port is the protocol) or `icmp`, a ping socket; `p_raw` and `p_dgr` are packet
        /// sockets, whose port is the EtherType.
        netid: String,
        /// As netstat writes it (`LISTEN`, `ESTABLISHED`, …); UDP is ESTABLISHED or CLOSE.
        state: String,
        /// Made as AF_INET6: its addresses are shown as mapped ones.
        inet6: bool,
        v6only: bool,
        /// Of a listener: connections waiting for accept. Otherwise bytes received in order and not read, one more
        /// after the FIN; of a UDP socket the memory its datagrams take.
        recv_q: u64,
        /// Of a listener: the limit of its accept queue (one more is admitted). Otherwise bytes written and not
        /// acknowledged.
        send_q: u64,
        local: IpAddr,
        lport: u16,
        peer: IpAddr,
        pport: u16,
        device: Option<String>,
        uid: u32,
        inode: u32,
        /// Unique over the life of the kernel; sockets of a kind keep theirs.
        cookie: u64,
        shutdown: u8,
        timer: Option<TimerView>,
        skmem: Option<SkmemView>,
        cong: Option<String>,
        info: Option<TcpInfo>,
        bbr: Option<BbrView>,
        /// Quick acknowledgements left, doubled, plus one in interactive mode: as `/proc/net/tcp` packs them.
        quickack: u32,
        /// Half-open connections and those whose SYN-ACK was sent only once, of a listener.
        syn_queue: Option<u32>,
        users: Vec<UserView>,
    }
}

impl View for TcpInfo {
    fn to_value(&self) -> Value {
        let packed = [
            ("snd_wscale", Value::Uint(self.snd_wscale.into())),
            ("rcv_wscale", Value::Uint(self.rcv_wscale.into())),
            ("delivery_rate_app_limited", Value::Bool(self.delivery_rate_app_limited)),
            ("fastopen_client_fail", Value::Uint(self.fastopen_client_fail.into())),
        ];
        let whole = self.fields().into_iter().map(|(name, v)| (name, Value::Uint(v)));
        Value::Map(packed.into_iter().chain(whole).map(|(k, v)| (k.into(), v)).collect())
    }

    fn from_value(v: &Value) -> Option<TcpInfo> {
        let Value::Map(m) = v else { return None };
        let mut out = TcpInfo {
            snd_wscale: u8::from_value(v.get("snd_wscale")?)?,
            rcv_wscale: u8::from_value(v.get("rcv_wscale")?)?,
            delivery_rate_app_limited: bool::from_value(v.get("delivery_rate_app_limited")?)?,
            fastopen_client_fail: u8::from_value(v.get("fastopen_client_fail")?)?,
            ..TcpInfo::default()
        };
        for (name, value) in m {
            if let Value::Uint(n) = value {
                out.set_field(name, *n);
            }
        }
        Some(out)
    }
}

impl Kernel {
    /// Every socket of a namespace: packet, UDP, raw and ping sockets, then TCP with listeners first.
    pub fn view_sockets(&self, ns: NsId) -> Vec<SockView> {
        let Some(netns) = self.net.ns.get(ns) else { return Vec::new() };
        let users = self.users(ns);
        let opened = |id: SockId| users.iter().filter(|(s, _)| *s == id).map(|(_, u)| u.clone()).collect();
        let mut out = Vec::new();
        for (id, s) in self.socks.packet.iter().filter(|(_, s)| s.sk.ns == ns) {
            out.push(SockView { users: opened(SockId::Packet(id)), ..self.packet_row(id.to_bits(), s) });
        }
        for (id, s) in self.socks.udp.iter().filter(|(_, s)| s.sk.ns == ns && s.sk.num != 0) {
            out.push(SockView { users: opened(SockId::Udp(id)), ..self.udp_row(id.to_bits(), &s.sk) });
        }
        for (id, s) in self.socks.raw.iter().filter(|(_, s)| s.sk.ns == ns && s.hashed) {
            out.push(SockView { users: opened(SockId::Raw(id)), ..self.raw_row(id.to_bits(), s) });
        }
        // As Linux' dumps: sockets that are bound and nothing more, or over, are in no table.
        let shown = |s: &TcpSock| s.sk.ns == ns && s.state != State::Close;
        for listener in [true, false] {
            for (id, s) in self.socks.tcp.iter().filter(|(_, s)| shown(s) && (s.state == State::Listen) == listener) {
                let row = if listener { self.listener_row(s) } else { self.connection_row(s) };
                out.push(SockView { cookie: id.to_bits(), users: opened(SockId::Tcp(id)), ..row });
            }
        }
        self.small_rows(netns, &mut out);
        out
    }

    /// Sockets with the processes that have them open.
    fn users(&self, ns: NsId) -> Vec<(SockId, UserView)> {
        let mut out = Vec::new();
        for (id, p) in self.tasks.procs.iter().filter(|(_, p)| p.ns == ns) {
            for (fd, file) in open_files(&p.fds) {
                if let Some(FileKind::Sock(sock)) = self.files.files.get(file).map(|f| f.kind) {
                    out.push((sock, UserView { name: p.name.clone(), pid: id.slot() + 1, fd }));
                }
            }
        }
        out
    }

    fn expires_ms(&self, slot: &TimerSlot) -> Option<u64> {
        let at: Nanos = tick_start(slot.deadline()?, self.net.env.hz);
        Some(at.saturating_sub(self.net.env.now) / 1_000_000)
    }

    fn common(&self, sk: &Sock, state: State) -> SockView {
        SockView {
            netid: "tcp".into(),
            state: state.name().into(),
            inet6: sk.family == Family::Inet6,
            v6only: sk.flags.ipv6only,
            recv_q: 0,
            send_q: 0,
            local: sk.rcv_saddr,
            lport: sk.num,
            peer: sk.daddr,
            pport: sk.dport,
            device: sk.bound_dev.and_then(|d| self.net.devs.get(d)).map(|d| d.name.clone()),
            uid: sk.uid,
            inode: sk.inode,
            cookie: 0,
            shutdown: sk.shutdown,
            timer: None,
            skmem: Some(SkmemView {
                rmem_alloc: sk.rmem_alloc,
                rcvbuf: sk.rcvbuf,
                wmem_alloc: sk.wmem_alloc,
                sndbuf: sk.sndbuf,
                fwd_alloc: 0,
                wmem_queued: sk.wmem_queued,
                optmem: sk.cold.as_ref().map_or(0, |c| c.omem),
                backlog: 0,
                drops: sk.drops,
            }),
            cong: None,
            info: None,
            bbr: None,
            quickack: 0,
            syn_queue: None,
            users: Vec::new(),
        }
    }

    fn udp_row(&self, cookie: u64, sk: &Sock) -> SockView {
        let state = if sk.dport != 0 { State::Established } else { State::Close };
        SockView {
            netid: "udp".into(),
            recv_q: sk.rmem_alloc.into(),
            send_q: sk.wmem_alloc.into(),
            cookie,
            ..self.common(sk, state)
        }
    }

    fn raw_row(&self, cookie: u64, s: &RawSock) -> SockView {
        let state = if s.connected() { State::Established } else { State::Close };
        let (netid, pport) = if s.kind == raw::Kind::Ping { ("icmp", s.sk.dport) } else { ("raw", 0) };
        SockView {
            netid: netid.into(),
            recv_q: s.sk.rmem_alloc.into(),
            send_q: s.sk.wmem_alloc.into(),
            pport,
            cookie,
            ..self.common(&s.sk, state)
        }
    }

    fn packet_row(&self, cookie: u64, s: &PacketSock) -> SockView {
        SockView {
            netid: if s.cooked { "p_dgr" } else { "p_raw" }.into(),
            recv_q: s.sk.rmem_alloc.into(),
            lport: s.proto,
            device: s.dev.and_then(|d| self.net.devs.get(d)).map(|d| d.name.clone()),
            cookie,
            ..self.common(&s.sk, State::Close)
        }
    }

    fn listener_row(&self, s: &TcpSock) -> SockView {
        let l = s.listener.as_deref();
        SockView {
            recv_q: l.map_or(0, |l| l.accept.len() as u64),
            send_q: l.map_or(0, |l| u64::from(l.max_ack_backlog)),
            cong: Some(s.cong.name().name().into()),
            info: Some(tcp_info(s, &self.net)),
            syn_queue: Some(l.map_or(0, |l| l.qlen)),
            ..self.common(&s.sk, State::Listen)
        }
    }

    fn connection_row(&self, s: &TcpSock) -> SockView {
        let common = self.common(&s.sk, s.state);
        let fwd_alloc = crate::net::tcp::mem::forward_alloc(s);
        SockView {
            skmem: common.skmem.clone().map(|m| SkmemView { fwd_alloc, ..m }),
            recv_q: u64::from(s.rcv.nxt.wrapping_sub(s.rcv.copied_seq)),
            send_q: u64::from(s.snd.write_seq.wrapping_sub(s.snd.una)),
            timer: self.tcp_timer(s),
            quickack: u32::from(s.rcv.ack.quick) << 1 | u32::from(s.rcv.ack.pingpong >= 3),
            cong: Some(s.cong.name().name().into()),
            info: Some(tcp_info(s, &self.net)),
            // The kernel's dump asks the algorithm up to FIN_WAIT2 by number, which leaves the later states out.
            bbr: bbr_info(s)
                .filter(|_| s.state < State::TimeWait)
                .map(|(bw, min_rtt, pacing_gain, cwnd_gain)| BbrView { bw, min_rtt, pacing_gain, cwnd_gain }),
            ..common
        }
    }

    /// The timer that inet_diag reports: the write timer before keepalive.
    fn tcp_timer(&self, s: &TcpSock) -> Option<TimerView> {
        let timer = |kind: &str, slot, retrans: u8| {
            Some(TimerView { kind: kind.into(), expires_ms: self.expires_ms(slot)?, retrans: retrans.into() })
        };
        match s.write_timer_kind {
            WriteTimer::Retrans | WriteTimer::LossProbe | WriteTimer::ReoTimeout => {
                timer("on", &s.write_timer, s.loss.retransmits)
            }
            WriteTimer::Probe0 => timer("persist", &s.write_timer, s.snd.probes_out),
            WriteTimer::None => None,
        }
        .or_else(|| timer("keepalive", &s.keepalive_timer, s.snd.probes_out))
    }

    /// Requests and TIME_WAIT entries: rows without a socket behind them.
    fn small_rows(&self, ns: &NetNs, out: &mut Vec<SockView>) {
        for (id, r) in ns.tcp.reqs.iter() {
            let Some(listener) = self.socks.tcp.get(r.listener) else { continue };
            let expires_ms = self.expires_ms(&r.timer).unwrap_or(0);
            out.push(SockView {
                local: r.laddr,
                lport: r.lport,
                peer: r.raddr,
                pport: r.rport,
                inode: 0,
                cookie: id.to_bits(),
                timer: Some(TimerView { kind: "on".into(), expires_ms, retrans: r.num_timeout.into() }),
                skmem: None,
                ..self.common(&listener.sk, State::SynRecv)
            });
        }
        for (id, t) in ns.tcp.tws.iter() {
            let left = tick_start(t.deadline(), self.net.env.hz).saturating_sub(self.net.env.now);
            out.push(time_wait_row(id.to_bits(), t, left / 1_000_000));
        }
    }
}

fn time_wait_row(cookie: u64, t: &TimeWaitSock, expires_ms: u64) -> SockView {
    SockView {
        netid: "tcp".into(),
        state: t.state().name().into(),
        inet6: t.ends.get().0.is_ipv6(),
        v6only: false,
        recv_q: 0,
        send_q: 0,
        local: t.ends.get().0,
        lport: t.lport,
        peer: t.ends.get().1,
        pport: t.rport,
        device: None,
        uid: 0,
        inode: 0,
        cookie,
        shutdown: 0,
        timer: Some(TimerView { kind: "timewait".into(), expires_ms, retrans: 0 }),
        skmem: None,
        cong: None,
        info: None,
        bbr: None,
        quickack: 0,
        syn_queue: None,
        users: Vec::new(),
    }
}
