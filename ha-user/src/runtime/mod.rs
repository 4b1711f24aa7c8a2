//! What the daemon keeps in `runtime_dir`: its lock, what must outlive the process, a bpffs.

pub mod bpffs;
pub mod lock;
pub mod memory;
