//! Files as people write them: what comes out, and what is said about mistakes.
use belljar_kernel::Kernel;
use belljar_topology::*;

const OFFICE: &str = include_str!("../../../docs/up.in/office.toml");

fn wrong(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn the_example_of_the_docs() {
    let t = parse(OFFICE).unwrap();
    assert_eq!((t.name.as_deref(), t.hosts.len(), t.links.len()), (Some("office"), 4, 3));
    let (client, server) = (t.host("client").unwrap(), t.host("server").unwrap());
    assert_eq!(t.hosts[client].programs[0].after, [(server, 8000)]);
    assert_eq!(t.hosts[server].sysctls, [("net.core.somaxconn".to_owned(), "128".to_owned())]);
    assert!(t.hosts[server].programs[0].service);
    let line = &t.links[2];
    assert_eq!((line.name.as_str(), line.conditions[0].rate_bps), ("line", Some(10_000_000)));
    // Back differs by what it says only.
    assert_eq!((line.conditions[1].rate_bps, line.conditions[1].loss), (Some(2_000_000), 0.01));
    assert_eq!(build::find_link(&t, "server:eth0"), Ok(2));
    assert_eq!(build::find_link(&t, "client"), Ok(0));
    assert!(build::find_link(&t, "lin").unwrap_err().contains("did you mean line?"));
    for n in 0..t.hosts.len() {
        let mut k = Kernel::new(1);
        let ns = k.net.add_ns(&t.hosts[n].name);
        let plugs = build::host(&t, n, &mut k, ns).unwrap();
        assert_eq!(plugs.len(), t.plugs(n).count());
        assert_eq!(k.check(), Ok(()));
    }
}

#[test]
fn mistakes_have_a_line_and_a_hint() {
    let two = "[host.alpha.address]\neth0 = \"10.0.0.1/24\"\n[host.beta]\n";
    let link = "[[link]]\nbetween = [\"alpha\", \"beta\"]\n";
    assert!(parse(&format!("{two}{link}")).is_ok());
    for (text, says) in [
        (format!("{two}{link}dealy = \"1ms\"\n"), "line 6: unknown key \"dealy\" in link: did you mean \"delay\"?"),
        (format!("{two}{link}delay = \"1\"\n"), "line 6: \"1\" has no unit"),
        (
            format!("{two}[[link]]\nbetween = [\"alpah\", \"beta\"]\n"),
            "line 5: unknown host \"alpah\" in a link: did you mean \"alpha\"?",
        ),
        (two.to_owned(), "line 2: unknown device \"eth0\" in host.alpha: there are lo"),
        (
            format!("{two}route = \"default via 10.0.0\"\n{link}"),
            "line 4: route \"default via 10.0.0\": \"10.0.0\" is no address",
        ),
        (format!("{two}route = \"10.0.0.0/33 via 10.0.0.1\"\n{link}"), "no such length of a prefix"),
        (format!("{two}publish = \"8080:80\"\n{link}"), "line 4: publish needs a link to \"outside\""),
        (
            format!("{two}sysctl = {{ \"net.core.somaxcon\" = 1 }}\n{link}"),
            "line 4: there is no setting net.core.somaxcon; did you mean net.core.somaxconn?",
        ),
        (
            format!("{two}sysctl = {{ \"net.ipv4.conf.eth0.rp_filte\" = 1 }}\n{link}"),
            "line 4: there is no setting net.ipv4.conf.eth0.rp_filte; did you mean net.ipv4.conf.eth0.rp_filter?",
        ),
        (format!("{two}forward = 1\n{link}"), "line 4: forward in host.beta is true or false, not integer"),
        (format!("{two}{link}[[link]]\nbetween = [\"alpha:eth0\", \"beta\"]\n"), "a device has one link"),
        ("[host.gw]\n".to_owned(), "line 1: \"gw\" is taken"),
        ("[host.\"a b\"]\n".to_owned(), "line 1: \"a b\" is no name of a host"),
        ("[hosts.a]\n".to_owned(), "line 1: unknown key \"hosts\" in the file: did you mean \"host\"?"),
        ("name = \"x\"\n".to_owned(), "there is no host"),
        ("[host.a\n".to_owned(), "line 1: "),
        ("[[host.a.program]]\nservice = true\n".to_owned(), "host.a.program has no \"run\""),
        ("[[host.a.program]]\nrun = \"x\"\nafter = \"a\"\n".to_owned(), "line 3: after \"a\": write HOST:PORT"),
    ] {
        let said = wrong(&text);
        assert!(said.contains(says), "{text}\n{said}\n{says}");
    }
}

#[test]
fn outside_has_an_address_and_one_link() {
    let t = parse("[host.a]\n[[link]]\nbetween = [\"a:wan\", \"outside\"]\n").unwrap();
    assert_eq!(t.outside(), Some((0, 0, "wan")));
    assert_eq!(t.hosts[0].first_address(false), Some(OUTSIDE_V4.0.into()));
    let again = "[host.a]\n[[link]]\nbetween = [\"a\", \"outside\"]\n[[link]]\nbetween = [\"a\", \"outside\"]\n";
    assert!(wrong(again).contains("one link to the machine outside"));
}

/// Whatever the bytes are, there is an answer.
#[test]
fn cards_have_speeds_and_lists_at_xdp() {
    let file = |host: &str| format!("[host.a]\n{host}\n[host.b]\n[[link]]\nbetween = [\"a\", \"b\"]\n");
    let rules = "native drop proto udp dport 53 , tx proto icmp";
    let t = parse(&file(&format!("speed = {{ eth0 = 10 }}\nxdp = {{ eth0 = \"{rules}\" }}"))).unwrap();
    let mut k = belljar_kernel::Kernel::new(1);
    let ns = k.net.add_ns("a");
    let plugs = belljar_topology::build::host(&t, 0, &mut k, ns).unwrap();
    let d = k.net.devs.get(plugs[0].dev).unwrap();
    assert_eq!(d.nic().map(|n| n.link().0), Some(10));
    assert!(d.xdp.as_ref().is_some_and(|x| x.native));
    for (host, why) in [
        ("speed = { eth1 = 10 }", "eth1"),
        ("speed = { eth0 = 0 }", "a speed is 1 to 1000000 Mbit/s"),
        ("xdp = { eth7 = \"native drop\" }", "eth7"),
    ] {
        let text = wrong(&file(host));
        assert!(text.contains("line 2") && text.contains(why), "{text}");
    }
    let t = parse(&file("xdp = { eth0 = \"native frob\" }")).unwrap();
    let ns = k.net.add_ns("b");
    let text = belljar_topology::build::host(&t, 0, &mut k, ns).unwrap_err();
    assert!(text.starts_with("a: xdp of eth0: "), "{text}");
}

#[test]
fn hosts_have_memory() {
    let t = parse("[host.a]\nmem = \"64M\"\n[host.b]\n").unwrap();
    let mut k = belljar_kernel::Kernel::new(1);
    let ns = k.net.add_ns("a");
    belljar_topology::build::host(&t, 0, &mut k, ns).unwrap();
    let text = k.proc_text(ns, "/proc/meminfo").unwrap();
    assert!(text.starts_with("MemTotal:          64512 kB\n"), "{text}");
    let text = wrong("[host.a]\nmem = \"1K\"\n");
    assert!(text.contains("line 2") && text.contains("no size of memory"), "{text}");
}

#[test]
fn rubbish_is_refused_without_a_panic() {
    for cut in 0..OFFICE.len() {
        if OFFICE.is_char_boundary(cut) {
            let _ = parse(&OFFICE[..cut]);
        }
    }
    let deep = format!("host = {}{}", "[".repeat(5000), "]".repeat(5000));
    assert!(parse(&deep).is_err());
    for text in [
        "host = 1",
        "host = []",
        "[host]\na = 1",
        "[host.a]\naddress = []",
        "[[host]]\n",
        "link = 3\n[host.a]\n",
        "[host.a]\nbridge = { b = 3 }",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}
