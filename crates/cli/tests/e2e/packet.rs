//! Packet sockets: the distribution's tcpdump (whose libpcap insists on a ring in shared memory) and arping, Python, ss.
use crate::harness::{Env, Out, Test, test, until};
use anyhow::{Result, ensure};

pub fn tests() -> Vec<Test> {
    vec![
        test("tcpdump_of_the_distribution", &["tcpdump", "python3"], tcpdump_of_the_distribution),
        test("tcpdump_at_once", &["tcpdump", "python3"], tcpdump_at_once),
        test("sniffer_in_python", &["python3"], sniffer_in_python),
        test("rings_both_ways", &["python3"], rings_both_ways),
        test("ethtool_of_the_distribution", &["ethtool"], ethtool_of_the_distribution),
        test("channels_by_ethtool", &["ethtool"], channels_by_ethtool),
        test("polling_by_sysfs", &["ethtool"], polling_by_sysfs),
        test("xdp_drops_first", &["ping"], xdp_drops_first),
        test("arping_of_the_distribution", &["arping"], arping_of_the_distribution),
        test("ss_lists_packet_sockets", &["ss", "python3"], ss_lists_packet_sockets),
    ]
}

/// A capture while datagrams go to `to`; they go on until it has enough.
fn capture(env: &Env, to: &str, tcpdump: &str) -> Result<Out> {
    let send = format!(
        "import socket, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nwhile True:\n    s.sendto(b'hello', ('{to}', 9))\n    time.sleep(0.05)\n"
    );
    let script = format!("python3 -c \"{send}\" & timeout 30 {tcpdump}; code=$?; kill $!; exit $code");
    let out = env.finish(env.belljar(&["run", "--", "sh", "-c", &script]), 60)?;
    ensure!(out.code == Some(0), "{out:?}");
    Ok(out)
}

fn tcpdump_of_the_distribution(env: &Env) -> Result<()> {
    let lines = |out: &Out, with: &str| out.stdout.lines().filter(|l| l.contains(with)).count();
    let lo = capture(env, "127.0.0.1", "tcpdump -i lo -nn -c 6")?;
    ensure!(lines(&lo, "IP 127.0.0.1.") == 3 && lines(&lo, "ICMP 127.0.0.1 udp port 9 unreachable") == 3, "{lo:?}");
    ensure!(lo.stderr.contains("6 packets captured") && lo.stderr.contains("0 packets dropped by kernel"), "{lo:?}");
    // Time goes on between them.
    let times: std::collections::BTreeSet<&str> = lo.stdout.lines().filter_map(|l| l.split(' ').next()).collect();
    ensure!(times.len() > 1, "{lo:?}");
    let eth = capture(env, "10.0.2.2", "tcpdump -i eth0 -nn -c 3 udp and dst port 9")?;
    ensure!(lines(&eth, "> 10.0.2.2.9: UDP, length 5") == 3, "{eth:?}");
    let any = capture(env, "127.0.0.1", "tcpdump -i any -nn -c 3 udp")?;
    ensure!(lines(&any, "lo    In  IP 127.0.0.1.") == 3, "{any:?}");
    Ok(())
}

/// --immediate-mode takes the older version of the ring.
fn tcpdump_at_once(env: &Env) -> Result<()> {
    let out = capture(env, "127.0.0.1", "tcpdump --immediate-mode -i lo -nn -s 30 -x -c 4")?;
    ensure!(out.stderr.contains("4 packets captured") && out.stderr.contains("snapshot length 30 bytes"), "{out:?}");
    let hex = out.stdout.lines().find(|l| l.contains("0x0000:")).unwrap_or_default();
    ensure!(hex.split_whitespace().nth(1) == Some("4500"), "{out:?}");
    Ok(())
}

fn sniffer_in_python(env: &Env) -> Result<()> {
    let out = env.finish(env.belljar(&["run", "--", "python3", &env.program("sniff.py")]), 30)?;
    ensure!(out.code == Some(0) && out.stdout == "all seen\n", "{out:?}");
    Ok(())
}

/// At 1 Mbit/s frames stay below for a while.
fn rings_both_ways(env: &Env) -> Result<()> {
    let program = env.program("tx_ring.py");
    for args in [&["run", "--nic", "speed=1"][..], &["run"], &["run", "--exact"]] {
        let out = env.finish(env.belljar(&[args, &["--", "python3", &program]].concat()), 60)?;
        ensure!(out.code == Some(0) && out.stdout == "all sent\n", "{args:?}: {out:?}");
    }
    Ok(())
}

