//! Port names that filters accept, as /etc/services has them.

const SERVICES: &[(&str, u16)] = &[
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("http", 80),
    ("ntp", 123),
    ("snmp", 161),
    ("https", 443),
    ("syslog", 514),
    ("mysql", 3306),
    ("postgresql", 5432),
    ("iperf3", 5201),
    ("redis", 6379),
    ("http-alt", 8080),
];

pub fn port(name: &str) -> Option<u16> {
    name.parse().ok().or_else(|| SERVICES.iter().find(|(n, _)| *n == name).map(|(_, p)| *p))
}
