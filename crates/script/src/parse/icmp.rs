//! ICMP types and codes by name; of ICMPv6 with packetdrill's names.
use belljar_wire::icmpv6::*;

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

const KINDS6: &[Kind] = &[
    Kind {
        name: "unreachable",
        kind: ICMPV6_DEST_UNREACH,
        codes: &[
            ("no_route", ICMPV6_NOROUTE),
            ("admin_prohibited", ICMPV6_ADM_PROHIBITED),
            ("not_neighbour", ICMPV6_NOT_NEIGHBOUR),
            ("address_unreachable", ICMPV6_ADDR_UNREACH),
            ("port_unreachable", ICMPV6_PORT_UNREACH),
            ("policy_fail", ICMPV6_POLICY_FAIL),
            ("reject_route", ICMPV6_REJECT_ROUTE),
        ],
    },
    Kind { name: "packet_too_big", kind: ICMPV6_PKT_TOOBIG, codes: &[] },
    Kind {
        name: "time_exceeded",
        kind: ICMPV6_TIME_EXCEED,
        codes: &[("exceeded_hop_limit", ICMPV6_EXC_HOPLIMIT), ("exceeded_frag_time", ICMPV6_EXC_FRAGTIME)],
    },
    Kind {
        name: "parameter_problem",
        kind: ICMPV6_PARAMPROB,
        codes: &[
            ("header_field", ICMPV6_HDR_FIELD),
            ("unknown_next_header", ICMPV6_UNK_NEXTHDR),
            ("unknown_option", ICMPV6_UNK_OPTION),
        ],
    },
    Kind { name: "echo_request", kind: ICMPV6_ECHO_REQUEST, codes: &[] },
    Kind { name: "echo_reply", kind: ICMPV6_ECHO_REPLY, codes: &[] },
];

fn kinds(v6: bool) -> &'static [Kind] {
    if v6 { KINDS6 } else { KINDS }
}

pub fn kind(v6: bool, name: &str) -> Option<u8> {
    kinds(v6).iter().find(|k| k.name == name).map(|k| k.kind)
}

pub fn kind_names(v6: bool) -> impl Iterator<Item = &'static str> {
    kinds(v6).iter().map(|k| k.name)
}

/// Names of the codes of a type.
pub fn codes(v6: bool, kind: u8) -> &'static [(&'static str, u8)] {
    kinds(v6).iter().find(|k| k.kind == kind).map_or(&[], |k| k.codes)
}

pub fn is_echo(v6: bool, kind: u8) -> bool {
    if v6 { matches!(kind, ICMPV6_ECHO_REQUEST | ICMPV6_ECHO_REPLY) } else { matches!(kind, 0 | 8) }
}

/// With the protocol's name in front.
pub fn show(v6: bool, kind: u8, code: u8) -> String {
    let proto = if v6 { "icmp6" } else { "icmp" };
    let Some(k) = kinds(v6).iter().find(|k| k.kind == kind) else { return format!("{proto} type {kind} code {code}") };
    match k.codes.iter().find(|c| c.1 == code) {
        Some((name, _)) => format!("{proto} {} {name}", k.name),
        None if code == 0 => format!("{proto} {}", k.name),
        None => format!("{proto} {} code {code}", k.name),
    }
}
