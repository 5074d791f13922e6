//! `belljar tcpdump`: packets of a host while they pass, printed or written to a file. Packets that the stack dropped
//! appear with reason and place.
use crate::out::{self, Done, Fail};
use crate::session::{Session, Target};
use belljar_capture::print::time_of_day;
use belljar_capture::{Captured, DROP_INTERFACE, Filter, Printer, Reader, Style, Writer};
use belljar_host::fd;
use belljar_jar::control::{Reply, Request};
use belljar_kernel::view::{LinkView, Value};
use belljar_wire::Frame;
use clap::Args;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(after_help = "\
Filters are those of pcap: host, net, port, src, dst, tcp, udp, icmp, arp, and, or, not,
                           tcp[tcpflags].
What IP says of each packet (-v) is told by the machine's own: belljar exec JAR tcpdump -v.

Examples: belljar tcpdump web port 80
          belljar tcpdump -r run.pcapng -tttt -X tcp
          belljar tcpdump web -i lo 'tcp[tcpflags] & (tcp-syn|tcp-rst) != 0'
          belljar tcpdump web/gw -w gw.pcapng -c 1000")]
pub struct TcpdumpCommand {
    /// The jar, and which of its hosts (default: host); with -r the filter begins here
    #[arg(value_name = "JAR[/HOST]", required_unless_present = "read")]
    pub target: Option<String>,
    /// Listen on this device (any: all of them)
    #[arg(short, long, value_name = "DEVICE", default_value = "any")]
    pub interface: String,
    /// Write the packets to this file (pcapng; - is stdout) instead of printing them
    #[arg(short, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Read the packets of this file (pcapng or pcap; - is stdin) instead
    #[arg(short, value_name = "FILE", conflicts_with_all = ["interface", "write", "list"])]
    pub read: Option<PathBuf>,
    /// List the devices to listen on
    #[arg(short = 'D', long = "list-interfaces")]
    pub list: bool,
    /// Print each packet in hex and characters as well; twice with the link-level header
    #[arg(short = 'X', action = clap::ArgAction::Count)]
    pub hex_chars: u8,
    /// The same in hex
    #[arg(short = 'x', action = clap::ArgAction::Count)]
    pub hex: u8,
    /// The same in characters
    #[arg(short = 'A')]
    pub chars: bool,
    /// Lines leave as they come: always so here
    #[arg(short, long)]
    pub line_buffered: bool,
    /// Take so much of each packet; all of it (0, or 262144 and more) is what is taken here
    #[arg(short, long, value_name = "LENGTH", value_parser = whole)]
    pub snapshot_length: Option<u64>,
    /// Exit after this many packets
    #[arg(short, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Print the link-level header
    #[arg(short)]
    pub e: bool,
    /// Less of each protocol
    #[arg(short, conflicts_with = "e")]
    pub q: bool,
    /// Addresses and ports as numbers, not names: always so here
    #[arg(short, action = clap::ArgAction::Count)]
    pub n: u8,
    /// Print absolute sequence numbers
    #[arg(short = 'S', long)]
    pub absolute_tcp_sequence_numbers: bool,
    /// No time; -tt seconds since 1970, -ttt since the packet before, -tttt with the day, -ttttt since the first
    #[arg(short, action = clap::ArgAction::Count)]
    pub t: u8,
    /// JSON: an object for each packet
    #[arg(short, long, conflicts_with = "write")]
    pub json: bool,
    /// A pcap filter expression
    #[arg(value_name = "EXPRESSION")]
    pub expression: Vec<String>,
}

/// Where packets go.
enum To {
    Lines(Box<Lines>),
    Json,
    File { writer: Box<Writer<Box<dyn Write>>>, interfaces: Vec<String> },
}

fn whole(text: &str) -> Result<u64, String> {
    let n = text.parse().ok().filter(|n| *n == 0 || *n >= MAX_SNAPLEN);
    n.ok_or(format!("packets are taken whole here: 0, or {MAX_SNAPLEN} and more"))
}

/// The most that tcpdump takes of a packet.
const MAX_SNAPLEN: u64 = 262_144;

fn compile(words: &[String]) -> Result<Filter, Fail> {
    Filter::compile(&words.join(" ")).map_err(|e| Fail::usage(format!("tcpdump: {e}")))
}

/// The older format, which `tcpdump -w` writes: a header, then packets.
struct Classic<'a> {
    rest: &'a [u8],
    big: bool,
    /// Nanoseconds in a unit of its times.
    unit: u64,
}

impl<'a> Classic<'a> {
    /// `None` for another format.
    fn new(file: &'a [u8]) -> Option<Result<Classic<'a>, String>> {
        let magic = *file.first_chunk::<4>()?;
        let (big, unit) = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
            (0xa1b2_c3d4, _) => (false, 1000),
            (_, 0xa1b2_c3d4) => (true, 1000),
            (0xa1b2_3c4d, _) => (false, 1),
            (_, 0xa1b2_3c4d) => (true, 1),
            _ => return None,
        };
        let all = Classic { rest: file, big, unit };
        match all.word(20).map(|link| link & 0xffff) {
            Some(1) => Some(Ok(Classic { rest: file.get(24..).unwrap_or(&[]), ..all })),
            Some(link) => Some(Err(format!("link type {link}, where Ethernet (1) is expected"))),
            None => Some(Err("it ends within its header".to_owned())),
        }
    }

