//! `ish keys new | list | set-limits | revoke`.

mod limits;

use std::num::NonZeroU32;

use axum::http::Method;
use clap::Subcommand;
use serde_json::{Value, json};
use uuid::Uuid;

use super::console::{Console, print_list};
use crate::config::Config;
use crate::keys::BudgetPeriod;

/// What a list of keys shows.
const COLUMNS: &[&str] = &[
    "id",
    "name",
    "tenant",
    "role",
    "user",
    "hint",
    "created_at",
    "expires_at",
    "revoked_at",
    "requests_per_minute",
    "tokens_per_minute",
    "budget_usd",
    "budget_period",
    "spent_usd",
];

#[derive(Debug, Subcommand)]
pub(super) enum KeysVerb {
    /// Make a key; it is shown once. The first key ends local mode at the next start.
    New {
        /// What to call it.
        name: String,
        /// Whose requests it makes.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// Let it manage keys, and act for any user.
        #[arg(long)]
        admin: bool,
        /// Let it act for the user of its tenant whom a request names.
        #[arg(long, conflicts_with = "admin")]
        service: bool,
        /// Make it the key of one user, PROVIDER/ID, whose sessions it sees and no others.
        #[arg(long, value_name = "PROVIDER/ID", conflicts_with_all = ["admin", "service"])]
        user: Option<String>,
        /// Requests that it may make in a minute.
        #[arg(long)]
        requests_per_minute: Option<NonZeroU32>,
        /// Of these, how many at once; a minute's worth unless given.
        #[arg(long, requires = "requests_per_minute")]
        request_burst: Option<NonZeroU32>,
        /// Tokens, of input and output, that it may use in a minute.
        #[arg(long)]
        tokens_per_minute: Option<NonZeroU32>,
        /// Of these, how many at once; a minute's worth unless given.
        #[arg(long, requires = "tokens_per_minute")]
        token_burst: Option<NonZeroU32>,
        /// US dollars that it may spend; models without a price are refused to it.
        #[arg(long)]
        budget_usd: Option<f64>,
        /// When the budget begins anew.
        #[arg(long, requires = "budget_usd")]
        budget_period: Option<BudgetPeriod>,
        /// Tokens of output that are reserved for a request that names no limit.
        #[arg(long)]
        max_tokens_default: Option<NonZeroU32>,
        /// How long it is good, as 90s, 15m, 12h or 30d; until it is revoked unless given.
        #[arg(long, value_parser = lasting, value_name = "TIME")]
        expires_in: Option<NonZeroU32>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change what a key may use.
    SetLimits(limits::Limits),
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
        Console::with(config, async |console| self.call(console).await).await
    }

    async fn call(self, console: &Console) -> anyhow::Result<()> {
        match self {
            Self::New {
                name,
                tenant,
                admin,
                service,
                user,
                requests_per_minute,
                request_burst,
                tokens_per_minute,
                token_burst,
                budget_usd,
                budget_period,
                max_tokens_default,
                expires_in,
                json,
            } => {
                let wish = json!({
                    "name": name,
                    "tenant": tenant,
                    "admin": admin,
                    "service": service,
                    "user": user,
                    "requests_per_minute": requests_per_minute,
                    "request_burst": request_burst,
                    "tokens_per_minute": tokens_per_minute,
                    "token_burst": token_burst,
                    "budget_usd": budget_usd,
                    "budget_period": budget_period,
                    "max_tokens_default": max_tokens_default,
                    "expires_in": expires_in,
                });
                let made = console.call(Method::POST, "/api/admin/keys", Some(wish)).await?;
                if json {
                    println!("{made}");
                } else {
                    println!("{}", made["key"].as_str().unwrap_or_default());
                    eprintln!(
                        "shown once; it stands for tenant {tenant}. A running server in local mode stays so until its next start."
                    );
                }
            }
            Self::SetLimits(limits) => limits.run(console).await?,
            Self::List { json } => {
                let listed = console.call(Method::GET, "/api/admin/keys", None).await?;
                let rows = listed["data"].as_array().map_or(&[][..], Vec::as_slice);
                print_list(rows, COLUMNS, json);
            }
            Self::Revoke { id } => {
                let _: Value = console.call(Method::DELETE, &format!("/api/admin/keys/{id}"), None).await?;
                println!("revoked {id}");
            }
        }
        Ok(())
    }
}

/// Reads a time as a person writes it, in seconds.
fn lasting(text: &str) -> Result<NonZeroU32, String> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(60 * 60),
        "d" => Some(24 * 60 * 60),
        _ => None,
    };
    let number = digits.parse::<u32>().ok();
    let whole = number.zip(seconds).and_then(|(number, seconds)| number.checked_mul(seconds));
    whole.and_then(NonZeroU32::new).ok_or_else(|| "a number and s, m, h or d is wanted, as in 12h or 30d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000)] {
            assert_eq!(lasting(text).map(NonZeroU32::get), Ok(seconds), "{text}");
        }
        for text in ["", "d", "0", "0d", "-1d", "1.5h", "1w", "1dd", "99999999d", "ten"] {
            assert!(lasting(text).is_err(), "{text}");
        }
    }
}
