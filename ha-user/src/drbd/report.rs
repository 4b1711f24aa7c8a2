//! What `drbdsetup events2 --now` prints.

/// A resource on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// `Primary` or `Secondary`; `None`: the resource is not there.
    pub(crate) role: Option<String>,
    /// What holds up its input and output; `no`: nothing.
    pub(crate) suspended: String,
    pub(crate) devices: Vec<Device>,
    pub(crate) connections: Vec<Connection>,
}

/// One of its volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) volume: String,
    /// The number of its device.
    pub(crate) minor: String,
    pub(crate) disk: String,
    /// Whether it has no disk on purpose (9).
    pub(crate) is_client: bool,
    /// Whether enough nodes are there (9).
    pub(crate) has_quorum: bool,
    /// `SyncTarget` and the like, of one of the peers that send it what it lacks.
    pub(crate) replication: Option<String>,
}

/// The way to one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Connection {
    /// The peer's name; 8.4 has no other than `peer`.
    pub(crate) peer: String,
    pub(crate) state: String,
    /// What the peer is, as far as it is known.
    pub(crate) role: String,
}

impl Connection {
    /// Whether it was given up: by hand, or since the two had different data.
    pub(crate) fn is_alone(&self) -> bool {
        self.state == "StandAlone"
    }
}

/// A line: what happened to what, and its `key:value` fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) event: &'a str,
    pub(crate) object: &'a str,
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Line<'a> {
    /// `None` for what is no news of an object.
    pub(crate) fn read(line: &'a str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (event, object) = (words.next()?, words.next()?);
        (event != "-" && object != "-").then(|| Self {
            event,
            object,
            fields: words.filter_map(|word| word.split_once(':')).collect(),
        })
    }

    pub(crate) fn field(&self, name: &str) -> Option<&'a str> {
        let mut fields = self.fields.iter();
        fields
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    }
}

/// A volume that is being made equal to a peer's.
const TARGETS: [&str; 7] = [
    "SyncTarget",
    "PausedSyncT",
    "WFBitMapT",
    "WFSyncUUID",
    "StartingSyncT",
    "Behind",
    "VerifyT",
];

impl Report {
    pub(crate) fn read(printed: &str, resource: &str) -> Self {
        let mut report = Self::default();
        let lines = printed.lines().filter_map(Line::read);
        let ours = lines.filter(|line| line.field("name") == Some(resource));
        for line in ours {
            let text = |name| line.field(name).unwrap_or_default().to_owned();
            match line.object {
                "resource" => {
                    report.role = line.field("role").map(str::to_owned);
                    report.suspended = text("suspended");
                }
                "device" => report.devices.push(Device {
                    volume: text("volume"),
                    minor: text("minor"),
                    disk: text("disk"),
                    is_client: line.field("client") == Some("yes"),
                    has_quorum: line.field("quorum") != Some("no"),
                    replication: None,
                }),
                "connection" => report.connections.push(Connection {
                    peer: line.field("conn-name").unwrap_or("peer").to_owned(),
                    state: text("connection"),
                    role: text("role"),
                }),
                "peer-device" => report.note_replication(&line),
                _ => {}
            }
        }
        report
    }

    /// Whether every peer is there.
    pub(crate) fn is_connected(&self) -> bool {
        self.connections.iter().all(|one| one.state == "Connected")
    }

    /// Whether one was given up; see [`Connection::is_alone`].
    pub(crate) fn is_alone(&self) -> bool {
        self.connections.iter().any(Connection::is_alone)
    }

    fn note_replication(&mut self, line: &Line<'_>) {
        let Some(replication) = line.field("replication") else {
            return;
        };
        let volume = line.field("volume").unwrap_or_default();
        let device = self
            .devices
            .iter_mut()
            .find(|device| device.volume == volume);
        if let Some(device) = device
            && TARGETS.contains(&replication)
        {
            device.replication = Some(replication.to_owned());
        }
    }
}
