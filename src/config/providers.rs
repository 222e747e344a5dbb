//! Who answers and how they are called: section `upstream`, the sections of known providers, and `[providers.NAME]`.

use std::num::NonZeroUsize;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use toml::{Table, Value};
use url::Url;

use super::reader::{Origin, Reader, TAKES_SECONDS, duration, plain, setting};

/// Section `upstream`.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time to the first token of a stream.
    pub first_token_timeout: Duration,
    /// Longest silence inside a stream.
    pub idle_timeout: Duration,
    /// Time for a whole answer while another target could be asked.
    pub whole_timeout: Duration,
    /// Time for the whole call.
    pub total_timeout: Duration,
    /// Connections in use at once.
    pub max_connections: NonZeroUsize,
    /// How long a call waits for one.
    pub acquire_timeout: Duration,
}

/// What a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    /// OpenAI's chat completions.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Gemini's `generateContent`.
    Gemini,
    /// Ollama's `/api/chat`.
    Ollama,
}

impl ProviderKind {
    /// All of them, the preferred first.
    pub const ALL: [Self; 4] = [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Ollama];

    /// Its word in the file, which is also the name of its own section.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }
}

/// One provider: a section of its own, or `[providers.NAME]`.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// The name before the slash in `provider/model`.
    pub name: String,
    /// What it speaks.
    pub kind: ProviderKind,
    /// The address that its paths are appended to: `/chat/completions`, `/v1/messages`.
    pub base_url: Url,
    /// The key sent upstream, if any.
    pub api_key: Option<SecretString>,
    /// Models to offer; empty: asked from the provider.
    pub models: Vec<String>,
    /// How long its calls may take, where that is not as with others.
    pub timeouts: Timeouts,
}

/// A provider's own timeouts; `None`: those of section `upstream`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timeouts {
    /// Time to connect.
    pub connect: Option<Duration>,
    /// Time to the first token of a stream.
    pub first_token: Option<Duration>,
    /// Longest silence inside a stream.
    pub idle: Option<Duration>,
    /// Time for a whole answer while another target could be asked.
    pub whole: Option<Duration>,
    /// Time for the whole call.
    pub total: Option<Duration>,
}

impl Timeouts {
    /// Their names in the file, in this order.
    const NAMES: [&'static str; 5] =
        ["connect_timeout", "first_token_timeout", "idle_timeout", "whole_timeout", "total_timeout"];
}

impl UpstreamConfig {
    /// The same with a provider's own timeouts.
    #[must_use]
    pub fn with(&self, own: &Timeouts) -> Self {
        Self {
            connect_timeout: own.connect.unwrap_or(self.connect_timeout),
            first_token_timeout: own.first_token.unwrap_or(self.first_token_timeout),
            idle_timeout: own.idle.unwrap_or(self.idle_timeout),
            whole_timeout: own.whole.unwrap_or(self.whole_timeout),
            total_timeout: own.total.unwrap_or(self.total_timeout),
            max_connections: self.max_connections,
            acquire_timeout: self.acquire_timeout,
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let connect = reader.seconds("upstream.connect_timeout");
        let first_token = reader.seconds("upstream.first_token_timeout");
        let idle = reader.seconds("upstream.idle_timeout");
        let whole = reader.seconds("upstream.whole_timeout");
        let total = reader.seconds("upstream.total_timeout");
        let max_connections = reader.value("upstream.max_connections");
        let acquire = reader.seconds("upstream.acquire_timeout");
        Some(Self {
            connect_timeout: connect?,
            first_token_timeout: first_token?,
            idle_timeout: idle?,
            whole_timeout: whole?,
            total_timeout: total?,
            max_connections: max_connections?,
            acquire_timeout: acquire?,
        })
    }
}

impl Reader<'_> {
    /// Those with a section of their own, where the environment or the file names an address or a key; then each
    /// `[providers.NAME]`.
    pub(super) fn providers(&mut self) -> Vec<ProviderConfig> {
        let mut providers = Vec::new();
        for kind in ProviderKind::ALL {
            let key = |name: &str| format!("{}.{name}", kind.as_str());
            let named = |name: &str| self.text(setting(&key(name))).1 != Origin::Default;
            // A key for Ollama may be there for its other services.
            let has_key = named("api_key_file") || kind != ProviderKind::Ollama && named("api_key");
            if !named("base_url") && !has_key {
                continue;
            }
            let base_url = match kind {
                ProviderKind::Ollama => self.value::<OllamaHost>(&key("base_url")).map(|host| host.0),
                _ => self.value::<Url>(&key("base_url")),
            };
            let api_key = self.secret(&key("api_key"), &key("api_key_file"));
            let (name, models) = (kind.as_str().to_owned(), self.list(&key("models")));
            let timeouts = Timeouts::default();
            providers.extend(base_url.map(|base_url| ProviderConfig {
                name,
                kind,
                base_url,
                api_key,
                models,
                timeouts,
            }));
        }
        for (name, value) in self.tables("providers") {
            providers.extend(self.provider(&name, &value));
        }
        providers
    }