fn ethtool_of_the_distribution(env: &Env) -> Result<()> {
    let run = |args: &[&str], words: &str| env.finish(env.belljar(&[args, &["--", "sh", "-c", words]].concat()), 30);
    let all =
        "ethtool eth0; for o in -i -g -c -l -k -S -T -P; do ethtool $o eth0 || exit; done; ethtool -S eth0; ethtool lo";
    let out = run(&["run"], all)?;
    ensure!(out.code == Some(0), "{out:?}");
    for line in [
        "\tLink detected: yes",
        "driver: belljar",
        "rx-usecs: 0",
        "Combined:\t1",
        "\ttx-tcp6-segmentation: on",
        "     rx_queue_0_drops: 0",
        "large-receive-offload: off",
        "Permanent address: 52:55:0a:00:02:0f",
    ] {
        ensure!(out.stdout.lines().any(|l| l.trim_end() == line), "{line}: {out:?}");
    }
    let change = "ethtool -G eth0 rx 64 tx 128 && ethtool -g eth0 && ethtool -C eth0 rx-usecs 50 && ethtool -c eth0 && \
        ethtool -K eth0 tso off && ethtool -k eth0; ethtool -G eth0 rx 5000; ethtool -C eth0 tx-usecs 9; ethtool -K eth0 ntuple on";
    let out = run(&["run"], change)?;
    for line in ["RX:\t\t64", "TX:\t\t128", "rx-usecs: 50", "tcp-segmentation-offload: off"] {
        ensure!(out.stdout.lines().any(|l| l == line), "{line}: {out:?}");
    }
    for error in [
        "requested ring size exceeds maximum",
        "cannot modify an unsupported parameter",
        "Could not change any device features",
    ] {
        ensure!(out.stderr.contains(error), "{error}: {out:?}");
    }
    let out = run(&["run", "--drop-caps"], "ethtool -G eth0 rx 64")?;
    ensure!(out.stderr.contains("Operation not permitted"), "{out:?}");
    Ok(())
}

/// Four channels on four CPUs: shown, changed, steered.
fn channels_by_ethtool(env: &Env) -> Result<()> {
    let words = "ethtool -l eth0; ethtool -x eth0; ethtool -X eth0 weight 0 0 1 && ethtool -x eth0; \
        ethtool -L eth0 combined 2; ethtool -X eth0 default && ethtool -L eth0 combined 2 && ethtool -S eth0; \
        ethtool -L eth0 combined 9; cat /proc/irq/26/smp_affinity; echo 8 > /proc/irq/26/smp_affinity; \
        cat /proc/irq/26/effective_affinity_list; q=/sys/class/net/eth0/queues; ls $q; cat $q/tx-1/xps_cpus; \
        echo c > $q/rx-0/rps_cpus; cat $q/rx-0/rps_cpus; cat /proc/interrupts; ls /proc/irq";
    let run = ["run", "--with-proc", "--cpus", "4", "--nic", "channels=4", "--", "sh", "-c", words];
    let out = env.finish(env.belljar(&run), 30)?;
    ensure!(out.code == Some(0), "{out:?}");
    for line in [
        "Combined:\t4",
        "Combined:\t4",
        "    0:      0     1     2     3     0     1     2     3",
        "    toeplitz: on",
        "    0:      2     2     2     2     2     2     2     2",
        "     rx_queue_1_packets: 0",
        "2",
        "3",
        "rx-1",
        "tx-1",
        "c",
    ] {
        ensure!(out.stdout.lines().any(|l| l == line), "{line}: {out:?}");
    }
    ensure!(out.stdout.contains("CPU3") && out.stdout.contains("eth0-output.1"), "{out:?}");
    ensure!(!out.stdout.contains("rx_queue_2") && !out.stdout.contains("eth0-input.2"), "{out:?}");
    // A table that names queue 2, and more than there are.
    ensure!(out.stderr.matches("Invalid argument").count() == 2, "{out:?}");
    Ok(())
}

