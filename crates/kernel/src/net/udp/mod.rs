//! UDP.
use crate::net::core::sock::Sock;

#[derive(Clone, Debug)]
pub struct UdpSock {
    pub sk: Sock,
}
