//! Captures and traces: a kernel's events on their way to files and to the descriptors of viewing commands.
use crate::jar::Jar;
use belljar_capture::trace::{Context, Recorder, json};
use belljar_host::fd;
use belljar_kernel::env::trace::{Record, Wanted};
use belljar_kernel::ids::{DevId, NsId};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;

/// A descriptor of a viewing command: never waited for. What it does not take at once and the buffer cannot hold is
/// lost, whole records at a time, and counted.
#[derive(Debug)]
pub struct Sink {
    fd: OwnedFd,
    buf: Vec<u8>,
    pub lost: u64,
    gone: bool,
}

const SINK_BUFFER: usize = 4 << 20;

impl Sink {
    pub fn new(fd: OwnedFd) -> Sink {
        let _ = fd::set_nonblocking(&fd, true);
        Sink { fd, buf: Vec::new(), lost: 0, gone: false }
    }

    fn drain(&mut self) {
        while !self.buf.is_empty() && !self.gone {
            match fd::write(&self.fd, &self.buf) {
                Ok(n) => drop(self.buf.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.gone = true,
            }
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buf.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain();
        Ok(())
    }
}

/// Whose events: of a host, and there of one namespace or of all.
type Of = (usize, Option<NsId>);

fn is_of(of: &Of, host: usize, r: &Record) -> bool {
    of.0 == host && (of.1.is_none() || of.1 == r.ns)
}

/// Who wants events, and which.
#[derive(Debug, Default)]
pub struct Recording {
    pcap: Option<Recorder<BufWriter<File>>>,
    trace: Option<BufWriter<File>>,
    /// Viewing commands: host, device filter, capture.
    captures: Vec<(Of, Option<String>, Recorder<Sink>)>,
    traces: Vec<(Of, Sink)>,
    /// When the files get what is buffered for them.
    flush_at: Option<u64>,
}

/// So long a record may wait for others before it is in the file, for who reads along, and for a supervisor that is killed.
const FLUSH: u64 = 200_000_000;

impl Recording {
    pub fn set_pcap(&mut self, file: File) -> io::Result<()> {
        let mut r = Recorder::new(BufWriter::with_capacity(1 << 18, file))?;
        r.writer().flush()?;
        self.pcap = Some(r);
        Ok(())
    }

    pub fn set_trace(&mut self, file: File) {
        self.trace = Some(BufWriter::with_capacity(1 << 18, file));
    }

    pub fn add_capture(&mut self, of: Of, device: Option<String>, fd: OwnedFd) -> io::Result<()> {
        let mut r = Recorder::new(Sink::new(fd))?;
        r.writer().flush()?;
        self.captures.push((of, device, r));
        Ok(())
    }

    pub fn add_trace(&mut self, of: Of, fd: OwnedFd) {
        self.traces.push((of, Sink::new(fd)));
    }

    fn wanted(&self, host: usize) -> Wanted {
        let traced = self.trace.is_some() || self.traces.iter().any(|(of, _)| of.0 == host);
        // The file shows the program's side; the gateway's is the same packets once more.
        let file = self.pcap.is_some() && host == crate::gateway::HOST;
        let captured = file || self.captures.iter().any(|(of, ..)| of.0 == host);
        Wanted { taps: traced || captured, stages: traced, drops: traced || captured, sockets: traced }
    }

    /// Completes the files, as far as they are.
    pub fn flush(&mut self) -> io::Result<()> {
        self.flush_at = None;
        if let Some(p) = &mut self.pcap {
            p.writer().flush()?;
        }
        self.trace.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Jar {
    pub(crate) fn flush_deadline(&self) -> Option<u64> {
        self.record.flush_at
    }

    pub(crate) fn flush_files(&mut self) {
        if let Err(e) = self.record.flush()
            && self.warnings.len() < 100
        {
            self.warnings.push(format!("a capture or trace file is incomplete: {}", belljar_host::words(&e)));
        }
    }

    /// Switches events on and off as they are wanted.
    pub(crate) fn apply_wanted(&mut self) {
        for (i, m) in self.machines.iter_mut().enumerate() {
            let mut wanted = self.record.wanted(i);
            if self.watch.is_some() && i == crate::gateway::HOST {
                (wanted.drops, wanted.sockets) = (true, true);
            }
            m.k.net.env.trace.wanted = wanted;
        }
    }

    /// Takes all events out of the kernels' rings and the losses out of the link.
    pub(crate) fn record_events(&mut self) {
        let drops = [self.link.ab.take_drops(), self.link.ba.take_drops()];
        // What a cable took is in its figures; nobody records it.
        self.cables.iter_mut().for_each(crate::up::Cable::forget_drops);
        let wall = self.machines.first().map_or(0, |m| m.k.net.env.wall_offset);
        if let Some(p) = &mut self.record.pcap {
            for d in drops.iter().flatten() {
                let _ = p.dropped(d.at_ns.saturating_add(wall), &d.frame, &format!("{} on the link", d.why.name()));
            }
        }
        for (host, m) in self.machines.iter_mut().enumerate() {
            if m.k.net.env.trace.wanted == Wanted::default() {
                continue;
            }
            let mut records = Vec::new();
            while let Some(r) = m.k.net.env.trace.pop() {
                records.push(r);
            }
            if let Some(w) = self.watch.as_mut().filter(|_| host == crate::gateway::HOST) {
                records.iter().for_each(|r| w.record(&m.k, r));
            }
            if !records.is_empty() {
                let name = |d: DevId| m.k.net.devs.get(d).map(|d| d.name.clone());
                let ns_name = |ns: NsId| m.name_of(ns);
                let cx = Context { host: "", wall_offset: m.k.net.env.wall_offset, dev_name: &name, ns_name: &ns_name };
                self.record.write(host, &m.name, &records, &cx);
                if self.record.pcap.is_some() || self.record.trace.is_some() {
                    self.record.flush_at.get_or_insert(self.now + FLUSH);
                }
            }
        }
        self.drop_gone_sinks();
    }

    /// Packets that the link took away so far.
    fn link_took(&self) -> u64 {
        [self.link.ab.stats(), self.link.ba.stats()].iter().map(|s| s.lost + s.overlimit).sum()
    }

    pub(crate) fn sample(&mut self) {
        let (now, took) = (self.now, self.link_took());
        if let (Some(w), Some(m)) = (&mut self.watch, self.machines.get(crate::gateway::HOST)) {
            w.sample(now, &m.k, took);
        }
    }

    /// A line for the report, if there will be one.
    pub(crate) fn tell(&mut self, text: impl FnOnce(&Jar) -> String) {
        if self.watch.is_some() {
            let (now, text) = (self.now, text(self));
            self.watch.iter_mut().for_each(|w| w.story.note(now, &*text));
        }
    }

    pub(crate) fn finish_watch(&mut self) {
        let (now, took) = (self.now, self.link_took());
        if let (Some(w), Some(m)) = (&mut self.watch, self.machines.get(crate::gateway::HOST)) {
            w.finish(now, &m.k, took);
        }
    }

    fn drop_gone_sinks(&mut self) {
        let before = self.record.captures.len() + self.record.traces.len();
        if before == 0 {
            return;
        }
        for (_, _, r) in &mut self.record.captures {
            let _ = r.writer().flush();
        }
        self.record.traces.iter_mut().for_each(|(_, s)| s.drain());
        self.record.captures.retain_mut(|(_, _, r)| !r.writer().get_ref().gone);
        self.record.traces.retain(|(_, s)| !s.gone);
        if self.record.captures.len() + self.record.traces.len() != before {
            self.apply_wanted();
        }
    }
}

impl Recording {
    fn write(&mut self, host: usize, host_name: &str, records: &[Record], cx: &Context<'_>) {
        let named = Context { host: host_name, ..*cx };
        for r in records {
            if host == crate::gateway::HOST
                && let Some(p) = &mut self.pcap
            {
                let _ = p.record(r, cx);
            }
            if let Some(t) = &mut self.trace {
                let _ = writeln!(t, "{}", json(r, &named));
            }
            for (of, device, rec) in &mut self.captures {
                if is_of(of, host, r)
                    && rec.writer().get_ref().buf.len() < SINK_BUFFER
                    && device_matches(r, device.as_deref(), cx)
                {
                    let _ = rec.record(r, cx);
                }
            }
            for (of, sink) in &mut self.traces {
                if !is_of(of, host, r) {
                } else if sink.buf.len() < SINK_BUFFER {
                    let _ = writeln!(sink, "{}", json(r, cx));
                } else {
                    sink.lost += 1;
                }
            }
        }
    }
}

fn device_matches(r: &Record, device: Option<&str>, cx: &Context<'_>) -> bool {
    use belljar_kernel::env::trace::Event;
    let Some(want) = device.filter(|d| *d != "any") else { return true };
    match &r.event {
        Event::Tap { dev, .. } => (cx.dev_name)(*dev).as_deref() == Some(want),
        _ => false,
    }
}
