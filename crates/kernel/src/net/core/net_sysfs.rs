//! What `/sys/class/net/IF/queues` and `/proc/irq` show and take: masks of CPUs for queues and vectors.
use crate::drivers::nic::dql::{Dql, MAX_LIMIT};
use crate::drivers::nic::irq::Way;
use crate::ids::{DevId, NsId};
use crate::kernel::Kernel;
use crate::net::Net;
use crate::net::core::rps;
use belljar_abi::Errno;

/// A mask as bitmaps are written: words of eight digits with commas, and no more digits than there are CPUs (`%*pb`).
pub fn show_mask(mask: u64, cpus: usize) -> String {
    let digits = cpus.div_ceil(4).clamp(1, 16);
    let text = format!("{mask:0digits$x}");
    match text.len() {
        9.. => format!("{},{}", &text[..text.len() - 8], &text[text.len() - 8..]),
        _ => text,
    }
}

/// `0-2,5`.
pub fn show_list(mask: u64) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut cpu = 0;
    while cpu < 64 {
        let from = cpu;
        while cpu < 64 && mask & 1 << cpu != 0 {
            cpu += 1;
        }
        match cpu - from {
            0 => cpu += 1,
            1 => out.push(from.to_string()),
            _ => out.push(format!("{from}-{}", cpu - 1)),
        }
    }
    out.join(",")
}

fn read_mask(text: &str) -> Result<u64, Errno> {
    let digits: String = text.trim().split(',').collect();
    if digits.is_empty() || digits.trim_start_matches('0').len() > 16 {
        return Err(Errno::EINVAL);
    }
    u64::from_str_radix(&digits, 16).map_err(|_| Errno::EINVAL)
}

fn read_list(text: &str) -> Result<u64, Errno> {
    let number = |t: &str| t.trim().parse::<u32>().ok().filter(|n| *n < 64).ok_or(Errno::EINVAL);
    let mut mask = 0;
    for part in text.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (number(from)?, number(to)?);
        if from > to {
            return Err(Errno::EINVAL);
        }
        (from..=to).for_each(|c| mask |= 1 << c);
    }
    Ok(mask)
}

/// Files of a vector's directory, and whether they can be written.
pub const IRQ_FILES: [(&str, bool); 4] = [
    ("effective_affinity", false),
    ("effective_affinity_list", false),
    ("smp_affinity", true),
    ("smp_affinity_list", true),
];

/// Files of a device's directory that say how its NAPIs work.
pub const NAPI_FILES: [&str; 3] = ["gro_flush_timeout", "napi_defer_hard_irqs", "threaded"];

/// A number as sysfs takes it (`kstrtoul` of any base): EINVAL for what is none, ERANGE for one too large.
#[doc(alias = "kstrtoul")]
pub fn read_number(text: &str) -> Result<u64, Errno> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let (digits, radix) = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let digits = if radix == 16 { digits } else { digits.strip_prefix('+').unwrap_or(digits) };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(Errno::EINVAL);
    }
    u64::from_str_radix(digits, radix).map_err(|_| Errno::ERANGE)
}

/// Files of a transmit queue's `byte_queue_limits`, and whether they can be written.
pub const BQL_FILES: [(&str, bool); 5] =
    [("hold_time", true), ("inflight", false), ("limit", true), ("limit_max", true), ("limit_min", true)];

/// The same without other bases.
fn read_decimal(text: &str) -> Result<u64, Errno> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Errno::EINVAL);
    }
    digits.parse().map_err(|_| Errno::ERANGE)
}

impl Net {
    /// The card, channel and way of a vector.
    fn vector(&self, ns: NsId, number: u32) -> Option<(DevId, u16, Way)> {
        self.ns_devs(ns).find_map(|id| {
            let nic = self.devs.get(id)?.nic()?;
            let n = number.checked_sub(nic.vector)? as usize;
            (n < 2 * nic.queues.len()).then_some((id, (n / 2) as u16, Way::BOTH[n % 2]))
        })
    }

    fn online(&self) -> u64 {
        u64::MAX >> (64 - self.cpus.len().clamp(1, 64))
    }
}

impl Kernel {
    /// Queues of a device, each way.
    pub fn queue_counts(&self, dev: DevId) -> (usize, usize) {
        let d = self.net.devs.get(dev);
        d.map_or((0, 0), |d| d.nic().map_or((1, 1), |n| (n.channels(), n.channels())))
    }

