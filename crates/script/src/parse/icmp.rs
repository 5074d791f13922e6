//! ICMP types and codes by name.

struct Kind {
    name: &'static str,
    kind: u8,
    codes: &'static [(&'static str, u8)],
}

const KINDS: &[Kind] = &[
    Kind { name: "echo_reply", kind: 0, codes: &[] },
    Kind {
        name: "unreachable",
        kind: 3,
        codes: &[
            ("net_unreachable", 0),
            ("host_unreachable", 1),
            ("protocol_unreachable", 2),
            ("port_unreachable", 3),
            ("frag_needed", 4),
            ("source_route_failed", 5),
            ("net_unknown", 6),
            ("host_unknown", 7),
            ("source_host_isolated", 8),
            ("net_prohibited", 9),
            ("host_prohibited", 10),
            ("net_unreachable_for_tos", 11),
            ("host_unreachable_for_tos", 12),
            ("packet_filtered", 13),
            ("precedence_violation", 14),
            ("precedence_cutoff", 15),
        ],
    },
    Kind { name: "source_quench", kind: 4, codes: &[] },
    Kind { name: "redirect", kind: 5, codes: &[("net", 0), ("host", 1)] },
    Kind { name: "echo_request", kind: 8, codes: &[] },
    Kind { name: "time_exceeded", kind: 11, codes: &[("ttl_exceeded", 0), ("reassembly_time", 1)] },
    Kind { name: "parameter_problem", kind: 12, codes: &[("pointer", 0)] },
];

pub fn kind(name: &str) -> Option<u8> {
    KINDS.iter().find(|k| k.name == name).map(|k| k.kind)
}

pub fn kind_names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|k| k.name)
}

/// Names of the codes of a type.
pub fn codes(kind: u8) -> &'static [(&'static str, u8)] {
    KINDS.iter().find(|k| k.kind == kind).map_or(&[], |k| k.codes)
}

pub fn show(kind: u8, code: u8) -> String {
    let Some(k) = KINDS.iter().find(|k| k.kind == kind) else { return format!("type {kind} code {code}") };
    match k.codes.iter().find(|c| c.1 == code) {
        Some((name, _)) => format!("{} {name}", k.name),
        None if code == 0 => k.name.to_owned(),
        None => format!("{} code {code}", k.name),
    }
}
