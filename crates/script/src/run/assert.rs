//! Settings and assertions: sysctls, TCP_INFO, counters, sockets by state, signals.
use super::Run;
use crate::ast::*;
use crate::names::nearest;
use crate::problem::{Problem, Span};
use belljar_abi::tcp_info::TcpInfo;
use belljar_abi::{Errno, SOL_TCP, TCP_INFO};
use belljar_kernel::net::sysctl;
use belljar_kernel::task::call::{Call, Ret, Submitted};

impl Run<'_> {
    pub(super) fn commands(&mut self, all: &[Command]) -> Result<(), Problem> {
        for command in all {
            match command {
                Command::Sysctl(span, key, value) => self.sysctl(*span, key, value)?,
                Command::Ip(span, line) => {
                    self.m.ip(line).map_err(|e| Problem::new(*span, format!("ip {line}: {e}")))?
                }
            }
        }
        self.settle()
    }

    fn sysctl(&mut self, span: Span, key: &str, value: &str) -> Result<(), Problem> {
        match self.m.k.sysctl_set(self.m.ns, key, value) {
            Ok(()) => Ok(()),
            Err(Errno::ENOENT) => {
                Err(Problem::new(span, format!("there is no setting `{key}`")).near(sysctl::nearest(key).as_deref()))
            }
            Err(e) => Err(Problem::new(span, format!("`{key}` does not take `{value}`: {e}"))),
        }
    }

    pub(super) fn tcp_info(&mut self, fd: &Expr, conds: &[Cond]) -> Result<(), Problem> {
        let live = self.fd(fd)?;
        let call = Call::GetSockOpt { fd: live, level: SOL_TCP, name: TCP_INFO, len: 280 };
        let info = match self.m.call(self.m.task, call) {
            Submitted::Done(Ok(Ret::Opt(b))) => TcpInfo::parse(&b),
            Submitted::Done(Err(e)) => return Err(Problem::new(fd.span, format!("TCP_INFO: {e}"))),
            _ => return Err(Problem::new(fd.span, "TCP_INFO gives no answer")),
        };
        let mut fields = info.fields();
        fields.extend([("snd_wscale", info.snd_wscale.into()), ("rcv_wscale", info.rcv_wscale.into())]);
        let find = |name: &str| fields.iter().find(|f| f.0 == name).map(|f| f.1 as i64);
        conds.iter().try_for_each(|c| holds(c, find(&c.name)))
    }

    pub(super) fn counters(&mut self, conds: &[Cond]) -> Result<(), Problem> {
        let all = self.m.k.view_counters(self.m.ns);
        let names: Vec<String> = all.iter().map(|c| format!("{}{}", c.group, c.name)).collect();
        for cond in conds {
            let found = names.iter().position(|n| *n == cond.name).and_then(|i| all.get(i));
            let Some(counter) = found else {
                let near = nearest(&cond.name, names.iter().map(String::as_str));
                return Err(Problem::new(cond.span, format!("there is no counter `{}`", cond.name)).near(near));
            };
            holds(cond, Some(counter.value as i64))?;
        }
        Ok(())
    }

    /// Signals for whoever F_SETOWN names, since the start.
    pub(super) fn signals(&mut self, conds: &[Cond]) -> Result<(), Problem> {
        for cond in conds {
            let value = (cond.name == "SIGURG").then_some(self.m.sigurg);
            holds(cond, value)?;
        }
        Ok(())
    }

    /// Sockets of a namespace by state, as `ss -a` lists them.
    pub(super) fn sockets(&mut self, conds: &[Cond]) -> Result<(), Problem> {
        let all = self.m.k.view_sockets(self.m.ns);
        for cond in conds {
            let counted = |s: &&belljar_kernel::view::SockView| match cond.name.as_str() {
                "all" => true,
                "udp" => s.netid == "udp",
                state => s.netid == "tcp" && s.state == state,
            };
            holds(cond, Some(all.iter().filter(counted).count() as i64))?;
        }
        Ok(())
    }
}

fn holds(cond: &Cond, value: Option<i64>) -> Result<(), Problem> {
    let Some(value) = value else { return Err(Problem::new(cond.span, "there is no such value")) };
    if cond.op.holds(value, cond.value) {
        return Ok(());
    }
    let op = match cond.op {
        Op::Eq => "==",
        Op::Ne => "!=",
        Op::Lt => "<",
        Op::Le => "<=",
        Op::Gt => ">",
        Op::Ge => ">=",
        Op::Has => "&",
    };
    let expected = format!("{} {op} {}", cond.name, cond.shown);
    let came = format!("{} == {value}", cond.name);
    Err(Problem::new(cond.span, "this does not hold").note("expected", expected).note("came", came))
}
