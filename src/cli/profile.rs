//! `ish profile`: what the running server's profiler says, or a flame graph of it.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use axum::http::Method;
use clap::Args;
use serde_json::{Value, json};

use super::console::{Console, print_list, print_object, query};
use crate::config::Config;
use crate::profiler::MOST_SECONDS;

#[derive(Debug, Args)]
pub(super) struct Profile {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Draw where the processors are, as SVG, into this file.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    flamegraph: Option<PathBuf>,
    /// For so many seconds.
    #[arg(long, default_value_t = 10, requires = "flamegraph", value_parser = clap::value_parser!(u64).range(1..=MOST_SECONDS))]
    seconds: u64,
}

impl Profile {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<()> {
        let server = Console::of_running(&config)?
            .context("no server runs on this data folder: there is nothing to profile (server.data_dir)")?;
        if let Some(path) = &self.flamegraph {
            return draw(&server, path, self.seconds).await;
        }
        let report = server.call(Method::GET, "/api/admin/profile", None).await?;
        if self.json {
            print_object(&report, true);
        } else {
            print_report(&report);
        }
        Ok(())
    }
}

async fn draw(server: &Console, path: &PathBuf, seconds: u64) -> anyhow::Result<()> {
    eprintln!("looking for {seconds} s");
    let address = format!("/api/admin/profile/flamegraph?{}", query(&[("seconds", seconds.to_string())]));
    let mut picture = Vec::new();
    server.download(&address, &mut picture).await?;
    let mut file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
    file.write_all(&picture).with_context(|| format!("{} cannot be written", path.display()))?;
    eprintln!("{} is drawn: open it in a browser", path.display());
    Ok(())
}

fn print_report(report: &Value) {
    let number = |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.3}"));
    println!(
        "in the last {:.0} s: {} questions, hit rate {}, {} US dollars saved",
        report["window_seconds"].as_f64().unwrap_or(0.0),
        report["questions"],
        number(&report["hit_rate"]),
        number(&report["saved_usd"]),
    );
    let minute = &report["process"]["minute"];
    println!(
        "process: {} of {} processors, {} MB of memory",
        number(&minute["cpu_cores"]),
        report["process"]["cores"],
        minute["memory_bytes"].as_u64().unwrap_or(0) / 1_000_000,
    );
    section("bottlenecks", &rows(&report["bottlenecks"]), &["severity", "kind", "name", "why"]);
    rows(&report["recommendations"]).iter().for_each(print_advice);
    let operations: Vec<Value> = rows(&report["operations"]).into_iter().map(rounded).collect();
    let columns =
        ["component", "operation", "place", "count", "share", "p50_ms", "p95_ms", "longest_ms", "cpu_seconds"];
    section("operations", &operations, &columns);
    let trends: Vec<Value> = rows(&report["trends"]).into_iter().map(rounded).collect();
    section("trends", &trends, &["name", "now", "hour", "day", "direction"]);
}

fn print_advice(advice: &Value) {
    let change = match (advice["current"].as_f64(), advice["suggested"].as_f64()) {
        (Some(current), Some(suggested)) => format!(" {current} -> {suggested}"),
        _ => String::new(),
    };
    println!("\n{}{change}", advice["setting"].as_str().unwrap_or("(no setting)"));
    println!("  {}", advice["action"].as_str().unwrap_or_default());
    for (name, figure) in advice["figures"].as_object().into_iter().flatten() {
        println!("  {name}: {:.4}", figure.as_f64().unwrap_or(0.0));
    }
}

fn rows(list: &Value) -> Vec<Value> {
    list.as_array().cloned().unwrap_or_default()
}

fn section(title: &str, rows: &[Value], columns: &[&str]) {
    if !rows.is_empty() {
        println!("\n{title}");
        print_list(rows, columns, false);
    }
}

/// Fractions to the thousandth.
fn rounded(mut row: Value) -> Value {
    for (_, member) in row.as_object_mut().into_iter().flatten() {
        if let Some(number) = member.as_f64().filter(|_| member.is_f64()) {
            *member = json!((number * 1e3).round() / 1e3);
        }
    }
    row
}
