//! System calls: from a [`Call`](crate::task::call::Call) to the operation of a socket, file or epoll instance.
