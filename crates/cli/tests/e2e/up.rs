//! `belljar up`: networks from files.
use crate::harness::{Env, Test, test};
use anyhow::{Result, ensure};

pub fn tests() -> Vec<Test> {
    vec![
        test("up_as_the_page_says", &["python3", "curl", "ping"], page),
        test("up_ends_with_the_first_code_and_leaves_nothing", &["python3"], codes),
        test("up_reaches_each_host", &["python3", "ip"], reaches),
        test("up_publishes_and_goes_out", &["python3", "curl", "iptables-legacy"], outside),
    ]
}

const OFFICE: &str = include_str!("../../../../docs/up.in/office.toml");
const PAGE: &str = include_str!("../../../../docs/up.md");

fn page(env: &Env) -> Result<()> {
    let file = env.write("office.toml", OFFICE.as_bytes())?;
    let out = env.finish(env.belljar(&["up", &file]), 60)?;
    ensure!(out.code == Some(0), "{out:?}");
    let said = PAGE.split("```text\n").nth(1).and_then(|t| t.split("```").next()).unwrap_or_default();
    ensure!(said.lines().count() == 2);
    for line in said.lines() {
        ensure!(out.stdout.lines().any(|l| l == line), "not said: {line:?} in {out:?}");
    }
    Ok(())
}

fn codes(env: &Env) -> Result<()> {
    let two = |a: &str, b: &str| {
        format!(
            "[[host.a.program]]\nrun = {a:?}\n[[host.b.program]]\nrun = {b:?}\n[[link]]\nbetween = [\"a\", \"b\"]\n"
        )
    };
    let cases = [
        (two("exit 3", "sleep 1000"), Some(3), "belljar: a: exit 3 ended with code 3"),
        (two("kill -9 $$", "sleep 1000"), Some(137), "signal 9"),
        (two("true", "true"), Some(0), ""),
        ("[host.a]\nsetup = [\"false\"]\n".to_owned(), Some(1), "setup in line 2 (false) ended with code 1"),
        ("[[host.a.program]]\nrun = [\"no-such-program\"]\n".to_owned(), Some(127), "no such program"),
        (
            "[[host.a.program]]\nrun = \"sleep 1000\"\nservice = true\n[[host.a.program]]\nrun = \"echo done\"\n"
                .to_owned(),
            Some(0),
            "",
        ),
    ];
    for (n, (text, code, says)) in cases.iter().enumerate() {
        let file = env.write(&format!("c{n}.toml"), text.as_bytes())?;
        let out = env.finish(env.belljar(&["up", &file]), 30)?;
        ensure!(out.code == *code && out.stderr.contains(says), "{text}: {out:?}");
    }
    // Of a link that was told to lose something it is told at the end.
    let lossy = "[host.a.address]\neth0 = \"10.0.0.1/24\"\n[host.b.address]\neth0 = \"10.0.0.2/24\"\n[[host.a.program]]\nrun = \
                 \"python3 -c 'import socket; socket.create_connection((\\\"10.0.0.2\\\", 9), 0.3)'\"\n[[link]]\nname = \"line\"\nbetween \
                 = [\"a\", \"b\"]\nloss = \"100%\"\n";
    let file = env.write("lossy.toml", lossy.as_bytes())?;
    let out = env.finish(env.belljar(&["up", &file]), 30)?;
    ensure!(out.code == Some(1) && out.stderr.contains("belljar: link line, of "), "{lossy}: {out:?}");
    // Nobody in it: it stays until it is told.
    let file = env.write("empty.toml", b"[host.a]\n")?;
    let jar = env.start(env.belljar(&["up", "--name", "empty", &file]))?;
    crate::harness::until(10, || env.ask(&["exec", "empty/a", "--", "true"]).ok());
    let out = jar.stop()?;
    ensure!(out.code == Some(143), "{out:?}");
    Ok(())
}

