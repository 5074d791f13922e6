//! NETLINK_GENERIC: the controller, which says what families there are, and the family `ethtool` ([`super::ethtool`]).
use super::{Caller, DATAGRAM, Done, Refusal, Req, error, ethtool};
use crate::env::Nanos;
use crate::kernel::Kernel;
use belljar_abi::Errno;
use belljar_abi::genl::*;
use belljar_abi::netlink::{self as nl, Msg};

/// Ids of families and groups are given out as they register; these are what a machine commonly has.
pub const ETHTOOL_ID: u16 = 0x15;
const ETHTOOL_MONITOR: u32 = 5;
const CTRL_NOTIFY: u32 = 0x10;

struct Family {
    id: u16,
    name: &'static str,
    version: u32,
    max_attr: u32,
    ops: Vec<(u8, u32)>,
    group: (&'static str, u32),
}

fn families() -> [Family; 2] {
    const READ: u32 = GENL_CMD_CAP_DO | GENL_CMD_CAP_DUMP | GENL_CMD_CAP_HASPOL;
    const WRITE: u32 = GENL_CMD_CAP_DO | GENL_CMD_CAP_HASPOL | GENL_UNS_ADMIN_PERM;
    let ops = ethtool::COMMANDS.iter().map(|c| (*c, if ethtool::changes(*c) { WRITE } else { READ })).collect();
    [
        Family {
            id: GENL_ID_CTRL,
            name: "nlctrl",
            version: 2,
            max_attr: 0,
            ops: vec![(CTRL_CMD_GETFAMILY, READ)],
            group: ("notify", CTRL_NOTIFY),
        },
        Family { id: ETHTOOL_ID, name: "ethtool", version: 1, max_attr: 0, ops, group: ("monitor", ETHTOOL_MONITOR) },
    ]
}

impl Kernel {
    /// Answers the requests of one datagram.
    #[doc(alias = "genl_rcv")]
    pub fn genetlink(&mut self, now: Nanos, c: &Caller<'_>, data: &[u8]) -> Vec<Vec<u8>> {
        self.begin_step(now);
        let mut out = Vec::new();
        for (hdr, body) in nl::messages(data) {
            if hdr.flags & nl::NLM_F_REQUEST != 0 && hdr.kind >= nl::NLMSG_MIN_TYPE {
                one(self, c, Req { hdr, body }, &mut out);
            }
        }
        self.end_step();
        out
    }
}

fn one(k: &mut Kernel, c: &Caller<'_>, r: Req<'_>, out: &mut Vec<Vec<u8>>) {
    let dump = r.flag(nl::NLM_F_DUMP) && r.hdr.flags & nl::NLM_F_DUMP == nl::NLM_F_DUMP;
    let mut answers = Vec::new();
    match command(k, c, r, dump, &mut answers) {
        Err(e) => out.push(error(c, r, e)),
        Ok(()) if dump => {
            let mut all: Vec<u8> = Vec::new();
            for mut a in answers {
                multi(&mut a);
                if all.len() + a.len() > DATAGRAM {
                    out.push(std::mem::take(&mut all));
                }
                all.extend(a);
            }
            nl::done(&mut all, r.hdr.seq, c.port);
            out.push(all);
        }
        Ok(()) => {
            out.extend(answers);
            if r.flag(nl::NLM_F_ACK) {
                let mut b = Vec::new();
                nl::error(&mut b, r.hdr, r.body, Ok(()), c.port);
                out.push(b);
            }
        }
    }
}

/// A message of several.
fn multi(message: &mut [u8]) {
    if let Some(f) = message.get_mut(6..8) {
        f.copy_from_slice(&nl::NLM_F_MULTI.to_ne_bytes());
    }
}

fn command(k: &mut Kernel, c: &Caller<'_>, r: Req<'_>, dump: bool, out: &mut Vec<Vec<u8>>) -> Done {
    let cmd = *r.body.first().filter(|_| r.body.len() >= GENL_HDRLEN).ok_or(Errno::EINVAL)?;
    match r.hdr.kind {
        GENL_ID_CTRL if cmd == CTRL_CMD_GETFAMILY => getfamily(c, r, dump, out),
        ETHTOOL_ID => ethtool::command(k, c, r, cmd, dump, out),
        GENL_ID_CTRL => Err(Errno::EOPNOTSUPP.into()),
        _ => Err(Errno::ENOENT.into()),
    }
}

#[doc(alias = "ctrl_getfamily")]
fn getfamily(c: &Caller<'_>, r: Req<'_>, dump: bool, out: &mut Vec<Vec<u8>>) -> Done {
    let id = r.attr(GENL_HDRLEN, CTRL_ATTR_FAMILY_ID).and_then(|v| v.first_chunk()).map(|b| u16::from_ne_bytes(*b));
    let name = r.attr(GENL_HDRLEN, CTRL_ATTR_FAMILY_NAME).map(super::str_of).transpose()?;
    if !dump && id.is_none() && name.is_none() {
        return Err(Errno::EINVAL.into());
    }
    let is = |f: &Family| dump || name.map_or(id == Some(f.id), |n| n == f.name);
    let before = out.len();
    for f in families().iter().filter(|f| is(f)) {
        let mut b = Vec::new();
        let mut m = Msg::new(&mut b, GENL_ID_CTRL, 0, r.hdr.seq, c.port);
        m.body(&[CTRL_CMD_NEWFAMILY, 2, 0, 0]);
        m.attr_str(CTRL_ATTR_FAMILY_NAME, f.name).attr_u16(CTRL_ATTR_FAMILY_ID, f.id);
        m.attr_u32(CTRL_ATTR_VERSION, f.version).attr_u32(CTRL_ATTR_HDRSIZE, 0).attr_u32(CTRL_ATTR_MAXATTR, f.max_attr);
        m.nest(CTRL_ATTR_OPS, |n| {
            for (nth, (cmd, flags)) in f.ops.iter().enumerate() {
                n.nest(nth as u16 + 1, |n| {
                    n.attr_u32(CTRL_ATTR_OP_ID, (*cmd).into()).attr_u32(CTRL_ATTR_OP_FLAGS, *flags);
                });
            }
        });
        m.nest(CTRL_ATTR_MCAST_GROUPS, |n| {
            n.nest(1, |n| {
                n.attr_u32(CTRL_ATTR_MCAST_GRP_ID, f.group.1).attr_str(CTRL_ATTR_MCAST_GRP_NAME, f.group.0);
            });
        });
        out.push(b);
    }
    if out.len() == before && !dump {
        return Err(Refusal::from(Errno::ENOENT));
    }
    Ok(())
}
