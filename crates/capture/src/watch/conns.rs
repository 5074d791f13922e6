//! [`Conns`]: the connections that moved most bytes and those that repeated most segments, a fixed number of each.
use belljar_abi::tcp_info::TcpInfo;
use belljar_kernel::ids::TcpId;
use belljar_kernel::net::Net;
use belljar_kernel::net::tcp::info::tcp_info;
use belljar_kernel::net::tcp::sock::TcpSock;
use core::net::IpAddr;

/// Kept by bytes, and as many by retransmissions.
pub const MOST: usize = 20;

/// A connection as it was last seen: at its end, or when the run ended.
#[derive(Clone, Debug)]
pub struct Conn {
    id: TcpId,
    pub local: (IpAddr, u16),
    pub peer: (IpAddr, u16),
    /// The last one before CLOSE.
    pub state: &'static str,
    pub cong: &'static str,
    pub info: TcpInfo,
}

impl Conn {
    pub fn bytes(&self) -> u64 {
        self.info.bytes_acked.saturating_add(self.info.bytes_received)
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Conns {
    by_bytes: Vec<Conn>,
    by_retrans: Vec<Conn>,
    /// Connections that were looked at, a connection once for each time.
    pub seen: u64,
}

impl Conns {
    pub(super) fn offer(&mut self, id: TcpId, sk: &TcpSock, net: &Net, state: &'static str) {
        self.seen += 1;
        let bytes = sk.totals.bytes_acked.saturating_add(sk.totals.bytes_received);
        let retrans = u64::from(sk.loss.total_retrans);
        let mut made = None;
        for (list, rank, key) in [
            (&mut self.by_bytes, bytes, Conn::bytes as fn(&Conn) -> u64),
            (&mut self.by_retrans, retrans, |c| u64::from(c.info.total_retrans)),
        ] {
            let Some(place) = place(list, id, rank, key) else { continue };
            let conn = made.get_or_insert_with(|| Conn {
                id,
                local: (sk.sk.rcv_saddr, sk.sk.num),
                peer: (sk.sk.daddr, sk.sk.dport),
                state,
                cong: sk.cong.name().name(),
                info: tcp_info(sk, net),
            });
            match list.get_mut(place) {
                Some(slot) => *slot = conn.clone(),
                None => list.push(conn.clone()),
            }
        }
    }

    /// All of them once, those with most bytes first.
    pub fn all(&self) -> Vec<&Conn> {
        let mut all: Vec<&Conn> = self.by_bytes.iter().collect();
        all.extend(self.by_retrans.iter().filter(|c| self.by_bytes.iter().all(|o| o.id != c.id)));
        all.sort_by_key(|c| std::cmp::Reverse((c.bytes(), c.info.total_retrans)));
        all
    }
}

/// Where a connection of this rank belongs: its old place, the end, or the least one's; `None` when all are above it.
fn place(list: &[Conn], id: TcpId, rank: u64, key: fn(&Conn) -> u64) -> Option<usize> {
    if let Some(old) = list.iter().position(|c| c.id == id) {
        return Some(old);
    }
    if list.len() < MOST {
        return Some(list.len());
    }
    let (least, at) = list.iter().enumerate().map(|(n, c)| (key(c), n)).min()?;
    (rank > least).then_some(at)
}