    /// One of [`NAPI_FILES`].
    pub fn napi_attr(&self, dev: DevId, file: &str) -> Option<String> {
        let conf = self.net.devs.get(dev)?.napi;
        Some(match file {
            "gro_flush_timeout" => conf.gro_flush_timeout.to_string(),
            "napi_defer_hard_irqs" => conf.defer_hard_irqs.to_string(),
            "threaded" => u8::from(conf.threaded).to_string(),
            _ => return None,
        })
    }

    /// Writes one; threads are for devices with NAPIs only (EOPNOTSUPP).
    pub fn set_napi_attr(&mut self, dev: DevId, file: &str, text: &str) -> Result<(), Errno> {
        let value = read_number(text)?;
        let d = self.net.devs.get_mut(dev).ok_or(Errno::ENODEV)?;
        match file {
            "gro_flush_timeout" => d.napi.gro_flush_timeout = value,
            "napi_defer_hard_irqs" => {
                d.napi.defer_hard_irqs =
                    u32::try_from(value).ok().filter(|v| *v <= i32::MAX as u32).ok_or(Errno::ERANGE)?;
            }
            "threaded" if d.nic().is_none() || value > 1 => return Err(Errno::EOPNOTSUPP),
            "threaded" => {
                d.napi.threaded = value == 1;
                self.net.napi.threads |= value == 1;
            }
            _ => return Err(Errno::ENOENT),
        }
        Ok(())
    }

    /// `rps_cpus` of a receive queue.
    pub fn rps_cpus(&self, dev: DevId, queue: usize) -> Option<String> {
        let d = self.net.devs.get(dev)?;
        let mask = d.rx_queues.get(queue).map_or(0, |q| q.rps_cpus);
        (queue < self.queue_counts(dev).0).then(|| show_mask(mask, self.net.cpus.len()))
    }

    pub(crate) fn rps_default_mask(&self, ns: NsId) -> Option<String> {
        Some(show_mask(self.net.ns.get(ns)?.sysctl.rps_default_mask.0, self.net.cpus.len()))
    }

    pub fn set_rps_cpus(&mut self, dev: DevId, queue: usize, text: &str) -> Result<(), Errno> {
        rps::set_rps_cpus(&mut self.net, dev, queue, read_mask(text)?)
    }

    /// `rps_flow_cnt` of a receive queue.
    pub fn rps_flow_cnt(&self, dev: DevId, queue: usize) -> Option<String> {
        let there = queue < self.queue_counts(dev).0;
        there.then(|| rps::flow_count(&self.net, dev, queue).to_string())
    }

    pub fn set_rps_flow_cnt(&mut self, dev: DevId, queue: usize, text: &str) -> Result<(), Errno> {
        rps::set_flow_count(&mut self.net, dev, queue, read_number(text)?)
    }

    /// `xps_cpus` of a transmit queue; a device with one has none.
    pub fn xps_cpus(&self, dev: DevId, queue: usize) -> Option<String> {
        let nic = self.net.devs.get(dev)?.nic().filter(|n| n.queues.len() > 1)?;
        let q = nic.queues.get(queue).filter(|_| queue < nic.channels())?;
        Some(show_mask(q.tx.xps_cpus, self.net.cpus.len()))
    }

    #[doc(alias = "xps_cpus_store")]
    pub fn set_xps_cpus(&mut self, dev: DevId, queue: usize, text: &str) -> Result<(), Errno> {
        let (mask, online) = (read_mask(text)?, self.net.online());
        let nic = self.net.devs.get_mut(dev).and_then(|d| d.nic_mut()).filter(|n| n.queues.len() > 1);
        let q = nic.and_then(|n| n.queues.get_mut(queue)).ok_or(Errno::ENOENT)?;
        q.tx.xps_cpus = mask & online;
        Ok(())
    }

    /// The limits of a transmit queue, if its card has any.
    fn dql(&mut self, dev: DevId, queue: usize) -> Option<&mut Dql> {
        let nic = self.net.devs.get_mut(dev)?.nic_mut().filter(|n| n.line.is_some() && queue < n.channels())?;
        nic.queues.get_mut(queue).map(|q| &mut q.tx.dql)
    }

