//! A kernel's events as JSON lines, as text, and as packets of a capture.
//!
//! Times are those of the wall clock; devices are named by the caller, who has the kernel.
use crate::{DROP_INTERFACE, Printer, Writer, to_wire};
use belljar_kernel::env::trace::{Dir, Event, Record, SCHEMA_VERSION};
use belljar_kernel::ids::{DevId, NsId, SockId};
use belljar_wire::{FlowKey, Frame};
use std::fmt::Write as _;
use std::io::{self, Write};

/// What a record does not say itself.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Name of the host; empty where there is one only.
    pub host: &'a str,
    /// Wall clock minus boot time.
    pub wall_offset: u64,
    pub dev_name: &'a dyn Fn(DevId) -> Option<String>,
    /// Of a network namespace that is not the host's own.
    pub ns_name: &'a dyn Fn(NsId) -> Option<String>,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Context<'_> {
    fn wall(&self, r: &Record) -> u64 {
        r.at.saturating_add(self.wall_offset)
    }

    fn dev(&self, dev: Option<DevId>) -> Option<String> {
        let name = (self.dev_name)(dev?).unwrap_or_else(|| "gone".to_string());
        Some(if self.host.is_empty() { name } else { format!("{}/{name}", self.host) })
    }
}

fn sock_name(s: SockId) -> String {
    match s {
        SockId::Tcp(id) => format!("tcp:{}", id.slot()),
        SockId::Udp(id) => format!("udp:{}", id.slot()),
        SockId::Raw(id) => format!("raw:{}", id.slot()),
        SockId::Packet(id) => format!("packet:{}", id.slot()),
        SockId::Xsk(id) => format!("xsk:{}", id.slot()),
    }
}

