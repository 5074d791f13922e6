//! Network devices.
use crate::ids::NsId;

#[derive(Clone, Debug)]
pub struct NetDevice {
    pub ns: NsId,
    pub name: String,
    pub ifindex: u32,
    pub mtu: u32,
}
