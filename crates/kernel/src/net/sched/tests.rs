//! Disciplines by themselves: what goes in, what comes out, and when.
use super::opts::Opts;
use super::*;
use crate::env::{Env, MSEC, Rise, SEC};
use crate::ids::SockId;
use crate::mem::Pool;
use crate::net::core::skb::Owner;
use belljar_abi::pkt_sched::TcMsg;

/// A tree with a clock, packets of which are told apart by their marks.
struct Bench {
    env: Env,
    pool: Pool,
    acts: Acts,
    q: Sched,
    dropped: Vec<(u32, &'static str)>,
    wake: Nanos,
}

impl Bench {
    fn new(line: &str) -> Bench {
        let env = Env::new(SEC, 0, 250, 1);
        let (pool, acts, q) = (Pool::default(), Acts::default(), Sched::new(Qdisc::noop()));
        let mut b = Bench { env, pool, acts, q, dropped: vec![], wake: Nanos::MAX };
        b.tc(&format!("qdisc add dev v0 root handle 1: {line}"));
        b
    }

    fn tc(&mut self, line: &str) {
        self.try_tc(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    }

    fn try_tc(&mut self, line: &str) -> Result<Option<String>, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let r = words::build(&words, &[("v0", 1)])?;
        let attrs = Opts::new(&r.body[TcMsg::LEN..]);
        let req = api::Req { t: TcMsg::parse(&r.body).unwrap(), flags: r.flags, attrs, acts: Default::default() };
        let mut cx = Ctx::new((&mut self.env, &mut self.pool, &mut self.acts), 1500, 1000);
        let done = self.q.request(r.kind, &req, &mut cx, &mut 0x8000_0000);
        let gone = std::mem::take(&mut cx.drops);
        self.q.root.recount();
        self.note(gone);
        done.map_err(|e| e.to_string())
    }

    fn note(&mut self, gone: Vec<Dropped>) {
        for (skb, reason, _) in gone {
            self.dropped.push((skb.mark, reason.name()));
            self.pool.give_skb(skb);
        }
    }

    fn packet(&mut self, mark: u32, len: usize) -> Skb {
        let mut skb = self.pool.take_skb();
        skb.mark = mark;
        skb.head.push(14).unwrap().fill(0);
        skb.frags = belljar_wire::Segs::from(vec![0; len - 14]);
        skb.set_truesize();
        skb
    }

    fn put_skb(&mut self, skb: Skb) -> Xmit {
        let mut cx = Ctx::new((&mut self.env, &mut self.pool, &mut self.acts), 1500, 1000);
        let sent = self.q.enqueue(skb, &mut cx);
        let gone = std::mem::take(&mut cx.drops);
        self.note(gone);
        sent
    }

    fn put(&mut self, mark: u32, len: usize) -> Xmit {
        let skb = self.packet(mark, len);
        self.put_skb(skb)
    }

    /// With this priority, in a flow of its own.
    fn put_as(&mut self, mark: u32, len: usize, priority: u32, flow: u32) -> Xmit {
        let mut skb = self.packet(mark, len);
        (skb.priority, skb.hash) = (priority, flow);
        self.put_skb(skb)
    }

    fn get(&mut self) -> Option<u32> {
        let mut cx = Ctx::new((&mut self.env, &mut self.pool, &mut self.acts), 1500, 1000);
        let skb = self.q.dequeue(&mut cx);
        let gone = std::mem::take(&mut cx.drops);
        self.wake = cx.wake;
        self.note(gone);
        skb.map(|skb| {
            let mark = skb.mark;
            self.pool.give_skb(skb);
            mark
        })
    }

    fn all(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| self.get()).collect()
    }

    /// What leaves until `end`, with the milliseconds after which it does.
    fn until(&mut self, end: Nanos) -> Vec<(u64, u32)> {
        let (start, mut out) = (self.env.now, vec![]);
        loop {
            while let Some(mark) = self.get() {
                out.push(((self.env.now - start) / MSEC, mark));
            }
            if self.wake > start + end {
                self.env.advance(start + end);
                return out;
            }
            self.env.advance(self.wake);
        }
    }

    fn stats(&self) -> Stats {
        self.q.stats()
    }
}

