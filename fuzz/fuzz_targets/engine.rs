//! The input makes the choices of a simulated cluster: who is in it, what goes wrong and when. No rule
//! of the simulator's may be broken.

#![no_main]

use ha_core::sim::{Case, Mutations, run_tape, tell_tape};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|tape: &[u8]| {
    for case in [Case::Adverts, Case::Leases] {
        if run_tape(case, tape, Mutations::NONE).is_some() {
            panic!("{}", tell_tape(case, tape, Mutations::NONE));
        }
    }
});
