//! `ish cache stats | inspect | explain | evict`.

use axum::http::Method;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::console::{Console, print_list, print_object};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum CacheVerb {
    /// Sizes, look-ups and savings.
    Stats {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the newest entries, or show one by its key.
    Inspect {
        /// An entry's key; without it, the newest are listed.
        key: Option<String>,
        /// Only entries whose question contains this.
        #[arg(long, default_value = "")]
        contains: String,
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Explain what a look-up of this prompt finds, step by step.
    Explain {
        /// The prompt.
        prompt: String,
        /// The model that it would be asked of.
        #[arg(long)]
        model: Option<String>,
        /// The system prompt.
        #[arg(long)]
        system: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Evict entries, by exactly one of the options.
    Evict(Evict),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Evict {
    /// The entry of this key.
    #[arg(long)]
    key: Option<String>,
    /// Entries that carry this tag.
    #[arg(long)]
    tag: Option<String>,
    /// Entries of this model.
    #[arg(long)]
    model: Option<String>,
    /// Entries older than this many seconds.
    #[arg(long, value_name = "SECONDS")]
    older_than: Option<u64>,
    /// All entries.
    #[arg(long)]
    all: bool,
}

impl CacheVerb {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<()> {
        Console::with(config, async |console| self.call(console).await).await
    }

    async fn call(self, console: &Console) -> anyhow::Result<()> {
        match self {
            Self::Stats { json } => print_object(&console.call(Method::GET, "/api/cache/stats", None).await?, json),
            Self::Inspect { key: Some(key), json, .. } => {
                print_object(&console.call(Method::GET, &format!("/api/cache/entries/{key}"), None).await?, json);
            }
            Self::Inspect { key: None, contains, limit, json } => {
                let query: String = url::form_urlencoded::Serializer::new(String::new())
                    .append_pair("contains", &contains)
                    .append_pair("limit", &limit.to_string())
                    .finish();
                let listed = console.call(Method::GET, &format!("/api/cache/entries?{query}"), None).await?;
                let rows = listed["data"].as_array().map_or(&[][..], Vec::as_slice);
                print_list(rows, &["key", "prompt", "model", "created_at", "expires_at"], json);
            }
            Self::Explain { prompt, model, system, json } => {
                let explained = console
                    .call(
                        Method::POST,
                        "/api/cache/explain",
                        Some(json!({"prompt": prompt, "model": model, "system": system})),
                    )
                    .await?;
                if json { println!("{explained}") } else { print_explanation(&explained) }
            }
            Self::Evict(evict) => {
                let evicted = console.call(Method::DELETE, &evict.path(), None).await?;
                println!("evicted {}", evicted["evicted"]);
            }
        }
        Ok(())
    }
}

impl Evict {
    fn path(&self) -> String {
        if let Some(key) = &self.key {
            return format!("/api/cache/entries/{key}");
        }
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if let Some(tag) = &self.tag {
            query.append_pair("tag", tag);
        }
        if let Some(model) = &self.model {
            query.append_pair("model", model);
        }
        if let Some(seconds) = self.older_than {
            query.append_pair("older_than_s", &seconds.to_string());
        }
        if self.all {
            query.append_pair("all", "true");
        }
        format!("/api/cache/entries?{}", query.finish())
    }
}

fn print_explanation(explained: &Value) {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    println!("{}  {}", text(&explained["decision"]).to_uppercase(), text(&explained["rule"]));
    for (name, value) in explained["request"].as_object().into_iter().flatten() {
        println!("  {name:<18} {}", text(value));
    }
    println!("keys");
    for (name, value) in explained["keys"].as_object().into_iter().flatten() {
        println!("  {name:<18} {}", text(value));
    }
    println!("steps");
    for step in explained["steps"].as_array().into_iter().flatten() {
        let (tier, ms) = (step["tier"].as_str().unwrap_or("-"), step["ms"].as_f64().unwrap_or(0.0));
        println!(
            "  {:<12} {tier:<3} {:<8} {ms:>8.3} ms  {}",
            text(&step["step"]),
            text(&step["result"]),
            text(&step["detail"])
        );
    }
    for neighbour in explained["neighbours"].as_array().into_iter().flatten() {
        let verdict = if neighbour["serve"] == true { "serve" } else { "no" };
        println!(
            "neighbour {:.4}  {verdict:<6} {}",
            neighbour["similarity"].as_f64().unwrap_or(0.0),
            text(&neighbour["prompt"])
        );
        for check in neighbour["checks"].as_array().into_iter().flatten() {
            let mark = if check["passed"] == true { "passed" } else { "VETO  " };
            println!("  {mark} {:<16} {}", text(&check["guard"]), text(&check["detail"]));
        }
    }
}