fn reaches(env: &Env) -> Result<()> {
    let text = "[host.a.address]\neth0 = \"10.9.0.1/24\"\n[host.b.address]\neth0 = \"10.9.0.2/24\"\n[[host.b.program]]\n\
                run = \"exec python3 -m http.server 80\"\nservice = true\n[[host.a.program]]\nrun = \"echo ready; exec sleep 1000\"\n\
                after = \"b:80\"\n[[link]]\nbetween = [\"a\", \"b\"]\ndelay = \"5ms\"\n";
    let file = env.write("two.toml", text.as_bytes())?;
    let mut jar = env.start(env.belljar(&["up", "--name", "two", &file]))?;
    jar.says("a | ready", 20)?;
    for a in ["two/a", "two@a"] {
        let addr = env.ask(&["exec", a, "--", "ip", "-4", "addr", "show", "eth0"])?;
        ensure!(addr.contains("10.9.0.1/24"), "{a}: {addr}");
        ensure!(env.ask(&["ip", a, "addr"])?.contains("10.9.0.1/24"));
    }
    ensure!(env.ask(&["ss", "two/b", "-ltn"])?.contains(":80"));
    ensure!(env.ask(&["path", "two/b", "--once"])?.contains("RECEIVE"));
    let links = env.ask(&["link", "two/b:eth0", "loss", "1%"])?;
    ensure!(links.contains("a:eth0-b:eth0") && links.contains("delay 5ms loss 1%"), "{links}");
    for line in [
        "link add v0 type veth peer name v1",
        "addr add 10.8.0.1/24 brd + dev v0",
        "link set v0 up mtu 1400",
        "route add 10.7.0.0/16 via 10.9.0.2",
        "neigh replace 10.9.0.77 lladdr 02:00:00:00:00:77 dev eth0",
        "netns add blue",
        "link set v1 netns blue",
    ] {
        env.ask(&[&["ip", "two/a"][..], &line.split(' ').collect::<Vec<_>>()].concat())?;
    }
    ensure!(env.ask(&["ip", "two/a", "addr", "show", "v0"])?.contains("10.8.0.1/24 brd 10.8.0.255"));
    ensure!(env.ask(&["ip", "two/a", "route"])?.contains("10.7.0.0/16 via 10.9.0.2 dev eth0"));
    ensure!(env.ask(&["ip", "two/a", "neigh"])?.contains("02:00:00:00:00:77 PERMANENT"));
    ensure!(env.ask(&["ip", "-n", "blue", "two/a", "link"])?.contains("v1"));
    let out = env.finish(env.belljar(&["ip", "two/a", "link", "add", "v0", "type", "dummy"]), 10)?;
    ensure!(out.code == Some(2) && out.stderr.contains("RTNETLINK answers: File exists"), "{out:?}");
    let out = env.finish(env.belljar(&["link", "two/c"]), 10)?;
    ensure!(out.code == Some(2) && out.stderr.contains("no link"), "{out:?}");
    let out = jar.stop()?;
    ensure!(out.code == Some(143), "{out:?}");
    Ok(())
}

fn outside(env: &Env) -> Result<()> {
    // A service of this machine, and one inside that is two hosts away from it.
    let (here, there) = (crate::harness::free_port()?, crate::harness::free_port()?);
    env.write("hello", b"from outside\n")?;
    let mut here_server = env.user("python3");
    here_server.args(["-m", "http.server", "--bind", "127.0.0.1", &here.to_string()]);
    let _server = env.start(here_server)?;
    let text = format!(
        "[host.edge]\nforward = true\nmasquerade = \"wan\"\naddress = {{ lan = \"10.9.0.1/24\" }}\n\
         [host.inner]\naddress = {{ eth0 = \"10.9.0.2/24\" }}\nroute = \"default via 10.9.0.1\"\npublish = \"{there}:80\"\n\
         [[host.inner.program]]\nrun = \"exec python3 -m http.server 80\"\nservice = true\n\
         [[host.inner.program]]\nafter = \"inner:80\"\n\
         run = \"curl -sS --retry 20 --retry-connrefused --retry-delay 1 http://10.0.2.2:{here}/hello; exec sleep 1000\"\n\
         [[link]]\nbetween = [\"edge:lan\", \"inner\"]\n[[link]]\nbetween = [\"edge:wan\", \"outside\"]\n"
    );
    let file = env.write("edge.toml", text.as_bytes())?;
    let mut jar = env.start(env.belljar(&["up", "--name", "edge", &file]))?;
    jar.says("inner | from outside", 40)?;
    let mut c = env.user("curl");
    c.args(["-sS", &format!("http://127.0.0.1:{there}/hello")]);
    let out = env.finish(c, 20)?;
    ensure!(out.stdout == "from outside\n", "{out:?}");
    let out = jar.stop()?;
    ensure!(out.code == Some(143), "{out:?}");
    Ok(())
}