    fn provider(&mut self, name: &str, table: &Table) -> Option<ProviderConfig> {
        let key = format!("providers.{name}");
        let origin = self.file_origin();
        let known = ["kind", "base_url", "api_key_file", "models"];
        let is_known = |name: &str| known.contains(&name) || Timeouts::NAMES.contains(&name);
        for unknown in table.keys().filter(|key| !is_known(key)) {
            let accepted =
                format!("is unknown: a provider takes {} and {}", known.join(", "), Timeouts::NAMES.join(", "));
            self.fault(&format!("{key}.{unknown}"), "", &origin, &accepted);
        }
        let kind = self.kind(&format!("{key}.kind"), table.get("kind"));
        let default = kind.filter(|kind| *kind != ProviderKind::OpenAi).map(|kind| {
            let section = format!("{}.base_url", kind.as_str());
            setting(&section).default
        });
        let address = table.get("base_url").and_then(Value::as_str).or(default).unwrap_or_default();
        let base_url = match kind {
            Some(ProviderKind::Ollama) => address.parse::<OllamaHost>().map(|host| host.0),
            _ => Url::parse(address),
        };
        let base_url =
            base_url.map_err(|error| self.fault(&format!("{key}.base_url"), address, &origin, &error.to_string())).ok();
        let api_key = table
            .get("api_key_file")
            .and_then(Value::as_str)
            .and_then(|path| self.secret_file(&format!("{key}.api_key_file"), Path::new(path)));
        let models = table
            .get("models")
            .and_then(Value::as_array)
            .map(|models| models.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        if name == "demo" {
            self.fault(&key, name, &origin, "is a name that is taken");
        }
        if ProviderKind::ALL.iter().any(|kind| kind.as_str() == name) {
            self.fault(&key, name, &origin, &format!("is the name of a section of its own: [{name}]"));
        }
        let [connect, first_token, idle, whole, total] =
            Timeouts::NAMES.map(|name| self.own_timeout(&key, name, table));
        let timeouts = Timeouts { connect, first_token, idle, whole, total };
        let (name, models) = (name.to_owned(), models.unwrap_or_default());
        Some(ProviderConfig { name, kind: kind?, base_url: base_url?, api_key, models, timeouts })
    }

    /// A provider's own number of seconds.
    fn own_timeout(&mut self, key: &str, name: &str, table: &Table) -> Option<Duration> {
        let value = plain(table.get(name)?);
        let seconds = duration(&value);
        if seconds.is_none() {
            self.fault(&format!("{key}.{name}"), &value, &self.file_origin(), TAKES_SECONDS);
        }
        seconds
    }

    fn kind(&mut self, key: &str, value: Option<&Value>) -> Option<ProviderKind> {
        let Some(value) = value else { return Some(ProviderKind::OpenAi) };
        let word = plain(value);
        let kind = ProviderKind::ALL.into_iter().find(|kind| kind.as_str() == word);
        if kind.is_none() {
            let origin = self.file_origin();
            let words = ProviderKind::ALL.map(ProviderKind::as_str).join(", ");
            self.fault(key, &word, &origin, &format!("takes one of {words}"));
        }
        kind
    }
}

/// An address as Ollama's own tools read `OLLAMA_HOST`: a URL, `host:port`, `host` or `:port`.
struct OllamaHost(Url);

impl FromStr for OllamaHost {
    type Err = url::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.contains("://") {
            return Url::parse(text).map(Self);
        }
        let host = if text.starts_with(':') { format!("127.0.0.1{text}") } else { text.to_owned() };
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { format!("http://{host}") } else { format!("http://{host}:11434") };
        let mut url = Url::parse(&address)?;
        // What a server listens on is no place to go to.
        if matches!(url.host_str(), Some("0.0.0.0" | "[::]")) {
            url.set_host(Some("127.0.0.1"))?;
        }
        Ok(Self(url))
    }
}
