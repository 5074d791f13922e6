//! Sequence numbers: 32 bits that wrap (RFC 9293 §3.4).

/// `a` comes before `b`.
#[inline]
pub fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// `a` comes after `b`.
#[inline]
pub fn after(a: u32, b: u32) -> bool {
    before(b, a)
}

/// `low <= x <= high` on the circle.
#[inline]
pub fn between(x: u32, low: u32, high: u32) -> bool {
    high.wrapping_sub(low) >= x.wrapping_sub(low)
}

/// The later of two.
#[inline]
pub fn max(a: u32, b: u32) -> u32 {
    if after(a, b) { a } else { b }
}

/// The earlier of two.
#[inline]
pub fn min(a: u32, b: u32) -> u32 {
    if before(a, b) { a } else { b }
}
