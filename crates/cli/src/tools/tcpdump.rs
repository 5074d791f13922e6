//! `belljar tcpdump`: packets of a host while they pass, printed or written to a file. Packets that the stack dropped
//! appear with reason and place.
use crate::out::{self, Done, Fail};
use crate::session::{Session, Target};
use belljar_capture::{Captured, DROP_INTERFACE, Filter, Printer, Reader, Style, Writer};
use belljar_host::fd;
use belljar_jar::control::{Reply, Request};
use belljar_kernel::view::Value;
use belljar_wire::Frame;
use clap::Args;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "\
Filters are those of pcap: host, net, port, src, dst, tcp, udp, icmp, arp, and, or, not,
                           tcp[tcpflags].

Examples: belljar tcpdump web port 80
          belljar tcpdump web -i lo 'tcp[tcpflags] & (tcp-syn|tcp-rst) != 0'
          belljar tcpdump web/gw -w gw.pcapng -c 1000")]
pub struct TcpdumpCommand {
    /// The jar, and which of its hosts (default: host)
    #[arg(value_name = "JAR[/HOST]")]
    pub target: Target,
    /// Listen on this device (any: all of them)
    #[arg(short, long, value_name = "DEVICE", default_value = "any")]
    pub interface: String,
    /// Write the packets to this file (pcapng; - is stdout) instead of printing them
    #[arg(short, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Exit after this many packets
    #[arg(short, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Print the link-level header
    #[arg(short)]
    pub e: bool,
    /// Addresses and ports as numbers, not names: always so here
    #[arg(short, action = clap::ArgAction::Count)]
    pub n: u8,
    /// Print absolute sequence numbers
    #[arg(short = 'S', long)]
    pub absolute_tcp_sequence_numbers: bool,
    /// Do not print the time
    #[arg(short)]
    pub t: bool,
    /// JSON: an object for each packet
    #[arg(short, long, conflicts_with = "write")]
    pub json: bool,
    /// A pcap filter expression
    #[arg(value_name = "EXPRESSION")]
    pub expression: Vec<String>,
}

/// Where packets go.
enum To {
    Lines(Box<Printer>),
    Json,
    File { writer: Box<Writer<Box<dyn Write>>>, interfaces: Vec<String> },
}

pub fn run(c: &TcpdumpCommand) -> Done {
    let filter = Filter::compile(&c.expression.join(" ")).map_err(|e| Fail::usage(format!("tcpdump: {e}")))?;
    let mut session = Session::open(&c.target)?;
    // The file is opened before packets are asked for: a path that cannot be written leaves nothing behind.
    let mut to = destination(c)?;
    let (from, theirs) = fd::pipe()?;
    let device = (c.interface != "any").then(|| c.interface.clone());
    let request = Request::Capture { host: session.host.clone(), device };
    match session.client.request(&request, &[theirs.as_raw_fd()])? {
        Reply::Ok => drop(theirs),
        other => return Err(Fail::new(format!("unexpected answer {other:?}"))),
    }
    if c.write.is_none() {
        out::say(format_args!("tcpdump: listening on {}, link-type EN10MB (Ethernet)", c.interface));
    }
    let (mut blocks, mut left) = (Blocks::default(), c.count.unwrap_or(u64::MAX));
    let mut input = File::from(from);
    let mut chunk = vec![0; 256 * 1024];
    loop {
        let n = match input.read(&mut chunk) {
            Ok(0) => return Ok(0),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        };
        blocks.feed(chunk.get(..n).unwrap_or(&[]));
        while let Some(packet) = blocks.next()? {
            if !filter.matches(&Frame::from_bytes(&packet.bytes, packet.id)) {
                continue;
            }
            to.take(&packet)?;
            left -= 1;
            if left == 0 {
                to.flush()?;
                return Ok(0);
            }
        }
        to.flush()?;
    }
}

fn destination(c: &TcpdumpCommand) -> Result<To, Fail> {
    let Some(path) = &c.write else {
        let style =
            Style { link: c.e, no_time: c.t, absolute_seq: c.absolute_tcp_sequence_numbers, ..Style::default() };
        return Ok(if c.json { To::Json } else { To::Lines(Box::new(Printer::new(style))) });
    };
    let sink: Box<dyn Write> = if path.as_os_str() == "-" {
        Box::new(std::io::stdout())
    } else {
        Box::new(File::create(path).map_err(|e| Fail::new(format!("tcpdump: {}: {e}", path.display())))?)
    };
    Ok(To::File { writer: Box::new(Writer::new(sink)?), interfaces: Vec::new() })
}

