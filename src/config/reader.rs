//! Reads settings from the environment, the file and the defaults, keeping each value's origin and collecting faults.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use toml::{Table, Value};
use url::Url;

use super::redis::RedisServers;
use super::settings::{KNOWN_WITHOUT_PART, SETTINGS, Setting};

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

pub(super) const TAKES_SECONDS: &str = "takes a number of seconds above 0";

/// So many seconds, if they are any, and not more than ten years.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0 && *seconds <= 315_360_000.0);
    seconds.map(Duration::from_secs_f64)
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
        let seconds = duration(&text);
        if seconds.is_none() {
            self.fault(key, &text, &origin, TAKES_SECONDS);
        }
        seconds
    }

    /// A whole number, from 1 to `most`.
    pub(super) fn number_up_to(&mut self, key: &str, most: u16) -> Option<u16> {
        let (text, origin) = self.text(setting(key));
        let number = text.parse().ok().filter(|number| (1..=most).contains(number));
        if number.is_none() {
            self.fault(key, &text, &origin, &format!("takes a whole number from 1 to {most}"));
        }
        number
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

    /// A percentage, from 1 to 100: who writes 0.8 means a share.
    pub(super) fn percent(&mut self, key: &str) -> Option<f64> {
        let (text, origin) = self.text(setting(key));
        let percent = text.parse().ok().filter(|percent| (1.0..=100.0).contains(percent));
        if percent.is_none() {
            self.fault(key, &text, &origin, "takes a percentage from 1 to 100");
        }
        percent
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

    /// A Postgres's address where one is set, checked as far as it can be without showing it.
    pub(super) fn postgres(&mut self, key: &str) -> Option<SecretString> {
        let (text, origin) = self.text(setting(key));
        if text.is_empty() {
            return None;
        }
        let is_one = Url::parse(&text).is_ok_and(|url| matches!(url.scheme(), "postgres" | "postgresql"));
        if !is_one {
            self.fault(key, &text, &origin, "takes postgres://USER:PASSWORD@HOST:PORT/NAME");
        }
        is_one.then(|| SecretString::from(text))
    }

    /// `database.max_connections`; where that is not set, the sum of the two names that other systems know it by.
    pub(super) fn connections(&mut self) -> Option<NonZeroU32> {
        let key = "database.max_connections";
        let parts = ["DATABASE_POOL_SIZE", "DATABASE_MAX_OVERFLOW"].map(|name| self.environment.get(name));
        let given = parts.iter().flatten().next().is_some();
        let (text, origin) = self.text(setting(key));
        if given && origin != Origin::Default {
            let warning = "DATABASE_POOL_SIZE and DATABASE_MAX_OVERFLOW are not read: database.max_connections is set";
            self.warnings.push(format!("{warning} to {text} ({origin})"));
        }
        if !given || origin != Origin::Default {
            return self.value(key);
        }
        let numbers = parts.map(|part| part.map_or(Some(0), |text| text.parse::<u32>().ok()));
        let [Some(size), Some(overflow)] = numbers else {
            let shown = parts.map(Option::unwrap_or_default).join(" + ");
            self.fault(
                "DATABASE_POOL_SIZE + DATABASE_MAX_OVERFLOW",
                &shown,
                &Origin::Environment("both"),
                "take numbers",
            );
            return None;
        };
        NonZeroU32::new(size.saturating_add(overflow)).or_else(|| self.value(key))
    }

    /// Where Redis is: `redis.url`; where that is not set, the three names that other systems know it by.
    pub(super) fn redis(&mut self) -> Option<RedisServers> {
        let key = "redis.url";
        let (text, origin) = self.text(setting(key));
        let parts = ["REDIS_HOST", "REDIS_PORT", "REDIS_DB"].map(|name| self.environment.get(name));
        if text.is_empty() {
            let [host, port, database] = parts;
            let address = format!("redis://{}:{}/{}", host?, port.unwrap_or("6379"), database.unwrap_or("0"));
            let servers = RedisServers::parse(&address);
            if servers.is_none() {
                let all = Origin::Environment("the three");
                self.fault("REDIS_HOST, REDIS_PORT, REDIS_DB", &address, &all, "take a host, a port and a number");
            }
            return servers;
        }
        if parts.iter().any(Option::is_some) {
            let warning = "REDIS_HOST, REDIS_PORT and REDIS_DB are not read: redis.url is set";
            self.warnings.push(format!("{warning} ({origin})"));
        }
        let servers = RedisServers::parse(&text);
        if servers.is_none() {
            let accepted = "takes redis://USER:PASSWORD@HOST:PORT/DB, redis+cluster://HOST:PORT,HOST:PORT or \
                            redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB; rediss for TLS";
            self.fault(key, &text, &origin, accepted);
        }
        servers
    }

    /// Whether Redis is used: instances share it that share a database.
    pub(super) fn shares_redis(&mut self, on_server: bool) -> bool {
        if !on_server {
            let warning = "redis.url is not used: what instances share is for those of one Postgres (database.url)";
            self.warnings.push(warning.to_owned());
        }
        on_server
    }

    pub(super) fn shown(&self, setting: &'static Setting) -> (&'static str, String, Origin) {
        let (text, origin) = self.text(setting);
        let hidden = setting.secret && !text.is_empty();
        (setting.key, if hidden { "(hidden)".to_owned() } else { text }, origin)
    }

    pub(super) fn secret(&mut self, key: &str, file_key: &str) -> Option<SecretString> {
        let (text, _) = self.text(setting(key));
        if !text.is_empty() {
            return Some(SecretString::from(text));
        }
        let path = self.optional::<PathBuf>(file_key)?;
        self.secret_file(file_key, &path)
    }

    pub(super) fn secret_file(&mut self, key: &str, path: &Path) -> Option<SecretString> {
        match std::fs::read_to_string(path) {
            Ok(text) => Some(SecretString::from(text.trim().to_owned())),
            Err(error) => {
                let origin = self.file_origin();
                self.fault(key, &path.display().to_string(), &origin, &error.to_string());
                None
            }
        }
    }

    pub(super) fn text(&self, setting: &Setting) -> (String, Origin) {
        for name in setting.env {
            if let Some(text) = self.environment.get(name) {
                return (text.to_owned(), Origin::Environment(name));
            }
        }
        let (section, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
        match self.file.get(section).and_then(Value::as_table).and_then(|table| table.get(name)) {
            Some(value) => (plain(value), self.file_origin()),
            None => (setting.default.to_owned(), Origin::Default),
        }
    }

    pub(super) fn tables(&self, section: &str) -> Vec<(String, Table)> {
        let tables = self.file.get(section).and_then(Value::as_table).into_iter().flatten();
        tables.filter_map(|(name, value)| Some((name.clone(), value.as_table()?.clone()))).collect()
    }

    /// A section of the file as it stands.
    pub(super) fn section(&self, name: &str) -> Table {
        self.file.get(name).and_then(Value::as_table).cloned().unwrap_or_default()
    }

    /// The configuration file, as where a value came from.
    pub(super) fn file_origin(&self) -> Origin {
        Origin::File(self.path.clone())
    }

    /// A fault of the file.
    pub(super) fn refuse(&mut self, key: &str, text: &str, accepted: &str) {
        let origin = self.file_origin();
        self.fault(key, text, &origin, accepted);
    }

    pub(super) fn fault(&mut self, key: &str, text: &str, origin: &Origin, accepted: &str) {
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
                // A table of tables, each by a name of the operator's own.
                if key != "alerts.rules" && !SETTINGS.iter().any(|setting| setting.key == key) {
                    unknown.push(key);
                }
            }
        }
        let origin = self.file_origin();
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

pub(super) fn setting(key: &str) -> &'static Setting {
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
pub(crate) fn likeliest(key: &str, known: &[&str]) -> String {
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
