//! What a readiness report is about: packed into the 64 bits that both the host's epoll and a kernel's epoll carry.
use crate::gateway::{AssocId, FlowId};
use crate::serve::setting::SettingId;
use crate::socks::SockId;
use belljar_kernel::ids::Id;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A program's socket: our end of the pair in the host's epoll, the kernel's descriptor in the kernel's.
    Sock(SockId),
    /// A connection through the gateway, likewise.
    Flow(FlowId),
    /// The notification descriptor of a program started by us.
    Listener(u32),
    /// A published port's listening socket.
    Publish(u32),
    /// A transparent or service listener in the gateway's kernel.
    Inner(u32),
    /// Two parties that exchange datagrams through the gateway.
    Assoc(AssocId),
    PublishUdp(u32),
    Control(u32),
    ControlListener,
    Signals,
    Port,
    /// A setting that a program writes.
    Setting(SettingId),
}

const TAG: u32 = 60;
const LOW: u64 = (1 << TAG) - 1;

impl Key {
    pub fn pack(self) -> u64 {
        let (tag, low) = match self {
            Key::Sock(id) => (1, id.to_bits()),
            Key::Flow(id) => (2, id.to_bits()),
            Key::Listener(n) => (3, u64::from(n)),
            Key::Publish(n) => (4, u64::from(n)),
            Key::Inner(n) => (5, u64::from(n)),
            Key::Control(n) => (6, u64::from(n)),
            Key::ControlListener => (7, 0),
            Key::Signals => (8, 0),
            Key::Assoc(id) => (9, id.to_bits()),
            Key::PublishUdp(n) => (10, u64::from(n)),
            Key::Port => (11, 0),
            Key::Setting(id) => (12, id.to_bits()),
        };
        tag << TAG | (low & LOW)
    }

    pub fn unpack(bits: u64) -> Option<Key> {
        let low = bits & LOW;
        Some(match bits >> TAG {
            1 => Key::Sock(Id::from_bits(low)?),
            2 => Key::Flow(Id::from_bits(low)?),
            3 => Key::Listener(low as u32),
            4 => Key::Publish(low as u32),
            5 => Key::Inner(low as u32),
            6 => Key::Control(low as u32),
            7 => Key::ControlListener,
            8 => Key::Signals,
            9 => Key::Assoc(Id::from_bits(low)?),
            10 => Key::PublishUdp(low as u32),
            11 => Key::Port,
            12 => Key::Setting(Id::from_bits(low)?),
            _ => return None,
        })
    }
}