#[test]
fn pfifo_fast_has_bands_with_a_limit_each() {
    let mut b = Bench::new("pfifo_fast");
    for p in [2, 0, 6, 0] {
        b.put_as(p, 100, p, 0);
    }
    for n in 0..1000 {
        b.put_as(7, 100, 0, n);
    }
    assert_eq!((b.stats().drops, b.dropped[0]), (2, (7, "QDISC_DROP")));
    let order = b.all();
    assert_eq!((order[..4].to_vec(), order.last(), b.stats().packets), (vec![6, 0, 0, 7], Some(&2), 1002));
    assert_eq!((b.stats().qlen, b.stats().backlog), (0, 0));
}

#[test]
fn fifos_count_packets_or_bytes() {
    let mut b = Bench::new("pfifo limit 2");
    assert_eq!([1, 2, 3].map(|m| b.put(m, 1000)), [Xmit::Success, Xmit::Success, Xmit::Drop]);
    let s = b.stats();
    assert_eq!((s.qlen, s.backlog, s.drops, b.all()), (2, 2000, 1, vec![1, 2]));
    let mut b = Bench::new("bfifo limit 2500");
    let sent = [(1, 1000), (2, 1500), (3, 14)].map(|(m, n)| b.put(m, n));
    assert_eq!((sent, b.all()), ([Xmit::Success, Xmit::Success, Xmit::Drop], vec![1, 2]));
}

#[test]
fn tbf_sends_a_burst_and_then_at_its_rate() {
    let mut b = Bench::new("tbf rate 1mbit burst 3000 limit 5000");
    let sent: Vec<Xmit> = (0..6).map(|m| b.put(m, 1000)).collect();
    assert_eq!(sent[4..], [Xmit::Success, Xmit::Drop]);
    // 1000 bytes are 8 ms.
    assert_eq!(b.until(SEC), [(0, 0), (0, 1), (0, 2), (8, 3), (16, 4)]);
    let s = b.stats();
    assert_eq!((s.packets, s.drops, s.overlimits, b.dropped[0].1), (5, 1, 2, "QDISC_DROP"));
    // Longer than the bucket: it could never be sent.
    assert_eq!(b.put(9, 3001), Xmit::Drop);
    // Never more than the burst, and never faster than the peak.
    b.tc("qdisc change dev v0 root tbf rate 1mbit burst 3000 limit 5000 peakrate 2mbit mtu 1000");
    (0..4).for_each(|m| _ = b.put(m, 1000));
    assert_eq!(b.until(SEC), [(0, 0), (4, 1), (8, 2), (12, 3)]);
}

#[test]
fn netem_delays_and_keeps_the_order_of_time() {
    let mut b = Bench::new("netem delay 10ms limit 3");
    assert_eq!([1, 2, 3, 4].map(|m| b.put(m, 100)), [Xmit::Success, Xmit::Success, Xmit::Success, Xmit::Drop]);
    assert_eq!(b.until(SEC), [(10, 1), (10, 2), (10, 3)]);
    b.tc("qdisc change dev v0 root netem rate 80kbit");
    (0..3).for_each(|m| _ = b.put(m, 100));
    assert_eq!(b.until(SEC), [(10, 0), (20, 1), (30, 2)]);
    let mut b = Bench::new("netem delay 10ms reorder 100% gap 3");
    (0..6).for_each(|m| _ = b.put(m, 100));
    assert_eq!(b.until(SEC), [(0, 5), (0, 2), (10, 0), (10, 1), (10, 3), (10, 4)]);
}