/// Appends `"key":"value"` with JSON's escapes.
fn text(out: &mut String, key: &str, value: &str) {
    let _ = write!(out, ",\"{key}\":\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if (c as u32) < 0x20 => _ = write!(out, "\\u{:04x}", c as u32),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn packet(out: &mut String, frame: &Frame) {
    let _ = write!(out, ",\"len\":{}", frame.len());
    if let Some(k) = FlowKey::dissect(frame) {
        text(out, "flow", &k.to_string());
        let _ = write!(out, ",\"proto\":{}", k.proto);
    }
    if let Some(gso) = frame.gso {
        let _ = write!(out, ",\"gso_size\":{},\"gso_segs\":{}", gso.size, gso.segs);
    }
}

/// One JSON object without the end of the line. `t` is nanoseconds since boot, `wall` since 1970.
pub fn json(r: &Record, cx: &Context<'_>) -> String {
    let mut out = format!("{{\"v\":{SCHEMA_VERSION},\"t\":{},\"wall\":{}", r.at, cx.wall(r));
    if !cx.host.is_empty() {
        text(&mut out, "host", cx.host);
    }
    if let Some(name) = r.ns.and_then(cx.ns_name) {
        text(&mut out, "netns", &name);
    }
    let dev = |out: &mut String, d| {
        if let Some(name) = cx.dev(d) {
            text(out, "dev", &name);
        }
    };
    match &r.event {
        Event::Tap { dev: d, dir, frame } => {
            text(&mut out, "event", "tap");
            text(&mut out, "dir", if *dir == Dir::In { "in" } else { "out" });
            dev(&mut out, Some(*d));
            let _ = write!(out, ",\"packet\":{}", frame.id);
            packet(&mut out, frame);
        }
        Event::Stage { packet, stage, dev: d, len } => {
            text(&mut out, "event", "stage");
            text(&mut out, "stage", stage);
            dev(&mut out, *d);
            let _ = write!(out, ",\"packet\":{packet},\"len\":{len}");
        }
        Event::Drop { packet: id, reason, at, dev: d, frame } => {
            text(&mut out, "event", "drop");
            text(&mut out, "reason", reason.name());
            text(&mut out, "at", at);
            dev(&mut out, *d);
            let _ = write!(out, ",\"packet\":{id}");
            packet(&mut out, frame);
        }
        Event::Rule { packet, dev: d, hit } => {
            text(&mut out, "event", "rule");
            for (key, value) in [("hook", hit.hook), ("table", &hit.table), ("chain", &hit.chain), ("says", &hit.says)]
            {
                text(&mut out, key, value);
            }
            dev(&mut out, *d);
            let _ = write!(out, ",\"rule\":{},\"packet\":{packet}", hit.number);
        }
        Event::State { sock, old, new } => {
            text(&mut out, "event", "state");
            text(&mut out, "sock", &sock_name(*sock));
            text(&mut out, "old", old);
            text(&mut out, "new", new);
        }
        Event::Retransmit { sock, seq, len, why } => {
            text(&mut out, "event", "retransmit");
            text(&mut out, "sock", &sock_name(*sock));
            let _ = write!(out, ",\"seq\":{seq},\"len\":{len}");
            text(&mut out, "why", why);
        }
    }
    out.push('}');
    out
}

/// One line for people; packets as `printer` prints them, time included.
pub fn line(r: &Record, cx: &Context<'_>, printer: &mut Printer) -> String {
    let at = cx.wall(r);
    let dev = |d| cx.dev(d).map_or(String::new(), |n| format!(" {n}"));
    let body = match &r.event {
        Event::Tap { dev: d, dir, frame } => {
            let arrow = if *dir == Dir::In { "<" } else { ">" };
            format!("#{}{} {arrow} {}", frame.id, dev(Some(*d)), printer.packet(&to_wire(frame)))
        }
        Event::Stage { packet, stage, dev: d, len } => format!("#{packet}{} {stage} ({len} bytes)", dev(*d)),
        Event::Drop { packet, reason, at, dev: d, frame } => {
            let shown = printer.packet(&to_wire(frame));
            format!("#{packet}{} DROP {} at {at}: {shown}", dev(*d), reason.name())
        }
        Event::Rule { packet, dev: d, hit } => {
            let place = if hit.number == 0 { "policy".to_owned() } else { format!("rule {}", hit.number) };
            let chain = if hit.chain == hit.hook { String::new() } else { format!(" {}", hit.chain) };
            format!("#{packet}{} {} {}{chain} {place}: {}", dev(*d), hit.hook, hit.table, hit.says)
        }
        Event::State { sock, old, new } => format!("{} {old} -> {new}", sock_name(*sock)),
        Event::Retransmit { sock, seq, len, why } => {
            format!("{} retransmits {len} bytes from {seq} ({why})", sock_name(*sock))
        }
    };
    format!("{}{body}", printer.time(at))
}

/// Puts taps and drops of any number of hosts into one capture.
#[derive(Debug)]
pub struct Recorder<W: Write> {
    writer: Writer<W>,
    /// Full names with their numbers, in order of appearance.
    interfaces: Vec<(String, u32)>,
}

impl<W: Write> Recorder<W> {
    pub fn new(out: W) -> io::Result<Recorder<W>> {
        let mut r = Recorder { writer: Writer::new(out)?, interfaces: Vec::new() };
        r.interface(DROP_INTERFACE)?;
        Ok(r)
    }

    /// The number of an interface, made when it is new: early calls put the devices in an order of one's choice.
    pub fn interface(&mut self, name: &str) -> io::Result<u32> {
        if let Some((_, i)) = self.interfaces.iter().find(|(n, _)| n == name) {
            return Ok(*i);
        }
        let i = self.writer.interface(name)?;
        self.interfaces.push((name.to_string(), i));
        Ok(i)
    }

    /// Writes a tap or a drop; other events have no packet and are passed over.
    pub fn record(&mut self, r: &Record, cx: &Context<'_>) -> io::Result<()> {
        match &r.event {
            Event::Tap { dev, dir, frame } => {
                let name = cx.dev(Some(*dev)).unwrap_or_default();
                // What lo sends it also receives: shown once, as libpcap does.
                if name == "lo" && matches!(dir, Dir::Out) {
                    return Ok(());
                }
                let i = self.interface(&name)?;
                self.writer.packet(i, cx.wall(r), frame, None)
            }
            Event::Drop { reason, at, dev, frame, .. } => {
                let place = cx.dev(*dev).map_or(String::new(), |d| format!(" on {d}"));
                self.dropped(cx.wall(r), frame, &format!("{} at {at}{place}", reason.name()))
            }
            _ => Ok(()),
        }
    }

    /// A packet that was dropped anywhere, a link included.
    pub fn dropped(&mut self, ts_ns: u64, frame: &Frame, comment: &str) -> io::Result<()> {
        let i = self.interface(DROP_INTERFACE)?;
        self.writer.packet(i, ts_ns, frame, Some(comment))
    }

    pub fn writer(&mut self) -> &mut Writer<W> {
        &mut self.writer
    }

    pub fn into_inner(self) -> W {
        self.writer.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::syn;
    use crate::{Reader, Style};
    use belljar_kernel::ids::TcpId;
    use belljar_kernel::net::drop::DropReason;

    fn records() -> Vec<Record> {
        let dev = DevId::from_bits(1 << 32 | 2).unwrap();
        let sock = SockId::Tcp(TcpId::from_bits(1 << 32 | 5).unwrap());
        let frame = Box::new(syn());
        let drop = Event::Drop {
            packet: 7,
            reason: DropReason::TcpListenOverflow,
            at: "tcp_v4_syn_recv_sock",
            dev: Some(dev),
            frame: frame.clone(),
        };
        [
            Event::Tap { dev, dir: Dir::In, frame },
            Event::Stage { packet: 7, stage: "ip_rcv", dev: Some(dev), len: 60 },
            drop,
            Event::State { sock, old: "SYN_SENT", new: "ESTABLISHED" },
            Event::Retransmit { sock, seq: 9, len: 1448, why: "RTO" },
        ]
        .into_iter()
        .map(|event| Record { at: 5_000, ns: None, event })
        .collect()
    }

    const CX: Context<'static> = Context {
        host: "",
        wall_offset: 1_700_000_000_000_000_000,
        dev_name: &|_| Some("eth\"0".into()),
        ns_name: &|_| None,
    };

    #[test]
    fn json_lines() {
        let all: Vec<String> = records().iter().map(|r| json(r, &CX)).collect();
        assert_eq!(
            all[2],
            "{\"v\":1,\"t\":5000,\"wall\":1700000000000005000,\"event\":\"drop\",\"reason\":\"TCP_LISTEN_OVERFLOW\",\
             \"at\":\"tcp_v4_syn_recv_sock\",\"dev\":\"eth\\\"0\",\"packet\":7,\"len\":74,\
             \"flow\":\"10.0.2.2:40000 > 10.0.2.15:80\",\"proto\":6}"
        );
        assert!(all[0].contains("\"event\":\"tap\",\"dir\":\"in\"") && all[4].ends_with("\"why\":\"RTO\"}"));
        assert!(
            json(&records()[3], &Context { host: "gw", ..CX })
                .contains("\"host\":\"gw\",\"event\":\"state\",\"sock\":\"tcp:5\"")
        );
    }

    #[test]
    fn lines_for_people() {
        let mut p = Printer::new(Style::default());
        let all: Vec<String> =
            records().iter().map(|r| line(r, &Context { dev_name: &|_| None, ..CX }, &mut p)).collect();
        assert!(all[0].starts_with("22:13:20.000005 #7 gone < IP 10.0.2.2.40000 > 10.0.2.15.80: Flags [S], seq 999"));
        assert_eq!(all[1], "22:13:20.000005 #7 gone ip_rcv (60 bytes)");
        assert!(all[2].contains("DROP TCP_LISTEN_OVERFLOW at tcp_v4_syn_recv_sock: IP 10.0.2.2.40000"));
        assert_eq!(all[3], "22:13:20.000005 tcp:5 SYN_SENT -> ESTABLISHED");
        assert_eq!(all[4], "22:13:20.000005 tcp:5 retransmits 1448 bytes from 9 (RTO)");
    }

    #[test]
    fn taps_and_drops_become_packets() {
        let mut rec = Recorder::new(Vec::new()).unwrap();
        for r in records() {
            rec.record(&r, &Context { host: "web", dev_name: &|_| Some("eth0".into()), ..CX }).unwrap();
        }
        let file = rec.into_inner();
        let all: Vec<_> = Reader::new(&file).unwrap().map(Result::unwrap).collect();
        let seen: Vec<_> = all.iter().map(|p| (p.interface.as_str(), p.comment.as_deref(), p.ts_ns)).collect();
        let at = 1_700_000_000_000_005_000;
        let why = "TCP_LISTEN_OVERFLOW at tcp_v4_syn_recv_sock on web/eth0";
        assert_eq!(seen, [("web/eth0", None, at), ("drop", Some(why), at)]);
    }
}