/// How the card polls, limits of its ring, steering by readers, adaptive coalescing: read and written as on Linux.
fn polling_by_sysfs(env: &Env) -> Result<()> {
    // By full names: a directory that is entered would be the machine's own.
    let words = "d=/sys/class/net/eth0; all=\"$d/gro_flush_timeout $d/napi_defer_hard_irqs $d/threaded\"; cat $all; \
        echo 0x4e20 > $d/gro_flush_timeout; echo 2 > $d/napi_defer_hard_irqs; echo 1 > $d/threaded; cat $all; \
        echo 100 > $d/queues/rx-0/rps_flow_cnt; cat $d/queues/rx-0/rps_flow_cnt; l=$d/queues/tx-0/byte_queue_limits; ls $l; \
        echo 9000 > $l/limit_max; cat $l/limit_max; ethtool -C eth0 adaptive-rx on && ethtool -c eth0; ethtool eth0; \
        sysctl -n net.core.busy_read net.core.rps_sock_flow_entries";
    let run = ["run", "--with-proc", "--nic", "speed=100", "--", "sh", "-c", words];
    let out = env.finish(env.belljar(&run), 30)?;
    for (line, times) in [
        ("0", 5),
        ("20000", 1),
        ("2", 1),
        ("1", 1),
        ("128", 1),
        ("inflight", 1),
        ("9000", 1),
        ("Adaptive RX: on  TX: n/a", 1),
        ("rx-usecs:\t8", 1),
        ("\tSpeed: 100Mb/s", 1),
    ] {
        let line_of = |l: &str| l.split_whitespace().eq(line.split_whitespace());
        ensure!(out.stdout.lines().filter(|l| line_of(l)).count() == times, "{line}: {out:?}");
    }
    Ok(())
}

/// A list in front of the stack: what it drops is not answered, and is told.
fn xdp_drops_first(env: &Env) -> Result<()> {
    let jar = env.run(&["--name", "xdp"], &["sleep", "30"])?;
    ensure!(until(10, || env.ask(&["xdp", "xdp", "show"]).ok()).is_some(), "no jar");
    env.ask(&["xdp", "xdp", "set", "dev", "eth0", "native", "drop", "proto", "icmp", ",", "pass", "proto", "arp"])?;
    let out = env.finish(env.belljar(&["exec", "xdp", "--", "ping", "-c", "1", "-W", "1", "10.0.2.2"]), 20)?;
    ensure!(out.stdout.contains("100% packet loss"), "{out:?}");
    let told = env.ask(&["xdp", "xdp", "show", "dev", "eth0"])?;
    ensure!(told.starts_with("eth0: native id 1 packets ") && told.contains(" drops 1 tx 0"), "{told}");
    ensure!(told.contains("    drop proto icmp: 1 packets"), "{told}");
    env.ask(&["xdp", "xdp", "off", "dev", "eth0"])?;
    let out = env.finish(env.belljar(&["exec", "xdp", "--", "ping", "-c", "1", "-W", "5", "10.0.2.2"]), 20)?;
    ensure!(out.stdout.contains(" 0% packet loss"), "{out:?}");
    jar.stop()?;
    Ok(())
}

fn arping_of_the_distribution(env: &Env) -> Result<()> {
    let words = ["run", "--", "arping", "-I", "eth0", "-c", "2", "-w", "10", "10.0.2.2"];
    let out = env.finish(env.belljar(&words), 30)?;
    ensure!(out.code == Some(0), "{out:?}");
    ensure!(out.stdout.contains("Unicast reply from 10.0.2.2 [52:55:0A:00:02:02]"), "{out:?}");
    ensure!(out.stdout.contains("Received 2 response(s)"), "{out:?}");
    Ok(())
}

fn ss_lists_packet_sockets(env: &Env) -> Result<()> {
    // Without a protocol until it is bound: else it would take what any device hears meanwhile.
    let program = "import socket, subprocess, sys\n\
                   a = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)\n\
                   a.bind(('lo', 3))\n\
                   b = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0806))\n\
                   sys.exit(subprocess.run(sys.argv[1:]).returncode)\n";
    let belljar = env.belljar_path();
    let ask = |words: &[&str]| -> Result<String> {
        let all = [&["run", "--name", "packets", "--", "python3", "-c", program][..], words].concat();
        let out = env.finish(env.belljar(&all), 30)?;
        ensure!(out.code == Some(0), "{out:?}");
        Ok(out.stdout)
    };
    let theirs = ask(&["ss", "-0", "-a", "-H"])?;
    let ours = ask(&[&belljar, "ss", "packets", "-0", "-a", "-H"])?;
    let words = |t: &str| t.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    ensure!(words(&theirs) == ["p_raw UNCONN 0 0 *:lo *", "p_dgr UNCONN 0 0 arp:* *"], "{theirs}");
    ensure!(words(&ours) == words(&theirs), "{ours}\n{theirs}");
    Ok(())
}
