//! The settings of the process' network namespace, copied into the kernel before each call: scripts change them by
//! writing to /proc/sys at any time. What belljar does not have stays behind.
use belljar_kernel::Kernel;
use belljar_kernel::ids::NsId;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// See the module.
#[derive(Default)]
pub struct Sysctls {
    files: Option<Vec<Entry>>,
}

struct Entry {
    key: String,
    file: File,
    last: Vec<u8>,
}

impl Sysctls {
    /// Stores every value that differs from what was read last.
    pub fn copy(&mut self, k: &mut Kernel, ns: NsId) {
        let files = self.files.get_or_insert_with(|| open(k, ns));
        let mut buf = [0u8; 512];
        for e in files {
            let Ok(n) = e.file.read_at(&mut buf, 0) else { continue };
            let text = buf.get(..n).unwrap_or_default();
            if text == e.last {
                continue;
            }
            e.last = text.to_vec();
            let words: Vec<&str> = std::str::from_utf8(text).unwrap_or_default().split_whitespace().collect();
            if let Err(why) = k.sysctl_set(ns, &e.key, &words.join(" ")) {
                eprintln!("belljar: {} = {}: {why}", e.key, words.join(" "));
            }
        }
    }
}

/// TCP's settings that both have. The memory limits are the machine's, not the namespace's.
fn open(k: &Kernel, ns: NsId) -> Vec<Entry> {
    let mut found = Vec::new();
    for s in k.view_sysctls(ns) {
        if !s.key.starts_with("net.ipv4.tcp_") {
            continue;
        }
        if let Ok(file) = File::open(format!("/proc/sys/{}", s.key.replace('.', "/"))) {
            found.push(Entry { key: s.key, file, last: Vec::new() });
        }
    }
    found
}
