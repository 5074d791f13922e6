//! Our stack and this machine's kernel as neighbours on a TAP interface, in a network namespace made for the test.
use crate::harness::{Env, TAP, Test, test};
use crate::http::noise;
use anyhow::{Context, Result, ensure};

pub fn tests() -> Vec<Test> {
    vec![
        test("tap_interface", &["python3", "curl", "unshare", "ip", TAP], tap_interface),
        test("other_interfaces", &["python3", "curl", "unshare", "nsenter", "ip", "ping", TAP], other_interfaces),
        test("fragments_as_this_kernel", &["python3", "unshare", "nsenter", "ip", "nstat", TAP], fragments).limit(200),
        test("mtu_changes_under_load", &["python3", "unshare", "nsenter", "ip", TAP], mtu_changes).limit(400),
        test("neighbours_fail_and_change", &["python3", "unshare", "ip", TAP], neighbours),
        test("datagrams_all_accounted_for", &["python3", "unshare", "ip", "nstat", TAP], datagrams).limit(900),
        test("interop_with_this_kernel", &["python3", "unshare", "ip", "ss", TAP], interop).limit(900),
    ]
}

/// The other end of the link is this machine's own kernel, on an interface in a namespace made for the test.
fn tap_interface(env: &Env) -> Result<()> {
    let data = noise(3 << 20);
    env.write("carried", &data)?;
    let command = env.in_own_network(&env.program("tap.sh"), &[&env.belljar_path(), "carried"]);
    let out = env.finish(command, 90)?;
    for copy in ["in", "out"] {
        let got = std::fs::read(env.dir.join(copy)).with_context(|| format!("{out:?}"))?;
        ensure!(got == data, "{copy}: {} bytes, {out:?}", got.len());
    }
    let text = &out.stdout;
    ensure!(text.contains("default via 10.9.0.1 dev eth0"), "{out:?}");
    ensure!(text.contains("tap0: the connection to this interface ended"), "{out:?}");
    ensure!(out.code == Some(0) && !text.contains("still there"), "{out:?}");
    Ok(())
}

/// Several queues, no link layer, and an interface that leads elsewhere.
fn other_interfaces(env: &Env) -> Result<()> {
    env.write("carried", &noise(3 << 20))?;
    let out = env.finish(env.in_own_network(&env.program("ports.sh"), &[&env.belljar_path(), "carried"]), 90)?;
    let want = "TAP with four queues: intact\nTUN: intact\nTUN, IPv6: intact\n1 received\npacket socket, in: intact\n\
                packet socket, out: intact\na device that is gone: 125\n";
    ensure!(out.stdout == want && out.stderr.contains("this machine has no interface near"), "{out:?}");
    Ok(())
}

/// Random connections over a bad link between our stack and this machine's, each side once the server: every byte and
/// every end as it should be, and no socket left. `BELLJAR_E2E_CONNECTIONS` says how many each way, `BELLJAR_E2E_SEED` which.
fn interop(env: &Env) -> Result<()> {
    let count = std::env::var("BELLJAR_E2E_CONNECTIONS").unwrap_or_else(|_| "500".to_owned());
    let seed = std::env::var("BELLJAR_E2E_SEED").unwrap_or_else(|_| "1".to_owned());
    let (belljar, program) = (env.belljar_path(), env.program("interop.py"));
    let args = [belljar.as_str(), &program, &seed, &count, "32"];
    let out = env.finish(env.in_own_network(&env.program("interop.sh"), &args), 880)?;
    let intact = format!("{count} of {count} connections intact");
    ensure!(out.stdout.matches(&intact).count() == 2, "seed {seed} (BELLJAR_E2E_SEED): {out:?}");
    ensure!(out.stdout.contains("left: .") && !out.stdout.contains("server:"), "seed {seed}: {out:?}");
    ensure!(out.code == Some(0), "{out:?}");
    Ok(())
}

/// Fragments in every order, doubled, overlapping and malformed, sent to our stack and to this machine's: the same answers,
/// the same ICMP errors, the same counters.
fn fragments(env: &Env) -> Result<()> {
    let seed = std::env::var("BELLJAR_E2E_SEED").unwrap_or_else(|_| "1".to_owned());
    let (belljar, program, echo) = (env.belljar_path(), env.program("fragments.py"), env.program("udp_echo.py"));
    let args = [belljar.as_str(), &program, &echo, &seed];
    let out = env.finish(env.in_own_network(&env.program("fragments.sh"), &args), 190)?;
    ensure!(out.code == Some(0) && out.stdout.contains("counters equal"), "seed {seed} (BELLJAR_E2E_SEED): {out:?}");
    Ok(())
}

/// Datagrams between our stack and this machine's, whole and in fragments: every byte right, and what did not arrive is in
/// somebody's counter. `BELLJAR_E2E_DATAGRAMS` says how many each way.
fn datagrams(env: &Env) -> Result<()> {
    let count = std::env::var("BELLJAR_E2E_DATAGRAMS").unwrap_or_else(|_| "20000".to_owned());
    let (belljar, program) = (env.belljar_path(), env.program("datagrams.py"));
    for longest in ["1400", "20000"] {
        let args = [belljar.as_str(), &program, "1", &count, longest];
        let out = env.finish(env.in_own_network(&env.program("datagrams.sh"), &args), 880)?;
        let sums: Vec<&str> = out.stdout.lines().filter(|l| l.contains("belljar: sent")).collect();
        ensure!(sums.len() == 2, "{out:?}");
        for line in sums {
            let n: Vec<u64> = line.split([' ', ',']).filter_map(|w| w.parse().ok()).collect();
            let [sent, received, wrong, _late, lost @ ..] = n.as_slice() else { anyhow::bail!("{line}") };
            ensure!(sent.to_string() == count && *wrong == 0, "{line}");
            let known = received + lost.iter().sum::<u64>();
            // The last datagrams, which say how many there were, can be lost as well; of a long one each fragment.
            ensure!(known >= *sent, "{line}: {} are in no counter", sent - known.min(*sent));
            ensure!(longest != "1400" || known <= sent + 16, "{line}: more lost than sent");
        }
    }
    Ok(())
}

/// A router says all the time that packets have become too long, and every byte arrives all the same, in both families.
fn mtu_changes(env: &Env) -> Result<()> {
    let count = std::env::var("BELLJAR_E2E_CONNECTIONS").unwrap_or_else(|_| "200".to_owned());
    let (belljar, program) = (env.belljar_path(), env.program("interop.py"));
    let args = [belljar.as_str(), &program, "1", &count, "16"];
    let out = env.finish(env.in_own_network(&env.program("mtu.sh"), &args), 390)?;
    let intact = format!("{count} of {count} connections intact");
    ensure!(out.stdout.matches(&intact).count() == 2 && !out.stdout.contains("server:"), "{out:?}");
    ensure!(out.stdout.contains("IcmpInDestUnreachs came") && out.stdout.contains("Icmp6InPktTooBigs came"), "{out:?}");
    Ok(())
}

/// A neighbour that does not exist, and one whose hardware address changes: what a program notices, by errno and second, is
/// what it notices on this machine's kernel.
fn neighbours(env: &Env) -> Result<()> {
    let (belljar, program, echo) = (env.belljar_path(), env.program("neighbours.py"), env.program("udp_echo.py"));
    let out = env.finish(env.in_own_network(&env.program("neighbours.sh"), &[&belljar, &program, &echo]), 90)?;
    ensure!(out.stdout.starts_with("2\n") && out.stdout.ends_with("equal\n"), "{out:?}");
    Ok(())
}
