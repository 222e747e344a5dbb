//! Section `redis`: what the instances of one database share while it is there.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::reader::Reader;

/// Section `redis`.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// Where it is.
    pub servers: RedisServers,
    /// How long one command may take.
    pub timeout: Duration,
    /// Commands under way at once.
    pub max_connections: NonZeroUsize,
    /// What every name in it begins with.
    pub prefix: String,
}

/// Where Redis is. Each address is one that the client's library reads.
#[derive(Debug, Clone)]
pub enum RedisServers {
    /// One server.
    One(SecretString),
    /// A cluster: nodes by which the others are found.
    Cluster(Vec<SecretString>),
    /// A master that sentinels know.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<SecretString>,
        /// The master's name with them.
        master: String,
        /// How to log in at the master, and which of its databases to use; the host in it means nothing.
        access: SecretString,
    },
}

impl RedisConfig {
    /// `None` where no address is set, or a fault was recorded.
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let servers = reader.redis();
        let timeout = reader.seconds("redis.timeout");
        let max_connections = reader.value("redis.max_connections");
        let prefix: Option<Prefix> = reader.value("redis.prefix");
        Some(Self { servers: servers?, timeout: timeout?, max_connections: max_connections?, prefix: prefix?.0 })
    }
}

/// The beginning of names.
struct Prefix(String);

impl FromStr for Prefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Braces would decide in which part of a cluster a name lies.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
        let fits = !text.is_empty() && text.chars().all(plain);
        fits.then(|| Self(text.to_owned())).ok_or("takes letters, digits and - _ . : /")
    }
}

impl RedisServers {
    /// Reads `redis://`, `redis+cluster://` or `redis+sentinel://`, each with `rediss` for TLS.
    pub(super) fn parse(address: &str) -> Option<Self> {
        let (scheme, rest) = address.split_once("://")?;
        let (plain, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !matches!(plain, "redis" | "rediss") {
            return None;
        }
        if kind.is_empty() {
            return checked(address).map(Self::One);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').map_or(("", authority), |(login, hosts)| (login, hosts));
        let login = if login.is_empty() { String::new() } else { format!("{login}@") };
        match kind {
            "cluster" if path.is_empty() => hosts
                .split(',')
                .map(|host| checked(&format!("{plain}://{login}{host}")))
                .collect::<Option<_>>()
                .map(Self::Cluster),
            "sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, "0"));
                let sentinels =
                    hosts.split(',').map(|host| checked(&format!("redis://{host}"))).collect::<Option<_>>()?;
                let access = checked(&format!("{plain}://{login}master/{database}"))?;
                (!master.is_empty()).then(|| Self::Sentinel { sentinels, master: master.to_owned(), access })
            }
            _ => None,
        }
    }

    /// Where it is, without a login: for people.
    pub fn shown(&self) -> String {
        let hosts = |addresses: &[SecretString]| addresses.iter().map(host).collect::<Vec<_>>().join(", ");
        match self {
            Self::One(address) => host(address),
            Self::Cluster(nodes) => format!("cluster {}", hosts(nodes)),
            Self::Sentinel { sentinels, master, .. } => format!("master {master} of {}", hosts(sentinels)),
        }
    }
}

/// An address of one server: a host, and for a path at most the number of a database.
fn checked(address: &str) -> Option<SecretString> {
    let url = Url::parse(address).ok()?;
    let database = url.path().trim_start_matches('/');
    let numbered = database.is_empty() || database.parse::<u32>().is_ok();
    (numbered && url.host_str().is_some_and(|host| !host.is_empty())).then(|| SecretString::from(address.to_owned()))
}

fn host(address: &SecretString) -> String {
    let url = Url::parse(address.expose_secret()).ok();
    let host = url.as_ref().and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port().unwrap_or(6379))));
    host.unwrap_or_default()
}
