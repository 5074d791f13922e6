//! Every setting takes the values that Linux 6.18 takes, and shows them as it does: `settings/linux-6.18.txt`, which
//! `settings/record.py` made on one. A setting that is not here has to be named, with the reason.
use belljar_abi::Errno;
use belljar_kernel::Kernel;
use belljar_kernel::ids::NsId;

const RECORD: &str = include_str!("settings/linux-6.18.txt");
const VALUES: [&str; 19] = [
    "-1",
    "0",
    "1",
    "2",
    "3",
    "7",
    "255",
    "256",
    "1279",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "x",
    "",
    "1 2",
    "1 2 3",
];

/// The machine's own, which its first namespace may write and the others only see.
const WRITABLE_HERE: [&str; 5] = [
    "net.core.rmem_default",
    "net.core.rmem_max",
    "net.core.wmem_default",
    "net.core.wmem_max",
    "net.netfilter.nf_conntrack_max",
];

/// The recording kernel's own choice.
const CHOSEN: [&str; 3] = [
    "net.ipv4.tcp_allowed_congestion_control",
    "net.ipv4.tcp_available_congestion_control",
    "net.ipv4.tcp_congestion_control",
];

/// Read only after it was written.
const SECRET: &str = "stable_secret";

/// Only written: what Linux shows for it is nothing.
const TRIGGERS: [&str; 1] = ["net.ipv4.route.flush"];

/// Not here (docs/deviations.md); with a star at the end all that begin so.
const MISSING: [&str; 33] = [
    "net.core.tstamp_allow_data",
    "net.core.xfrm_*",
    "net.ipv4.fib_notify_on_flag_change",
    "net.ipv4.icmp_echo_enable_probe",
    "net.ipv4.ip_dynaddr",
    "net.ipv4.ip_early_demux",
    "net.ipv4.raw_l3mdev_accept",
    "net.ipv4.tcp_backlog_ack_defer",
    "net.ipv4.tcp_child_ehash_entries",
    "net.ipv4.tcp_early_demux",
    "net.ipv4.tcp_ehash_entries",
    "net.ipv4.tcp_l3mdev_accept",
    "net.ipv4.udp_child_hash_entries",
    "net.ipv4.udp_early_demux",
    "net.ipv4.udp_hash_entries",
    "net.ipv4.udp_l3mdev_accept",
    "net.ipv4.xfrm4_gc_thresh",
    "net.ipv6.fib_notify_on_flag_change",
    "net.ipv6.ioam6_id",
    "net.ipv6.ioam6_id_wide",
    "net.ipv6.route.flush",
    "net.ipv6.route.gc_elasticity",
    "net.ipv6.route.gc_interval",
    "net.ipv6.route.gc_min_interval",
    "net.ipv6.route.gc_min_interval_ms",
    "net.ipv6.route.gc_thresh",
    "net.ipv6.route.max_size",
    "net.ipv6.seg6_flowlabel",
    "net.ipv6.xfrm6_gc_thresh",
    "net.netfilter.nf_conntrack_gre_*",
    "net.netfilter.nf_conntrack_sctp_*",
    "net.netfilter.nf_hooks_lwtunnel",
    "net.unix.max_dgram_qlen",
];

/// Of `net.ipv6.conf.IF`.
const MISSING_OF_IF: [&str; 7] = [
    "accept_source_route",
    "ioam6_enabled",
    "ioam6_id",
    "ioam6_id_wide",
    "rpl_seg_enabled",
    "seg6_enabled",
    "seg6_require_hmac",
];

fn is_missing(key: &str) -> bool {
    if let Some((_, name)) = key.strip_prefix("net.ipv6.conf.").and_then(|rest| rest.split_once('.')) {
        return MISSING_OF_IF.contains(&name);
    }
    MISSING.iter().any(|m| m.strip_suffix('*').map_or(*m == key, |begins| key.starts_with(begins)))
}

fn sign(e: Errno) -> char {
    match e {
        Errno::EINVAL => '!',
        Errno::ENOENT => 'e',
        Errno::EACCES => 'a',
        Errno::EBUSY => 'b',
        _ => '?',
    }
}

fn shown(k: &Kernel, ns: NsId, key: &str) -> Option<String> {
    Some(k.sysctl_get(ns, key)?.trim().replace('\t', " "))
}

/// A line as `record.py` writes it.
fn observe(k: &mut Kernel, ns: NsId, key: &str) -> Option<Vec<String>> {
    let first = shown(k, ns, key)?;
    let mut line = vec![key.to_owned(), first.clone(), String::new()];
    for value in VALUES {
        match k.sysctl_set(ns, key, &format!("{value}\n")) {
            Err(e) => line[2].push(sign(e)),
            Ok(()) => {
                let now = shown(k, ns, key).unwrap_or_default();
                line[2].push(if now == value { '=' } else { '~' });
                if now != value {
                    line.push(format!("{value}>{now}"));
                }
                let _ = k.sysctl_set(ns, key, &first);
            }
        }
    }
    Some(line)
}

#[test]
fn settings_take_what_linux_takes() {
    let mut k = Kernel::new(1);
    k.set_cpus(2);
    let ns = k.net.add_ns("t");
    k.net.add_veth((ns, "eth0"), (ns, "veth1")).unwrap();
    k.net.enable_ipv6(ns);
    let own = [&WRITABLE_HERE[..], &CHOSEN, &TRIGGERS].concat();
    let (mut wrong, mut used) = (Vec::new(), 0);
    for line in RECORD.lines() {
        let linux: Vec<&str> = line.split('\t').collect();
        let key = linux[0];
        if key.ends_with(SECRET) {
            assert!(observe(&mut k, ns, key).is_none() && !is_missing(key));
            assert!(VALUES.iter().all(|v| k.sysctl_set(ns, key, &format!("{v}\n")) == Err(Errno::EIO)), "{key}");
            continue;
        }
        match observe(&mut k, ns, key) {
            None if is_missing(key) => used += 1,
            None => wrong.push(format!("{key} is missing")),
            Some(_) if is_missing(key) => wrong.push(format!("{key} is here, and named as missing")),
            Some(here) if here != linux && !own.contains(&key) && !key.ends_with("addr_gen_mode") => {
                wrong.push(format!("{line}\n    here: {}", here[1..].join("\t")));
            }
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(used > 0);
}
