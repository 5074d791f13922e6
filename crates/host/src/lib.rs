//! The real world: clock, seccomp notify, processes, descriptors.
