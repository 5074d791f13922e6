//! Who was hit when something was full, for the account at the end of a run: the first and the last of them, and when.
use core::net::IpAddr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hits {
    pub count: u64,
    pub first: IpAddr,
    pub last: IpAddr,
    pub first_at: u64,
    pub last_at: u64,
}

impl Hits {
    /// Once more, at `now`.
    #[cold]
    pub fn note(hits: &mut Option<Hits>, now: u64, who: IpAddr) {
        let new = Hits { count: 0, first: who, last: who, first_at: now, last_at: now };
        let h = hits.get_or_insert(new);
        (h.count, h.last, h.last_at) = (h.count + 1, who, now);
    }
}
