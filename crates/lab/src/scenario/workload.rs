//! Clients and servers of `random`. What was sent is known by position, so every byte that arrives is checked; errors are
//! allowed where the network or the other side may cause them, wrong or missing bytes behind a clean end never.
use super::odd;
use super::random::{TCP_PORT, Tallies, UDP_PORT};
use super::topology::Plan;
use crate::lab::{Lab, Spawner};
use crate::stream::{Checker, Pattern};
use crate::task::{Sock, Task};
use belljar_abi::socket::*;
use belljar_abi::{Errno, SockAddr};
use belljar_kernel::env::{MSEC, SEC};
use belljar_kernel::task::call::Ret;
use belljar_link::Rng;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest that one operation waits before a signal ends it.
const PATIENCE: u64 = 300 * SEC;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Client: shutdown, read to the end, close. Server: answer, close.
    Orderly,
    /// The client closes at once after its upload, unread answer or not.
    ClientCloses,
    /// The client resets somewhere in its upload.
    ClientAborts,
    /// The server resets somewhere in its answer.
    ServerAborts,
    /// The server closes without reading everything.
    ServerCloses,
    /// The server stops reading for a while: closed window, probes.
    ServerNaps,
    /// The server answers and shuts down its side first; then the client sends, half closed.
    ServerHalfCloses,
    /// Both write at once and read afterwards, if the buffers allow it; polling, non-blocking.
    Polling,
}

const ENDINGS: [Ending; 8] = [
    Ending::Orderly,
    Ending::ClientCloses,
    Ending::ClientAborts,
    Ending::ServerAborts,
    Ending::ServerCloses,
    Ending::ServerNaps,
    Ending::ServerHalfCloses,
    Ending::Polling,
];

/// What the client tells the server first: 24 bytes.
#[derive(Clone, Copy, Debug)]
struct Deal {
    key: u64,
    up: u32,
    down: u32,
    ending: Ending,
    /// Where something breaks off, in bytes.
    at: u32,
}

impl Deal {
    fn draw(rng: &mut Rng, max: u64, faults: bool) -> Deal {
        let mut size = || {
            let most = 1 + rng.below(max);
            let most = if rng.chance(0.5) { 1 + most / 100 } else { most };
            rng.below(most + 1) as u32
        };
        let (up, down) = (size(), size());
        let ending = if faults { ENDINGS[rng.below(ENDINGS.len() as u64) as usize] } else { Ending::Orderly };
        Deal { key: rng.next_u64(), up, down, ending, at: rng.below(u64::from(up.max(down)) + 1) as u32 }
    }

    fn emit(&self) -> [u8; 24] {
        let mut out = [0; 24];
        out[..8].copy_from_slice(&self.key.to_le_bytes());
        out[8..12].copy_from_slice(&self.up.to_le_bytes());
        out[12..16].copy_from_slice(&self.down.to_le_bytes());
        out[16..20].copy_from_slice(&self.at.to_le_bytes());
        out[20] = ENDINGS.iter().position(|e| *e == self.ending).unwrap_or(0) as u8;
        out
    }

    fn parse(b: &[u8]) -> Option<Deal> {
        let word = |at: usize| b.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        Some(Deal {
            key: u64::from_le_bytes(b.get(..8)?.try_into().ok()?),
            up: word(8)?,
            down: word(12)?,
            at: word(16)?,
            ending: *ENDINGS.get(*b.get(20)? as usize)?,
        })
    }
}

/// Why a conversation ended early.
#[derive(Debug)]
enum End {
    Err(Errno),
    /// A wrong or missing byte: the run fails.
    Wrong(String),
}

impl From<Errno> for End {
    fn from(e: Errno) -> End {
        End::Err(e)
    }
}

fn note(task: &Task, what: std::fmt::Arguments<'_>) {
    let mut w = task.world.borrow_mut();
    let (now, host) = (w.now, w.hosts.get(task.host).map_or_else(String::new, |h| h.name.clone()));
    w.recorder.note(now, &host, "end", what);
}

async fn recv(s: &Sock, len: usize) -> Result<belljar_wire::Segs, Errno> {
    Sock::received(s.receiving(len, 0).within(PATIENCE).await).map(|r| r.segs)
}

