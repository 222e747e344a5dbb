//! `ish sessions list | show | search | rename | export | delete`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use axum::http::Method;
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;
use uuid::Uuid;

use super::console::{Console, print_list};
use crate::config::Config;

/// Most rows of one answer of the API.
const PAGE: usize = 200;

#[derive(Debug, Subcommand)]
pub(super) enum SessionsVerb {
    /// List conversations, newest first.
    List {
        /// How many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show the end of a conversation's selected branch.
    Show {
        /// From `ish sessions list`.
        id: Uuid,
        /// How many messages.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Find conversations whose title, questions or answers hold all the words, best first.
    Search {
        /// Words; a "phrase" in quotation marks holds together.
        #[arg(required = true)]
        words: Vec<String>,
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Give a conversation another title.
    Rename {
        /// From `ish sessions list`.
        id: Uuid,
        /// 1 to 200 characters.
        title: String,
    },
    /// Write a conversation as a file: JSON holds every branch, Markdown the selected one.
    Export {
        /// From `ish sessions list`.
        id: Uuid,
        /// How.
        #[arg(long, value_enum, default_value_t = Format::Json)]
        format: Format,
        /// Where; without it, to the standard output.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Delete a conversation with its messages.
    Delete {
        /// From `ish sessions list`.
        id: Uuid,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Format {
    Json,
    Markdown,
}

impl SessionsVerb {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<()> {
        Console::with(config, async |console| self.call(console).await).await
    }

    async fn call(self, console: &Console) -> anyhow::Result<()> {
        match self {
            Self::List { limit, json } => {
                let rows = rows(console, "/api/sessions", &[], limit).await?;
                print_list(&rows, &["id", "title", "model", "messages", "updated_at"], json);
            }
            Self::Search { words, limit, json } => {
                let mut found = rows(console, "/api/sessions", &[("q", &words.join(" "))], limit).await?;
                if !json {
                    found.iter_mut().for_each(show_snippet);
                }
                print_list(&found, &["id", "title", "snippet"], json);
            }
            Self::Show { id, limit, json } => show(console, id, limit, json).await?,
            Self::Rename { id, title } => {
                let path = format!("/api/sessions/{id}");
                let renamed = console.call(Method::PATCH, &path, Some(json!({"title": title}))).await?;
                println!("renamed {id} to {}", renamed["title"].as_str().unwrap_or_default());
            }
            Self::Export { id, format, output } => {
                let format = if matches!(format, Format::Json) { "json" } else { "markdown" };
                let path = format!("/api/sessions/{id}/export?format={format}");
                match output {
                    Some(file) => save(console, &path, &file).await?,
                    None => console.download(&path, &mut std::io::stdout().lock()).await?,
                }
            }
            Self::Delete { id } => {
                let _: Value = console.call(Method::DELETE, &format!("/api/sessions/{id}"), None).await?;
                println!("deleted {id}");
            }
        }
        Ok(())
    }
}

/// The first `limit` rows of a list, page by page.
async fn rows(console: &Console, path: &str, query: &[(&str, &str)], limit: usize) -> anyhow::Result<Vec<Value>> {
    let mut rows = Vec::new();
    let mut next = None;
    while rows.len() < limit {
        let mut asked = Serializer::new(String::new());
        asked.extend_pairs(query).append_pair("limit", &(limit - rows.len()).min(PAGE).to_string());
        if let Some((name, place)) = next {
            asked.append_pair(name, place_text(&place).as_str());
        }
        let mut page = console.call(Method::GET, &format!("{path}?{}", asked.finish()), None).await?;
        if let Value::Array(data) = page["data"].take() {
            rows.extend(data);
        }
        // A search has no cursors.
        let name = if page["next_cursor"].is_null() { "offset" } else { "cursor" };
        next = match page[format!("next_{name}")].take() {
            Value::Null => break,
            place => Some((name, place)),
        };
    }
    Ok(rows)
}

fn place_text(place: &Value) -> String {
    place.as_str().map_or_else(|| place.to_string(), str::to_owned)
}

/// Puts the text of a match beside the columns, with what was looked for in brackets.
fn show_snippet(found: &mut Value) {
    let parts = found["match"]["snippet"].as_array().cloned().unwrap_or_default();
    let part = |part: &Value| {
        let text = part["text"].as_str().unwrap_or_default();
        if part["hit"] == true { format!("[{text}]") } else { text.to_owned() }
    };
    found["snippet"] = parts.iter().map(part).collect::<String>().into();
}

async fn show(console: &Console, id: Uuid, limit: usize, json: bool) -> anyhow::Result<()> {
    let session = console.call(Method::GET, &format!("/api/sessions/{id}"), None).await?;
    let limit = limit.clamp(1, PAGE);
    let path = format!("/api/sessions/{id}/messages?leaf=selected&limit={limit}");
    let page = console.call(Method::GET, &path, None).await?;
    let messages = page["data"].as_array().map_or(&[][..], Vec::as_slice);
    if json {
        print_list(messages, &[], true);
        return Ok(());
    }
    println!("{}", harmless(&session["title"]));
    for message in messages {
        println!(
            "\n-- {} {} {}",
            harmless(&message["role"]),
            harmless(&message["created_at"]),
            harmless(&message["state"])
        );
        println!("{}", harmless(&message["content"]).trim_end());
    }
    if !page["next_cursor"].is_null() {
        eprintln!("only the last {limit} messages; `ish sessions export` writes all");
    }
    Ok(())
}

/// A text without what would steer a terminal.
fn harmless(text: &Value) -> String {
    let text = text.as_str().unwrap_or_default();
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Writes beside the file and gives it its name at the end: a file of that name is always whole.
async fn save(console: &Console, path: &str, file: &Path) -> anyhow::Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let opened = File::create(&part).with_context(|| format!("{} cannot be written", part.display()))?;
    let mut out = BufWriter::new(opened);
    let written = console.download(path, &mut out).await.and_then(|()| Ok(out.flush()?));
    drop(out);
    if let Err(error) = written {
        std::fs::remove_file(&part).with_context(|| format!("{} is no whole file", part.display()))?;
        return Err(error);
    }
    std::fs::rename(&part, file).with_context(|| format!("{} cannot be written", file.display()))?;
    eprintln!("wrote {}", file.display());
    Ok(())
}
