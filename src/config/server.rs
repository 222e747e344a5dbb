//! How the server runs: sections `server` and `log`.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::network::Network;
use super::reader::Reader;

/// Section `server`.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Where the databases and the lock file live.
    pub data_dir: PathBuf,
    /// Stay in local mode although keys exist; only on a loopback address.
    pub local: bool,
    /// The first admin key of a server that does not listen on loopback.
    pub admin_key_file: Option<PathBuf>,
    /// Further origins whose pages may use this server, besides its own.
    pub allowed_origins: Vec<String>,
    /// Proxies whose word on a client's address is taken.
    pub trusted_proxies: Vec<Network>,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Largest WebSocket frame, in bytes.
    pub max_frame_bytes: usize,
    /// WebSocket connections at once.
    pub max_connections: NonZeroUsize,
    /// Of these, with one key.
    pub max_connections_per_key: NonZeroUsize,
    /// Of these, from one address.
    pub max_connections_per_address: NonZeroUsize,
    /// Frames that a WebSocket client may send in a second.
    pub max_frames_per_second: NonZeroU32,
    /// Between two pings on a WebSocket.
    pub heartbeat: Duration,
    /// How long a drain may take before what is left is cut.
    pub drain_timeout: Duration,
    /// This instance's name, where it was given one.
    pub instance_id: Option<String>,
    /// Whether `/metrics` is served.
    pub metrics: bool,
    /// Opens it to a scraper elsewhere.
    pub metrics_token: Option<SecretString>,
}

/// Section `log`.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// A filter per module, in tracing's syntax.
    pub filter: String,
    /// Lines for machines.
    pub json: bool,
}

impl ServerConfig {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let listen = reader.value("server.listen");
        let data_dir = reader.value("server.data_dir");
        let local = reader.flag("server.local");
        let admin_key_file = reader.optional("server.admin_key_file");
        let allowed_origins = reader.list("server.allowed_origins");
        let trusted_proxies = reader.values("server.trusted_proxies");
        let max_body_bytes = reader.value("server.max_body_bytes");
        let max_frame_bytes = reader.value("server.max_frame_bytes");
        let max_connections = reader.value("server.max_connections");
        let max_connections_per_key = reader.value("server.max_connections_per_key");
        let max_connections_per_address = reader.value("server.max_connections_per_address");
        let max_frames_per_second = reader.value("server.max_frames_per_second");
        let heartbeat = reader.seconds("server.heartbeat");
        let drain_timeout = reader.seconds("server.drain_timeout");
        let instance_id = reader.optional("server.instance_id");
        let metrics = reader.flag("server.metrics");
        let metrics_token = reader.secret("server.metrics_token", "server.metrics_token_file");
        Some(Self {
            listen: listen?,
            data_dir: data_dir?,
            local: local?,
            admin_key_file,
            allowed_origins,
            trusted_proxies: trusted_proxies?,
            max_body_bytes: max_body_bytes?,
            max_frame_bytes: max_frame_bytes?,
            max_connections: max_connections?,
            max_connections_per_key: max_connections_per_key?,
            max_connections_per_address: max_connections_per_address?,
            max_frames_per_second: max_frames_per_second?,
            heartbeat: heartbeat?,
            drain_timeout: drain_timeout?,
            instance_id,
            metrics: metrics?,
            metrics_token,
        })
    }
}

impl ServerConfig {
    /// This instance's name: the one that it was given, else that of its host and its port. Where the system chooses the
    /// port, the process's number stands in its place.
    pub fn instance_name(&self) -> String {
        if let Some(given) = &self.instance_id {
            return given.clone();
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "localhost" } else { host.trim() };
        match self.listen.port() {
            0 => format!("{host}#{}", std::process::id()),
            port => format!("{host}:{port}"),
        }
    }
}

impl LogConfig {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let filter = reader.value("log.filter");
        let format = reader.one_of("log.format", &["human", "json"]);
        Some(Self { filter: filter?, json: format? == "json" })
    }
}
