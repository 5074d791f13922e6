//! ICMP: echo, errors with rate limits, what errors do to sockets.
