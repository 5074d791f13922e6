//! A socket that is ended from outside (`ss -K`, SOCK_DESTROY): its program reads ECONNABORTED, its peer a reset.
use super::close::purge_write_queue;
use super::input::{EVERYTHING, tcp_done};
use super::output::transmit;
use super::state::State;
use super::{handshake, wake};
use crate::env::Nanos;
use crate::ids::{SockId, TcpId, UdpId};
use crate::kernel::Kernel;
use crate::net::core::errqueue;
use crate::net::udp;
use belljar_abi::Errno;

impl Kernel {
    /// ENOENT for a socket that is gone, EOPNOTSUPP for a kind that cannot be ended so.
    #[doc(alias = "sock_diag_destroy")]
    pub fn sock_destroy(&mut self, now: Nanos, sock: SockId) -> Result<(), Errno> {
        self.begin_step(now);
        let done = match sock {
            SockId::Tcp(id) => tcp_abort(self, id),
            SockId::Udp(id) => udp_abort(self, id),
            _ => Err(Errno::EOPNOTSUPP),
        };
        self.end_step();
        done
    }
}

fn tcp_abort(k: &mut Kernel, id: TcpId) -> Result<(), Errno> {
    let state = k.socks.tcp.get(id).ok_or(Errno::ENOENT)?.state;
    if state == State::Listen {
        handshake::child::listen_stop(k, id);
    }
    let Kernel { socks, net, .. } = k;
    let sk = socks.tcp.get_mut(id).ok_or(Errno::ENOENT)?;
    let tells = [State::Established, State::CloseWait, State::FinWait1, State::FinWait2, State::SynRecv];
    if state.is(&tells) {
        transmit::send_active_reset(sk, net, id);
    }
    sk.sk.err = Errno::ECONNABORTED.0;
    purge_write_queue(sk, net, id);
    tcp_done(sk, net, id);
    if !sk.sk.flags.dead {
        wake(net, sk, id, EVERYTHING);
    }
    Ok(())
}

fn udp_abort(k: &mut Kernel, id: UdpId) -> Result<(), Errno> {
    k.socks.udp.get_mut(id).ok_or(Errno::ENOENT)?.sk.err = Errno::ECONNABORTED.0;
    udp::bind::disconnect(k, id);
    if let Some(s) = k.socks.udp.get_mut(id) {
        errqueue::report(&s.sk, &mut k.net.env, SockId::Udp(id));
    }
    Ok(())
}
