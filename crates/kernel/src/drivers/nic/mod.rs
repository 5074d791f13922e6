//! A network card: descriptor rings shared with the wire side, an interrupt that is masked while NAPI polls, coalescing,
//! offloads. One queue each way.
//!
//! ```text
//!   wire ─ rx_frame ─▶ rx ring (hardware fills) ─ irq ─▶ NAPI poll (driver cleans) ─▶ stack
//!   stack ─ start_xmit ─▶ tx ring (driver fills) ─ doorbell ─▶ wire ─ irq ─▶ NAPI poll frees
//! ```
pub mod ethtool;
pub mod irq;
pub mod rx;
pub mod tx;

pub use irq::Irq;
pub use rx::{RxRing, rx_frame};
pub use tx::TxRing;

use crate::net::core::dev::Features;
use belljar_abi::Errno;
use belljar_wire::Mac;

/// Packets a NAPI may take in one poll.
pub const NAPI_WEIGHT: u32 = 64;
/// Largest ring (`ethtool -g`: pre-set maximum).
pub const MAX_RING: u32 = 4096;
const MIN_RING: u32 = 8;

/// What a new card has.
#[derive(Clone, Debug)]
pub struct NicConfig {
    pub name: String,
    pub mac: Mac,
    pub mtu: u32,
    pub rx_ring: u32,
    pub tx_ring: u32,
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
            features: Features::ALL,
        }
    }
}

/// The driver's private part of a device.
#[derive(Clone, Debug)]
pub struct Nic {
    /// What was asked of the offloads; in effect is what goes together.
    pub wanted: Features,
    pub rx: RxRing,
    pub tx: TxRing,
    pub irq: Irq,
}

fn fits(ring: u32) -> bool {
    (MIN_RING..=MAX_RING).contains(&ring)
}

impl Nic {
    /// EINVAL for a ring that is too small or too large.
    pub fn new(config: &NicConfig) -> Result<Nic, Errno> {
        if !fits(config.rx_ring) || !fits(config.tx_ring) || !(68..=65_536).contains(&config.mtu) {
            return Err(Errno::EINVAL);
        }
        let wanted = config.features;
        Ok(Nic { wanted, rx: RxRing::new(config.rx_ring), tx: TxRing::new(config.tx_ring), irq: Irq::default() })
    }
}
