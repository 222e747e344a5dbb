//! The way from a verb to the application: over HTTP to the server that holds the data folder, else inside this process;
//! and the printing of lists and objects.

use std::time::Duration;

use anyhow::{Context, bail};
use axum::body::Body;
use axum::http::{Method, Request};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use secrecy::SecretString;
use serde_json::Value;
use url::Url;

use crate::app::{App, RunningServer};
use crate::config::Config;
use crate::pool::Pools;
use crate::upstream::Upstream;

/// One of the two ways.
pub(super) enum Console {
    Server { address: Url, token: SecretString, upstream: Box<Upstream> },
    InProcess(Box<App>),
}

impl Console {
    pub(super) async fn open(config: Config) -> anyhow::Result<Self> {
        if let Some(server) = Self::of_running(&config)? {
            return Ok(server);
        }
        let mut config = config;
        // Nothing listens: any address will do.
        config.server.listen = ([127, 0, 0, 1], 0).into();
        // Who types waits for nobody.
        config.database.iter_mut().for_each(|database| database.start_timeout = Duration::ZERO);
        // On the heap: it would make the future of every verb as large as itself.
        Ok(Self::InProcess(Box::new(Box::pin(App::build(config)).await?)))
    }

    /// Opens the way, does what is to be done over it, and closes it whatever came of that.
    pub(super) async fn with(
        config: Config,
        work: impl AsyncFnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let console = Self::open(config).await?;
        let done = work(&console).await;
        console.close().await;
        done
    }

    /// The first way, where a server runs.
    pub(super) fn of_running(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(server) = RunningServer::find(&config.server.data_dir) else { return Ok(None) };
        let address = server.address.context("a server is just starting on this data folder; try again")?;
        let upstream = Box::new(Upstream::new(&config.upstream, &Pools::default())?);
        let address = Url::parse(&format!("http://{address}/"))?;
        Ok(Some(Self::Server { address, token: server.token.into(), upstream }))
    }

    /// Sends one request and returns the JSON of its answer.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let bytes = body.map(|body| body.to_string()).unwrap_or_default();
        let (status, answer) = match self {
            Self::Server { address, token, upstream } => {
                upstream.exchange(method, address.join(path)?, token, bytes.into()).await?
            }
            Self::InProcess(app) => {
                let request = Request::builder()
                    .method(method)
                    .uri(path)
                    .header("content-type", "application/json")
                    .body(Body::from(bytes))?;
                let response = app.answer(request).await;
                let status = response.status().as_u16();
                (status, response.into_body().collect().await?.to_bytes())
            }
        };
        let json: Value = if answer.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&answer).context("the server's answer is not JSON")?
        };
        if status >= 400 {
            bail!("{}", json["detail"].as_str().unwrap_or("the server refused"));
        }
        Ok(json)
    }

    /// Gets a file and writes it as it comes.
    pub(super) async fn download(&self, path: &str, out: &mut impl std::io::Write) -> anyhow::Result<()> {
        let (status, mut body) = match self {
            Self::Server { address, token, upstream } => {
                let (status, body) = upstream.download(address.join(path)?, token).await?;
                (status, body.map(|piece| anyhow::Ok(piece?)).boxed())
            }
            Self::InProcess(app) => {
                let response = app.answer(Request::builder().uri(path).body(Body::empty())?).await;
                let status = response.status().as_u16();
                (status, response.into_body().into_data_stream().map(|piece| anyhow::Ok(piece?)).boxed())
            }
        };
        if status >= 400 {
            let answer: Vec<Bytes> = body.try_collect().await?;
            let json: Value = serde_json::from_slice(&answer.concat()).context("the server's answer is not JSON")?;
            bail!("{}", json["detail"].as_str().unwrap_or("the server refused"));
        }
        while let Some(piece) = body.try_next().await? {
            out.write_all(&piece)?;
        }
        Ok(())
    }

    pub(super) async fn close(self) {
        if let Self::InProcess(app) = self {
            app.close().await;
        }
    }
}

/// Prints a list: JSON where asked, else one line a row with aligned columns.
pub(super) fn print_list(rows: &[Value], columns: &[&str], json: bool) {
    if json {
        for row in rows {
            println!("{row}");
        }
        return;
    }
    let cell = |row: &Value, column: &str| match &row[column] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect(),
        other => other.to_string(),
    };
    let widths: Vec<usize> = columns
        .iter()
        .map(|column| rows.iter().map(|row| cell(row, column).chars().count()).chain([column.len()]).max().unwrap_or(0))
        .collect();
    let line = |cells: Vec<String>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("{}", padded.join("  ").trim_end());
    };
    line(columns.iter().map(|column| column.to_uppercase()).collect());
    for row in rows {
        line(columns.iter().map(|column| cell(row, column)).collect());
    }
}

/// Prints one object, or one value: on one line where asked.
pub(super) fn print_object(object: &Value, json: bool) {
    if json { println!("{object}") } else { println!("{object:#}") }
}

/// The part of an address after its question mark.
pub(super) fn query(pairs: &[(&str, String)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
