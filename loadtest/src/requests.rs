//! What is asked in a scenario, and under which load.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use http::{HeaderName, HeaderValue, Method};
use loadtest::generator::{self, Expected, Plan, Prompts, Report, Target, unique};

use crate::party::{Floor, Party};
use crate::probe::Probe;

/// Prompts of the exact hits.
const REMEMBERED: u64 = 20;

/// What to ask.
#[derive(Args, Clone)]
pub(crate) struct Requests {
    /// What the server's cache makes of each request.
    #[arg(long, value_enum, default_value_t = Ask::Miss)]
    ask: Ask,
    /// Ask for streams.
    #[arg(long)]
    stream: bool,
    /// How to ask.
    #[arg(long, default_value = "POST")]
    method: Method,
    /// Send this file's bytes as the body, and take any reply with a status of success for good.
    #[arg(long, conflicts_with = "ask")]
    payload: Option<PathBuf>,
    /// A header, `name=value`; may be given several times.
    #[arg(long = "header", value_parser = header)]
    headers: Vec<(String, String)>,
    /// File that holds a key of the server's; local mode needs none.
    #[arg(long)]
    key_file: Option<PathBuf>,
}

/// Kinds of chat requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ask {
    /// Each prompt is a new one, whose answer is stored.
    Miss,
    /// The same past the cache.
    Pass,
    /// A few prompts in turn that have been answered before.
    Hit,
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub connections: usize,
    /// Requests per second over all connections (open loop); `None`: the closed loop.
    pub rate: Option<f64>,
    pub think: Duration,
    pub warm_up: Duration,
    pub duration: Duration,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE")?;
    HeaderName::try_from(name).map_err(|error| error.to_string())?;
    HeaderValue::try_from(value).map_err(|error| error.to_string())?;
    Ok((name.to_lowercase(), value.to_owned()))
}

impl Requests {
    /// Whether the server only passes on what is asked.
    pub(crate) fn is_passing(&self) -> bool {
        self.payload.is_none() && self.ask == Ask::Pass
    }

    /// Reads what is to be read once.
    pub(crate) fn read(&self) -> anyhow::Result<Asking> {
        let payload = match &self.payload {
            Some(path) => Some(std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?),
            None => None,
        };
        let key = match &self.key_file {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
            None => "loadtest".to_owned(),
        };
        let is_chat = payload.is_none() && self.method == Method::POST;
        let payload = payload.or_else(|| (!is_chat).then(Vec::new)).map(Into::into);
        // Two runs on one server share no prompt.
        let salt = jiff::Timestamp::now().as_millisecond().unsigned_abs() * 1_000;
        Ok(Asking { wish: self.clone(), payload, key: key.trim().to_owned(), salt })
    }
}

/// What is asked, window by window.
#[derive(Clone)]
pub(crate) struct Asking {
    wish: Requests,
    payload: Option<bytes::Bytes>,
    pub key: String,
    /// Of the next window's prompts.
    salt: u64,
}

impl Asking {
    /// Has the server remember the prompts of exact hits.
    pub(crate) async fn warm(&self, party: &Party, probe: &Probe) -> anyhow::Result<()> {
        if self.payload.is_some() || self.wish.ask != Ask::Hit {
            return Ok(());
        }
        for prompt in self.remembered().iter() {
            probe.ask(&party.base(), &self.key, prompt).await?;
            let again = probe.ask(&party.base(), &self.key, prompt).await?;
            ensure!(again == "HIT", "the server said {again} to what it has just answered");
        }
        Ok(())
    }

    /// The floor that such requests stand beside, where they are chat requests.
    pub(crate) fn floor(&self, party: &Party) -> Option<Target> {
        let floor = if self.wish.ask == Ask::Hit { Floor::Fixed } else { Floor::Proxy };
        self.payload.is_none().then(|| party.floor(floor, self.wish.stream))?
    }

    /// A window's load on the server; each has prompts of its own, but those that are remembered.
    pub(crate) fn plan(&mut self, party: &Party, load: &Load) -> Plan {
        let kinds = self.payload.is_none().then_some("x-ish-cache");
        let plan = self.on(party.target().clone(), load);
        Plan { pid: party.pid(), expected: Expected { kinds, ..plan.expected.clone() }, ..plan }
    }

    /// The same on a floor.
    pub(crate) fn on(&mut self, target: Target, load: &Load) -> Plan {
        self.salt += 1;
        let member = Expected::default().member.filter(|_| self.payload.is_none());
        Plan {
            method: self.wish.method.clone(),
            stream: self.wish.stream && self.payload.is_none(),
            headers: self.headers(),
            expected: Expected { member, ..Expected::default() },
            connections: load.connections,
            warm_up: load.warm_up,
            rate: load.rate,
            think: load.think,
            ..Plan::new(target, self.prompts(), load.duration)
        }
    }

    fn prompts(&self) -> Prompts {
        match &self.payload {
            Some(payload) => Prompts::Body(payload.clone()),
            None if self.wish.ask == Ask::Hit => Prompts::InTurn(self.remembered()),
            None => Prompts::Unique { salt: self.salt },
        }
    }

    fn remembered(&self) -> Arc<[String]> {
        // The same in every window of a run.
        (0..REMEMBERED).map(|number| unique(self.salt / 1_000, number)).collect()
    }

    fn headers(&self) -> Vec<(Cow<'static, str>, String)> {
        let mut headers = vec![("authorization".into(), format!("Bearer {}", self.key))];
        if self.payload.is_none() && self.wish.ask == Ask::Pass {
            headers.push(("x-ish-cache".into(), "off".to_owned()));
        }
        headers.extend(self.wish.headers.iter().map(|(name, value)| (name.clone().into(), value.clone())));
        headers
    }
}

/// Asks the floor, where there is one, for a quarter of the time, then the server.
pub(crate) async fn beside_floor(
    asking: &mut Asking,
    party: &Party,
    load: &Load,
) -> anyhow::Result<(Option<Report>, Report)> {
    let floor = match asking.floor(party) {
        Some(target) => {
            let short = Load { duration: load.duration / 4, ..*load };
            Some(generator::run(asking.on(target, &short)).await.context("the floor")?)
        }
        None => None,
    };
    Ok((floor, generator::run(asking.plan(party, load)).await?))
}
