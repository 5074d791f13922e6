//! The language from outside: what passes, what fails and how that is said, what cannot be read.
use belljar_script::{Outcome, Report, check};

const LISTEN: &str = "\
0     socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0    bind(3, ..., ...) = 0
+0    listen(3, 1) = 0
";
const ESTABLISHED: &str = "\
+0    < S 0:0(0) win 65535 <mss 1000,sackOK,TS val 1000 ecr 0,nop,wscale 7>
+0    > S. 0:0(0) ack 1 <mss 1460,sackOK,TS val 100 ecr 1000,nop,wscale 10>
+0.1  < . 1:1(0) ack 1 win 1000 <nop,nop,TS val 1100 ecr 100>
+0    accept(3, ..., ...) = 4
";

fn run(lines: &str) -> Report {
    check("test.pkt", &format!("{LISTEN}{ESTABLISHED}{lines}"))
}

fn passes(lines: &str) {
    let r = run(lines);
    assert_eq!(r.explain(), None);
}

/// The script fails, and the text that says so holds each of `words`.
fn fails(lines: &str, words: &[&str]) {
    let r = run(lines);
    assert!(matches!(r.outcome, Outcome::Failed(_)), "{:?}", r.outcome);
    let text = r.explain().unwrap();
    words.iter().for_each(|w| assert!(text.contains(w), "{w:?} is not in\n{text}"));
}

/// The text is no script; what is said about it holds each of `words`.
fn unreadable(text: &str, words: &[&str]) {
    let r = check("test.pkt", text);
    assert!(matches!(r.outcome, Outcome::Unreadable(_)), "{:?}", r.outcome);
    let said = r.explain().unwrap();
    words.iter().for_each(|w| assert!(said.contains(w), "{w:?} is not in\n{said}"));
}

#[test]
fn time_stamps_are_counted_from_the_first_that_a_line_names() {
    passes("+0.2 write(4, ..., 10) = 10\n+0 > P. 1:11(10) ack 1 <nop,nop,TS val 400 ecr 1100>\n");
    fails(
        "+0.2 write(4, ..., 10) = 10\n+0 > P. 1:11(10) ack 1 <nop,nop,TS val 500 ecr 1100>\n",
        &["options", "TS val 400"],
    );
}

#[test]
fn one_line_stands_for_several_segments() {
    passes("+0 write(4, ..., 3000) = 3000\n+0 > P. 1:3001(3000) ack 1 <...>\n");
    fails("+0 write(4, ..., 2000) = 2000\n+0 > P. 1:3001(3000) ack 1 <...>\n", &["2000 bytes"]);
}

#[test]
fn a_packet_has_its_time() {
    let late = "+0 write(4, ..., 10) = 10\n+0.1 > P. 1:11(10) ack 1 <...>\n";
    fails(late, &["the wrong time", "0.200000", "at 0.100000"]);
    passes("+0 write(4, ..., 10) = 10\n* > P. 1:11(10) ack 1 <...>\n");
    passes("+0 write(4, ..., 10) = 10\n+0~+0.1 > P. 1:11(10) ack 1 <...>\n");
}

#[test]
fn what_nobody_expects_is_a_failure() {
    fails("+0 write(4, ..., 10) = 10\n", &["no line expects", "P. 1:11(10)"]);
    fails("+0 write(4, ..., 10) = 10\n+0.1 > none\n", &["where none is expected"]);
    fails("+0.1 > . 1:1(0) ack 1\n", &["no packet was sent", "came:", "nothing"]);
}

#[test]
fn calls_sleep_and_wake_while_the_script_goes_on() {
    passes("+0...0.2 read(4, \"hi\", 10) = 2\n+0.2 < P. 1:3(2) \"hi\" ack 1 win 1000\n+0 > . 1:1(0) ack 3 <...>\n");
    fails("+0 read(4, ..., 10) = 10\n", &["`read` sleeps", "hint: a call that sleeps has an end"]);
    fails("+0...0.2 read(4, ..., 10) = 10\n", &["still sleeps"]);
    let early = "+0...0.2 read(4, ..., 10) = 2\n+0.1 < P. 1:3(2) ack 1 win 1000\n+0 > . 1:1(0) ack 3 <...>\n";
    fails(early, &["returned at the wrong time"]);
    fails("+0...0.2 write(4, ..., 10) = 10\n", &["does not sleep"]);
}