async fn send_pattern(s: &Sock, key: u64, from: u32, to: u32, chunk: usize) -> Result<(), End> {
    let mut p = Pattern::new(key);
    let mut pos = u64::from(from);
    while pos < u64::from(to) {
        let max = ((u64::from(to) - pos) as usize).min(chunk.max(1));
        match s.sending(p.at(pos, max), MSG_NOSIGNAL).within(PATIENCE).await? {
            Ret::Int(n) if n > 0 => pos += n as u64,
            other => return Err(End::Wrong(format!("send returned {other:?}"))),
        }
    }
    Ok(())
}

/// Reads up to `to` and checks; how far it came before the end of the stream.
async fn recv_pattern(s: &Sock, c: &mut Checker, to: u64, chunk: usize) -> Result<bool, End> {
    while c.pos < to {
        let want = ((to - c.pos) as usize).min(chunk.max(1));
        let segs = recv(s, want).await?;
        if segs.len() > want {
            return Err(End::Wrong(format!("recv({want}) returned {} bytes", segs.len())));
        }
        if segs.is_empty() {
            return Ok(false);
        }
        c.take(&segs).map_err(|at| End::Wrong(format!("wrong byte at {at} of {to}")))?;
    }
    Ok(true)
}

/// A client: some connections one after the other, or datagrams.
#[derive(Debug)]
pub(super) struct Client {
    name: String,
    host: usize,
    to: IpAddr,
    /// IPv4 by a socket of AF_INET6.
    mapped: bool,
    udp: bool,
    rounds: u64,
    seed: u64,
    max: u64,
    faults: bool,
    tallies: Tallies,
}

impl Client {
    pub fn draw(rng: &mut Rng, n: u64, plan: &Plan, max: u64, faults: bool, tallies: Tallies) -> Client {
        let addrs = &plan.addrs;
        let (there, to) = addrs[rng.below(addrs.len() as u64) as usize];
        let hosts = addrs.iter().map(|a| a.0).max().unwrap_or(0) as u64 + 1;
        let host = if to.is_loopback() { there } else { rng.below(hosts) as usize };
        let (udp, rounds, seed) = (rng.chance(0.25), 1 + rng.below(5), rng.next_u64());
        let mapped = rng.chance(0.2);
        Client { name: format!("client{n}"), host, to, mapped, udp, rounds, seed, max, faults, tallies }
    }

    /// The server, as a socket of the client's family names it.
    fn addr(&self, port: u16) -> SockAddr {
        let a = SockAddr::ip(self.to, port);
        if self.mapped { a.to_mapped() } else { a }
    }

    pub fn spawn(self, lab: &mut Lab) -> Result<(), String> {
        let task = lab.task(self.host, &self.name).ok_or("no process")?;
        let name = self.name.clone();
        lab.spawn(name, async move {
            let mut rng = Rng::new(self.seed);
            task.sleep(rng.below(3000) * MSEC).await;
            for _ in 0..self.rounds {
                let end = match self.udp {
                    true => datagrams(&task, &mut rng, self.addr(UDP_PORT), self.faults, &self.tallies).await,
                    false => self.connection(&task, &mut rng).await,
                };
                match end {
                    Ok(()) => {}
                    Err(End::Err(e)) => {
                        self.tallies.borrow_mut().broken += 1;
                        Lab::expect(&task.world, self.faults || self.udp, || format!("{}: {e}", self.name));
                    }
                    Err(End::Wrong(what)) => Lab::expect(&task.world, false, || format!("{}: {what}", self.name)),
                }
                task.sleep(rng.below(2000) * MSEC).await;
            }
        });
        Ok(())
    }

    async fn connection(&self, task: &Task, rng: &mut Rng) -> Result<(), End> {
        let deal = Deal::draw(rng, self.max, self.faults);
        let to = self.addr(TCP_PORT);
        let sock = task.tcp(&to).await?;
        if self.faults
            && let Err(e) = odd::client(&sock, rng).await
        {
            return Err(End::Wrong(format!("setsockopt before connect: {e}")));
        }
        let connected = sock.connecting(to).within(PATIENCE).await;
        if let Err(e) = connected {
            self.tallies.borrow_mut().refused += 1;
            Lab::expect(&task.world, self.faults, || format!("{}: connect: {e}", self.name));
            sock.close().await.ok();
            return Ok(());
        }
        if self.faults
            && let Err(e) = odd::options(&sock, rng, 0.04).await
        {
            return Err(End::Wrong(format!("setsockopt: {e}")));
        }
        let end = talk(&sock, deal, rng).await;
        note(task, format_args!("{}: {deal:?}: {end:?}", self.name));
        if end.is_err() {
            // Who gives up says so: a plain close would look like a clean end.
            sock.abort_on_close().await.ok();
        } else if self.faults && rng.chance(0.1) {
            odd::linger(&sock, rng).await?;
        }
        let closed = sock.close().await;
        if let Err(e) = closed {
            return Err(End::Wrong(format!("close: {e}")));
        }
        end?;
        let mut t = self.tallies.borrow_mut();
        t.complete += 1;
        t.bytes += u64::from(deal.up) + u64::from(deal.down);
        Ok(())
    }
}