    /// One of [`BQL_FILES`] of a transmit queue.
    pub fn bql_attr(&self, dev: DevId, queue: usize, file: &str) -> Option<String> {
        let nic = self.net.devs.get(dev)?.nic().filter(|n| n.line.is_some() && queue < n.channels())?;
        let dql = &nic.queues.get(queue)?.tx.dql;
        Some(match file {
            "limit" => dql.limit.to_string(),
            "limit_max" => dql.max_limit.to_string(),
            "limit_min" => dql.min_limit.to_string(),
            "hold_time" => (u64::from(dql.hold_time) * 1000 / u64::from(self.net.env.hz.max(1))).to_string(),
            "inflight" => dql.inflight().to_string(),
            _ => return None,
        })
    }

    #[doc(alias = "bql_set")]
    pub fn set_bql_attr(&mut self, dev: DevId, queue: usize, file: &str, text: &str) -> Result<(), Errno> {
        let hz = u64::from(self.net.env.hz);
        let dql = self.dql(dev, queue).ok_or(Errno::ENOENT)?;
        let number = || read_decimal(text).and_then(|v| u32::try_from(v).map_err(|_| Errno::ERANGE));
        if file == "hold_time" {
            dql.hold_time = (u64::from(number()?) * hz).div_ceil(1000) as u32;
            return Ok(());
        }
        let value = if text.trim_end_matches('\n') == "max" { MAX_LIMIT } else { number()? };
        if value > MAX_LIMIT {
            return Err(Errno::EINVAL);
        }
        match file {
            "limit" => dql.limit = value,
            "limit_max" => dql.max_limit = value,
            "limit_min" => dql.min_limit = value,
            _ => return Err(Errno::EACCES),
        }
        Ok(())
    }

    /// Numbers of the vectors that this namespace's cards have.
    pub fn vectors(&self, ns: NsId) -> Vec<u32> {
        let cards = self.net.ns_devs(ns).filter_map(|id| self.net.devs.get(id)?.nic());
        cards.flat_map(|n| n.vector..n.vector + 2 * n.channels() as u32).collect()
    }

    /// A file of `/proc/irq/N`.
    pub fn irq_attr(&self, ns: NsId, vector: u32, file: &str) -> Option<String> {
        let (dev, queue, way) = self.net.vector(ns, vector)?;
        let q = self.net.devs.get(dev)?.nic()?.queues.get(usize::from(queue))?;
        let a = q.irq.affinity(way);
        let cpus = self.net.cpus.len();
        Some(match file {
            "smp_affinity" => show_mask(a.mask, cpus),
            "smp_affinity_list" => show_list(a.mask),
            "effective_affinity" => show_mask(1 << a.cpu, cpus),
            "effective_affinity_list" => a.cpu.to_string(),
            _ => return None,
        })
    }

    /// EINVAL when none of the CPUs is there.
    #[doc(alias = "irq_affinity_proc_write")]
    pub fn set_irq_affinity(&mut self, ns: NsId, vector: u32, file: &str, text: &str) -> Result<(), Errno> {
        let mask = if file == "smp_affinity_list" { read_list(text)? } else { read_mask(text)? };
        let (dev, queue, way) = self.net.vector(ns, vector).ok_or(Errno::ENOENT)?;
        let cpus = self.net.cpus.len();
        let q = self.net.nic_queue(dev, queue).ok_or(Errno::ENOENT)?;
        if q.irq.route(way, mask, cpus) { Ok(()) } else { Err(Errno::EINVAL) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_lists() {
        assert_eq!(
            (show_mask(2, 1), show_mask(3, 8), show_mask(0x1_0000_0003, 64)),
            ("2".into(), "03".into(), "00000001,00000003".into())
        );
        assert_eq!(
            (show_list(0b10_0111), show_list(0), show_list(u64::MAX)),
            ("0-2,5".into(), String::new(), "0-63".into())
        );
        assert_eq!(
            (read_mask("00000001,00000003\n"), read_mask("f"), read_mask("x")),
            (Ok(0x1_0000_0003), Ok(15), Err(Errno::EINVAL))
        );
        assert_eq!(
            (read_list("0-2,5"), read_list("3-1"), read_list("64")),
            (Ok(0b10_0111), Err(Errno::EINVAL), Err(Errno::EINVAL))
        );
    }
}
