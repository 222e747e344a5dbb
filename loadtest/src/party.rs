//! Who is asked: a server that is started for the run with a provider and floors of its own, or one that somebody else has
//! started, beside which a floor stands where its provider is known.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use loadtest::generator::Target;
use tempfile::TempDir;

use crate::child::{self, Child};
use crate::probe::Probe;
use crate::server::{self, Start};

/// Where chat completions are asked for.
const CHAT: &str = "/v1/chat/completions";

/// Whom to ask.
#[derive(Args, Clone)]
pub(crate) struct Whom {
    /// The server under test, which is started on a core of its own.
    #[arg(long, conflicts_with = "url")]
    ish_bin: Option<PathBuf>,
    /// Arguments for it.
    #[arg(long, value_delimiter = ' ', allow_hyphen_values = true, requires = "ish_bin")]
    ish_args: Vec<String>,
    /// A server that runs already: the URL that is asked, `http://HOST:PORT/PATH`.
    #[arg(long, required_unless_present = "ish_bin")]
    url: Option<String>,
    /// It may be another machine, which you may load.
    #[arg(long, requires = "url")]
    elsewhere: bool,
    /// The process of that server, if it is on this machine: its processor time and memory are read.
    #[arg(long, requires = "url")]
    pid: Option<u32>,
    /// The provider of that server, such as `http://127.0.0.1:4000`: a floor is started in front of it.
    #[arg(long, requires = "url")]
    provider: Option<String>,
    /// Milliseconds that the provider takes to its first token, where it is started here.
    #[arg(long, default_value_t = 0)]
    pub(crate) first_token_ms: u64,
    /// Milliseconds that it takes for each further one.
    #[arg(long, default_value_t = 0)]
    pub(crate) per_token_ms: u64,
    /// Tokens of its answers.
    #[arg(long, default_value_t = 20)]
    pub(crate) tokens: u64,
    /// Core of the server under test and of the floors.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the provider and of the load.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

/// All of them; what was started here ends when this is dropped.
pub(crate) struct Party {
    target: Target,
    pid: Option<u32>,
    provider: Option<Child>,
    proxy: Option<Child>,
    fixed: Option<Child>,
    server: Option<Child>,
    /// Holds the server's data; removed after the server has ended, hence last.
    _data: TempDir,
}

/// Which floor a figure stands beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Floor {
    /// Fixed bytes.
    Fixed,
    /// Everything is passed on.
    Proxy,
}

impl Whom {
    /// Starts what is to be started, the server with these settings.
    pub(crate) async fn meet(&self, probe: &Probe, settings: &[(&'static str, String)]) -> anyhow::Result<Party> {
        match &self.ish_bin {
            Some(program) => self.start(program, probe, settings).await,
            None => self.find(),
        }
    }

    /// Whether the server is started here.
    pub(crate) fn is_ours(&self) -> bool {
        self.ish_bin.is_some()
    }

    async fn start(
        &self,
        program: &PathBuf,
        probe: &Probe,
        settings: &[(&'static str, String)],
    ) -> anyhow::Result<Party> {
        child::pin_this_process(self.load_core)?;
        let data = TempDir::new()?;
        let [first, further, tokens] =
            [self.first_token_ms, self.per_token_ms, self.tokens].map(|number| number.to_string());
        // The log keeps each request whole.
        let pace = [
            "provider",
            "--log-capacity",
            "100",
            "--first-token-ms",
            &first,
            "--per-token-ms",
            &further,
            "--tokens",
            &tokens,
        ];
        let provider = Child::ours(self.load_core, &pace)?;
        let core = self.server_core;
        let fixed = Child::ours(core, &["floor", "fixed"])?;
        let proxy = Child::ours(core, &["floor", "proxy", "--upstream", &provider.url()])?;
        let start =
            Start { core, program, args: &self.ish_args, provider: &provider.url(), data: data.path(), settings };
        let server = server::start(&start, probe).await?;
        Ok(Party {
            target: Target::of(server.address(), CHAT),
            pid: Some(server.pid()),
            provider: Some(provider),
            proxy: Some(proxy),
            fixed: Some(fixed),
            server: Some(server),
            _data: data,
        })
    }

    fn find(&self) -> anyhow::Result<Party> {
        let url = self.url.as_ref().context("neither --ish-bin nor --url")?;
        let target = if self.elsewhere { Target::anywhere(url) } else { Target::parse(url) }?;
        let proxy = |provider: &String| Child::ours(self.server_core, &["floor", "proxy", "--upstream", provider]);
        let proxy = self.provider.as_ref().map(proxy).transpose()?;
        Ok(Party { target, pid: self.pid, provider: None, proxy, fixed: None, server: None, _data: TempDir::new()? })
    }
}

impl Party {
    /// The URL under test.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Its server, without a path.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.target.host)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.target.address
    }

    /// Its process, where that is known.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// The same URL of a floor, where there is one.
    pub(crate) fn floor(&self, floor: Floor, is_stream: bool) -> Option<Target> {
        let (child, prefix) = match floor {
            Floor::Fixed => (self.fixed.as_ref()?, if is_stream { "/stream" } else { "" }),
            Floor::Proxy => (self.proxy.as_ref()?, ""),
        };
        Some(Target::of(child.address(), &format!("{prefix}{CHAT}")))
    }

    /// Fails if something that was started here has ended.
    pub(crate) fn ensure_alive(&mut self) -> anyhow::Result<()> {
        for child in [&mut self.server, &mut self.provider, &mut self.proxy, &mut self.fixed].into_iter().flatten() {
            child.ensure_alive()?;
        }
        Ok(())
    }
}
