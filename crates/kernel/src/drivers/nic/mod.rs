//! A network card: descriptor rings shared with the wire side, an interrupt that is masked while NAPI polls, coalescing,
//! offloads. Each channel is a ring each way with a vector each way and one NAPI for both; with more than one, RSS spreads
//! flows over them.
//!
//! ```text
//!   wire ─ rx_frame ─ RSS ─▶ rx ring (hardware fills) ─ irq ─▶ NAPI poll (driver cleans) ─▶ stack
//!   stack ─ start_xmit ─▶ tx ring (driver fills) ─ doorbell ─▶ wire ─ irq ─▶ NAPI poll frees
//! ```
pub mod channels;
pub mod dim;
pub mod dql;
pub mod ethtool;
mod filter;
pub mod irq;
pub mod line;
mod lro;
pub mod rss;
pub mod rx;
pub mod stats;
pub mod tx;

pub use irq::Irq;
pub use lro::How;
pub use rss::Rss;
pub use rx::{RxRing, rx_frame};
pub use tx::TxRing;

use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::dev::Features;
use crate::net::core::napi::NapiState;
use crate::net::core::skb::Skb;
use crate::net::hits::Hits;
use belljar_abi::Errno;
use belljar_abi::ethtool::{DUPLEX_FULL, DUPLEX_UNKNOWN, SPEED_UNKNOWN};
use belljar_wire::Mac;

/// Packets a NAPI may take in one poll.
pub const NAPI_WEIGHT: u32 = 64;
/// Largest ring (`ethtool -g`: pre-set maximum).
pub const MAX_RING: u32 = 4096;
pub const MIN_RING: u32 = 8;
/// Most channels that a card is built with.
pub const MAX_CHANNELS: u32 = 16;
/// Number of the first vector.
const FIRST_VECTOR: u32 = 24;

/// What a new card has.
#[derive(Clone, Debug)]
pub struct NicConfig {
    pub name: String,
    pub mac: Mac,
    pub mtu: u32,
    pub rx_ring: u32,
    pub tx_ring: u32,
    /// Mbit/s at which what is sent leaves the ring, which then has byte queue limits; 0: at once.
    pub speed: u32,
    /// Channels that the card has (`ethtool -l`); all of them are in use at first.
    pub channels: u32,
    pub features: Features,
}

impl Default for NicConfig {
    fn default() -> NicConfig {
        NicConfig {
            name: "eth0".to_owned(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            rx_ring: 256,
            tx_ring: 256,
            speed: 0,
            channels: 1,
            features: Features::ALL,
        }
    }
}

/// A channel: a ring each way, and what tells the CPU about them.
#[derive(Clone, Debug)]
pub struct Queue {
    pub rx: RxRing,
    pub tx: TxRing,
    pub irq: Irq,
    pub napi: NapiState,
}

impl Queue {
    /// Packets that it holds: sent and not freed, received and held by GRO.
    pub(crate) fn skbs(&self) -> impl Iterator<Item = &Skb> {
        self.tx.skbs().chain(self.rx.skbs())
    }

    pub(crate) fn into_skbs(self) -> impl Iterator<Item = Skb> {
        self.tx.into_skbs().chain(self.rx.into_skbs())
    }
}

/// The driver's private part of a device.
#[derive(Clone, Debug)]
pub struct Nic {
    /// All that the hardware has. Those that are not in use keep their counters, and what is still in their rings is polled
    /// as ever.
    pub queues: Vec<Queue>,
    /// Channels in use.
    pub(crate) active: usize,
    pub rss: Rss,
    /// `rx-usecs` and `rx-frames` as they were asked for, when they are adaptive.
    pub(crate) coalesce: (u32, u32),
    /// What takes its time to the wire.
    pub line: Option<line::Line>,
    /// Whose frames found no receive descriptor.
    pub rx_full: Option<Hits>,
    /// Frames that its filters did not take, and tags that it took off.
    pub rx_filtered: u64,
    pub vlan_removed: u64,
    /// Number of the first of its vectors (`/proc/interrupts`): input and output of each queue.
    pub vector: u32,
}

fn fits(ring: u32) -> bool {
    (MIN_RING..=MAX_RING).contains(&ring)
}

impl Nic {
    /// EINVAL for a ring that is too small or too large, or for too many channels.
    pub fn new(config: &NicConfig) -> Result<Nic, Errno> {
        let channels = (1..=MAX_CHANNELS).contains(&config.channels);
        if !channels || !fits(config.rx_ring) || !fits(config.tx_ring) || !(68..=65_536).contains(&config.mtu) {
            return Err(Errno::EINVAL);
        }
        let one = || Queue {
            rx: RxRing::new(config.rx_ring),
            tx: TxRing::new(config.tx_ring),
            irq: Irq::default(),
            napi: NapiState::default(),
        };
        let queues: Vec<Queue> = (0..config.channels).map(|_| one()).collect();
        let (active, rss) = (queues.len(), Rss::new(queues.len()));
        Ok(Nic {
            queues,
            active,
            rss,
            rx_full: None,
            rx_filtered: 0,
            vlan_removed: 0,
            coalesce: (0, 0),
            line: line::Line::new(config.speed),
            vector: FIRST_VECTOR,
        })
    }

    /// Speed in Mbit/s and duplex, as ethtool shows them.
    pub fn link(&self) -> (u32, u8) {
        self.line.as_ref().map_or((SPEED_UNKNOWN, DUPLEX_UNKNOWN), |l| (l.speed, DUPLEX_FULL))
    }

    pub fn channels(&self) -> usize {
        self.active
    }

    #[inline]
    pub fn queue_mut(&mut self, queue: u16) -> Option<&mut Queue> {
        self.queues.get_mut(usize::from(queue))
    }

    /// The size of the rings each way, which all channels share.
    pub fn ring_sizes(&self) -> (u32, u32) {
        self.queues.first().map_or((0, 0), |q| (q.rx.size() as u32, q.tx.size() as u32))
    }
}

impl Net {
    #[inline]
    pub(crate) fn nic_queue(&mut self, dev: DevId, queue: u16) -> Option<&mut Queue> {
        self.devs.get_mut(dev)?.nic_mut()?.queue_mut(queue)
    }

    /// Vectors for a new card, each for the CPU after that of the one before.
    pub(crate) fn request_vectors(&mut self, dev: DevId) {
        let last = |n: &Nic| n.vector + 2 * n.queues.len() as u32;
        let others = self.devs.iter().filter(|(id, _)| *id != dev).filter_map(|(_, d)| d.nic());
        let vector = others.map(last).max().unwrap_or(FIRST_VECTOR);
        let cpus = self.cpus.len().max(1);
        let hz = self.env.hz;
        let ids: Vec<u32> = (0..MAX_CHANNELS).map(|_| self.new_napi_id()).collect();
        let Some(nic) = self.devs.get_mut(dev).and_then(|d| d.nic_mut()) else { return };
        nic.vector = vector;
        channels::spread_xps(nic, cpus);
        for ((n, q), id) in nic.queues.iter_mut().enumerate().zip(ids) {
            q.napi.id = id;
            q.tx.dql.hold_time = hz;
            q.irq.route(irq::Way::Input, 1 << (n % cpus), cpus);
            q.irq.route(irq::Way::Output, 1 << (n % cpus), cpus);
        }
    }
}
