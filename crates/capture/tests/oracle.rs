//! Comparison with the real tcpdump and tshark. Own harness: where they are missing, a test is skipped visibly, and
//! fails in CI.
#[path = "../src/zoo.rs"]
mod zoo;
#[path = "../src/zoo6.rs"]
mod zoo6;
use belljar_capture::{DROP_INTERFACE, Filter, Printer, Reader, Style, Writer};
use belljar_wire::{Frame, Gso, GsoType};
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::process::Command;

fn run(program: &str, args: &[&str]) -> (String, String) {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    (String::from_utf8_lossy(&out.stdout).into_owned(), String::from_utf8_lossy(&out.stderr).into_owned())
}

fn file(name: &str, frames: &[Frame]) -> PathBuf {
    let mut w = Writer::new(Vec::new()).unwrap();
    let eth0 = w.interface("eth0").unwrap();
    let drop = w.interface(DROP_INTERFACE).unwrap();
    for (i, f) in frames.iter().enumerate() {
        let ts = 1_700_000_000_000_000_000 + i as u64 * 1_234_567;
        w.packet(eth0, ts, f, None).unwrap();
        if i % 5 == 0 {
            w.packet(drop, ts + 1, f, Some("NO_SOCKET at tcp_v4_rcv")).unwrap();
        }
    }
    let path = std::env::temp_dir().join(format!("belljar-{}-{name}.pcapng", std::process::id()));
    std::fs::write(&path, w.into_inner()).unwrap();
    path
}

fn lines_equal_those_of_tcpdump() {
    let mut frames = zoo::zoo();
    let texts: [&[u8]; 4] = [b"GET /a?b=1 HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.1 200 OK\r\n", b"POST /x", b"get lost\n"];
    for text in texts {
        let mut f = zoo::tcp(3000, text.len());
        f.payload = text.to_vec().into();
        frames.push(f);
    }
    for m in zoo::dns_messages() {
        frames.push(zoo::udp_with(4000, 53, &m));
    }
    frames.extend(zoo6::zoo6());
    let path = file("lines", &frames);
    let name = path.to_str().unwrap();
    for (flags, style) in [
        ("-nt", Style { no_time: true, ..Style::default() }),
        ("-nte", Style { no_time: true, link: true, ..Style::default() }),
        ("-ntS", Style { no_time: true, absolute_seq: true, ..Style::default() }),
        ("-n", Style::default()),
    ] {
        let (out, _) = run("env", &["TZ=UTC", "tcpdump", flags, "-r", name]);
        let mut p = Printer::new(style);
        let mut ours = Vec::new();
        for got in Reader::new(&std::fs::read(&path).unwrap()).unwrap() {
            let got = got.unwrap();
            ours.push(p.line(got.ts_ns, &got.bytes));
        }
        for (theirs, ours) in out.lines().zip(&ours) {
            assert_eq!(theirs, ours, "{flags}");
        }
        assert_eq!(out.lines().count(), ours.len(), "{flags}");
    }
    std::fs::remove_file(path).unwrap();
}