#[test]
fn results_and_memory_are_compared() {
    fails("+0 listen(4, 1) = 0\n", &["returned something else", "-1 EINVAL"]);
    fails("+0 getsockopt(4, SOL_TCP, TCP_NODELAY, [1], [4]) = 0\n", &["the value differs", "came:     0"]);
    fails(
        "+0 < P. 1:3(2) \"hi\" ack 1 win 1000\n+0 > . 1:1(0) ack 3 <...>\n+0 read(4, \"ho\", 9) = 2\n",
        &["the data differs"],
    );
    let events = "+0 poll([{fd=4, events=POLLIN|POLLOUT, revents=POLLIN}], 1, 0) = 1\n";
    fails(events, &["the events differ", "OUT"]);
    fails("+0 tcp_info(4) { cwnd == 11 }\n", &["snd_cwnd == 11", "snd_cwnd == 10"]);
    fails("+0 sockets { TIME_WAIT == 1 }\n", &["TIME_WAIT == 0"]);
}

#[test]
fn arguments_are_counted() {
    let bad = |call: &str, what: &str| unreadable(&format!("0 socket(..., SOCK_STREAM, 0) = 3\n+0 {call}\n"), &[what]);
    bad("close(3, 4) = 0", "`close` takes 1 argument, not 2");
    bad("setsockopt(3, SOL_TCP, TCP_NODELAY, 1, 4, 5) = 0", "`setsockopt` takes 5 arguments, not 6");
    bad("socket(..., SOCK_STREAM) = 3", "`socket` takes 3 arguments, not 2");
    bad("fcntl(3, F_SETFL) = 0", "`fcntl` takes 3 arguments, not 2");
    bad("ioctl(3, SIOCINQ) = 0", "written `...`");
    passes("+0 fcntl(4, F_GETFL) = *\n+0 fcntl(4, F_GETFL, 0) = *\n");
}

#[test]
fn what_cannot_hold_is_told_before_the_run() {
    let bad = |line: &str, parts: &[&str]| unreadable(&format!("0.5 socket(..., SOCK_STREAM, 0) = 3\n{line}\n"), parts);
    bad("+0 sysctl net.ipv4.tcp_sackk = 0", &["no setting `net.ipv4.tcp_sackk`", "is it `net.ipv4.tcp_sack`?"]);
    bad("+0 counters { TcpActiveOpen == 0 }", &["no counter `TcpActiveOpen`", "is it `TcpActiveOpens`?"]);
    bad("+0 signals { SIGUR == 0 }", &["no signal `SIGUR`", "SIGURG"]);
    bad("+0 tcp_info(3) { cwnd = 1 }", &["sets nothing", "write `==`"]);
    bad("0.1 close(3) = 0", &["goes back in time, from 0.500000 to 0.100000"]);
    passes("0.5 socket(..., SOCK_STREAM, 0) = 5\n0.5 close(5) = 0\n");
    unreadable("# only words\n", &["nothing happens in this script"]);
}

#[test]
fn unknown_names_have_a_neighbour() {
    unreadable("0 lisen(3, 1) = 0\n", &["no call `lisen`", "is it `listen`?", "test.pkt:1:3"]);
    unreadable("0 close(3) = -1 EBADFF\n", &["no error `EBADFF`", "is it `EBADF`?"]);
    unreadable("0 < S 0:0(0) win 1 <ms 1000>\n", &["no option `ms`", "is it `mss`?"]);
    unreadable("0 < icmp unreachabel port_unreachable\n", &["no message", "`unreachable`"]);
    unreadable("0 tcp_info(3) { cwn == 1 }\n", &["no field `cwn`", "`cwnd`"]);
    unreadable("--remot_ip=1.2.3.4\n", &["no setting `remot_ip`", "`remote_ip`"]);
    let r = check("test.pkt", "0 sysctl net.ipv4.tcp_sak = 0\n");
    assert!(r.explain().unwrap().contains("is it `net.ipv4.tcp_sack`?"));
}

#[test]
fn what_cannot_be_is_said() {
    unreadable("0 < S 0:10(5) win 1\n", &["the numbers do not agree", "end at 5"]);
    unreadable("0 < S. 0:0(0) win 1\n", &["`ack N`"]);
    unreadable("0 < S 0:0(0) ack 1 win 1\n", &["`ack` without the ACK flag"]);
    unreadable("0 < X 0:0(0) win 1\n", &["`X` is no TCP flag"]);
    unreadable("0 < S 0:0(0) win 70000\n", &["does not fit"]);
    unreadable("0 < . 1:1(0) ack 1 win 1 <...>\n", &["packets that the kernel sends"]);
    unreadable("+0.2~+0.1 > . 1:1(0) ack 1\n", &["ends before it begins"]);
    unreadable("+0...0.1 < . 1:1(0) ack 1 win 1\n", &["only a call has an end"]);
    unreadable("0 socket(..., SOCK_STREAM, 0) = 3\n--mtu=1400\n", &["settings come before"]);
    unreadable("0 `rm -r x`\n", &["only `sysctl"]);
    unreadable("0 close(3", &["`,` or `)`"]);
}

