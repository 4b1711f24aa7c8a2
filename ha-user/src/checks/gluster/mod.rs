//! `kind = "gluster"`: what glusterd says of a volume, and the processes of this node's bricks.

mod answer;
mod processes;
#[cfg(test)]
mod tests;
mod volume;

use std::time::Duration;

use ha_core::check::Observation;
use tokio::time::sleep;

use self::{answer::Answer, processes::Processes, volume::Volume};
use super::{
    probe::{Pending, Probe},
    tool::Tool,
};
use crate::config::Gluster;

/// Another node's question holds the volume's lock: until it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// See [`Gluster`].
pub(super) struct GlusterProbe {
    volume: String,
    /// glusterd's socket, if it is not where it is for everybody.
    socket: Option<String>,
    tool: Tool,
    /// This node, as glusterd names it; it keeps the name for ever.
    node: Option<String>,
    bricks: Processes,
}

impl GlusterProbe {
    pub(super) fn new(config: &Gluster) -> Self {
        Self {
            volume: config.volume.clone(),
            socket: None,
            tool: Tool::new("gluster"),
            node: None,
            bricks: Processes::new(),
        }
    }

    async fn look(&mut self) -> Result<String, String> {
        let volume = self.volume.clone();
        let node = match &self.node {
            Some(node) => node.clone(),
            None => {
                let node = self.ask(&["system::", "uuid", "get"]).await?.node()?;
                self.node.insert(node).clone()
            }
        };
        let info = self.ask(&["volume", "info", &volume]).await?;
        let layout = Volume::of(&info, &volume)?;
        let status = self.ask(&["volume", "status", &volume]).await?;
        let online = status.online()?;
        let found = layout.judge(&online, &node)?;
        self.bricks.follow(&layout, &online, &node).await?;
        Ok(found)
    }

    /// Asks glusterd, until nobody else holds the lock.
    async fn ask(&mut self, question: &[&str]) -> Result<Answer, String> {
        let socket = self.socket.as_ref();
        let socket = socket.map(|socket| format!("--glusterd-sock={socket}"));
        // Its own log would be written by each probe.
        let mut arguments = vec!["--log-file=/dev/null", "--mode=script", "--xml"];
        arguments.extend(socket.as_deref());
        arguments.extend(question);
        loop {
            let printed = self.tool.run(&arguments).await?;
            let answer = Answer::read(&printed)?;
            if !answer.is_locked() {
                return Ok(answer);
            }
            sleep(ASK_AGAIN).await;
        }
    }
}

impl Probe for GlusterProbe {
    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(self.look())
    }

    fn watch(&mut self) -> Pending<'_, Observation> {
        Box::pin(async {
            let path = self.bricks.ended().await;
            Observation::Failed(format!("the process of brick {path} ended"))
        })
    }
}