#[test]
fn netem_draws_its_chances_from_the_seed() {
    let count = |line: &str| {
        let mut b = Bench::new(line);
        (0..10_000).for_each(|m| _ = b.put(m, 100));
        let s = b.stats();
        (s.drops, b.until(SEC).len() as u64, b.dropped.len() as u64)
    };
    let (drops, left, gone) = count("netem loss 10% limit 20000");
    assert!((900..1100).contains(&drops) && left + drops == 10_000 && gone == drops, "{drops}");
    assert_eq!(count("netem loss 10% limit 20000").0, drops);
    let (_, left, _) = count("netem duplicate 20% limit 20000");
    assert!((11_800..12_200).contains(&left), "{left}");
    // Losses of a burst come together.
    let mut b = Bench::new("netem loss gemodel 1% 10% limit 20000");
    (0..10_000).for_each(|m| _ = b.put(m, 100));
    let bursts = b.dropped.windows(2).filter(|w| w[1].0 == w[0].0 + 1).count();
    assert!(b.dropped.len() > 500 && bursts * 10 > b.dropped.len() * 7, "{bursts} of {}", b.dropped.len());
    let b = Bench::new("netem corrupt 100%");
    assert_eq!(b.stats().qlen, 0);
}

#[test]
fn netem_spreads_delays_by_a_table() {
    let spread = |line: &str| {
        let mut b = Bench::new(line);
        (0..4000).for_each(|m| _ = b.put(m, 100));
        let at: Vec<u64> = b.until(SEC).into_iter().map(|(ms, _)| ms).collect();
        let mean = at.iter().sum::<u64>() / at.len() as u64;
        (at[0], mean, at[at.len() - 1])
    };
    let (first, mean, last) = spread("netem delay 100ms 10ms limit 10000");
    assert!((90..92).contains(&first) && (98..=101).contains(&mean) && (108..=110).contains(&last));
    let (first, mean, last) = spread("netem delay 100ms 10ms distribution normal limit 10000");
    assert!(first < 75 && (98..=101).contains(&mean) && last > 125, "{first} {mean} {last}");
}

#[test]
fn prio_serves_its_first_band_first() {
    let mut b = Bench::new("prio bands 3");
    for (mark, prio) in [(1, 2), (2, 0), (3, 6), (4, 0x1_0001)] {
        b.put_as(mark, 100, prio, 0);
    }
    assert_eq!(b.all(), [3, 4, 2, 1]);
    b.tc("qdisc add dev v0 parent 1:2 handle 20: pfifo limit 1");
    assert_eq!([1, 2].map(|m| b.put_as(m, 100, 0, 0)), [Xmit::Success, Xmit::Drop]);
    assert_eq!((b.stats().drops, b.q.find(0x20_0000).unwrap().stats.drops), (1, 1));
    // A filter by mark, and the discipline that goes with its packets.
    b.tc("filter add dev v0 parent 1: protocol all handle 7 fw classid 1:1");
    b.put_as(7, 100, 0, 0);
    assert_eq!((b.get(), b.stats().qlen), (Some(7), 1));
    b.tc("qdisc del dev v0 parent 1:2");
    assert_eq!((b.stats().qlen, b.dropped.last()), (0, Some(&(1, "QUEUE_PURGE"))));
}

#[test]
fn fq_codel_takes_flows_in_turn_and_drops_from_the_fattest() {
    let mut b = Bench::new("fq_codel limit 20 quantum 1000");
    let flow = |n: u32| n << 24;
    (0..10).for_each(|m| _ = b.put_as(m, 1000, 0, flow(1)));
    (100..103).for_each(|m| _ = b.put_as(m, 1000, 0, flow(99)));
    assert_eq!((0..6).map(|_| b.get().unwrap()).collect::<Vec<_>>(), [0, 100, 1, 101, 2, 102]);
    // The flow that fills it pays, half of what it has.
    let full: Vec<Xmit> = (20..34).map(|m| b.put_as(m, 1000, 0, flow(1))).collect();
    assert_eq!((full[13], b.stats().drops, b.dropped[0]), (Xmit::Cn, 11, (3, "QDISC_OVERLIMIT")));
}

#[test]
fn fq_codel_keeps_a_standing_queue_short() {
    let mut b = Bench::new("fq_codel");
    // A link of 100 packets a second, 200 come: without CoDel some 500 would wait after five seconds.
    for n in 0..1000u32 {
        b.put_as(n, 1000, 0, 1);
        b.env.advance(b.env.now + 5 * MSEC);
        if n % 2 == 0 {
            b.get();
        }
    }
    let s = b.stats();
    assert!(s.qlen < 420 && s.drops > 60, "{s:?}");
    assert!(b.dropped.iter().all(|d| d.1 == "QDISC_CONGESTED"));
}

