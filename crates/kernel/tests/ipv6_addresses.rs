//! Temporary addresses (RFC 8981) and those for a time, over days of virtual time. What `ip` shows of them is compared with Linux
//! 6.18 by `parity/ipv6_addresses.py`.
mod two;
use belljar_kernel::net::ipv6::addrconf::If6Addr;
use belljar_wire::icmpv6::{NDISC_NEIGHBOUR_ADVERTISEMENT, NDISC_ROUTER_ADVERTISEMENT};
use core::net::Ipv6Addr;
use two::*;

const PREFIX: [u8; 8] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 7];
const DAY: u64 = 86_400_000;

fn conf(t: &mut Two, name: &str, value: &str) {
    t.k.sysctl_set(t.ns[0], &format!("net.ipv6.conf.eth0.{name}"), value).unwrap();
}

/// A router advertisement with the prefix; seconds.
fn advertise(t: &mut Two, valid: u32, preferred: u32) {
    let mut m = vec![NDISC_ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    m.extend([3, 4, 64, 0xc0]);
    m.extend(valid.to_be_bytes());
    m.extend(preferred.to_be_bytes());
    m.extend([0; 4]);
    m.extend(PREFIX);
    m.extend([0; 8]);
    t.rx_icmp(255, ROUTER, belljar_wire::ipv6::ALL_NODES, m);
}

fn of_prefix(t: &Two) -> Vec<If6Addr> {
    let d = t.k.net.devs.get(t.dev[0]).unwrap();
    d.inet6.addrs.iter().filter(|a| a.addr.octets().starts_with(&PREFIX)).copied().collect()
}

fn temporary(t: &Two) -> Vec<If6Addr> {
    of_prefix(t).into_iter().filter(If6Addr::temporary).collect()
}

fn ready() -> Two {
    let mut t = Two::new();
    t.sleep(3000);
    conf(&mut t, "use_tempaddr", "2");
    t
}

#[test]
fn a_new_one_each_day_while_the_router_speaks() {
    let mut t = ready();
    conf(&mut t, "max_desync_factor", "0");
    let mut seen: Vec<Ipv6Addr> = Vec::new();
    for _ in 0..20 {
        for _ in 0..12 {
            advertise(&mut t, 2_592_000, 604_800);
            t.sleep(DAY / 12);
        }
        let now = temporary(&t);
        // Valid for a week, preferred for a day.
        assert!(now.len() <= 8, "{now:?}");
        assert!(now.iter().filter(|a| !a.deprecated(t.now)).count() <= 2);
        seen.extend(now.iter().map(|a| a.addr).filter(|a| !seen.contains(a)).collect::<Vec<_>>());
        let source = belljar_kernel::net::ipv6::route::get_saddr(
            &t.k.net,
            t.ns[0],
            Some(t.dev[0]),
            "2001:db8:0:7::99".parse().unwrap(),
        );
        assert_eq!(source, now.iter().find(|a| !a.deprecated(t.now)).map(|a| a.addr));
    }
    assert!((20..=22).contains(&seen.len()), "{}", seen.len());
    // With nobody to say it again, all end with the prefix.
    t.sleep(31 * DAY);
    assert_eq!(of_prefix(&t), []);
}

#[test]
fn not_all_hosts_change_at_the_same_time() {
    let mut t = ready();
    advertise(&mut t, 2_592_000, 604_800);
    t.sleep(3000);
    let left = |t: &Two| (temporary(t)[0].preferred.unwrap() - t.now) / 1_000_000_000;
    let first = left(&t);
    assert!((86_400 - 604..86_400).contains(&first), "{first}");
    // A public address that is preferred for less long binds it.
    advertise(&mut t, 7300, 100);
    assert_eq!(left(&t), 100);
    // So short that there would be no time to ask for the next: none is made.
    let mut t = ready();
    advertise(&mut t, 7300, 5);
    t.sleep(1500);
    assert!(temporary(&t).is_empty() && of_prefix(&t).len() == 1);
}

#[test]
fn who_is_told_three_times_that_it_is_taken_gives_up() {
    let mut t = ready();
    advertise(&mut t, 7300, 7300);
    let mut tried = Vec::new();
    for _ in 0..10 {
        if let Some(a) = temporary(&t).first().filter(|a| a.tentative()) {
            tried.push(a.addr);
            let mut m = vec![NDISC_NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, 0x20, 0, 0, 0];
            m.extend(a.addr.octets());
            m.extend([2, 1, 2, 0, 0, 0, 0, 0x77]);
            t.rx_icmp(255, "fe80::77".parse().unwrap(), belljar_wire::ipv6::ALL_NODES, m);
        }
        t.sleep(50);
    }
    tried.dedup();
    let setting = t.k.sysctl_get(t.ns[0], "net.ipv6.conf.eth0.use_tempaddr");
    assert_eq!((tried.len(), temporary(&t).len(), setting.as_deref()), (3, 0, Some("-1")));
}