    fn word(&self, at: usize) -> Option<u32> {
        let b = *self.rest.get(at..)?.first_chunk()?;
        Some(if self.big { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) })
    }
}

impl Iterator for Classic<'_> {
    type Item = Captured;

    /// A packet that the file ends in was not written whole, and is not one.
    fn next(&mut self) -> Option<Captured> {
        let [seconds, part, have, len] = [self.word(0)?, self.word(4)?, self.word(8)?, self.word(12)?];
        let end = 16usize.checked_add(have as usize)?;
        let bytes = self.rest.get(16..end)?.to_vec();
        self.rest = self.rest.get(end..)?;
        let ts_ns = u64::from(seconds) * 1_000_000_000 + u64::from(part) * self.unit;
        Some(Captured { interface: "any".to_owned(), ts_ns, len: len as usize, bytes, id: 0, comment: None })
    }
}

/// From a file.
fn read(c: &TcpdumpCommand, path: &Path) -> Done {
    let filter = compile(&c.target.iter().chain(&c.expression).cloned().collect::<Vec<_>>())?;
    let mut file = Vec::new();
    let failed = |e| Fail::usage(format!("tcpdump: {}: {e}", path.display()));
    match path.as_os_str().to_str() {
        Some("-") => std::io::stdin().read_to_end(&mut file).map_err(failed)?,
        _ => File::open(path).and_then(|mut f| f.read_to_end(&mut file)).map_err(failed)?,
    };
    let broken = |e: belljar_capture::reader::BadCapture| Fail::new(format!("tcpdump: {}: {e}", path.display()));
    let mut to = destination(c)?;
    let mut left = c.count.unwrap_or(u64::MAX);
    let packets: Box<dyn Iterator<Item = Result<Captured, Fail>>> = match Classic::new(&file) {
        Some(classic) => {
            let classic = classic.map_err(|what| Fail::usage(format!("tcpdump: {}: {what}", path.display())))?;
            Box::new(classic.map(Ok))
        }
        None => Box::new(Reader::new(&file).map_err(broken)?.map(|p| p.map_err(broken))),
    };
    for packet in packets {
        let packet = packet?;
        if filter.matches(&Frame::from_bytes(&packet.bytes, packet.id)) {
            to.take(&packet)?;
            left -= 1;
        }
        if left == 0 {
            break;
        }
    }
    to.flush()?;
    Ok(0)
}

/// As `tcpdump -D` numbers them.
fn list(session: &mut Session) -> Done {
    let mut links: Vec<LinkView> = session.view("links")?;
    // Those that are up first.
    links.sort_by_key(|l| !l.flags.iter().any(|f| f == "UP"));
    let mut text = String::new();
    for (n, l) in links.iter().enumerate() {
        let has = |flag: &str| l.flags.iter().any(|f| f == flag);
        let words: Vec<&str> = [(has("UP"), "Up"), (has("LOWER_UP"), "Running"), (has("LOOPBACK"), "Loopback")]
            .into_iter()
            .filter(|w| w.0)
            .map(|w| w.1)
            .collect();
        let words = if words.is_empty() { "none".to_owned() } else { words.join(", ") };
        text.push_str(&format!("{}.{} [{words}]\n", n + 1, l.name));
    }
    text.push_str(&format!("{}.any (Pseudo-device that captures on all interfaces) [Up, Running]\n", links.len() + 1));
    out::print(&text)?;
    Ok(0)
}

