//! Our stack and this machine's kernel as neighbours on a TAP interface, in a network namespace made for the test.
use crate::harness::{Env, TAP, Test, test};
use crate::http::noise;
use anyhow::{Context, Result, ensure};

pub fn tests() -> Vec<Test> {
    vec![
        test("tap_interface", &["python3", "curl", "unshare", "ip", TAP], tap_interface),
        test("fragments_as_this_kernel", &["python3", "unshare", "nsenter", "ip", "nstat", TAP], fragments).limit(200),
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