/// The client's side of a conversation.
async fn talk(s: &Sock, deal: Deal, rng: &mut Rng) -> Result<(), End> {
    let chunk = [1, 100, 1000, 10_000, 100_000][rng.below(5) as usize];
    // Byte by byte only short ones.
    let chunk = if deal.up > 5000 { chunk.max(1000) } else { chunk };
    let read = [10, 1000, 100_000][rng.below(3) as usize];
    let read = if deal.down > 5000 { read.max(1000) } else { read };
    s.send_all(&deal.emit()).await?;
    match deal.ending {
        Ending::ClientAborts => {
            send_pattern(s, deal.key, 0, deal.at.min(deal.up), chunk).await?;
            s.abort_on_close().await?;
            return Ok(());
        }
        Ending::ClientCloses => {
            send_pattern(s, deal.key, 0, deal.up, chunk).await?;
            return Ok(());
        }
        Ending::Polling => return polling(s, deal, chunk).await,
        Ending::ServerHalfCloses => return after_the_end(s, deal, chunk, read).await,
        _ => {}
    }
    let up = send_pattern(s, deal.key, 0, deal.up, chunk).await;
    // A server that breaks off may still have answered something before; who lost patience must not end cleanly.
    let breaks_off = matches!(deal.ending, Ending::ServerAborts | Ending::ServerCloses);
    match up {
        Err(End::Err(e)) if breaks_off && e != Errno::EINTR => {}
        other => other?,
    }
    match s.shutdown(SHUT_WR).await {
        Err(Errno::ENOTCONN) => return Err(End::Err(Errno::ENOTCONN)),
        other => other?,
    }
    let mut c = Checker::new(deal.key ^ 1);
    let all = recv_pattern(s, &mut c, u64::from(deal.down), read).await?;
    let whole = all && recv(s, 1).await?.is_empty();
    match deal.ending {
        Ending::Orderly | Ending::ServerNaps if !whole => {
            Err(End::Wrong(format!("a clean end after {} of {} bytes", c.pos, deal.down)))
        }
        _ => Ok(()),
    }
}

/// All of the answer, to its end, and then the upload, which the server still reads.
async fn after_the_end(s: &Sock, deal: Deal, chunk: usize, read: usize) -> Result<(), End> {
    let mut c = Checker::new(deal.key ^ 1);
    let all = recv_pattern(s, &mut c, u64::from(deal.down), read).await?;
    if !all || !recv(s, 1).await?.is_empty() {
        return Err(End::Wrong(format!("a clean end after {} of {} bytes", c.pos, deal.down)));
    }
    send_pattern(s, deal.key, 0, deal.up, chunk).await?;
    s.shutdown(SHUT_WR).await.map_err(End::Err)
}

