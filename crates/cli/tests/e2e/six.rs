//! IPv6 of a jar: inside, out through the gateway, in through a published port, in the commands.
use crate::harness::{Env, Test, free_port, test, until};
use crate::http::noise;
use anyhow::{Result, ensure};
use std::net::{Ipv6Addr, TcpListener, TcpStream};

pub fn tests() -> Vec<Test> {
    vec![
        test("ipv6_inside", &["python3", "curl", "ping"], ipv6_inside),
        test("ipv6_out_and_in", &["python3", "curl"], ipv6_out_and_in),
    ]
}

/// A server that takes both families, and clients of both.
fn ipv6_inside(env: &Env) -> Result<()> {
    let www = env.dir.join("www");
    std::fs::create_dir_all(&www)?;
    let data = noise(1 << 20);
    std::fs::write(www.join("big"), &data)?;
    let serve = ["python3", "-u", "-m", "http.server", "80", "--bind", "::", "--directory", &www.to_string_lossy()];
    let mut server = env.run(&["--name", "six"], &serve)?;
    server.says("Serving HTTP", 20)?;
    for place in ["[::1]", "[fd00::15]", "127.0.0.1", "10.0.2.15"] {
        let url = format!("http://{place}/big");
        let words = ["exec", "six", "--", "curl", "-sSf", "-o", "got", &url];
        let out = env.finish(env.belljar(&words), 20)?;
        ensure!(out.code == Some(0), "{place}: {out:?}");
        ensure!(std::fs::read(env.dir.join("got"))? == data, "{place}: the file differs");
    }
    let addresses = env.ask(&["ip", "-6", "six", "addr"])?;
    for line in ["inet6 ::1/128 scope host", "inet6 fd00::15/64 scope global", "scope link"] {
        ensure!(addresses.contains(line), "{line:?} is not in:\n{addresses}");
    }
    let listeners = env.ask(&["ss", "six", "-tln"])?;
    ensure!(listeners.contains("*:80"), "{listeners}");
    let out = env.finish(env.belljar(&["exec", "six", "--", "ping", "-n", "-c2", "-i0.2", "fd00::2"]), 20)?;
    ensure!(out.stdout.contains("2 received, 0% packet loss"), "{out:?}");
    let neighbours = env.ask(&["ip", "six", "neigh"])?;
    ensure!(neighbours.contains("fd00::2 dev eth0 lladdr"), "{neighbours}");
    server.stop()?;
    Ok(())
}

/// fd00::2 is this machine's ::1; a port published on ::1 leads to who listens on IPv6, or to who listens on IPv4.
fn ipv6_out_and_in(env: &Env) -> Result<()> {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("    (this machine has no ::1: the way out and in is not tried)");
        return Ok(());
    }
    let www = env.dir.join("www");
    std::fs::create_dir_all(&www)?;
    std::fs::write(www.join("page"), b"from outside")?;
    let port = free_port()?;
    let mut python = env.user("python3");
    python.args(["-u", "-m", "http.server", &port.to_string(), "--bind", "::1", "--directory", &env.file("www")]);
    let mut outside = env.start(python)?;
    outside.says("Serving HTTP", 20)?;
    let url = format!("http://[fd00::2]:{port}/page");
    let out = env.run(&[], &["curl", "-sSf", &url])?.wait(20)?;
    ensure!(out.code == Some(0) && out.stdout == "from outside", "{out:?}");
    let nobody = format!("http://[fd00::2]:{}/", free_port()?);
    let out = env.run(&[], &["curl", "-sS", &nobody])?.wait(20)?;
    ensure!(out.code == Some(7), "refused is curl's 7: {out:?}");
    for bind in ["::", "0.0.0.0"] {
        let published = free_port()?;
        let publish = format!("[::1]:{published}:80");
        let serve = ["python3", "-u", "-m", "http.server", "80", "--bind", bind, "--directory", &www.to_string_lossy()];
        let mut server = env.run(&["-p", &publish], &serve)?;
        server.says("Serving HTTP", 20)?;
        let url = format!("http://[::1]:{published}/page");
        let mut curl = env.user("curl");
        curl.args(["-sSf", &url]);
        let out = env.finish(curl, 20)?;
        ensure!(out.code == Some(0) && out.stdout == "from outside", "{bind}: {out:?}");
        server.stop()?;
        ensure!(until(5, || TcpStream::connect((Ipv6Addr::LOCALHOST, published)).is_err().then_some(())).is_some());
    }
    Ok(())
}
