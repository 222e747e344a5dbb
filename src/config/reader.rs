//! Reads settings from the environment, the file and the defaults, keeping each value's origin and collecting faults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use toml::{Table, Value};
use url::Url;

use super::settings::{KNOWN_WITHOUT_PART, SETTINGS, Setting};
use super::{PriceConfig, ProviderConfig, ProviderKind, RemoteEmbedderConfig, Timeouts};

/// The environment as a value, so that tests need not touch the process's.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The process's environment; names or values that are no Unicode are left out.
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    pub fn of_process() -> Self {
        let pairs =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self(pairs.collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An environment variable.
    Environment(&'static str),
    /// The configuration file.
    File(PathBuf),
    /// Built in.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(formatter, "environment {name}"),
            Self::File(path) => write!(formatter, "file {}", path.display()),
            Self::Default => formatter.write_str("default"),
        }
    }
}

/// Every fault of a configuration.
#[derive(Debug, Default, thiserror::Error)]
#[error("the configuration has {} fault(s):\n{}", faults.len(), faults.join("\n"))]
pub struct ConfigError {
    /// One line each: key, value, origin, what is accepted.
    pub faults: Vec<String>,
}

const TAKES_SECONDS: &str = "takes a number of seconds above 0";

/// So many seconds, if they are any, and not more than ten years.
fn timeout(seconds: f64) -> Option<Duration> {
    (seconds > 0.0 && seconds <= 315_360_000.0).then(|| Duration::from_secs_f64(seconds))
}