fn filters_take_what_tcpdump_takes() {
    let mut frames = zoo::zoo();
    frames.extend(zoo6::zoo6());
    let path = file("filters", &frames);
    let bytes = std::fs::read(&path).unwrap();
    for text in [
        "arp",
        "tcp",
        "udp or arp",
        "ip and not tcp and not icmp",
        "port 80",
        "tcp port http",
        "udp port 80",
        "port 5533 or 80",
        "src port 80",
        "dst portrange 5000-6000",
        "ip proto 17",
        "ip proto \\icmp",
        "host 10.0.2.15",
        "ip host 10.0.2.15",
        "arp host 10.0.2.15",
        "src 10.0.2.2",
        "src or dst host 10.0.2.2",
        "src and dst host 10.0.2.2",
        "net 10.0.0.0/8",
        "net 10.0.2",
        "dst net 192.168.0.0 mask 255.255.0.0",
        "ether host 02:00:00:00:00:01",
        "ether src 02:00:00:00:00:02",
        "ether broadcast",
        "ether proto \\arp",
        "tcp[tcpflags] & (tcp-syn|tcp-ack) != 0",
        "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn",
        "tcp[13] == 0x12",
        "icmp[icmptype] = icmp-echo",
        "icmp[0] == 3 and icmp[1] == 3",
        "greater 1000",
        "less 42 and arp",
        "len >= 1000",
        "tcp and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)",
        "ether[12:2] == 0x806",
        "arp or tcp and src host 10.0.2.2",
        "not tcp and ! icmp",
        "tcp && port 80 || arp",
        "not (tcp or udp)",
        "host 10.0.2.2 and (port 80 or 5533)",
        "tcp src port 80",
        "ip[8] < 65",
        "tcp[4:4] > 1000",
        "ip6",
        "icmp6",
        "icmp or icmp6",
        "ip6 and not icmp6",
        "ip6 and tcp",
        "ip6 proto 17",
        "ip6 proto \\tcp",
        "ip6 proto 0",
        "ip6 proto 44",
        "ip proto \\udp",
        "proto 17",
        "proto \\tcp",
        "tcp port 80 and ip6",
        "ip6 and port 53",
        "port 5533",
        "udp portrange 50-60",
        "host fd00::15",
        "ip6 host fd00::2",
        "src host fd00::15",
        "dst fe80::1",
        "src or dst host fd00:0::2",
        "host fd00::15 and port 80",
        "host fd00::2 or fe80::1",
        "net fd00::/64",
        "net fe80::/10",
        "dst net ff02::/16",
        "ip6 src net fd00::/120",
        "net 10.0.0.0/8 or net fd00::/8",
        "ip6 multicast",
        "multicast",
        "ip6[6] == 58",
        "ip6[7] > 64 and ip6[4:2] < 40",
        "icmp6[icmp6type] == icmp6-echo",
        "icmp6[icmp6type] = icmp6-neighborsolicit",
        "icmp6[0] == 1 and icmp6[icmp6code] == 4",
        "ip6 and ip6[40] == 58",
        "ether proto \\ip6",
        "udp and not ip",
        "less 90 and ip6",
        "sctp or igmp",
    ] {
        let (out, err) = run("tcpdump", &["-nt", "-r", path.to_str().unwrap(), text]);
        let f = Filter::compile(text).unwrap();
        let ours = Reader::new(&bytes)
            .unwrap()
            .filter(|p| f.matches(&Frame::from_bytes(&p.as_ref().unwrap().bytes, 0)))
            .count();
        assert_eq!(out.lines().count(), ours, "{text}: {err}");
    }
    std::fs::remove_file(path).unwrap();
}

fn tshark_finds_nothing_malformed_and_every_checksum_right() {
    let mut frames = zoo::zoo();
    let mut big = zoo::tcp(2000, 64_000);
    big.gso = Some(Gso::new(GsoType::TcpV4, 1448, 45));
    frames.push(big);
    let path = file("tshark", &frames);
    let name = path.to_str().unwrap();
    let checks = ["-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"];
    let bad = "_ws.malformed or ip.checksum.status == 0 or tcp.checksum.status == 0 or udp.checksum.status == 0";
    let mut args = vec!["-r", name, "-Y", bad];
    args.extend(checks);
    let (out, err) = run("tshark", &args);
    assert_eq!((out.as_str(), err.contains("cut short")), ("", false), "{err}");
    let (out, _) = run("tshark", &["-r", name, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.comment"]);
    assert_eq!(out.lines().filter(|l| l.starts_with("drop\tNO_SOCKET at")).count(), 4, "{out}");
    let (out, err) = run("tcpdump", &["-nvvt", "-r", name]);
    assert!(!out.contains("incorrect") && !out.contains("bad cksum") && !err.contains("malformed"), "{out}{err}");
    std::fs::remove_file(path).unwrap();
}

/// A test: its name, the programs that it needs, what it does.
type Test = (&'static str, &'static [&'static str], fn());

const TESTS: [Test; 3] = [
    ("lines_equal_those_of_tcpdump", &["tcpdump"], lines_equal_those_of_tcpdump),
    ("filters_take_what_tcpdump_takes", &["tcpdump"], filters_take_what_tcpdump_takes),
    (
        "tshark_finds_nothing_malformed_and_every_checksum_right",
        &["tshark", "tcpdump"],
        tshark_finds_nothing_malformed_and_every_checksum_right,
    ),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, programs, test) in TESTS {
        if !wanted.is_empty() && !wanted.iter().any(|w| name.contains(w.as_str())) {
            continue;
        }
        let missing = programs.iter().find(|p| Command::new(p).arg("--version").output().is_err());
        let ci = std::env::var("CI").is_ok_and(|v| v == "true");
        match missing {
            Some(program) if !ci => {
                skipped += 1;
                println!("test {name} ... skipped, needs {program}");
            }
            Some(program) => {
                failed += 1;
                println!("test {name} ... FAILED, needs {program}");
            }
            None if catch_unwind(test).is_ok() => {
                passed += 1;
                println!("test {name} ... ok");
            }
            None => {
                failed += 1;
                println!("test {name} ... FAILED");
            }
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed; {skipped} ignored; 0 measured; 0 filtered out");
    std::process::exit((failed > 0) as i32);
}
