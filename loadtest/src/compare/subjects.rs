//! The processes of one comparison.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tempfile::TempDir;

use super::CompareArgs;
use super::child::{Child, ServerSetup, free_address};
use super::probe::Probe;

/// Provider, floors and the server under test; all end when this is dropped.
pub(super) struct Subjects {
    pub(super) provider: Child,
    pub(super) fixed: Child,
    pub(super) proxy: Child,
    pub(super) server: Option<Child>,
    /// Holds the server's data; removed after the server has ended, hence last.
    _data: TempDir,
}

impl Subjects {
    pub(super) async fn start(args: &CompareArgs, probe: &Probe) -> anyhow::Result<Self> {
        let data = TempDir::new()?;
        let provider = Child::ours(args.load_core, &["provider", "--log-capacity", "1000"])?;
        let fixed = Child::ours(args.server_core, &["floor", "fixed"])?;
        let proxy = Child::ours(args.server_core, &["floor", "proxy", "--upstream", &provider.url()])?;
        let server = match &args.ish_bin {
            Some(program) => Some(start_server(args, program, &provider, data.path(), probe).await?),
            None => None,
        };
        Ok(Self { provider, fixed, proxy, server, _data: data })
    }
}

async fn start_server(
    args: &CompareArgs,
    program: &Path,
    provider: &Child,
    data: &Path,
    probe: &Probe,
) -> anyhow::Result<Child> {
    let address = free_address()?;
    let log = data.join("server-output");
    let setup = ServerSetup { address, environment: environment(address.to_string(), provider, data), log: &log };
    let mut server = Child::server(args.server_core, program, &args.ish_args, &setup)?;
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

fn environment(listen: String, provider: &Child, data: &Path) -> Vec<(&'static str, String)> {
    let data = data.join("data").display().to_string();
    vec![
        ("ISH_LISTEN", listen),
        ("ISH_DATA_DIR", data.clone()),
        ("HOME", data),
        ("OPENAI_BASE_URL", format!("{}/v1", provider.url())),
        ("OPENAI_API_KEY", "loadtest".to_owned()),
    ]
}
