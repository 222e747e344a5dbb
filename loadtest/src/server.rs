//! The server under test: the environment it gets, and the wait until it lives.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::child::{Child, ServerSetup, free_address};
use crate::probe::Probe;

/// What a server is started from.
pub(crate) struct Start<'a> {
    /// Its core.
    pub(crate) core: usize,
    /// Its program.
    pub(crate) program: &'a Path,
    /// Arguments for it.
    pub(crate) args: &'a [String],
    /// The URL of its provider, without a path.
    pub(crate) provider: &'a str,
    /// A folder for its data and its output.
    pub(crate) data: &'a Path,
    /// Further settings, by their names in the environment.
    pub(crate) settings: &'a [(&'static str, String)],
}

/// Starts it and waits, a minute at most, until `/livez` answers.
pub(crate) async fn start(start: &Start<'_>, probe: &Probe) -> anyhow::Result<Child> {
    let address = free_address()?;
    let log = start.data.join("server-output");
    let setup = ServerSetup { address, environment: environment(address.to_string(), start), log: &log };
    let mut server = Child::server(start.core, start.program, start.args, &setup)?;
    let patience = Instant::now() + Duration::from_mins(1);
    while !probe.is_live(&server.url()).await {
        let said = || fs::read_to_string(&log).unwrap_or_default();
        server.ensure_alive().with_context(|| format!("the server did not start: {}", said()))?;
        if Instant::now() > patience {
            bail!("/livez did not answer within 60 s: {}", said());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(server)
}

fn environment(listen: String, start: &Start<'_>) -> Vec<(&'static str, String)> {
    let data = start.data.join("data").display().to_string();
    let mut environment = vec![
        ("ISH_LISTEN", listen),
        ("ISH_DATA_DIR", data.clone()),
        ("HOME", data),
        ("OPENAI_BASE_URL", format!("{}/v1", start.provider)),
        ("OPENAI_API_KEY", "loadtest".to_owned()),
    ];
    environment.extend_from_slice(start.settings);
    environment
}
