//! Names for port numbers, from the machine's `/etc/services`.
use std::collections::HashMap;

#[derive(Debug, Default)]
pub struct Services {
    by_port: HashMap<(u16, String), String>,
    by_name: HashMap<(String, String), u16>,
}

impl Services {
    pub fn load() -> Services {
        Services::parse(&std::fs::read_to_string("/etc/services").unwrap_or_default())
    }

    fn parse(text: &str) -> Services {
        let mut s = Services::default();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or("").split_whitespace();
            let (Some(name), Some(port)) = (words.next(), words.next()) else { continue };
            let Some((port, proto)) = port.split_once('/') else { continue };
            let Ok(port) = port.parse() else { continue };
            s.by_port.entry((port, proto.to_owned())).or_insert_with(|| name.to_owned());
            for alias in std::iter::once(name).chain(words) {
                s.by_name.entry((alias.to_owned(), proto.to_owned())).or_insert(port);
            }
        }
        s
    }

    pub fn name(&self, port: u16, proto: &str) -> Option<&str> {
        self.by_port.get(&(port, proto.to_owned())).map(String::as_str)
    }

    /// A port by number or by the name it has for TCP or UDP.
    pub fn port(&self, text: &str) -> Option<u16> {
        let named = |proto: &str| self.by_name.get(&(text.to_owned(), proto.to_owned())).copied();
        text.parse().ok().or_else(|| named("tcp")).or_else(|| named("udp"))
    }
}

impl belljar_kernel::net::netfilter::words::Names for Services {
    fn service(&self, port: u16, proto: &str) -> Option<String> {
        self.name(port, proto).map(str::to_owned)
    }

    fn port(&self, name: &str, proto: &str) -> Option<u16> {
        self.by_name.get(&(name.to_owned(), proto.to_owned())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases() {
        let s = Services::parse("# x\nhttp 80/tcp www # web\nmdns\t5353/udp\nbroken x/tcp\n");
        assert_eq!((s.name(80, "tcp"), s.name(80, "udp"), s.port("www")), (Some("http"), None, Some(80)));
        assert_eq!((s.port("mdns"), s.port("99"), s.port("nope")), (Some(5353), Some(99), None));
    }
}
