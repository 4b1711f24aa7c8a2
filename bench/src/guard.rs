//! Leaving nothing behind when the program ends without unwinding: by a signal, or by a panic.

use anyhow::Result;
use ha_tests::stale;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

/// Exit code after a signal, as shells have it: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Removes the lab when a signal or a panic ends the program.
pub(crate) fn install() -> Result<()> {
    // Handlers, not a blocked mask: the daemons under test would inherit the mask.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if let Some(signal) = signals.forever().next() {
                eprintln!("signal {signal}: removing the lab");
                remove();
                leave();
            }
        })?;
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        remove();
    }));
    Ok(())
}

fn remove() {
    if let Err(error) = stale::remove_own() {
        eprintln!("the lab could not be removed; the next run will do it: {error:#}");
    }
}

#[expect(
    clippy::exit,
    reason = "the main thread is busy measuring, and everything is already removed"
)]
fn leave() -> ! {
    std::process::exit(INTERRUPTED)
}
