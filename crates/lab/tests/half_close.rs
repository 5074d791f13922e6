//! The answer to a half-closed connection: data behind the peer's FIN goes on, ACK by ACK.
use belljar_abi::SockAddr;
use belljar_abi::socket::SHUT_WR;
use belljar_lab::{Lab, Nic, Pattern};
use belljar_link::Conditions;
use core::net::Ipv4Addr;

#[test]
fn what_the_window_held_back_follows_when_the_ack_comes() {
    const SIZE: usize = 300_000;
    let mut lab = Lab::new(None);
    let (a, b) = (lab.host("a", 1), lab.host("b", 2));
    let (from, to) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let link = Conditions { delay_ns: 20_000_000, ..Conditions::default() };
    lab.wire((a, from), (b, to), 24, Nic::default(), link, 1).unwrap();
    let (client, server) = (lab.task(a, "client").unwrap(), lab.task(b, "server").unwrap());
    lab.spawn("server", async move {
        let l = server.listen(SockAddr::V4(to, 80), 1).await.unwrap();
        let (s, _) = l.accept().await.unwrap();
        assert!(s.recv(100).await.unwrap().is_empty());
        let mut p = Pattern::new(1);
        let mut sent = 0;
        while sent < SIZE {
            let part = p.at(sent as u64, SIZE - sent).to_vec();
            s.send_all(&part).await.unwrap();
            sent += part.len();
        }
        // LAST_ACK: most of it still waits, and the FIN behind it.
        s.close().await.unwrap();
    });
    let world = lab.world.clone();
    lab.spawn("client", async move {
        let s = client.connect(SockAddr::V4(to, 80)).await.unwrap();
        s.shutdown(SHUT_WR).await.unwrap();
        let mut c = belljar_lab::Checker::new(1);
        loop {
            let segs = s.recv(1 << 20).await.unwrap();
            if segs.is_empty() {
                break;
            }
            c.take(&segs).unwrap();
        }
        Lab::expect(&world, c.pos == SIZE as u64, || format!("{} bytes", c.pos));
    });
    lab.run();
    assert_eq!(lab.world.borrow().failure, None);
    assert!(lab.now() < 2_000_000_000, "{} ns: something waited for a timer", lab.now());
}
