//! A program replaces tables of iptables with any bytes, and reads them back.
#![no_main]
use belljar_kernel::Kernel;
use belljar_kernel::net::netfilter::Pf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&what, bytes)) = data.split_first() else { return };
    let mut k = Kernel::new(1);
    let ns = k.net.add_ns("host");
    let pf = if what & 1 == 0 { Pf::V4 } else { Pf::V6 };
    let name = 64 + i32::from(what >> 1 & 7);
    let _ = k.net.xt_setsockopt(ns, pf, name, bytes);
    let _ = k.net.xt_getsockopt(ns, pf, name, bytes);
    let text = k.iptables_save(ns, pf, None, true);
    let _ = k.iptables_restore(ns, pf, &["-c"], &text, &belljar_kernel::net::netfilter::words::NoNames);
});
