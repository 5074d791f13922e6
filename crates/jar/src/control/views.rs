//! Views of a host as JSON, converted from the kernel's own values.
use super::Reply;
use crate::jar::Jar;
use belljar_host::process;
use belljar_kernel::view::Value;

fn to_json(v: Value) -> serde_json::Value {
    use serde_json::Value as J;
    match v {
        Value::Null => J::Null,
        Value::Bool(b) => J::Bool(b),
        Value::Uint(n) => n.into(),
        Value::Real(x) => x.into(),
        Value::Text(s) => J::String(s),
        Value::List(l) => J::Array(l.into_iter().map(to_json).collect()),
        Value::Map(m) => J::Object(m.into_iter().map(|(k, v)| (k.into_owned(), to_json(v))).collect()),
    }
}

impl Jar {
    pub(crate) fn view(&mut self, host: usize, what: &str) -> Result<Reply, String> {
        if what == "users" {
            let all = process::sockets(&process::descendants(std::process::id()));
            let owner = |o: process::OpenSocket| serde_json::json!({"inode": o.inode, "name": o.name, "pid": o.pid, "fd": o.fd});
            return Ok(Reply::Value { value: all.into_iter().map(owner).collect() });
        }
        // What the programs have read already leaves the queues before they are shown.
        for id in self.socks.ids() {
            self.settle(id);
        }
        let m = self.machines.get_mut(host).ok_or_else(|| "no such host".to_owned())?;
        let ns = m.ns;
        let v = m.k.view(ns, what).map_err(|e| format!("{what}: {e}"))?;
        Ok(Reply::Value { value: to_json(v) })
    }
}