pub(super) struct Reader<'a> {
    environment: &'a Environment,
    file: Table,
    path: PathBuf,
    faults: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Reads the file that `path`, else `ISH_CONFIG`, names; without either there is none.
    pub(super) fn open(environment: &'a Environment, path: Option<&Path>) -> Result<Self, ConfigError> {
        let path = path.map(Path::to_owned).or_else(|| environment.get("ISH_CONFIG").map(PathBuf::from));
        let fault = |path: &Path, error: &dyn fmt::Display| ConfigError {
            faults: vec![format!("{}: {error}", path.display())],
        };
        let file = match &path {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| fault(path, &error))?;
                text.parse::<Table>().map_err(|error| fault(path, &error))?
            }
            None => Table::new(),
        };
        let mut reader =
            Self { environment, file, path: path.unwrap_or_default(), faults: Vec::new(), warnings: Vec::new() };
        reader.check_names();
        Ok(reader)
    }

    pub(super) fn finish(&mut self) -> Result<(), ConfigError> {
        let faults = std::mem::take(&mut self.faults);
        if faults.is_empty() { Ok(()) } else { Err(ConfigError { faults }) }
    }

    pub(super) fn value<T: FromStr<Err: fmt::Display>>(&mut self, key: &str) -> Option<T> {
        let (text, origin) = self.text(setting(key));
        text.parse().map_err(|error| self.fault(key, &text, &origin, &format!("{error}"))).ok()
    }

    pub(super) fn optional<T: FromStr<Err: fmt::Display>>(&mut self, key: &str) -> Option<T> {
        let (text, _) = self.text(setting(key));
        if text.is_empty() { None } else { self.value(key) }
    }

    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let (text, origin) = self.text(setting(key));
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => {
                self.fault(key, &text, &origin, "takes true or false");
                None
            }
        }
    }

    pub(super) fn one_of(&mut self, key: &str, words: &[&str]) -> Option<String> {
        let (text, origin) = self.text(setting(key));
        if words.contains(&text.as_str()) {
            return Some(text);
        }
        self.fault(key, &text, &origin, &format!("takes one of {}", words.join(", ")));
        None
    }

    /// A number of seconds, fractions allowed, more than 0 and at most ten years.
    pub(super) fn seconds(&mut self, key: &str) -> Option<Duration> {
        let (text, origin) = self.text(setting(key));
        let seconds = text.parse::<f64>().ok().and_then(timeout);
        if seconds.is_none() {
            self.fault(key, &text, &origin, TAKES_SECONDS);
        }
        seconds
    }

    /// A share, from 0 to 1.
    pub(super) fn share(&mut self, key: &str) -> Option<f64> {
        let (text, origin) = self.text(setting(key));
        let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        if share.is_none() {
            self.fault(key, &text, &origin, "takes a share from 0 to 1");
        }
        share
    }

    pub(super) fn list(&self, key: &str) -> Vec<String> {
        let (text, _) = self.text(setting(key));
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// A list of which each item is read; the first that cannot be is the fault.
    pub(super) fn values<T: FromStr<Err: fmt::Display>>(&mut self, key: &str) -> Option<Vec<T>> {
        let (_, origin) = self.text(setting(key));
        let mut values = Vec::new();
        for item in self.list(key) {
            values.push(item.parse().map_err(|error| self.fault(key, &item, &origin, &format!("{error}"))).ok()?);
        }
        Some(values)
    }

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
            providers.extend(base_url.map(|base_url| ProviderConfig {
                name,
                kind,
                base_url,
                api_key,
                models,
                timeouts: Timeouts::default(),
            }));
        }
        for (name, value) in self.tables("providers") {
            providers.extend(self.provider(&name, &value));
        }
        providers
    }

    fn provider(&mut self, name: &str, table: &Table) -> Option<ProviderConfig> {
        let key = format!("providers.{name}");
        let origin = Origin::File(self.path.clone());
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
        let value = table.get(name)?;
        let seconds = plain(value).parse::<f64>().ok().and_then(timeout);
        if seconds.is_none() {
            self.fault(&format!("{key}.{name}"), &plain(value), &Origin::File(self.path.clone()), TAKES_SECONDS);
        }
        seconds
    }

    fn kind(&mut self, key: &str, value: Option<&Value>) -> Option<ProviderKind> {
        let Some(value) = value else { return Some(ProviderKind::OpenAi) };
        let word = plain(value);
        let kind = ProviderKind::ALL.into_iter().find(|kind| kind.as_str() == word);
        if kind.is_none() {
            let origin = Origin::File(self.path.clone());
            let words = ProviderKind::ALL.map(ProviderKind::as_str).join(", ");
            self.fault(key, &word, &origin, &format!("takes one of {words}"));
        }
        kind
    }

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
        let origin = Origin::File(self.path.clone());
        for (model, value) in &self.section("prices") {
            prices.extend(self.price(&format!("prices.{model:?}"), model, value, &origin));
        }
        prices
    }

    fn price(&mut self, key: &str, model: &str, value: &Value, origin: &Origin) -> Option<PriceConfig> {
        let names = ["input", "output", "cached_input"];
        let accepted = "takes input, output and, if need be, cached_input: US dollars per million tokens";
        let table = value.as_table();
        for unknown in table.into_iter().flat_map(Table::keys).filter(|name| !names.contains(&name.as_str())) {
            let accepted = format!("is unknown{}: a price {accepted}", likeliest(unknown, &names));
            self.fault(&format!("{key}.{unknown}"), &value[unknown.as_str()].to_string(), origin, &accepted);
        }
        let amount = |name: &str| {
            let value = table?.get(name)?;
            value.as_float().or(value.as_integer().map(|whole| whole as f64)).filter(|usd| *usd >= 0.0)
        };
        let cached_input = amount("cached_input");
        let is_cached_wrong = cached_input.is_none() && table.is_some_and(|table| table.contains_key("cached_input"));
        let (Some(input), Some(output), false) = (amount("input"), amount("output"), is_cached_wrong) else {
            self.fault(key, &value.to_string(), origin, accepted);
            return None;
        };
        Some(PriceConfig { model: model.to_owned(), input, output, cached_input })
    }

    pub(super) fn remote_embedder(&mut self) -> Option<RemoteEmbedderConfig> {
        let base_url = self.optional::<Url>("embedding.remote_url")?;
        let model = self.optional::<String>("embedding.remote_model");
        let (key, _) = self.text(setting("embedding.remote_api_key"));
        let Some(model) = model else {
            self.fault("embedding.remote_model", "", &Origin::Default, "is needed beside embedding.remote_url");
            return None;
        };
        Some(RemoteEmbedderConfig { base_url, model, api_key: (!key.is_empty()).then(|| SecretString::from(key)) })
    }

    pub(super) fn shown(&self, setting: &'static Setting) -> (&'static str, String, Origin) {
        let (text, origin) = self.text(setting);
        let hidden = setting.secret && !text.is_empty();
        (setting.key, if hidden { "(hidden)".to_owned() } else { text }, origin)
    }

    fn secret(&mut self, key: &str, file_key: &str) -> Option<SecretString> {
        let (text, _) = self.text(setting(key));
        if !text.is_empty() {
            return Some(SecretString::from(text));
        }
        let path = self.optional::<PathBuf>(file_key)?;
        self.secret_file(file_key, &path)
    }

    fn secret_file(&mut self, key: &str, path: &Path) -> Option<SecretString> {
        match std::fs::read_to_string(path) {
            Ok(text) => Some(SecretString::from(text.trim().to_owned())),
            Err(error) => {
                let origin = Origin::File(self.path.clone());
                self.fault(key, &path.display().to_string(), &origin, &error.to_string());
                None
            }
        }
    }

    fn text(&self, setting: &Setting) -> (String, Origin) {
        for name in setting.env {
            if let Some(text) = self.environment.get(name) {
                return (text.to_owned(), Origin::Environment(name));
            }
        }
        let (section, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
        match self.file.get(section).and_then(Value::as_table).and_then(|table| table.get(name)) {
            Some(value) => (plain(value), Origin::File(self.path.clone())),
            None => (setting.default.to_owned(), Origin::Default),
        }
    }

    fn tables(&self, section: &str) -> Vec<(String, Table)> {
        let tables = self.file.get(section).and_then(Value::as_table).into_iter().flatten();
        tables.filter_map(|(name, value)| Some((name.clone(), value.as_table()?.clone()))).collect()
    }

    /// A section of the file as it stands.
    pub(super) fn section(&self, name: &str) -> Table {
        self.file.get(name).and_then(Value::as_table).cloned().unwrap_or_default()
    }

    /// A fault of the file.
    pub(super) fn refuse(&mut self, key: &str, text: &str, accepted: &str) {
        let origin = Origin::File(self.path.clone());
        self.fault(key, text, &origin, accepted);
    }

    fn fault(&mut self, key: &str, text: &str, origin: &Origin, accepted: &str) {
        let shown = if SETTINGS.iter().any(|setting| setting.key == key && setting.secret) { "(hidden)" } else { text };
        self.faults.push(format!("  {key} = {shown:?} ({origin}): {accepted}"));
    }

    /// Unknown keys of the file are faults; names of parts that do not exist yet are warnings.
    fn check_names(&mut self) {
        let mut unknown = Vec::new();
        for (section, value) in &self.file {
            if matches!(section.as_str(), "providers" | "prices" | "routes") {
                continue;
            }
            let names = value.as_table().map(|table| table.keys().map(|name| format!("{section}.{name}")).collect());
            for key in names.unwrap_or_else(|| vec![section.clone()]) {
                if !SETTINGS.iter().any(|setting| setting.key == key) {
                    unknown.push(key);
                }
            }
        }
        let origin = Origin::File(self.path.clone());
        for key in unknown {
            self.fault(&key, "", &origin, &format!("is unknown{}", suggestion(&key)));
        }
        let ignored: Vec<_> =
            KNOWN_WITHOUT_PART.iter().filter(|name| self.environment.get(name).is_some()).copied().collect();
        if !ignored.is_empty() {
            self.warnings.push(format!("set, but this version has no part that reads it: {}", ignored.join(", ")));
        }
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

fn setting(key: &str) -> &'static Setting {
    SETTINGS.iter().find(|setting| setting.key == key).expect("invariant: every key read stands in the table")
}

pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The known key that shares the longest beginning or end with a mistyped one.
fn suggestion(key: &str) -> String {
    likeliest(key, &SETTINGS.iter().map(|setting| setting.key).collect::<Vec<_>>())
}

/// The same among `known`.
pub(super) fn likeliest(key: &str, known: &[&str]) -> String {
    let alike = |known: &str| {
        let front = known.bytes().zip(key.bytes()).take_while(|(a, b)| a == b).count();
        let back = known.bytes().rev().zip(key.bytes().rev()).take_while(|(a, b)| a == b).count();
        front + back
    };
    let best = known.iter().max_by_key(|known| alike(known));
    best.filter(|known| alike(known) * 2 > key.len())
        .map(|known| format!("; did you mean {known}?"))
        .unwrap_or_default()
}
