//! Which settings there are by name, also those that each device has; what a mistyped one was meant to be; whether a value can
//! be taken before there is a machine to take it.
use super::{Conf6, Global, Sysctl};
use crate::net::core::neigh_sysctl;
use crate::net::ipv4::devconf;
use belljar_abi::Errno;

/// Directories that have one of their own per device.
pub const PER_DEVICE: [&str; 4] = ["net.ipv4.conf", "net.ipv4.neigh", "net.ipv6.conf", "net.ipv6.neigh"];

/// Settings in a directory of a device.
pub fn conf_keys(dir: &str) -> Vec<&'static str> {
    match dir {
        "net.ipv4.conf" => devconf::names().collect(),
        "net.ipv6.conf" => Conf6::KEYS.to_vec(),
        _ => neigh_sysctl::names(dir).collect(),
    }
}

/// The directory, the device (whose name may have points), the setting.
fn of_device(key: &str) -> Option<(&'static str, &str, &str)> {
    let dir = PER_DEVICE.into_iter().find(|dir| key.strip_prefix(dir).is_some_and(|rest| rest.starts_with('.')))?;
    let (dev, name) = key.get(dir.len() + 1..)?.rsplit_once('.')?;
    Some((dir, dev, name))
}

fn is_plain(key: &str) -> bool {
    Sysctl::KEYS.contains(&key) || Global::KEYS.contains(&key)
}

/// The device that a setting of one belongs to, if it is one.
pub fn device_of(key: &str) -> Option<&str> {
    let (dir, dev, name) = of_device(key).filter(|_| !is_plain(key))?;
    conf_keys(dir).contains(&name).then_some(dev)
}

/// Whether there is such a setting; which devices there are is seen when it is set.
pub fn is_known(key: &str) -> bool {
    is_plain(key) || device_of(key).is_some()
}

/// ENOENT for a setting that there is not, EINVAL for a value that none takes as it is at first.
pub fn check(key: &str, value: &str) -> Result<(), Errno> {
    if Global::KEYS.contains(&key) {
        return Global::default().store(key, value);
    }
    if Sysctl::KEYS.contains(&key) {
        return Sysctl::default().store(key, value);
    }
    match of_device(key).ok_or(Errno::ENOENT)? {
        ("net.ipv4.conf", _, name) => devconf::check(name, value),
        ("net.ipv6.conf", _, name) => Conf6::default().store(name, value),
        (dir, _, name) => neigh_sysctl::check(dir, name, value),
    }
}

/// The known key nearest to a mistyped one, for the error message. `None` also for a key that is right.
pub fn nearest(key: &str) -> Option<String> {
    let plain = Sysctl::KEYS.iter().chain(Global::KEYS).map(|k| (distance(key, k), (*k).to_owned()));
    let best = plain.chain(nearest_of_device(key)).min_by_key(|(d, _)| *d)?;
    (best.0 > 0 && best.0 <= key.len() / 3 + 1).then_some(best.1)
}

/// Of some words the one nearest to a mistyped one, where one is near.
pub fn nearest_among<'a>(word: &str, all: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (far, best) = all.into_iter().map(|w| (distance(word, w), w)).min_by_key(|w| w.0)?;
    (far > 0 && far <= word.len() / 3 + 1 && far < word.len()).then_some(best)
}

/// The same of a device's: its name is as it was written, directory and setting are what they may have been meant to be.
fn nearest_of_device(key: &str) -> Option<(usize, String)> {
    let mut points = key.match_indices('.').map(|(at, _)| at);
    let (Some(end), Some(last)) = (points.nth(2), key.rfind('.').filter(|last| *last > 0)) else { return None };
    let dev = key.get(end..last).filter(|dev| dev.len() > 1)?;
    let (dir, name) = (key.get(..end)?, key.get(last + 1..)?);
    let (far, dir) = PER_DEVICE.into_iter().map(|d| (distance(dir, d), d)).min()?;
    let (off, near) = conf_keys(dir).into_iter().map(|k| (distance(name, k), k)).min()?;
    (off <= name.len() / 3 + 1).then(|| (far + off, format!("{dir}{dev}.{near}")))
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_find_their_neighbour_when_it_is_near() {
        let near = |w| nearest_among(w, ["run", "ps", "lab", "tcpdump"]);
        assert_eq!([near("rnu"), near("tcpdmp"), near("run"), near("x")], [Some("run"), Some("tcpdump"), None, None]);
    }

    #[test]
    fn typos_find_their_neighbour_also_of_a_device() {
        for (typo, meant) in [
            ("net.core.somaxcon", "net.core.somaxconn"),
            ("net.ipv4.conf.all.log_martian", "net.ipv4.conf.all.log_martians"),
            ("net.ipv4.conf.eth0.5.rpfilter", "net.ipv4.conf.eth0.5.rp_filter"),
            ("net.ipv6.conf.eth0.acept_ra", "net.ipv6.conf.eth0.accept_ra"),
            ("net.ipv6.cnf.default.accept_ra", "net.ipv6.conf.default.accept_ra"),
            ("net.ipv6.neigh.v0.gc_stale_tim", "net.ipv6.neigh.v0.gc_stale_time"),
            ("net.ipv4.neigh.default.gc_thres3", "net.ipv4.neigh.default.gc_thresh3"),
        ] {
            assert_eq!(nearest(typo).as_deref(), Some(meant), "{typo}");
            assert!(!is_known(typo) && is_known(meant), "{typo}");
        }
        for other in ["kernel.hostname", "net.ipv4.conf.eth0.log_martians", "."] {
            assert_eq!(nearest(other), None, "{other}");
        }
    }

    #[test]
    fn values_are_checked_without_a_machine() {
        assert_eq!(check("net.ipv4.conf.eth0.rp_filter", "2"), Ok(()));
        assert_eq!(check("net.ipv4.conf.eth0.rp_filter", "x"), Err(Errno::EINVAL));
        assert_eq!(check("net.ipv4.conf.all.mc_forwarding", "1"), Err(Errno::EACCES));
        assert_eq!(check("net.ipv6.conf.all.hop_limit", "256"), Err(Errno::EINVAL));
        assert_eq!(check("net.ipv6.neigh.eth0.mcast_solicit", "-1"), Err(Errno::EINVAL));
        assert_eq!(check("net.ipv6.neigh.eth0.gc_thresh1", "1"), Err(Errno::ENOENT));
        assert_eq!(check("net.core.somaxconn", "-1"), Err(Errno::EINVAL));
    }
}
