//! [`Recorder`]: what happened in a run, as a digest always and as JSON lines when somebody wants to read them.
//!
//! Two runs of one seed must give the same digest; checkpoints tell where two runs parted. No file is written here.
use belljar_capture::{Printer, Style, to_wire};
use belljar_kernel::env::Nanos;
use belljar_wire::Frame;
use std::fmt::Write;

/// Takes lines of a trace.
pub type Sink = Box<dyn FnMut(&str)>;

/// Records between two checkpoints.
const CHECKPOINT: u64 = 256;

/// 128 bits over everything that went by: equal runs, equal digests. Not for secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64, u64);

impl Default for Digest {
    fn default() -> Digest {
        Digest(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344)
    }
}

impl Digest {
    #[inline]
    pub fn word(&mut self, w: u64) {
        self.0 = (self.0 ^ w).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(27);
        self.1 = (self.1.rotate_left(17) ^ w).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|w| self.word(u64::from_le_bytes(*w)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}{:016x}", self.0, self.1)
    }
}

/// See the module.
#[derive(Default)]
pub struct Recorder {
    digest: Digest,
    records: u64,
    checkpoints: Vec<(Nanos, Digest)>,
    sink: Option<Sink>,
    printer: Option<Printer>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recorder({} records, {})", self.records, self.digest)
    }
}

/// What is compared between two runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    pub digest: Digest,
    pub records: u64,
    checkpoints: Vec<(Nanos, Digest)>,
}

impl Fingerprint {
    /// Until which virtual time two runs were the same; `None` when they are the same to the end.
    pub fn same_until(&self, other: &Fingerprint) -> Option<Nanos> {
        if self == other {
            return None;
        }
        let pairs = self.checkpoints.iter().zip(&other.checkpoints);
        Some(pairs.take_while(|(a, b)| a == b).last().map_or(0, |(a, _)| a.0))
    }
}

impl Recorder {
    pub fn new(sink: Option<Sink>) -> Recorder {
        let style = Style { no_time: true, ..Style::default() };
        Recorder { printer: sink.is_some().then(|| Printer::new(style)), sink, ..Recorder::default() }
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint { digest: self.digest, records: self.records, checkpoints: self.checkpoints.clone() }
    }

    fn mark(&mut self, now: Nanos) {
        self.records += 1;
        self.digest.word(now);
        if self.records.is_multiple_of(CHECKPOINT) {
            self.checkpoints.push((now, self.digest));
        }
    }

    /// A frame at one end of a link.
    pub fn frame(&mut self, now: Nanos, what: &str, host: &str, dev: &str, frame: &Frame) {
        self.mark(now);
        for part in [what, host, dev] {
            self.digest.bytes(part.as_bytes());
        }
        self.digest.bytes(frame.head.bytes());
        for seg in &frame.payload {
            self.digest.bytes(seg.as_slice());
        }
        if let (Some(sink), Some(printer)) = (&mut self.sink, &mut self.printer) {
            let text = printer.line(now, &to_wire(frame));
            let mut line = format!("{{\"t\":{now},\"ev\":\"{what}\",\"host\":\"{host}\",\"dev\":\"{dev}\"");
            let _ = write!(line, ",\"packet\":{},\"len\":{},\"text\":\"", frame.id, frame.len());
            escape(&mut line, &text);
            line.push_str("\"}\n");
            sink(&line);
        }
    }

    /// Anything else that can be said in words: calls, completions, changed conditions.
    pub fn note(&mut self, now: Nanos, host: &str, what: &str, detail: std::fmt::Arguments<'_>) {
        self.mark(now);
        let text = detail.to_string();
        for part in [host, what, &text] {
            self.digest.bytes(part.as_bytes());
        }
        if let Some(sink) = &mut self.sink {
            let mut line = format!("{{\"t\":{now},\"ev\":\"{what}\",\"host\":\"{host}\",\"text\":\"");
            escape(&mut line, &text);
            line.push_str("\"}\n");
            sink(&line);
        }
    }
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_part_say_where() {
        let run = |odd: u64| {
            let mut r = Recorder::default();
            (0..2000).for_each(|t| r.note(t, "a", "x", format_args!("{}", if t == odd { 1 } else { 0 })));
            r.fingerprint()
        };
        assert_eq!(run(9999).same_until(&run(9999)), None);
        assert_eq!(run(9999).same_until(&run(1000)), Some(767));
    }

    #[test]
    fn the_digest_sees_length_and_order() {
        let of = |parts: &[&[u8]]| {
            let mut d = Digest::default();
            parts.iter().for_each(|p| d.bytes(p));
            d
        };
        assert_ne!(of(&[b"a", b"b"]), of(&[b"ab"]));
        assert_ne!(of(&[b"a\0"]), of(&[b"a"]));
        assert_ne!(of(&[b"a", b"b"]), of(&[b"b", b"a"]));
    }
}
