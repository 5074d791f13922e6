//! Descriptors, open files, epoll: what a process holds and waits on.
pub mod eventpoll;
pub mod fdtable;
pub mod file;
pub mod proc;
