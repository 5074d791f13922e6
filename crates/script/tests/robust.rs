//! Texts that are nearly scripts: cut anywhere, with a letter changed. None may panic, none may hang, and none may make
//! the kernel panic.
use belljar_script::{Report, check};

const SCRIPT: &str = "\
--mtu=1500
0 `sysctl -q net.ipv4.tcp_sack=1`
0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
+.1 < [ect0] S 0:0(0) win 9000 <mss 1000,sackOK,TS val 7 ecr 0,nop,wscale 7>
+0 > S. 0:0(0) ack 1 <...>
+0 < . 1:1(0) ack 1 win 257 <nop,nop,TS val 9 ecr 100>
+0 accept(3, ..., ...) = 4
+0...0.1 read(4, \"ab\", 9) = 2
+0.1 < P. 1:3(2) \"ab\" ack 1 win 257
+0~+0.05 > . 1:1(0) ack 3 <...>
+0 write(4, ..., 2000) = 2000
* > P. 1:2001(2000) ack 3 <...>
+0 < icmp unreachable frag_needed mtu 900 [1:1001(1000)]
+0 tcp_info(4) { cwnd >= 1, options & SACK }
+0 poll([{fd=4, events=POLLIN, revents=0}], 1, 0) = 0
+0 sysctl net.ipv4.tcp_fin_timeout = 5
+0 counters { TcpInSegs > 0 }
+0 close(4) = 0
";

fn sound(r: &Report, text: &str) {
    let said = r.explain().unwrap_or_default();
    let bad = ["panicked", "an invariant", "malformed", "steps"].iter().find(|w| said.contains(*w));
    assert!(bad.is_none(), "{said}\n--- of ---\n{text}");
}

#[test]
fn cut_anywhere() {
    for (at, _) in SCRIPT.char_indices() {
        let text = &SCRIPT[..at];
        sound(&check("cut.pkt", text), text);
    }
}

#[test]
fn a_letter_changed() {
    let letters = ['0', '9', ' ', '.', '-', '<', '(', ']', ',', '"', '*', 'S', '\n', 'é'];
    for (n, (at, c)) in SCRIPT.char_indices().enumerate() {
        let new = letters[n % letters.len()];
        let text = format!("{}{new}{}", &SCRIPT[..at], &SCRIPT[at + c.len_utf8()..]);
        sound(&check("letter.pkt", &text), &text);
    }
}

#[test]
fn a_line_missing_or_doubled() {
    let lines: Vec<&str> = SCRIPT.lines().collect();
    for skip in 0..lines.len() {
        let without: Vec<&str> = lines.iter().enumerate().filter(|(i, _)| *i != skip).map(|(_, l)| *l).collect();
        let text = without.join("\n");
        sound(&check("missing.pkt", &text), &text);
        let twice: Vec<&str> =
            lines.iter().enumerate().flat_map(|(i, l)| std::iter::repeat_n(*l, 1 + usize::from(i == skip))).collect();
        let text = twice.join("\n");
        sound(&check("twice.pkt", &text), &text);
    }
}

#[test]
fn deep_and_long_texts() {
    for text in [
        format!("0 poll({}, 1, 0) = 0", "[".repeat(50_000)),
        format!("0 close({}) = 0", "-".repeat(50_000)),
        format!("0 {}(3) = 0", "x".repeat(100_000)),
        "(".repeat(100_000),
        format!("0 < S 0:0(0) win 1 <{}>", "nop,".repeat(10_000)),
        "99999999999999999999999 close(3) = 0".to_owned(),
        "0 write(3, ..., 99999999999) = 0".to_owned(),
        "* > . 1:4294967295(4294967294) ack 1".to_owned(),
    ] {
        let r = check("long.pkt", &text);
        sound(&r, "a long text");
        assert!(r.explain().unwrap_or_default().len() < 4000);
    }
}
