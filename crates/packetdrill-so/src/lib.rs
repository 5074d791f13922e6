//! The C interface through which upstream packetdrill drives belljar: one kernel in virtual time behind a lock.
//!
//! The same object is loaded twice by name and once in memory: by `--so_filename`, which fills the table of
//! `interface`, and by `LD_PRELOAD`, so that the code blocks of a script, which call libc's getsockopt on the live
//! descriptor, meet the same kernel (`preload`). `world` holds the kernel, its clock and its wire; `calls` turns C's
//! calls into the kernel's; `sysctls` and `commands` carry over what a script does to the network namespace of its
//! process. Unsafe code is here because C hands over pointers: each use says what packetdrill promises about them.

mod calls;
mod commands;
mod interface;
mod memory;
mod pipes;
mod preload;
mod sysctls;
mod world;
