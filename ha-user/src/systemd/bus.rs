//! The connection to systemd.

use std::{
    collections::HashMap,
    future::{Future as _, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use futures_core::Stream as _;
use zbus::{
    Connection, Error, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant, Result,
    connection::Builder,
    message::{Sequence, Type},
};

use super::state::State;

const SYSTEMD: &str = "org.freedesktop.systemd1";
pub(super) const SYSTEMD_PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const DBUS: &str = "org.freedesktop.DBus";
const DBUS_PATH: &str = "/org/freedesktop/DBus";

type Properties = HashMap<String, OwnedVariant>;

/// A connection on which a unit's changes are heard.
pub(crate) struct Bus {
    connection: Connection,
    /// systemd's own name on the bus: anybody could send signals that look like its own.
    systemd: String,
    unit: OwnedObjectPath,
    changes: MessageStream,
    owners: MessageStream,
    /// When the last answer came: older signals say nothing new.
    known: Option<Sequence>,
    /// The last signal that came while an answer was waited for.
    heard: Option<Message>,
    /// The state that was told last.
    last: State,
}

/// What is heard.
pub(crate) enum News {
    /// The unit has another state.
    State(State),
    /// The connection, or systemd's part of it, is no more.
    Lost,
}

impl Bus {
    /// Connects to the system's bus, or to another one, and asks to be told of a unit's changes.
    pub(crate) async fn connect(address: Option<&str>, unit: &str) -> Result<Self> {
        let builder = match address {
            Some(address) => Builder::address(address),
            None => Builder::system(),
        };
        let connection = builder.build().await?;
        let owners = signals()
            .sender(DBUS)
            .interface(DBUS)
            .member("NameOwnerChanged")
            .add_arg(SYSTEMD)
            .build()?;
        let owners = MessageStream::for_match_rule(owners, &connection, None).await?;
        let systemd = systemd_of(&connection).await?;
        let (to, path, interface) = (Some(systemd.as_str()), SYSTEMD_PATH, Some(MANAGER));
        // Without that it sends no signals.
        connection
            .call_method(to, path, interface, "Subscribe", &())
            .await?;
        let unit: OwnedObjectPath = connection
            .call_method(to, path, interface, "LoadUnit", &unit)
            .await?
            .body()
            .deserialize()?;
        let changes = signals()
            .sender(systemd.as_str())
            .path(unit.as_str())
            .interface(PROPERTIES)
            .member("PropertiesChanged")
            .build()?;
        let changes = MessageStream::for_match_rule(changes, &connection, None).await?;
        Ok(Self {
            connection,
            systemd,
            unit,
            changes,
            owners,
            known: None,
            heard: None,
            last: State::default(),
        })
    }

    /// The state at present.
    pub(crate) async fn state(&mut self) -> Result<State> {
        let call = self.connection.call_method(
            Some(self.systemd.as_str()),
            &self.unit,
            Some(PROPERTIES),
            "GetAll",
            &UNIT,
        );
        let mut call = pin!(call);
        let (changes, owners, heard) = (&mut self.changes, &mut self.owners, &mut self.heard);
        // Whatever is not taken from a full queue would hold up the answer.
        let answer = poll_fn(|context| {
            while let Poll::Ready(message) = next(changes, owners, context) {
                let Some(message) = message else {
                    return Poll::Ready(Err(Error::InvalidReply));
                };
                *heard = Some(message);
            }
            call.as_mut().poll(context)
        })
        .await?;
        self.known = Some(answer.recv_position());
        let properties: Properties = answer.body().deserialize()?;
        let state = State::of(&properties).ok_or(Error::InvalidReply)?;
        self.last.clone_from(&state);
        Ok(state)
    }

    /// Waits for a state that is newer than the last answer, and another one: systemd also signals that something is
    /// about to be done with the unit.
    pub(crate) async fn news(&mut self) -> News {
        loop {
            let message = match self.heard.take() {
                Some(message) => Some(message),
                None => poll_fn(|context| next(&mut self.changes, &mut self.owners, context)).await,
            };
            let Some(message) = message else {
                return News::Lost;
            };
            let old = self
                .known
                .is_some_and(|known| message.recv_position() < known);
            if !old
                && let Some(state) = changed(&message)
                && !state.does_as(&self.last)
            {
                self.last.clone_from(&state);
                return News::State(state);
            }
        }
    }
}

/// systemd's own name on a bus.
pub(super) async fn systemd_of(connection: &Connection) -> Result<String> {
    connection
        .call_method(Some(DBUS), DBUS_PATH, Some(DBUS), "GetNameOwner", &SYSTEMD)
        .await?
        .body()
        .deserialize()
}

/// The next signal of the unit; `None`: the connection is of no use any more.
fn next(
    changes: &mut MessageStream,
    owners: &mut MessageStream,
    context: &mut Context<'_>,
) -> Poll<Option<Message>> {
    if Pin::new(owners).poll_next(context).is_ready() {
        return Poll::Ready(None);
    }
    Pin::new(changes)
        .poll_next(context)
        .map(|message| message.and_then(Result::ok))
}

/// A rule for signals.
pub(super) fn signals() -> zbus::match_rule::Builder<'static> {
    MatchRule::builder().msg_type(Type::Signal)
}

/// The state in a `PropertiesChanged` of the unit, if it has one.
fn changed(message: &Message) -> Option<State> {
    let body = message.body();
    let (interface, properties, _): (String, Properties, Vec<String>) = body.deserialize().ok()?;
    (interface == UNIT).then(|| State::of(&properties))?
}
