//! The promise to aya that the map types are plain bytes. The one place in this crate with `unsafe`.

#![expect(unsafe_code, reason = "`aya::Pod` is an unsafe trait")]

use crate::{
    Address,
    abi::{
        Event, Gate, InstanceConfig, LeaseCell, Received, SenderKey, VlanKey, VridKey, WatchConfig,
        bfd,
        lease::{LeaseConfig, PathConfig, PathInstance, PathKey, PathState, PromiseCell},
        local::LocalAddress,
    },
};

macro_rules! pod {
    ($($type:ty),+ $(,)?) => {
        $(
            // SAFETY: `repr(C)` (asserted size, explicit padding fields), integers and byte arrays only:
            // every bit pattern is a value and there is no hidden padding.
            unsafe impl aya::Pod for $type {}
        )+
    };
}

pod!(
    Address,
    bfd::PeerKey,
    bfd::Session,
    VridKey,
    SenderKey,
    VlanKey,
    InstanceConfig,
    Gate,
    LeaseCell,
    Received,
    WatchConfig,
    Event,
    PathKey,
    PathConfig,
    PathInstance,
    PathState,
    PromiseCell,
    LeaseConfig,
    LocalAddress
);
