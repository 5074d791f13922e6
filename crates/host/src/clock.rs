//! The machine's clocks and its randomness: the only places where the live driver learns them.

fn read(clock: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid timespec for the kernel to fill.
    unsafe { libc::clock_gettime(clock, &mut ts) };
    (ts.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(ts.tv_nsec as u64)
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds since 1970 (CLOCK_REALTIME).
pub fn realtime_ns() -> u64 {
    read(libc::CLOCK_REALTIME)
}

/// Fills `buf` from getrandom(2); the clock's bits where the call is missing.
pub fn random(buf: &mut [u8]) {
    // SAFETY: pointer and length describe `buf`.
    let n = unsafe { libc::getrandom(buf.as_mut_ptr().cast(), buf.len(), 0) };
    if n != buf.len() as isize {
        let mut x = realtime_ns() ^ monotonic_ns().rotate_left(32) ^ u64::from(std::process::id());
        for b in buf {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *b = (x >> 56) as u8;
        }
    }
}

/// A random seed.
pub fn seed() -> u64 {
    let mut b = [0; 8];
    random(&mut b);
    u64::from_ne_bytes(b)
}

#[cfg(test)]
mod tests {
    #[test]
    fn clocks_go_forward_and_seeds_differ() {
        let a = super::monotonic_ns();
        assert!(super::monotonic_ns() >= a);
        assert!(super::realtime_ns() > 1_600_000_000_000_000_000);
        assert_ne!(super::seed(), super::seed());
    }
}
