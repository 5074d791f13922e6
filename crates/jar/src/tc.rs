//! Traffic control by the control socket: requests as netlink has them, errors as tc prints them.
use belljar_kernel::Kernel;
use belljar_kernel::ids::NsId;
use belljar_kernel::net::netlink::tc::asks;
use serde_json::{Value, json};

/// The messages that answer, or what the kernel warns of.
pub fn request(k: &mut Kernel, ns: NsId, kind: u16, flags: u16, body: &[u8]) -> Result<Value, String> {
    if asks(kind) {
        let messages = k.net.tc_get(ns, kind, flags, body, (0, 0)).map_err(|e| e.to_string())?;
        return Ok(json!({ "messages": messages, "warning": null }));
    }
    let warning = k.tc(ns, kind, flags, body).map_err(|e| e.to_string())?;
    Ok(json!({ "messages": [], "warning": warning }))
}
