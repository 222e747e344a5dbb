//! The listener of a process that serves nobody: who watches it is answered, until it has ended.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{ApiService, Door, Heartbeat, Peer, Wires, probes};

/// What answers that are on their way may take, once all else has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The listener at work.
pub(super) struct Watched {
    door: Door,
    over: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Watched {
    /// Begins to answer.
    pub fn begin(listener: TcpListener, service: &ApiService, heartbeat: Heartbeat) -> std::io::Result<Self> {
        let (door, over) = (Door::default(), CancellationToken::new());
        let wires = Wires::of(listener, door.clone(), heartbeat)?;
        let probes = probes(service).into_make_service_with_connect_info::<Peer>();
        let server = axum::serve(wires, probes).with_graceful_shutdown(over.clone().cancelled_owned());
        Ok(Self { door, over, serving: tokio::spawn(server.into_future()) })
    }

    /// Ends it.
    pub async fn end(self) {
        self.door.close();
        self.over.cancel();
        // Whoever takes no answer by then has none.
        let _ = tokio::time::timeout(LAST_WORDS, self.serving).await;
    }
}
