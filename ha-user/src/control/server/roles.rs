//! Requests about modes and roles.

use tokio::sync::oneshot;

use super::Context;
use crate::{
    control::report::{ModeReport, PreviewReport},
    roles::{
        ModeRequest,
        mode::{MODES, named},
    },
};

/// To whom the engine is to hand over, where nothing is in the way. It knows the other nodes by their addresses, and
/// where only one could take over, that one does.
pub(super) fn allowed(
    preview: &PreviewReport,
    to: Option<String>,
) -> Result<Option<String>, String> {
    if !preview.obstacles.is_empty() {
        return Err(preview.obstacles.join("; "));
    }
    Ok(to.filter(|to| preview.to.as_ref() != Some(to)))
}

/// The node's mode, after it was set, if it is to be.
pub(super) async fn mode(context: &Context, set: Option<String>) -> Result<ModeReport, String> {
    let mode = match set {
        None => None,
        Some(name) => Some(named(&name).ok_or_else(|| {
            let names = MODES.map(ha_core::Mode::name);
            format!("\"{name}\" is no mode: there is {}", names.join(", "))
        })?),
    };
    let (reply, done) = oneshot::channel();
    let request = ModeRequest {
        mode,
        reply: Some(reply),
    };
    let gone = || "the daemon is ending".to_owned();
    context.modes.send(request).await.map_err(|_| gone())?;
    done.await.map_err(|_| gone())?
}
