//! The lab: nodes and clients in network namespaces on one bridge, the daemons that run on the nodes
//! (`had`, keepalived), and what watches the wire between them.
//!
//! Everything that a [`Lab`] made goes away with it, also when a test panics. What a killed test run
//! left behind is removed by the next one ([`stale::clean`]).

pub mod asker;
pub mod bond;
pub mod burst;
pub mod capture;
pub mod checks;
pub mod clock;
pub mod daemon;
pub mod drbd;
pub mod frame;
pub mod frozen;
pub mod gaps;
pub mod guest;
pub mod ha_pair;
pub mod hog;
pub mod kernel;
pub mod lab;
pub mod loop_device;
pub mod loss;
pub mod mariadb;
pub mod mirrored_pair;
pub mod mysql;
pub mod netem;
pub mod netns;
pub mod node;
pub mod own_directory;
pub mod prober;
pub mod processes;
pub mod raid;
pub mod roll_call;
pub mod scene;
pub mod second;
pub mod sniffer;
pub mod speaker;
pub mod stale;
pub mod still_thread;
pub mod stray;
pub mod sys;
pub mod unit;
pub mod virtual_router;
pub mod vlan;
pub mod wait;

pub use clock::now;
pub use daemon::{Daemon, Kind};
pub use frame::{Frame, Mac, Payload};
pub use lab::{Client, Lab, scenario};
pub use loss::{Heartbeat, LossyPort};
pub use netns::NetNs;
pub use node::Node;
pub use prober::{Gap, Prober, Probes};
pub use roll_call::RollCall;
pub use sniffer::Sniffer;
pub use speaker::{Program, Speaker};
pub use virtual_router::VirtualRouter;
pub use wait::eventually;
