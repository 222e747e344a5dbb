//! The real binary in a process of its own, for what only a process can do: be killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::{soon, until};

/// A running `ish serve`, or `ish worker`. Dropping it kills it.
pub struct Process {
    pub address: SocketAddr,
    child: Child,
}

impl Process {
    /// Starts the server on a data folder, with the provider at `base_url` and further variables, and waits until it
    /// says where it is.
    pub async fn start(folder: &Path, base_url: &str, variables: &[(&str, &str)]) -> Self {
        Self::greeted(command(folder, base_url, variables)).await
    }

    /// Starts a process that only runs tasks, and waits until it says where it can be watched.
    pub async fn worker(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ish"));
        command.args(["worker", "--listen", "127.0.0.1:0"]).env_clear().env("ISH_DATA_DIR", folder);
        command.env("ISH_LOG", "error").envs(variables.iter().copied()).stdin(Stdio::null()).stderr(Stdio::null());
        Self::greeted(command).await
    }

    async fn greeted(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let said = tokio::task::spawn_blocking(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let page = lines.find_map(|line| Some(line.split_once("http://")?.1.split('/').next()?.to_owned()));
            // The rest is read too: a full pipe would stop the server.
            std::thread::spawn(move || lines.for_each(drop));
            page
        });
        let page = soon("the server's greeting", said).await.unwrap().expect("the server greets before it ends");
        Self { address: page.parse().unwrap(), child }
    }

    /// Runs the server where it cannot start; returns what it says of that.
    pub fn refused(folder: &Path, base_url: &str) -> (ExitStatus, String) {
        let output = command(folder, base_url, &[]).stdout(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
        (output.status, String::from_utf8(output.stderr).unwrap())
    }

    /// Runs a verb to its end, with these variables and no others; returns what it prints, or says on failing.
    pub async fn verb(arguments: &[&str], variables: &[(&str, &str)]) -> Result<String, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ish"));
        command.args(arguments).env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
        let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = soon("the verb's end", ended).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`: it gets no chance to do anything.
    pub async fn kill(mut self) {
        // A process that has just crashed by itself is as dead.
        let _ = self.child.kill();
        let status = self.end().await;
        assert!(status.signal().is_some(), "killed, not ended: {status}");
    }

    /// Sends SIGTERM and goes on.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends a signal, such as `-STOP`.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> ExitStatus {
        until("the process's end", || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A verb that is talked to while it runs. Dropping it kills it.
pub struct Talk {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: UnboundedReceiver<String>,
    said: String,
}

impl Talk {
    /// Starts a verb with these variables and no others.
    pub fn begin(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ish"));
        command.args(arguments).env_clear().envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::unbounded_channel();
        listen(child.stdout.take().unwrap(), sender.clone());
        listen(child.stderr.take().unwrap(), sender);
        let stdin = child.stdin.take();
        Self { child, stdin, lines, said: String::new() }
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().expect("the verb is listening"), "{line}").unwrap();
    }

    /// Reads on until a line holds `text`.
    pub async fn hear(&mut self, text: &str) {
        loop {
            let line = soon(&format!("{text:?} after {:?}", self.said), self.lines.recv()).await;
            let line = line.unwrap_or_else(|| panic!("no {text:?}: {}", self.said));
            self.said.push_str(&line);
            if line.contains(text) {
                return;
            }
        }
    }

    /// Sends SIGTERM and goes on.
    pub fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Ends what is typed, and waits for the verb's end; returns all that it has said.
    pub async fn end(mut self) -> (ExitStatus, String) {
        drop(self.stdin.take());
        while let Some(line) = soon("the verb's end", self.lines.recv()).await {
            self.said.push_str(&line);
        }
        let status = until("the process's end", || self.child.try_wait().unwrap()).await;
        (status, std::mem::take(&mut self.said))
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Hands on each line as it comes, on a thread that ends with the output.
fn listen(output: impl Read + Send + 'static, lines: UnboundedSender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // A test that has failed hears nothing more.
            let _ = lines.send(format!("{line}\n"));
        }
    });
}

fn command(folder: &Path, base_url: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ish"));
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env_clear()
        .env("ISH_DATA_DIR", folder)
        .env("ISH_LOG", "error")
        .env("OPENAI_BASE_URL", base_url)
        .env("OPENAI_API_KEY", "sk-upstream")
        .env("ISH_OPENAI_MODELS", "mock")
        .env("ISH_CACHE_SEMANTIC", "false")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}
