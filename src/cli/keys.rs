//! `ish keys new | list | revoke`.

use axum::http::Method;
use clap::Subcommand;
use serde_json::{Value, json};
use uuid::Uuid;

use super::console::{Console, print_list};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum KeysVerb {
    /// Make a key; it is shown once. The first key ends local mode at the next start.
    New {
        /// What to call it.
        name: String,
        /// Whose requests it makes.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// Let it manage keys.
        #[arg(long)]
        admin: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List keys.
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key by its identifier.
    Revoke {
        /// From `ish keys list`.
        id: Uuid,
    },
}

impl KeysVerb {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<()> {
        let console = Console::open(config).await?;
        let done = self.call(&console).await;
        console.close().await;
        done
    }

    async fn call(self, console: &Console) -> anyhow::Result<()> {
        match self {
            Self::New { name, tenant, admin, json } => {
                let made = console
                    .call(
                        Method::POST,
                        "/api/admin/keys",
                        Some(json!({"name": name, "tenant": tenant, "admin": admin})),
                    )
                    .await?;
                if json {
                    println!("{made}");
                } else {
                    println!("{}", made["key"].as_str().unwrap_or_default());
                    eprintln!(
                        "shown once; it stands for tenant {tenant}. A running server in local mode stays so until its next start."
                    );
                }
            }
            Self::List { json } => {
                let listed = console.call(Method::GET, "/api/admin/keys", None).await?;
                let rows = listed["data"].as_array().map_or(&[][..], Vec::as_slice);
                print_list(rows, &["id", "name", "tenant", "role", "hint", "created_at", "revoked_at"], json);
            }
            Self::Revoke { id } => {
                let _: Value = console.call(Method::DELETE, &format!("/api/admin/keys/{id}"), None).await?;
                println!("revoked {id}");
            }
        }
        Ok(())
    }
}
