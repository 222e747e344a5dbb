//! graphile_worker in a process of its own, with the same job, as many callers, workers and connections.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::ground::{Cost, Ground, LOOK};
use crate::{AT_ONCE, Way};

/// The table of what is not done: what is done is deleted.
const TABLE: &str = "graphile_worker._private_jobs";

/// The process; killed when this is dropped.
pub struct Peer {
    child: Child,
    says: BufReader<ChildStdout>,
    hears: ChildStdin,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// Starts it on the database, where it makes its schema and waits for work.
    pub fn start(program: &Path, ground: &Ground) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.arg(ground.urls()?.1).arg(AT_ONCE.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| program.display().to_string())?;
        let says = BufReader::new(child.stdout.take().context("it has an output")?);
        let hears = child.stdin.take().context("it has an input")?;
        let mut peer = Self { child, says, hears };
        peer.hear("ready")?;
        Ok(peer)
    }

    /// Has so many tasks done; says how long that took, and what it cost.
    pub async fn window(mut self, ground: &Ground, tasks: u32, way: Way) -> anyhow::Result<(Duration, Cost)> {
        let (before, begun) = (ground.wal().await?, Instant::now());
        let at_once = match way {
            Way::One => "one",
            Way::Many => "many",
        };
        writeln!(self.hears, "{tasks} {at_once}")?;
        self.hear("enqueued")?;
        while !ground.is_done(TABLE, "true").await? {
            tokio::time::sleep(LOOK).await;
        }
        let took = begun.elapsed();
        drop(self);
        Ok((took, ground.cost(before, tasks).await?))
    }

    fn hear(&mut self, word: &str) -> anyhow::Result<()> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        ensure!(line.trim() == word, "it says {line:?} and not {word:?}");
        Ok(())
    }
}
