//! The processes of one comparison.

use tempfile::TempDir;

use super::CompareArgs;
use crate::child::Child;
use crate::probe::Probe;
use crate::server::{self, Start};

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
            Some(program) => {
                let (core, args, provider) = (args.server_core, &args.ish_args, &provider.url());
                Some(
                    server::start(&Start { core, program, args, provider, data: data.path(), settings: &[] }, probe)
                        .await?,
                )
            }
            None => None,
        };
        Ok(Self { provider, fixed, proxy, server, _data: data })
    }
}
