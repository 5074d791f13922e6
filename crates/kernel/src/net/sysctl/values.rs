//! The shapes that settings come in: numbers, times, ranges, lists, names; how each is read and shown.
use belljar_abi::Errno;
use core::net::Ipv6Addr;

/// A setting's value as text goes in and out by this.
pub(super) trait Value: Sized {
    /// What a bad value gets, and whether there are good ones at all.
    const BAD: Errno = Errno::EINVAL;
    const WRITABLE: bool = true;
    fn show(&self) -> String;
    /// `None`: not of this shape, or outside the range (EINVAL, as the kernel's `proc_do*` handlers).
    /// What is not written keeps its value: an array's end, behind the words that are there.
    fn read(&self, text: &str, min: i64, max: i64) -> Option<Self>;
}

/// A number as the kernel reads one: decimal, `0x` or octal with a zero before it; what stands behind it is left alone.
pub fn number<T: TryFrom<i64>>(text: &str) -> Option<T> {
    let word = text.split_whitespace().next()?;
    let (minus, digits) = word.strip_prefix('-').map_or((false, word), |d| (true, d));
    let value = match (digits.strip_prefix("0x"), digits.strip_prefix('0')) {
        (Some(hex), _) => i64::from_str_radix(hex, 16),
        (_, Some(octal)) if !octal.is_empty() => i64::from_str_radix(octal, 8),
        _ => digits.parse(),
    };
    let value = value.ok().filter(|v| *v >= 0)?;
    T::try_from(if minus { -value } else { value }).ok()
}

macro_rules! int_value {
    ($($t:ty),*) => {$(
        impl Value for $t {
            fn show(&self) -> String {
                self.to_string()
            }
            fn read(&self, text: &str, min: i64, max: i64) -> Option<$t> {
                let v: i64 = number(text)?;
                (min..=max).contains(&v).then_some(v as $t)
            }
        }
    )*};
}
int_value!(i32, u32, u64);

impl<const N: usize> Value for [u64; N] {
    fn show(&self) -> String {
        self.map(|v| v.to_string()).join("\t")
    }
    fn read(&self, text: &str, min: i64, max: i64) -> Option<[u64; N]> {
        let mut out = *self;
        text.split_whitespace().next()?;
        for (o, word) in out.iter_mut().zip(text.split_whitespace()) {
            let v: i64 = number(word)?;
            *o = (min..=max).contains(&v).then_some(v as u64)?;
        }
        Some(out)
    }
}

/// Seconds that the kernel keeps as ticks of 4 ms in an int (`proc_dointvec_jiffies`). Less than none is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Secs(pub i32);

impl Secs {
    const MOST: i64 = i32::MAX as i64 / 250;
    const LEAST: i64 = i32::MIN as i64 / 250;

    pub fn get(self) -> u32 {
        self.0.max(0) as u32
    }
}

impl From<Secs> for u64 {
    fn from(s: Secs) -> u64 {
        s.get().into()
    }
}

impl Value for Secs {
    fn show(&self) -> String {
        self.0.to_string()
    }
    fn read(&self, text: &str, min: i64, max: i64) -> Option<Secs> {
        let v: i64 = number(text)?;
        (min.max(Secs::LEAST)..=max.min(Secs::MOST)).contains(&v).then_some(Secs(v as i32))
    }
}

/// Milliseconds, up to the next tick of 4 (`proc_dointvec_ms_jiffies`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Millis(pub u32);

impl Millis {
    pub fn get(self) -> u32 {
        self.0
    }
}

impl From<Millis> for u64 {
    fn from(m: Millis) -> u64 {
        m.0.into()
    }
}

impl Value for Millis {
    fn show(&self) -> String {
        self.0.to_string()
    }
    fn read(&self, text: &str, min: i64, max: i64) -> Option<Millis> {
        // Only the lower half of a longer number counts; its highest bit would be a sign.
        let v = number::<i64>(text).filter(|v| *v >= 0)? as u32;
        let v = Some(v).filter(|v| *v <= i32::MAX as u32)?.next_multiple_of(4);
        (min..=max.max(min).saturating_add(3)).contains(&v.into()).then_some(Millis(v))
    }
}

/// Any number; what is not nought is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switch(pub bool);

impl Value for Switch {
    fn show(&self) -> String {
        u8::from(self.0).to_string()
    }
    fn read(&self, text: &str, _: i64, _: i64) -> Option<Switch> {
        number::<i32>(text).map(|v| Switch(v != 0))
    }
}

/// Writing to it does something; there is nothing to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trigger;

