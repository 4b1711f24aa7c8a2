//! What only the operating system can do; the daemon's `unsafe` code lives here.

pub mod clock;
pub mod packet;
pub mod realtime;
pub mod signals;
pub mod stamp;