#[test]
fn a_marked_script_has_to_fail() {
    let marked = |lines: &str| check("test.pkt", &format!("# deviation: it cannot\n{LISTEN}{lines}"));
    assert!(marked("+0 listen(3, 1) = -1 EINVAL\n").as_it_should());
    assert!(!marked("+0 listen(3, 1) = 0\n").as_it_should());
    assert!(!check("test.pkt", "# deviation: no script\n0 foo\n").as_it_should());
}

#[test]
fn settings_set_the_stage() {
    let text = "--local_ip=10.1.0.1\n--netmask_ip=255.255.0.0\n--gateway_ip=10.1.0.9\n--remote_ip=10.2.0.1\n--mtu=1400\n\
                --connect_port=80\n0 socket(..., SOCK_STREAM|SOCK_NONBLOCK, 0) = 3\n\
                +0 connect(3, ..., ...) = -1 EINPROGRESS\n+0 getpeername(3, ..., [16]) = -1 ENOTCONN\n\
                +0 > S 0:0(0) <mss 1360,sackOK,TS val * ecr 0,nop,wscale 10>\n\
                +0 getsockname(3, {sa_family=AF_INET, sin_port=htons(1), sin_addr=inet_addr(\"10.1.0.1\")}, [16]) = 0\n";
    let said = check("test.pkt", text).explain().unwrap();
    assert!(said.contains("the address differs") && said.contains("10.1.0.1:1"), "{said}");
}

#[test]
fn the_same_script_goes_the_same_way() {
    let once = || run("+0 write(4, ..., 5000) = 5000\n+0 > P. 1:5001(5000) ack 1 <...>\n").trace;
    assert_eq!(once(), once());
}

const V6: &str = "--ip_version=ipv6\n";

#[test]
fn lines_of_ipv6_pass_and_say_what_differs() {
    let report = |text: &str| check("test.pkt", &format!("{V6}{text}"));
    let passes = |text: &str| assert_eq!(report(text).explain(), None, "{text}");
    passes("0 < icmp echo_request id 7 seq 1 (8)\n+0 > icmp6 echo_reply id 7 seq 1 (8)\n");
    passes(
        "0 < [hop 05020000, hlim 3, flow 7] [2001:db8::1]:4 > [fd00::1]:5 udp (10)\n+0 > icmp unreachable port_unreachable\n",
    );
    // The host's other family.
    passes("0 < 192.0.2.1:4 > 192.168.0.1:5 udp (1)\n+0 > 192.168.0.1 > 192.0.2.1 icmp unreachable port_unreachable\n");
    passes(
        "--arp=lines\n0 < fd00::9 > ff02::1:ff00:1 nd ns fd00::1 at 9\n+0 > fd00::1 > fd00::9 nd na fd00::1 at 1 solicited override\n",
    );
    let differs = |text: &str, words: &[&str]| {
        let said = report(text).explain().unwrap_or_default();
        words.iter().for_each(|w| assert!(said.contains(w), "{w:?} is not in\n{said}"));
    };
    differs(
        "0 < [dst 9e00] udp (1)\n+0 > icmp parameter_problem unknown_option at 40\n",
        &["parameter_problem unknown_option at 42"],
    );
    differs("0 < icmp echo_request (8)\n+0 > [hlim 9] icmp echo_reply (8)\n", &["ttl 64"]);
    differs("0 < icmp echo_request (8)\n+0 > [dst -] icmp echo_reply (8)\n", &["extension headers none"]);
}

#[test]
fn what_is_no_ipv6_is_said_with_its_place() {
    let unreadable = |text: &str, words: &[&str]| unreadable(&format!("{V6}{text}"), words);
    unreadable("--local_ip=10.0.0.1\n0 < udp (1)\n", &["10.0.0.1 is not of the version"]);
    unreadable("0 < icmp unreachable frag_needed\n", &["no code `frag_needed`", "^^^"]);
    unreadable("0 < nd nx fd00::1\n", &["no message `nx`", "^^"]);
    unreadable("0 < [hop 5] udp (1)\n", &["hexadecimal"]);
    unreadable("0 < [fd00::1] > [fd00::2]:4 udp (1)\n", &["`:` is expected"]);
    unreadable("0 < mld report to_x ff15::1\n", &["no record `to_x`"]);
    let r = check("test.pkt", "--ip_version=ipv6\n0 < fd00::1 > 10.0.0.1 icmp6 echo_request\n").explain().unwrap();
    assert!(r.contains("not of one family"), "{r}");
    assert!(check("t", "--ip_version=ipv9\n").explain().unwrap().contains("`ipv4`, `ipv6`"));
}
