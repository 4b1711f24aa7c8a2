//! Leaving nothing behind when the program ends without unwinding: by a signal, or by a panic.

use anyhow::Result;
use ha_tests::{stale, sys};

/// Exit code after a signal, as shells have it: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// To be called before any thread is started, so that all of them leave the signals to this one.
pub(crate) fn install() -> Result<()> {
    let signals = sys::block_termination();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if let Ok(signal) = signals.wait() {
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