pub fn run(c: &TcpdumpCommand) -> Done {
    if let Some(path) = &c.read {
        return read(c, path);
    }
    let filter = compile(&c.expression)?;
    let target: Target = c.target.as_deref().unwrap_or_default().parse().map_err(Fail::usage)?;
    let mut session = Session::open(&target)?;
    if c.list {
        return list(&mut session);
    }
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
        if c.json {
            return Ok(To::Json);
        }
        let style = Style {
            link: c.e,
            no_time: true,
            quick: c.q,
            absolute_seq: c.absolute_tcp_sequence_numbers,
            ..Style::default()
        };
        let dump = match (c.hex_chars, c.hex, c.chars) {
            (0, 0, false) => None,
            (0, 0, true) => Some(Dump::Chars),
            (0, n, _) => Some(Dump::Hex { chars: false, link: n > 1 }),
            (n, ..) => Some(Dump::Hex { chars: true, link: n > 1 }),
        };
        return Ok(To::Lines(Box::new(Lines { printer: Printer::new(style), time: c.t, dump, first: None, last: 0 })));
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
            To::Lines(lines) => out::print(&lines.show(p)),
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

/// What stands below a line.
enum Dump {
    Chars,
    Hex { chars: bool, link: bool },
}

/// Lines with their times, and what is below them.
struct Lines {
    printer: Printer,
    /// How often `-t` was given.
    time: u8,
    dump: Option<Dump>,
    first: Option<u64>,
    last: u64,
}

impl Lines {
    fn show(&mut self, p: &Captured) -> String {
        let (first, last) = (*self.first.get_or_insert(p.ts_ns), std::mem::replace(&mut self.last, p.ts_ns));
        let before = if last == 0 { p.ts_ns } else { last };
        let since =
            |then: u64| format!("{} ", time_of_day((p.ts_ns / 1000).saturating_sub(then / 1000) * 1000, 0, false));
        let time = match self.time {
            0 => format!("{} ", time_of_day(p.ts_ns, 0, false)),
            1 => String::new(),
            2 => format!("{}.{:06} ", p.ts_ns / 1_000_000_000, p.ts_ns / 1000 % 1_000_000),
            3 => format!(" {}", since(before)),
            4 => format!("{} {} ", day(p.ts_ns), time_of_day(p.ts_ns, 0, false)),
            _ => format!(" {}", since(first)),
        };
        let mut text = time + &line(p, &mut self.printer);
        // Below the line stands what the link carries.
        let inner = p.bytes.get(ETH_HLEN..).unwrap_or(&[]);
        match &self.dump {
            None => {}
            Some(Dump::Chars) => {
                let pairs = inner.iter().zip(inner.iter().skip(1).map(Some).chain([None]));
                // The first half of a line's end is left away.
                text.extend(pairs.filter(|p| *p != (&b'\r', Some(&b'\n'))).map(|p| shown(*p.0)));
                text.push('\n');
            }
            Some(Dump::Hex { chars, link }) => text.push_str(&hex(if *link { &p.bytes } else { inner }, *chars)),
        }
        text
    }
}

const ETH_HLEN: usize = 14;

fn shown(b: u8) -> char {
    if b.is_ascii_graphic() || matches!(b, b' ' | b'\t' | b'\n') { char::from(b) } else { '.' }
}

/// Sixteen bytes a line, two by two.
fn hex(bytes: &[u8], chars: bool) -> String {
    let mut out = String::new();
    for (n, row) in bytes.chunks(16).enumerate() {
        let words: String = row
            .chunks(2)
            .map(|w| w.iter().map(|b| format!("{b:02x}")).collect::<String>())
            .collect::<Vec<_>>()
            .join(" ");
        let _ = match chars {
            false => writeln!(out, "\t0x{:04x}:  {words}", n * 16),
            true => {
                // A dot for what is no character, and for a space.
                let text: String =
                    row.iter().map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '.' }).collect();
                writeln!(out, "\t0x{:04x}:  {words:<39}  {text}", n * 16)
            }
        };
    }
    out
}

/// The day of nanoseconds since 1970, in UTC.
fn day(ts_ns: u64) -> String {
    // Years begin in March, eras are of 400 years.
    let days = ts_ns / 86_400_000_000_000 + 719_468;
    let (era, doe) = (days / 146_097, days % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (d, m) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    format!("{:04}-{m:02}-{d:02}", yoe + era * 400 + u64::from(m <= 2))
}

/// As tcpdump prints it; a dropped one says so at its end.
fn line(p: &Captured, printer: &mut Printer) -> String {
    let mut line = printer.packet(&p.bytes);
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
    fn the_older_format_is_read() {
        let mut file = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 262_144, 1].map(u32::to_le_bytes).concat();
        file.extend([7u32, 5, 3, 60].map(u32::to_le_bytes).concat());
        file.extend([1, 2, 3]);
        let whole = file.clone();
        file.extend([8u32, 0, 99, 99].map(u32::to_le_bytes).concat());
        for file in [whole, file] {
            let all: Vec<_> = Classic::new(&file).unwrap().unwrap().collect();
            assert_eq!(all.len(), 1);
            assert_eq!((all[0].ts_ns, all[0].len, all[0].bytes.as_slice()), (7_000_005_000, 60, &[1, 2, 3][..]));
        }
        assert!(Classic::new(&[0; 64]).is_none() && Classic::new(&0xa1b2_c3d4u32.to_be_bytes()).unwrap().is_err());
    }

    #[test]
    fn days_and_bytes_as_tcpdump_prints_them() {
        let at = |days: u64| day(days * 86_400_000_000_000);
        assert_eq!([at(0), at(59), at(11_016), at(19_782)], ["1970-01-01", "1970-03-01", "2000-02-29", "2024-02-29"]);
        assert_eq!(
            hex(b"E\0 hello, world 123", true),
            "\t0x0000:  4500 2068 656c 6c6f 2c20 776f 726c 6420  E..hello,.world.\n\t0x0010:  3132 33                                  123\n"
        );
        assert_eq!(hex(&[1, 2, 3], false), "\t0x0000:  0102 03\n");
        assert!(whole("0").is_ok() && whole("262144").is_ok() && whole("96").is_err());
    }

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
