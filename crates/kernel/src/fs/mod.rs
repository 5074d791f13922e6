//! Descriptors, open files, epoll: what a process holds and waits on; the kernel's text files.
pub mod eventpoll;
pub mod fdtable;
pub mod file;
pub mod poll;
pub mod proc;
