//! Linux constants and layouts: errno, sockaddr, socket options, netlink, tcp_info.
#![forbid(unsafe_code)]