#[test]
fn fq_paces_by_departure_time_and_by_rate() {
    let mut b = Bench::new("fq maxrate 80kbit flow_limit 4 quantum 100 initial_quantum 100");
    for m in 0..6 {
        b.put_as(m, 100, 0, 5);
    }
    assert_eq!((b.stats().drops, b.dropped[0]), (2, (4, "FQ_FLOW_LIMIT")));
    // 100 bytes in 10 ms.
    assert_eq!(b.until(SEC), [(0, 0), (10, 1), (20, 2), (30, 3)]);
    let mut b = Bench::new("fq horizon 1s");
    let mut timed = |mark: u32, at: Nanos| {
        let mut skb = b.packet(mark, 100);
        (skb.tstamp, skb.owner) = (at, Owner::Tx(SockId::Tcp(crate::ids::TcpId::from_bits(1 << 32).unwrap())));
        b.put_skb(skb)
    };
    let sent = [timed(1, SEC + 30 * MSEC), timed(2, SEC + 20 * MSEC), timed(3, 3 * SEC)];
    assert_eq!(sent, [Xmit::Success, Xmit::Success, Xmit::Drop]);
    assert_eq!(b.dropped, [(3, "FQ_HORIZON_LIMIT")]);
    assert_eq!(b.until(SEC), [(20, 2), (30, 1)]);
    assert!(b.env.rises.iter().any(|r| matches!(r, Rise::Pacing { .. })));
}

#[test]
fn htb_gives_each_class_its_rate_and_lends_what_is_left() {
    let mut b = Bench::new("htb default 20");
    b.tc("class add dev v0 parent 1: classid 1:1 htb rate 800kbit burst 1000 cburst 1000");
    for (id, rate) in [("10", "600kbit"), ("20", "200kbit")] {
        b.tc(&format!(
            "class add dev v0 parent 1:1 classid 1:{id} htb rate {rate} ceil 800kbit burst 1000 cburst 1000 quantum 1000"
        ));
    }
    for m in 0..400 {
        b.put_as(m, 1000, 0x1_0010, 0);
        b.put_as(1000 + m, 1000, 0, 0);
    }
    // 800 kbit/s are 100 packets a second: 75 of one class, 25 of the other.
    let left = b.until(SEC);
    let first = left.iter().filter(|(_, m)| *m < 1000).count();
    assert!((98..=103).contains(&left.len()) && (73..=79).contains(&first), "{first} of {}", left.len());
    // One alone gets all.
    b.tc(
        "class change dev v0 parent 1:1 classid 1:10 htb rate 600kbit ceil 600kbit burst 1000 cburst 1000 quantum 1000",
    );
    let left = b.until(SEC);
    assert!((98..=102).contains(&left.len()), "{}", left.len());
    assert!(b.stats().overlimits > 0);
    // Neither of the two is default, and no class is 1:: past all of them.
    b.put_as(5000, 1000, 0x1_0000, 0);
    assert_eq!(b.get(), Some(5000));
    assert_eq!(b.try_tc("class del dev v0 classid 1:1").unwrap_err(), "Error: HTB class in use.");
    b.tc("class del dev v0 classid 1:10");
    b.tc("class del dev v0 classid 1:20");
    b.tc("class del dev v0 classid 1:1");
    assert_eq!(b.stats().qlen, 0);
}

#[test]
fn u32_looks_at_addresses_and_ports() {
    let mut b = Bench::new("prio");
    b.tc("filter add dev v0 parent 1: protocol ip prio 1 u32 match ip dst 10.0.0.0/8 match ip dport 80 0xffff flowid 1:3");
    let datagram = |dst: [u8; 4], port: u16| {
        let mut skb = Skb::default();
        let head = skb.head.push(42).unwrap();
        head.fill(0);
        head[14] = 0x45;
        head[30..34].copy_from_slice(&dst);
        head[36..38].copy_from_slice(&port.to_be_bytes());
        (skb.mac_header, skb.protocol) = (skb.head.start(), 0x0800);
        skb.network_header = skb.mac_header + 14;
        skb
    };
    b.tc("filter add dev v0 parent 1: protocol ip u32 match ip protocol 17 0xff flowid 1:1");
    for (mark, dst, port) in [(1, [10, 1, 2, 3], 80), (2, [10, 1, 2, 3], 81), (3, [11, 1, 2, 3], 80)] {
        let mut skb = datagram(dst, port);
        skb.mark = mark;
        b.put_skb(skb);
    }
    assert_eq!(b.all(), [2, 3, 1]);
}