impl Value for Trigger {
    fn show(&self) -> String {
        String::new()
    }
    fn read(&self, _: &str, _: i64, _: i64) -> Option<Trigger> {
        Some(Trigger)
    }
}

/// A number that the kernel counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count(pub u32);

impl Value for Count {
    const WRITABLE: bool = false;
    fn show(&self) -> String {
        self.0.to_string()
    }
    fn read(&self, _: &str, _: i64, _: i64) -> Option<Count> {
        None
    }
}

/// A set of CPUs, words of eight hexadecimal digits; which of them there are, the machine knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuMask(pub u64);

impl Value for CpuMask {
    fn show(&self) -> String {
        format!("{:x}", self.0)
    }
    /// Too many digits are CPUs that there are not, not a mistake.
    fn read(&self, text: &str, _: i64, _: i64) -> Option<CpuMask> {
        let mut all = 0u64;
        for word in text.split([',', ' ', '\t', '\n']).filter(|w| !w.is_empty()) {
            if !word.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            let low = u32::from_str_radix(word, 16).ok();
            let fits = low.filter(|_| all <= u64::from(u32::MAX));
            all = fits.map_or(u64::MAX, |low| all << 32 | u64::from(low));
        }
        Some(CpuMask(all))
    }
}

/// Where lines go that no rule asked for (`nf_log.N`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    Nowhere,
    /// Into the machine's log.
    Syslog,
    /// To the program of group 0 (`nfnetlink_log`).
    Netlink,
}

/// The same, and what writing the machine's log is called for the family; empty: nobody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logger {
    syslog: &'static str,
    pub to: Log,
}

impl Logger {
    pub(super) fn of(syslog: &'static str) -> Logger {
        Logger { syslog, to: if syslog.is_empty() { Log::Nowhere } else { Log::Syslog } }
    }
}

impl Value for Logger {
    const BAD: Errno = Errno::ENOENT;
    fn show(&self) -> String {
        match self.to {
            Log::Nowhere => "NONE",
            Log::Syslog => self.syslog,
            Log::Netlink => "nfnetlink_log",
        }
        .to_owned()
    }
    fn read(&self, text: &str, _: i64, _: i64) -> Option<Logger> {
        let to = match text.trim_end_matches('\n') {
            "NONE" => Log::Nowhere,
            "nfnetlink_log" => Log::Netlink,
            name if !name.is_empty() && name == self.syslog => Log::Syslog,
            _ => return None,
        };
        Some(Logger { to, ..*self })
    }
}

/// `stable_secret`: written as an address, all of its digits shown; nothing to be read before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Secret(pub Option<Ipv6Addr>);

impl Value for Secret {
    const BAD: Errno = Errno::EIO;
    fn show(&self) -> String {
        self.0.map_or(String::new(), |a| a.segments().map(|s| format!("{s:04x}")).join(":"))
    }
    fn read(&self, text: &str, _: i64, _: i64) -> Option<Secret> {
        text.trim_end_matches('\n').parse().ok().map(|a| Secret(Some(a)))
    }
}

/// `ip_local_port_range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub lo: u16,
    pub hi: u16,
}

impl Value for PortRange {
    fn show(&self) -> String {
        format!("{}\t{}", self.lo, self.hi)
    }
    fn read(&self, text: &str, least: i64, _: i64) -> Option<PortRange> {
        let mut w = text.split_whitespace().map(number::<u16>);
        let (lo, hi) = (w.next()??, w.next().unwrap_or(Some(self.hi))?);
        (i64::from(lo) >= least && lo <= hi).then_some(PortRange { lo, hi })
    }
}

/// `ping_group_range`: the groups that may open ping sockets; `1 0` is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRange {
    pub lo: u32,
    pub hi: u32,
}

impl Value for GroupRange {
    fn show(&self) -> String {
        format!("{}\t{}", self.lo, self.hi)
    }
    fn read(&self, text: &str, _: i64, _: i64) -> Option<GroupRange> {
        let mut w = text.split_whitespace().map(number::<u32>);
        let (lo, hi) = (w.next()??, w.next().unwrap_or(Some(self.hi))?);
        if lo == u32::MAX || hi == u32::MAX {
            return None;
        }
        Some(if lo > hi { GroupRange { lo: 1, hi: 0 } } else { GroupRange { lo, hi } })
    }
}

/// `ip_local_reserved_ports`: a list like `8080,9000-9010`, as a sorted list of ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(pub Vec<(u16, u16)>);

impl PortSet {
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|&(lo, hi)| (lo..=hi).contains(&port))
    }
}

