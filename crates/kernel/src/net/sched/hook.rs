//! Where filters look at a device's packets as they come in and before they are queued: `ingress` and `clsact`.
use super::cls::Verdict;
use super::{Ctx, pkt_len};
use crate::ids::DevId;
use crate::net::Net;
use crate::net::core::skb::{Redirect, Skb};
use crate::net::drop::DropReason;
use belljar_abi::Errno;
use belljar_wire::ethernet::ETH_HLEN;

impl Net {
    /// A packet that stays comes back; otherwise `Err` says whether it went somewhere (`Ok`) or was dropped. What was sent to
    /// other devices waits for [`mirred::forward`](super::mirred::forward).
    #[doc(alias = "sch_handle_ingress")]
    #[doc(alias = "sch_handle_egress")]
    #[cold]
    pub(crate) fn tc_run(&mut self, dev: DevId, mut skb: Skb, ingress: bool) -> Result<Skb, Result<(), Errno>> {
        let Net { devs, env, pool, tc, .. } = self;
        let Some(d) = devs.get_mut(dev) else { return Ok(skb) };
        let bare = d.is_pointopoint();
        let Some(i) = &mut d.qdisc.ingress else { return Ok(skb) };
        if !ingress {
            skb.mac_header = skb.head.start();
            skb.network_header = skb.mac_header.saturating_add(ETH_HLEN as u8);
        }
        let mut cx = Ctx::new((env, pool, &mut tc.acts), d.mtu, d.tx_queue_len);
        // What has no link layer has an empty header here, which does not count.
        let bare = if bare && !ingress { ETH_HLEN as u32 } else { 0 };
        let said = i.run(&skb, &mut cx, (pkt_len(&skb).saturating_sub(bare), ingress));
        if skb.redirect == Redirect::Skip {
            skb.redirect = Redirect::None;
        }
        match said {
            Verdict::None | Verdict::Class(_) => Ok(skb),
            Verdict::Stolen => {
                if let Some(skb) = self.tc.acts.way.take(skb) {
                    self.consume_skb(skb);
                }
                Err(Ok(()))
            }
            Verdict::Drop => {
                let (reason, at) = match ingress {
                    true => (DropReason::TcIngress, "sch_handle_ingress"),
                    false => (DropReason::TcEgress, "sch_handle_egress"),
                };
                self.kfree_skb(skb, reason, at);
                Err(Err(Errno::ENOBUFS))
            }
        }
    }
}