impl To {
    fn take(&mut self, p: &Captured) -> Result<(), Fail> {
        match self {
            To::Lines(printer) => out::print(&line(p, printer)),
            To::Json => {
                let (text, n) = (|s: &str| Value::Text(s.to_owned()), Value::Uint);
                let shown = Printer::default().packet(&p.bytes);
                let comment = p.comment.as_deref().map_or(Value::Null, text);
                out::print(&out::json(&out::map([
                    ("time_ns", n(p.ts_ns)),
                    ("interface", text(&p.interface)),
                    ("packet", n(p.id)),
                    ("length", n(p.len as u64)),
                    ("text", text(&shown)),
                    ("comment", comment),
                ])))
            }
            To::File { writer, interfaces } => {
                let number = match interfaces.iter().position(|i| *i == p.interface) {
                    Some(n) => n as u32,
                    None => {
                        interfaces.push(p.interface.clone());
                        writer.interface(&p.interface)?
                    }
                };
                Ok(writer.bytes(number, p.ts_ns, &p.bytes, p.id, p.comment.as_deref())?)
            }
        }
    }

    fn flush(&mut self) -> Result<(), Fail> {
        match self {
            To::File { writer, .. } => Ok(writer.flush()?),
            _ => Ok(()),
        }
    }
}

/// As tcpdump prints it; a dropped one says so at its end.
fn line(p: &Captured, printer: &mut Printer) -> String {
    let mut line = printer.line(p.ts_ns, &p.bytes);
    if p.interface == DROP_INTERFACE || p.interface.ends_with(&format!("/{DROP_INTERFACE}")) {
        line.push_str(&format!(" [dropped: {}]", p.comment.as_deref().unwrap_or("no reason given")));
    }
    line + "\n"
}

/// Cuts a stream into pcapng blocks; interfaces are kept, for the packets that refer to them.
#[derive(Default)]
struct Blocks {
    buf: Vec<u8>,
    /// Section header and interfaces so far.
    head: Vec<u8>,
}

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
/// Longest block that a jar writes, with room.
const MAX_BLOCK: usize = 4 << 20;

impl Blocks {
    fn feed(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Result<Option<Captured>, Fail> {
        loop {
            let Some(&[k0, k1, k2, k3, l0, l1, l2, l3]) = self.buf.first_chunk::<8>() else { return Ok(None) };
            let kind = u32::from_le_bytes([k0, k1, k2, k3]);
            let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
            if !(12..=MAX_BLOCK).contains(&len) {
                return Err(Fail::new("tcpdump: the jar sent a broken capture"));
            }
            if self.buf.len() < len {
                return Ok(None);
            }
            let block: Vec<u8> = self.buf.drain(..len).collect();
            if matches!(kind, SECTION_HEADER | INTERFACE) {
                self.head.extend_from_slice(&block);
                continue;
            }
            let whole = [self.head.as_slice(), &block].concat();
            let broken = |e: belljar_capture::reader::BadCapture| Fail::new(format!("tcpdump: {e}"));
            if let Some(packet) = Reader::new(&whole).map_err(broken)?.next() {
                return packet.map(Some).map_err(broken);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_into_packets_wherever_it_breaks() {
        let mut w = Writer::new(Vec::new()).unwrap();
        let (eth, dropped) = (w.interface("host/eth0").unwrap(), w.interface("drop").unwrap());
        w.bytes(eth, 1_000, &[1; 60], 5, None).unwrap();
        w.bytes(dropped, 2_000, &[2; 60], 6, Some("TCP_LISTEN_OVERFLOW")).unwrap();
        let file = w.into_inner();
        for step in [1, 7, file.len()] {
            let (mut b, mut got) = (Blocks::default(), Vec::new());
            for piece in file.chunks(step) {
                b.feed(piece);
                while let Some(p) = b.next().unwrap() {
                    got.push((p.interface, p.ts_ns, p.bytes.len(), p.comment));
                }
            }
            let overflow = Some("TCP_LISTEN_OVERFLOW".to_owned());
            assert_eq!(got, [("host/eth0".into(), 1_000, 60, None), ("drop".into(), 2_000, 60, overflow)]);
        }
        let mut b = Blocks::default();
        b.feed(&[0xff; 16]);
        assert!(b.next().is_err());
    }
}
