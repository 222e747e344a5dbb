//! Child processes that never outlive us.
//!
//! Each is ended by its id when its handle is dropped, which covers returns, errors and panics;
//! `setpriv --pdeathsig` has the kernel end it even if we are killed outright.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{self, Command, Stdio};

use anyhow::{Context, ensure};

/// A running server that we started.
pub(crate) struct Child {
    process: process::Child,
    address: SocketAddr,
}

impl Child {
    /// Starts one of our own servers, which says on its first line where it listens.
    pub(crate) fn ours(core: usize, args: &[&str]) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = pinned(core, &program);
        command.args(args).stdout(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("cannot start {args:?}"))?;
        let stdout = process.stdout.take().context("a child without output")?;
        // From here on an error ends the process, because the handle is dropped.
        let mut child = Self { process, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on http://");
        child.address =
            address.and_then(|address| address.parse().ok()).with_context(|| format!("{args:?} said {line:?}"))?;
        Ok(child)
    }

    /// Starts the server under test with this environment and no other; its output goes to `log`.
    pub(crate) fn server(core: usize, program: &Path, args: &[String], setup: &ServerSetup) -> anyhow::Result<Self> {
        let log = File::create(setup.log).context("cannot create the server's log")?;
        let mut command = pinned(core, program);
        command.args(args).env_clear().envs(setup.environment.iter().map(|(name, value)| (name, value)));
        // The wrappers are looked up in it.
        command.env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { process, address: setup.address })
    }

    /// Its base URL, without a path.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id; the wrappers replace themselves by the program, so it is the program's own.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Fails if the process has ended.
    pub(crate) fn ensure_alive(&mut self) -> anyhow::Result<()> {
        let ended = self.process.try_wait()?;
        ensure!(ended.is_none(), "it ended with {}", ended.unwrap_or_default());
        Ok(())
    }
}

/// How the server under test is set up.
pub(crate) struct ServerSetup<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) log: &'a Path,
}

impl Drop for Child {
    fn drop(&mut self) {
        // An error here means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A loopback address whose port was free a moment ago.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Keeps this process, and with it the load, on one core.
pub(crate) fn pin_this_process(core: usize) -> anyhow::Result<()> {
    let pid = process::id().to_string();
    let pinning =
        Command::new("taskset").args(["-a", "-c", "-p", &core.to_string(), &pid]).stdout(Stdio::null()).status();
    let status = pinning.context("taskset (util-linux) is needed to pin processes to cores")?;
    ensure!(status.success(), "cannot pin this process to core {core}");
    Ok(())
}

fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "taskset", "-c", &core.to_string()]).arg(program);
    command
}