impl Value for PortSet {
    fn show(&self) -> String {
        let one = |&(lo, hi): &(u16, u16)| if lo == hi { lo.to_string() } else { format!("{lo}-{hi}") };
        self.0.iter().map(one).collect::<Vec<_>>().join(",")
    }
    fn read(&self, text: &str, _: i64, max: i64) -> Option<PortSet> {
        let mut ranges = Vec::new();
        for part in text.trim().split(',').filter(|p| !p.is_empty()) {
            let (lo, hi) = part.split_once('-').unwrap_or((part, part));
            let (lo, hi) = (lo.trim().parse().ok()?, hi.trim().parse().ok()?);
            if lo > hi || i64::from(hi) > max {
                return None;
            }
            ranges.push((lo, hi));
        }
        ranges.sort_unstable();
        Some(PortSet(ranges))
    }
}

/// `tcp_congestion_control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CongName {
    Reno,
    Cubic,
    Bbr,
}

impl CongName {
    /// In the order of tcp_available_congestion_control.
    pub const ALL: [CongName; 3] = [CongName::Reno, CongName::Cubic, CongName::Bbr];

    pub fn name(self) -> &'static str {
        match self {
            CongName::Reno => "reno",
            CongName::Cubic => "cubic",
            CongName::Bbr => "bbr",
        }
    }

    pub fn parse(name: &str) -> Option<CongName> {
        CongName::ALL.into_iter().find(|c| c.name() == name)
    }
}

/// `default_qdisc`: what a device with a queue gets when it comes up for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QdiscName(pub &'static str);

impl QdiscName {
    /// All may be chosen; of those that cannot be without options a device gets none.
    const ALL: [&'static str; 11] =
        ["pfifo_fast", "fq_codel", "fq", "pfifo", "bfifo", "tbf", "netem", "prio", "htb", "mq", "noqueue"];
}

impl Value for QdiscName {
    const BAD: Errno = Errno::ENOENT;
    fn show(&self) -> String {
        self.0.to_owned()
    }
    fn read(&self, text: &str, _: i64, _: i64) -> Option<QdiscName> {
        QdiscName::ALL.into_iter().find(|n| *n == text.trim()).map(QdiscName)
    }
}

/// `tcp_fastopen_key`: the key that cookies are made with, and one that is still good for checking them. None: one that
/// nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FastOpenKeys {
    pub primary: Option<[u32; 4]>,
    pub backup: Option<[u32; 4]>,
}

impl Value for FastOpenKeys {
    fn show(&self) -> String {
        let one = |k: [u32; 4]| k.map(|w| format!("{w:08x}")).join("-");
        let first = one(self.primary.unwrap_or_default());
        self.backup.map_or(first.clone(), |b| format!("{first},{}", one(b)))
    }
    fn read(&self, text: &str, _: i64, _: i64) -> Option<FastOpenKeys> {
        let one = |text: &str| {
            let mut words = text.trim().split('-');
            let mut key = [0; 4];
            for w in &mut key {
                *w = words
                    .next()
                    .filter(|w| (1..=8).contains(&w.len()))
                    .and_then(|w| u32::from_str_radix(w, 16).ok())?;
            }
            words.next().is_none().then_some(key)
        };
        Some(match text.split_once(',') {
            Some((first, second)) => FastOpenKeys { primary: Some(one(first)?), backup: Some(one(second)?) },
            None => FastOpenKeys { primary: Some(one(text)?), backup: None },
        })
    }
}

impl Value for CongName {
    const BAD: Errno = Errno::ENOENT;
    fn show(&self) -> String {
        self.name().to_owned()
    }
    fn read(&self, text: &str, _: i64, _: i64) -> Option<CongName> {
        CongName::parse(text.trim())
    }
}

/// `tcp_allowed_congestion_control`: what a program may choose without being privileged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CongSet(pub(super) u8);

impl CongSet {
    pub fn contains(self, name: CongName) -> bool {
        self.0 & 1 << name as u8 != 0
    }
}

impl Value for CongSet {
    const BAD: Errno = Errno::ENOENT;
    fn show(&self) -> String {
        let names = CongName::ALL.into_iter().filter(|c| self.contains(*c)).map(CongName::name);
        names.collect::<Vec<_>>().join(" ")
    }
    fn read(&self, text: &str, _: i64, _: i64) -> Option<CongSet> {
        text.split_whitespace().try_fold(CongSet(0), |set, w| Some(CongSet(set.0 | 1 << CongName::parse(w)? as u8)))
    }
}

/// `tcp_available_congestion_control`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Available;

impl Value for Available {
    const WRITABLE: bool = false;
    fn show(&self) -> String {
        CongName::ALL.map(CongName::name).join(" ")
    }
    fn read(&self, _: &str, _: i64, _: i64) -> Option<Available> {
        None
    }
}
