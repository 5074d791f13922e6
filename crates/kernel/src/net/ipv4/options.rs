//! IPv4 options on arrival: well-formed or not, and source routes, which are refused unless allowed.
use belljar_wire::ipv4::IPV4_HLEN;

const IPOPT_END: u8 = 0;
const IPOPT_NOOP: u8 = 1;
const IPOPT_RR: u8 = 7;
const IPOPT_TIMESTAMP: u8 = 68;
const IPOPT_LSRR: u8 = 131;
const IPOPT_SSRR: u8 = 137;
const IPOPT_RA: u8 = 148;

/// What a well-formed option area holds that matters to delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub source_route: bool,
    pub router_alert: bool,
}

/// Walks the options of `header`; `Err` is the offset of the fault, for ICMP parameter problem.
#[doc(alias = "ip_options_compile")]
pub fn compile(header: &[u8]) -> Result<Options, u8> {
    let mut found = Options::default();
    let mut at = IPV4_HLEN;
    while let Some(&kind) = header.get(at) {
        match kind {
            IPOPT_END => break,
            IPOPT_NOOP => {
                at += 1;
                continue;
            }
            _ => {}
        }
        let len = header.get(at + 1).map_or(0, |l| *l as usize);
        if len < 2 || at + len > header.len() {
            return Err(at as u8);
        }
        let pointer = header.get(at + 2).map_or(0, |p| *p as usize);
        match kind {
            IPOPT_LSRR | IPOPT_SSRR => {
                if len < 3 || pointer < 4 || found.source_route {
                    return Err(at as u8 + if len < 3 { 1 } else { 2 });
                }
                found.source_route = true;
            }
            IPOPT_RR if len < 3 => return Err(at as u8 + 1),
            IPOPT_RR if pointer < 4 => return Err(at as u8 + 2),
            IPOPT_TIMESTAMP if len < 4 => return Err(at as u8 + 1),
            IPOPT_TIMESTAMP if pointer < 5 => return Err(at as u8 + 2),
            IPOPT_RA => found.router_alert = len >= 4 && header.get(at + 2..at + 4) == Some(&[0, 0]),
            _ => {}
        }
        at += len;
    }
    Ok(found)
}

/// The options as they would go back in an answer: record route and time stamps, which is what this stack lets pass,
/// padded to words.
#[doc(alias = "__ip_options_echo")]
pub fn echo(options: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        let len = match kind {
            IPOPT_END => break,
            IPOPT_NOOP => 1,
            _ => options.get(at + 1).map_or(0, |l| *l as usize),
        };
        let Some(option) = options.get(at..at + len).filter(|_| len > 0) else { break };
        if matches!(kind, IPOPT_RR | IPOPT_TIMESTAMP) {
            out.extend_from_slice(option);
        }
        at += len;
    }
    out.resize(out.len().next_multiple_of(4), IPOPT_END);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(options: &[u8]) -> Result<Options, u8> {
        let mut h = vec![0x45; 20];
        h.extend_from_slice(options);
        h.resize(20 + options.len().next_multiple_of(4), 0);
        compile(&h)
    }

    #[test]
    fn faults_are_where_they_are() {
        assert_eq!(with(&[1, 1, 0, 9]), Ok(Options::default()));
        assert_eq!(with(&[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0]), Ok(Options::default()));
        assert_eq!(with(&[7, 44, 4]), Err(20));
        assert_eq!(with(&[1, 7, 3, 3]), Err(23));
        assert!(with(&[131, 7, 4, 1, 2, 3, 4]).unwrap().source_route);
        assert!(with(&[148, 4, 0, 0]).unwrap().router_alert);
        assert_eq!(echo(&[1, 7, 7, 4, 0, 0, 0, 0, 0]), [7, 7, 4, 0, 0, 0, 0, 0]);
        assert!(echo(&[1, 148, 4, 0, 0, 7]).is_empty());
    }
}