/// Non-blocking: writes what fits, reads what is there, waits for whichever comes first.
async fn polling(s: &Sock, deal: Deal, chunk: usize) -> Result<(), End> {
    use belljar_abi::poll::{POLLIN, POLLOUT};
    use belljar_kernel::task::call::{Call, PollFd};
    let (mut p, mut c) = (Pattern::new(deal.key), Checker::new(deal.key ^ 1));
    let (mut pos, mut shut) = (0u64, false);
    loop {
        let mut events = POLLIN;
        if pos < u64::from(deal.up) {
            let max = ((u64::from(deal.up) - pos) as usize).min(chunk);
            match s.sending(p.at(pos, max), MSG_DONTWAIT | MSG_NOSIGNAL).await {
                Ok(Ret::Int(n)) if n > 0 => {
                    pos += n as u64;
                    continue;
                }
                Err(Errno::EAGAIN) => events |= POLLOUT,
                Err(e) => return Err(e.into()),
                Ok(other) => return Err(End::Wrong(format!("send returned {other:?}"))),
            }
        } else if !shut {
            shut = true;
            s.shutdown(SHUT_WR).await?;
        }
        match Sock::received(s.receiving(4096, MSG_DONTWAIT).await) {
            Ok(r) if r.segs.is_empty() && c.pos == u64::from(deal.down) => return Ok(()),
            Ok(r) if r.segs.is_empty() => {
                return Err(End::Wrong(format!("a clean end after {} of {} bytes", c.pos, deal.down)));
            }
            Ok(r) => c.take(&r.segs).map_err(|at| End::Wrong(format!("wrong byte at {at}")))?,
            Err(Errno::EAGAIN) => {
                let fds = [PollFd { fd: s.fd as i32, events: events as u16, revents: 0 }];
                s.task.call(Call::Poll { fds: &fds, timeout: Some(PATIENCE) }).await?;
                let now = s.task.call(Call::Poll { fds: &fds, timeout: Some(0) }).await;
                if now == Ok(Ret::Poll(fds.to_vec())) {
                    return Err(End::Err(Errno::ETIMEDOUT));
                }
                // Beyond tcp_mem a locked buffer looks free and takes nothing: who is in a hurry would spin.
                if events & POLLOUT != 0 {
                    s.task.sleep(MSEC).await;
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// Sizes of datagrams: none, what fits and what just does not on common links, what is cut, and the most that there is
/// in IPv4 and in IPv6.
const SIZES: [usize; 12] = [0, 1, 100, 1232, 1452, 1453, 1472, 1473, 4000, 20_000, 65_507, 65_527];

async fn datagrams(task: &Task, rng: &mut Rng, to: SockAddr, faults: bool, tallies: &Tallies) -> Result<(), End> {
    let s = task.udp(&to).await?;
    if faults && let Err(e) = odd::datagram(&s, to.family(), rng).await {
        return Err(End::Wrong(e));
    }
    let end = echo(&s, rng, to, tallies).await;
    s.close().await.map_err(|e| End::Wrong(format!("close: {e}")))?;
    end
}

async fn echo(s: &Sock, rng: &mut Rng, to: SockAddr, tallies: &Tallies) -> Result<(), End> {
    if rng.chance(0.5) {
        s.connect(to).await?;
    }
    for _ in 0..1 + rng.below(20) {
        let size = SIZES[rng.below(SIZES.len() as u64) as usize];
        let mut p = Pattern::new(rng.next_u64());
        let data = p.at(0, size).to_vec();
        match s.sending_to(&data, to).within(PATIENCE).await {
            // Longer than the path takes, and not to be cut.
            Err(Errno::EMSGSIZE) => continue,
            other => other?,
        };
        match Sock::received(s.receiving(65_536, 0).within(rng.below(2000) * MSEC).await) {
            // Late answers of earlier ones may come; a datagram is whole or absent.
            Ok(r) if r.segs.len() == data.len() && r.segs.to_vec() != data => {
                if !SIZES.contains(&r.segs.len()) {
                    return Err(End::Wrong("a datagram of a size that nobody sent".into()));
                }
            }
            Ok(_) => tallies.borrow_mut().datagrams += 1,
            Err(Errno::EINTR | Errno::EMSGSIZE) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Every host serves both versions of IP: by one socket each or by a dual-stack one, with a thread for each connection; and
/// UDP echo.
pub(super) fn servers(lab: &mut Lab, host: usize, rng: &mut Rng, faults: bool, t: Tallies) -> Result<(), String> {
    let (any4, any6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
    let both: &[(IpAddr, bool)] = if rng.chance(0.5) { &[(any6, false)] } else { &[(any4, false), (any6, true)] };
    for (any, v6only) in both.iter().copied() {
        let backlog = if faults { [0, 1, 5, 128][rng.below(4) as usize] } else { 128 };
        let task = lab.task(host, "server").ok_or("no process")?;
        let (spawner, seed) = (lab.spawner(), rng.next_u64());
        let at = SockAddr::ip(any, TCP_PORT);
        lab.spawn_daemon(format!("server on h{host}"), tcp_server(task, spawner, at, v6only, backlog, faults, seed));
        let task = lab.task(host, "udp").ok_or("no process")?;
        let at = SockAddr::ip(any, UDP_PORT);
        lab.spawn_daemon(format!("udp echo on h{host}"), udp_server(task, at, v6only, faults, rng.next_u64()));
    }
    drop(t);
    Ok(())
}

async fn tcp_server(task: Task, spawner: Spawner, at: SockAddr, v6only: bool, backlog: i32, faults: bool, seed: u64) {
    let Ok(l) = task.listen_as(at, v6only, backlog).await else { return };
    let mut rng = Rng::new(seed);
    if faults && let Err(e) = odd::listener(&l, &mut rng).await {
        Lab::expect(&task.world, false, || format!("setsockopt on a listener: {e}"));
    }
    loop {
        match l.accept().await {
            Ok((sock, _)) => serve(&spawner, sock, rng.next_u64(), faults),
            // Out of descriptors: the connection stays queued.
            Err(_) => task.sleep(100 * MSEC).await,
        }
        if faults && rng.chance(0.1) {
            task.sleep(rng.below(5000) * MSEC).await;
        }
    }
}

async fn udp_server(task: Task, at: SockAddr, v6only: bool, faults: bool, seed: u64) {
    let Ok(s) = task.udp(&at).await else { return };
    let mut rng = Rng::new(seed);
    if faults
        && rng.chance(0.3)
        && let Err(e) = odd::datagram(&s, at.family(), &mut rng).await
    {
        Lab::expect(&task.world, false, || e);
    }
    if v6only && s.set_int(SOL_IPV6, IPV6_V6ONLY, 1).await.is_err() || s.bind(at).await.is_err() {
        return;
    }
    loop {
        if let Ok(r) = Sock::received(s.receiving(65_536, 0).await)
            && let Some(from) = r.from
        {
            s.sending_to(&r.segs.to_vec(), from).within(PATIENCE).await.ok();
        } else {
            task.sleep(MSEC).await;
        }
    }
}

fn serve(spawner: &Spawner, sock: Sock, seed: u64, faults: bool) {
    let Some(thread) = sock.task.thread() else { return };
    let sock = Sock { task: thread, fd: sock.fd };
    spawner.spawn("connection", async move {
        let mut rng = Rng::new(seed);
        let world = sock.task.world.clone();
        if faults && let Err(e) = odd::options(&sock, &mut rng, 0.04).await {
            Lab::expect(&world, false, || format!("setsockopt of an accepted socket: {e}"));
        }
        let end = answer(&sock, &mut rng).await;
        note(&sock.task, format_args!("server: {end:?}"));
        if end.is_err() {
            sock.abort_on_close().await.ok();
        } else if faults && rng.chance(0.1) {
            odd::linger(&sock, &mut rng).await.ok();
        }
        let closed = sock.close().await;
        Lab::expect(&world, closed.is_ok(), || format!("server: close: {closed:?}"));
        match end {
            Err(End::Wrong(what)) => Lab::expect(&world, false, || format!("server: {what}")),
            Err(End::Err(e)) => Lab::expect(&world, faults, || format!("server: {e}")),
            Ok(()) => {}
        }
    });
}

async fn answer(s: &Sock, rng: &mut Rng) -> Result<(), End> {
    let mut head = Vec::new();
    while head.len() < 24 {
        let segs = recv(s, 24 - head.len()).await?;
        if segs.is_empty() {
            return Ok(());
        }
        head.extend(segs.to_vec());
    }
    let Some(deal) = Deal::parse(&head) else { return Err(End::Wrong(format!("the deal arrived as {head:?}"))) };
    let mut c = Checker::new(deal.key);
    let chunk = [100, 5000, 1 << 20][rng.below(3) as usize];
    let chunk = if deal.up > 50_000 { chunk.max(5000) } else { chunk };
    match deal.ending {
        Ending::ServerCloses => {
            recv_pattern(s, &mut c, u64::from(deal.at.min(deal.up)), chunk).await?;
            return Ok(());
        }
        Ending::ServerNaps => s.task.sleep(rng.below(60_000) * MSEC).await,
        Ending::ServerHalfCloses => {
            send_pattern(s, deal.key ^ 1, 0, deal.down, 10_000).await?;
            s.shutdown(SHUT_WR).await?;
        }
        _ => {}
    }
    let all = recv_pattern(s, &mut c, u64::from(deal.up), chunk).await?;
    if !all && deal.ending != Ending::ClientAborts {
        return Err(End::Wrong(format!("a clean end after {} of {} bytes", c.pos, deal.up)));
    }
    if deal.ending == Ending::ServerAborts {
        send_pattern(s, deal.key ^ 1, 0, deal.at.min(deal.down), 10_000).await?;
        s.abort_on_close().await?;
        return Ok(());
    }
    if deal.ending != Ending::ServerHalfCloses {
        send_pattern(s, deal.key ^ 1, 0, deal.down, 10_000).await?;
    }
    Ok(())
}
