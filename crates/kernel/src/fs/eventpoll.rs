//! epoll: interest tree, ready list, waiters (Linux: `fs/eventpoll.c`).

#[derive(Clone, Debug, Default)]
pub struct EventPoll {}

#[derive(Clone, Debug)]
pub struct EpItem {}
