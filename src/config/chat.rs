//! Section `chat`, and what models cost: `[prices."MODEL"]` here and in the file that `chat.prices_file` names.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use toml::{Table, Value};

use super::reader::{Origin, Reader, likeliest, setting};

/// Section `chat`.
#[derive(Debug, Clone)]
pub struct ChatConfig {
    /// The model of a request that names none; `None`: the first one named in a provider's `models`, else `demo`.
    pub default_model: Option<String>,
    /// Messages of history sent with a question.
    pub history_window: NonZeroUsize,
    /// Messages beyond these that make a summary of what was said before due; 0: none is made.
    pub summary_after: usize,
    /// The model that makes summaries; `None`: the conversation's own.
    pub summary_model: Option<String>,
    /// How long an answer goes on that nobody listens to.
    pub detach_limit: Duration,
    /// Bytes of ended answers that may be in memory.
    pub replay_bytes: usize,
}

/// A price: `[prices."MODEL"]`, or `["MODEL"]` in the file that `chat.prices_file` names.
#[derive(Debug, Clone)]
pub struct PriceConfig {
    /// `provider/model`, or a model's name wherever it is asked.
    pub model: String,
    /// US dollars per million input tokens.
    pub input: f64,
    /// US dollars per million output tokens.
    pub output: f64,
    /// US dollars per million input tokens that the provider read from its own prompt cache; unset: as others.
    pub cached_input: Option<f64>,
    /// US dollars per million input tokens that the provider wrote to that cache; unset: as others.
    pub cache_write: Option<f64>,
}

impl ChatConfig {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let default_model = reader.optional("chat.default_model");
        let history_window = reader.value("chat.history_window");
        let summary_after = reader.value::<u16>("chat.summary_after");
        let summary_model = reader.optional("chat.summary_model");
        let detach_limit = reader.seconds("chat.detach_limit");
        let replay_bytes = reader.value("chat.replay_bytes");
        Some(Self {
            default_model,
            history_window: history_window?,
            summary_after: usize::from(summary_after?),
            summary_model,
            detach_limit: detach_limit?,
            replay_bytes: replay_bytes?,
        })
    }
}

impl Reader<'_> {
    /// Those of the file that `chat.prices_file` names, then those of this one, which win.
    pub(super) fn prices(&mut self) -> Vec<PriceConfig> {
        let mut prices = Vec::new();
        if let Some(path) = self.optional::<PathBuf>("chat.prices_file") {
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
            match text.and_then(|text| text.parse::<Table>().map_err(|error| error.to_string())) {
                Ok(file) => {
                    let origin = Origin::File(path);
                    for (model, value) in &file {
                        prices.extend(self.price(&format!("{model:?}"), model, value, &origin));
                    }
                }
                Err(error) => {
                    let (shown, origin) = self.text(setting("chat.prices_file"));
                    self.fault("chat.prices_file", &shown, &origin, &error);
                }
            }
        }
        let origin = self.file_origin();
        for (model, value) in &self.section("prices") {
            prices.extend(self.price(&format!("prices.{model:?}"), model, value, &origin));
        }
        prices
    }

    fn price(&mut self, key: &str, model: &str, value: &Value, origin: &Origin) -> Option<PriceConfig> {
        let names = ["input", "output", "cached_input", "cache_write"];
        let accepted =
            "takes input, output and, if need be, cached_input and cache_write: US dollars per million tokens";
        let table = value.as_table();
        for unknown in table.into_iter().flat_map(Table::keys).filter(|name| !names.contains(&name.as_str())) {
            let accepted = format!("is unknown{}: a price {accepted}", likeliest(unknown, &names));
            self.fault(&format!("{key}.{unknown}"), &value[unknown.as_str()].to_string(), origin, &accepted);
        }
        let amount = |name: &str| {
            let value = table?.get(name)?;
            value.as_float().or(value.as_integer().map(|whole| whole as f64)).filter(|usd| *usd >= 0.0)
        };
        let is_wrong = |name: &&str| amount(name).is_none() && table.is_some_and(|table| table.contains_key(*name));
        let wrong = names.iter().find(|name| is_wrong(name));
        let (Some(input), Some(output), None) = (amount("input"), amount("output"), wrong) else {
            self.fault(key, &value.to_string(), origin, accepted);
            return None;
        };
        let (cached_input, cache_write) = (amount("cached_input"), amount("cache_write"));
        Some(PriceConfig { model: model.to_owned(), input, output, cached_input, cache_write })
    }
}