/// What Linux 6.18 says, measured with tc in a namespace of its own.
#[test]
fn refusals() {
    let mut b = Bench::new("htb");
    b.tc("class add dev v0 parent 1: classid 1:1 htb rate 10mbit");
    b.tc("class add dev v0 parent 1:1 classid 1:10 htb rate 1mbit");
    b.tc("class add dev v0 parent 1:1 classid 1:20 htb rate 2mbit");
    b.tc("qdisc add dev v0 parent 1:10 handle 10: pfifo limit 5");
    for (line, why) in [
        ("qdisc add dev v0 parent 1:10 handle 10: pfifo limit 6", "Error: Exclusivity flag on, cannot modify."),
        ("qdisc add dev v0 parent 1:10 handle 11: pfifo limit 6", "Error: NLM_F_REPLACE needed to override."),
        ("qdisc add dev v0 parent 1:10 pfifo limit 6", "Error: Exclusivity flag on, cannot modify."),
        (
            "qdisc replace dev v0 parent 1:20 handle 10: pfifo",
            "Error: Cannot move an existing qdisc to a different parent.",
        ),
        ("qdisc replace dev v0 parent 10: handle 13: pfifo", "Error: Parent qdisc is not classful."),
        ("qdisc change dev v0 root htb default 20", "Error: Change operation not supported by specified qdisc."),
        ("qdisc add dev v0 parent 1:1 handle 21: pfifo", "RTNETLINK answers: Invalid argument"),
        ("qdisc add dev v0 parent 1:99 handle 21: pfifo", "Error: Specified class not found."),
        ("qdisc add dev v0 parent 9:99 handle 21: pfifo", "Error: Failed to find specified qdisc."),
        ("qdisc add dev v0 root handle 2: nosuch", "Error: NLM_F_REPLACE needed to override."),
        ("qdisc replace dev v0 root handle 2: nosuch", "Error: Specified qdisc kind is unknown."),
        ("qdisc del dev v0 parent 1:20", "Error: Cannot delete qdisc with handle of zero."),
        ("qdisc del dev v0 parent 1:77", "Error: Specified class not found."),
        ("qdisc del dev v0 parent 3:77", "Error: Failed to find qdisc with specified classid."),
        ("qdisc del dev v0 handle 12:", "Error: Failed to find qdisc with specified handle."),
        ("qdisc del dev v0 handle 9: root", "Error: Invalid handle."),
        ("qdisc del dev v0 root pfifo", "Error: Invalid qdisc name: must match existing qdisc."),
        ("qdisc del dev v0 ingress", "Error: Invalid handle."),
        ("qdisc add dev v0 pfifo", "Error: Handle cannot be zero."),
        ("class add dev v0 parent 1:1 classid 1:20 htb rate 100kbit", "RTNETLINK answers: File exists"),
        ("class change dev v0 parent 1:1 classid 1:99 htb rate 1mbit", "RTNETLINK answers: No such file or directory"),
        ("class add dev v0 parent 1:1 classid 2:20 htb rate 100kbit", "RTNETLINK answers: Invalid argument"),
        ("class del dev v0 classid 1:1", "Error: HTB class in use."),
        ("class del dev v0 classid 1:55", "RTNETLINK answers: No such file or directory"),
        ("filter add dev v0 parent 3: matchall classid 1:20", "Error: Parent Qdisc doesn't exists."),
        ("filter del dev v0 parent 1: prio 99", "Error: Cannot find specified filter chain."),
    ] {
        assert_eq!(b.try_tc(line).unwrap_err(), why, "{line}");
    }
    let warning = b.try_tc("class add dev v0 parent 1: classid 1:40 htb rate 50gbit ceil 100gbit").unwrap();
    assert_eq!(warning.unwrap(), "sch_htb: quantum of class 10040 is big. Consider r2q change.");
}
