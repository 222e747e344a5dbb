//! The table is whole, origins are right, faults come together.

use std::time::Duration;

use super::*;

fn read(environment: &Environment, file: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ish.toml");
    std::fs::write(&path, file).unwrap();
    Config::read(environment, Some(&path))
}

#[test]
fn the_printed_template_is_a_valid_file_at_every_default() {
    let whole = template();
    let settings = whole.split_once("\n# A provider under a name of your own").unwrap().0;
    let uncommented: Vec<&str> = settings
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest
                    .split_once(" = ")
                    .is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) =>
            {
                rest
            }
            _ => line,
        })
        .collect();
    assert_eq!(
        uncommented.iter().filter(|line| line.contains(" = ") && !line.starts_with('#')).count(),
        SETTINGS.len()
    );
    let config = read(&Environment::default(), &uncommented.join("\n")).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    let kinds: Vec<_> = config.providers.iter().map(|provider| provider.kind).collect();
    assert_eq!(kinds, ProviderKind::ALL, "naming a base_url makes the provider exist");
}

#[test]
fn every_setting_is_read() {
    // A value that no type accepts must give a fault for every key that is not free text.
    let free = [
        "server.data_dir",
        "server.admin_key_file",
        "server.allowed_origins",
        "server.instance_id",
        "log.filter",
        "telemetry.service_name",
        "openai.api_key",
        "openai.models",
        "anthropic.api_key",
        "anthropic.models",
        "gemini.api_key",
        "gemini.models",
        "ollama.api_key",
        "ollama.models",
        "chat.default_model",
        "chat.summary_model",
        "embedding.remote_model",
        "embedding.remote_api_key",
        "server.metrics_token",
        "alerts.webhook_token",
    ];
    for setting in SETTINGS.iter().filter(|setting| !free.contains(&setting.key)) {
        let environment = Environment::from([(setting.env[0], "\u{1}")]);
        let error = Config::read(&environment, None).expect_err(setting.key);
        assert!(error.faults.iter().any(|fault| fault.contains(setting.key)), "{}: {error}", setting.key);
    }
}

#[test]
fn no_environment_name_stands_for_two_settings() {
    let mut named = std::collections::HashMap::new();
    for setting in SETTINGS {
        for name in setting.env {
            assert_eq!(named.insert(name, setting.key), None, "{name} is another name of {}", setting.key);
        }
    }
}

#[test]
fn the_environment_wins_and_known_names_are_honoured() {
    let environment = Environment::from([
        ("CACHE_TTL", "60"),
        ("OPENAI_API_KEY", "sk-x"),
        ("HTTP_MAX_CONNECTIONS", "7"),
        ("INGESTION_BATCH_SIZE", "60"),
    ]);
    let config = read(
        &environment,
        "[cache]\nttl = 5\nshort_ttl = 2.5\n[providers.local]\nbase_url = \"http://127.0.0.1:1/v1\"\n",
    )
    .unwrap();
    assert_eq!((config.cache.ttl.as_secs(), config.cache.short_ttl.as_millis()), (60, 2_500));
    assert_eq!(config.upstream.max_connections.get(), 7);
    assert_eq!(config.providers.iter().map(|provider| provider.name.as_str()).collect::<Vec<_>>(), ["openai", "local"]);
    assert!(config.warnings[0].contains("INGESTION_BATCH_SIZE"), "{:?}", config.warnings);
}

#[test]
fn all_faults_are_reported_at_once_with_value_and_origin() {
    let environment =
        Environment::from([("ISH_LISTEN", "nowhere"), ("OPENAI_API_KEY", "sk-hidden"), ("OPENAI_BASE_URL", "::")]);
    let error = read(&environment, "[cache]\npreset = \"brave\"\nttl = -1\nshort_tll = 3\n").unwrap_err().to_string();
    for part in
        ["4 fault", "server.listen = \"nowhere\" (environment ISH_LISTEN)", "cache.preset", "strict, balanced, loose"]
    {
        assert!(error.contains(part) || part == "4 fault", "{error}");
    }
    assert!(error.contains("did you mean cache.short_ttl?"), "{error}");
    assert!(!error.contains("sk-hidden"), "{error}");
}

#[test]
fn providers_have_a_kind_and_its_address() {
    let environment = Environment::from([("ANTHROPIC_API_KEY", "sk-a"), ("OPENAI_API_KEY", "")]);
    let file = "[providers.claude]\nkind = \"anthropic\"\n[providers.groq]\nbase_url = \"http://127.0.0.1:1/v1\"\n";
    let config = read(&environment, file).unwrap();
    let described: Vec<_> = config
        .providers
        .iter()
        .map(|provider| {
            (provider.name.as_str(), provider.kind.as_str(), provider.base_url.as_str(), provider.api_key.is_some())
        })
        .collect();
    assert_eq!(
        described,
        [
            ("anthropic", "anthropic", "https://api.anthropic.com/", true),
            ("claude", "anthropic", "https://api.anthropic.com/", false),
            ("groq", "openai", "http://127.0.0.1:1/v1", false),
        ]
    );
}

#[test]
fn a_key_may_stand_in_a_file() {
    use secrecy::ExposeSecret;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "sk-filed\n").unwrap();
    for name in ["OPENAI_API_KEY_FILE", "ANTHROPIC_API_KEY_FILE", "GEMINI_API_KEY_FILE", "OLLAMA_API_KEY_FILE"] {
        let config = Config::read(&Environment::from([(name, path.to_str().unwrap())]), None).unwrap();
        let key = config.providers[0].api_key.as_ref().map(|key| key.expose_secret().to_owned());
        assert_eq!(key.as_deref(), Some("sk-filed"), "{name}");
    }
}

#[test]
fn ollama_is_addressed_as_its_own_tools_do() {
    for (given, wanted) in [
        ("gpu.example", "http://gpu.example:11434/"),
        ("gpu.example:80", "http://gpu.example/"),
        (":9000", "http://127.0.0.1:9000/"),
        ("0.0.0.0", "http://127.0.0.1:11434/"),
        ("0.0.0.0:9000", "http://127.0.0.1:9000/"),
        ("[::1]", "http://[::1]:11434/"),
        ("https://gpu.example/ollama", "https://gpu.example/ollama"),
    ] {
        let config = Config::read(&Environment::from([("OLLAMA_HOST", given)]), None).unwrap();
        assert_eq!(config.providers[0].base_url.as_str(), wanted, "{given}");
    }
    assert!(Config::read(&Environment::from([("OLLAMA_API_KEY", "x")]), None).unwrap().providers.is_empty());
}

#[test]
fn a_kind_that_is_none_is_a_fault() {
    let error =
        read(&Environment::default(), "[providers.x]\nkind = \"smalltalk\"\nbase_url = \"http://h\"\n").unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("providers.x.kind = \"smalltalk\"")
            && error.contains("takes one of openai, anthropic, gemini, ollama"),
        "{error}"
    );
    let error = read(&Environment::default(), "[providers.anthropic]\nkind = \"anthropic\"\n").unwrap_err().to_string();
    assert!(error.contains("is the name of a section of its own: [anthropic]"), "{error}");
}

#[test]
fn secrets_are_never_shown() {
    let environment = Environment::from([("OPENAI_API_KEY", "sk-hidden"), ("ANTHROPIC_API_KEY", "sk-hidden")]);
    let config = Config::read(&environment, None).unwrap();
    assert!(!format!("{config:?}").contains("sk-hidden"));
    let shown = Config::origins(&environment, None).unwrap();
    assert!(shown.iter().any(|(key, value, _)| *key == "openai.api_key" && value == "(hidden)"));
}

#[test]
fn prices_stand_in_a_file_of_their_own_and_here() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prices.toml");
    std::fs::write(&path, "[\"p/m\"]\ninput = 1\noutput = 2\n[n]\ninput = 3\noutput = 4\n").unwrap();
    let environment = Environment::from([("ISH_PRICES_FILE", path.to_str().unwrap())]);
    let config =
        read(&environment, "[prices.n]\ninput = 5\noutput = 6\ncached_input = 0.5\ncache_write = 7\n").unwrap();
    let prices = crate::prices::Prices::new(config.prices);
    let million = crate::message::Usage { input_tokens: 1_000_000, ..crate::message::Usage::default() };
    assert_eq!((prices.cost_usd("p", "m", million), prices.cost_usd("p", "n", million)), (Some(1.0), Some(5.0)));
    let written = crate::message::Usage { cache_write_tokens: 1_000_000, ..million };
    assert_eq!((prices.cost_usd("p", "m", written), prices.cost_usd("p", "n", written)), (Some(1.0), Some(7.0)));

    std::fs::write(&path, "[m]\ninput = -1\noutput = 2\n").unwrap();
    let faults = read(&environment, "[prices.n]\ninput = 5\nouput = 6\n").unwrap_err().faults;
    assert!(faults[0].contains("prices.toml") && faults[0].contains("-1"), "{faults:?}");
    assert!(faults[1].contains("ouput") && faults[1].contains("did you mean output?"), "{faults:?}");
    assert!(faults[2].contains("US dollars per million tokens"), "{faults:?}");
    std::fs::write(&path, "[m]\ninput = 1\noutput = 2\ncache_write = \"dear\"\n").unwrap();
    let faults = read(&environment, "").unwrap_err().faults;
    assert!(faults[0].contains("dear") && faults[0].contains("cache_write: US dollars"), "{faults:?}");
}

#[test]
fn a_route_names_a_strategy_and_targets_that_exist() {
    let environment = Environment::from([("OPENAI_API_KEY", "sk")]);
    let route = r#"
[routes."gpt-4o"]
strategy = "weighted"
targets = [{ provider = "openai", model = "gpt-4o", weight = 3, max_in_flight = 50, tokens_per_minute = 9 }, { provider = "demo", model = "demo" }]
"#;
    let routes = read(&environment, route).unwrap().routes;
    assert_eq!(
        (routes[0].name.as_str(), routes[0].strategy, routes[0].targets.len()),
        ("gpt-4o", Strategy::Weighted, 2)
    );
    let [first, second] = &routes[0].targets[..] else { panic!("two targets") };
    assert_eq!((first.weight.get(), first.max_in_flight.map(std::num::NonZeroUsize::get)), (3, Some(50)));
    assert_eq!((second.weight.get(), second.max_in_flight), (1, None));
    assert_eq!((first.requests_per_minute, first.tokens_per_minute.map(std::num::NonZeroU32::get)), (None, Some(9)));
}

#[test]
fn a_provider_may_have_timeouts_of_its_own() {
    let provider = "[providers.slow]\nbase_url = \"http://127.0.0.1:1\"\n";
    let file = format!("[upstream]\nidle_timeout = 7\n{provider}first_token_timeout = 90\nwhole_timeout = \"2.5\"\n");
    let config = read(&Environment::default(), &file).unwrap();
    let own = config.upstream.with(&config.providers[0].timeouts);
    assert_eq!((own.first_token_timeout.as_secs(), own.whole_timeout.as_millis()), (90, 2_500));
    assert_eq!((own.idle_timeout.as_secs(), own.total_timeout), (7, config.upstream.total_timeout));
    let faults = read(&Environment::default(), &format!("{provider}idle_timeout = 0\nidle = 3\n")).unwrap_err().faults;
    let named = |key: &str, accepted: &str| faults.iter().any(|fault| fault.contains(key) && fault.contains(accepted));
    assert!(named("providers.slow.idle_timeout = \"0\"", "seconds above 0"), "{faults:?}");
    assert!(named("providers.slow.idle", "connect_timeout, first_token_timeout"), "{faults:?}");
}

#[test]
fn every_fault_of_a_route_is_named_with_its_value() {
    let file = r#"
[routes.a]
stragety = "ordered"
strategy = "fastest"
targets = [{ provider = "nobody", model = "", wieght = 2 }, { provider = "demo", model = "demo", weight = 0 }]
[routes.b]
targets = []
"#;
    let faults = read(&Environment::default(), file).unwrap_err().faults;
    let expected = [
        ("routes.\"a\".stragety", "did you mean strategy?"),
        ("routes.\"a\".strategy = \"fastest\"", "takes one of ordered, round_robin"),
        ("routes.\"a\".targets[0].wieght", "a target takes provider, model, weight, max_in_flight"),
        ("routes.\"a\".targets[0].provider = \"nobody\"", "takes the name of a provider that is configured: demo"),
        ("routes.\"a\".targets[0].model", "takes the model's name at the provider"),
        ("routes.\"a\".targets[1].weight = \"0\"", "takes a whole number above 0"),
        ("routes.\"b\".targets", "takes at least one target"),
    ];
    for (key, accepted) in expected {
        let named = faults.iter().any(|fault| fault.contains(key) && fault.contains(accepted));
        assert!(named, "{key}: {faults:#?}");
    }
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
}

#[test]
fn each_variable_sets_one_thing() {
    let mut names: Vec<&str> = settings::SETTINGS.iter().flat_map(|setting| setting.env.iter().copied()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}

#[test]
fn a_database_is_a_secret_with_two_addresses_and_names_that_others_use() {
    let url = "postgres://ish:sesame@db/ish";
    let connections = |pairs: [(&str, &str); 3]| {
        let environment = Environment::from([pairs[0], pairs[1], pairs[2], ("DATABASE_URL", url)]);
        let config = Config::read(&environment, None).unwrap();
        (config.database.unwrap().max_connections.get(), config.warnings.len())
    };
    let (size, overflow, most) =
        (("DATABASE_POOL_SIZE", "20"), ("DATABASE_MAX_OVERFLOW", "5"), ("DB_MAX_CONNECTIONS", "7"));
    assert_eq!(connections([("", ""), ("", ""), ("", "")]), (50, 0));
    assert_eq!(connections([size, overflow, ("", "")]), (25, 0));
    assert_eq!(connections([size, ("", ""), ("", "")]), (20, 0));
    assert_eq!(connections([size, overflow, most]), (7, 1), "one wins, and the conflict is told");

    let config = Config::read(&Environment::from([("DATABASE_URL", url)]), None).unwrap();
    let database = config.database.clone().unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(&database.direct_url), url);
    assert!(!format!("{config:?}").contains("sesame"));
    assert!(Config::read(&Environment::default(), None).unwrap().database.is_none());

    let faulty = Environment::from([
        ("DATABASE_URL", "mysql://ish:sesame@db/ish"),
        ("DATABASE_POOL_SIZE", "many"),
        ("ISH_DATABASE_ACQUIRE_TIMEOUT", "0"),
    ]);
    let error = Config::read(&faulty, None).unwrap_err().to_string();
    for part in ["database.url", "DATABASE_POOL_SIZE + DATABASE_MAX_OVERFLOW = \"many + \"", "acquire_timeout"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains("sesame"), "{error}");
}

#[test]
fn where_redis_is_can_be_said_in_each_form() {
    let read = |[one, other]: [(&str, &str); 2]| {
        let pairs = [("DATABASE_URL", "postgres://ish@127.0.0.1/ish"), one, other];
        Config::read(&Environment::from(pairs), None)
    };
    let none = ("", "");
    let shown = |pairs: [(&str, &str); 2]| read(pairs).unwrap().redis.map(|redis| redis.servers.shown());
    assert_eq!(shown([none, none]), None);
    assert_eq!(shown([("REDIS_HOST", "cache"), ("REDIS_DB", "3")]).as_deref(), Some("cache:6379"));
    for (address, says) in [
        ("redis://ish:secret@cache:6380/2", "cache:6380"),
        ("rediss+cluster://ish:secret@one,two:7000", "cluster one:6379, two:7000"),
        ("redis+sentinel://:secret@one:26379,two:26379/mymaster/1", "master mymaster of one:26379, two:26379"),
    ] {
        assert_eq!(shown([("REDIS_URL", address), none]).as_deref(), Some(says));
    }
    for wrong in [
        "http://cache",
        "redis://",
        "redis://cache/people",
        "redis+cluster://one,two/1",
        "redis+sentinel://one",
        "cache",
    ] {
        let error = read([("REDIS_URL", wrong), none]).unwrap_err().to_string();
        assert!(error.contains("redis.url = \"(hidden)\"") && error.contains("redis+sentinel://"), "{wrong}: {error}");
    }
    let error = read([("REDIS_HOST", "cache"), ("REDIS_PORT", "many")]).unwrap_err().to_string();
    assert!(error.contains("REDIS_PORT") && error.contains("many"), "{error}");
}

#[test]
fn redis_is_for_instances_that_share_a_database() {
    let config = read(&Environment::from([("REDIS_URL", "redis://cache")]), "").unwrap();
    assert!(config.redis.is_none());
    assert!(config.warnings[0].contains("database.url"), "{:?}", config.warnings);
}

#[test]
fn an_alert_of_the_file_is_new_or_changes_one_that_is_built_in() {
    let environment = Environment::from([
        ("MONITORING_INTERVAL", "5"),
        ("RESPONSE_TIME_THRESHOLD", "250"),
        ("ERROR_RATE_THRESHOLD", "2"),
        ("MEMORY_THRESHOLD", "90"),
    ]);
    let file = r#"
[alerts.rules.SlowAnswers]
metric = "question_time_p95"
threshold = 3
comparison = "at_least"
severity = "critical"
for = 0
window = 30
[alerts.rules.IshDisk]
threshold = 0.5
[alerts.rules.IshCpu]
enabled = false
"#;
    let config = read(&environment, file).unwrap();
    let alerts = config.alerts;
    let rule = |name: &str| alerts.rules.iter().find(|rule| rule.name == name);
    assert_eq!(config.monitoring.interval.as_secs(), 5);
    let thresholds =
        ["IshSlowRequests", "IshErrorRate", "IshMemory", "IshDisk"].map(|name| rule(name).map(|rule| rule.threshold));
    assert_eq!(thresholds, [Some(0.25), Some(0.02), Some(0.9), Some(0.5)]);
    assert_eq!(rule("IshDisk").unwrap().hold.as_secs(), 600, "the rest is as it was");
    assert_eq!(rule("IshCpu"), None);
    let own = rule("SlowAnswers").unwrap();
    assert_eq!((own.comparison, own.severity, own.hold), (Comparison::AtLeast, Severity::Critical, Duration::ZERO));
    assert_eq!((own.window.as_secs(), own.keep.as_secs(), own.least_events), (30, 60, 20));
}

#[test]
fn an_alert_that_cannot_be_is_a_fault_that_says_why() {
    for (file, said) in [
        ("metric = \"cpu\"\n", "alerts.rules.a.threshold = \"\" (file "),
        ("threshold = 1\n", "alerts.rules.a.metric = \"\" (file "),
        ("metric = \"cpu\"\nthreshold = nan\n", "takes a number"),
        ("metric = \"cpu\"\nthreshold = \"1\"\n", "takes a number"),
        ("metric = \"cpu\"\nthreshold = 1\ncomparison = \">\"\n", "takes one of above, at_least, below, at_most"),
        ("metric = \"cpu\"\nthreshold = 1\nseverity = \"high\"\n", "takes one of critical, warning, info"),
        ("metric = \"cpu\"\nthreshold = 1\nfor = -1\n", "alerts.rules.a.for = \"-1\""),
        ("metric = \"cpu\"\nthreshold = 1\nwindow = 0\n", "seconds above 0, up to a week"),
        ("metric = \"cpu\"\nthreshold = 1\nwindows = 5\n", "did you mean window?"),
        ("metric = 1\nthreshold = 1\n", "takes a figure or an expression"),
    ] {
        let error = read(&Environment::default(), &format!("[alerts.rules.a]\n{file}")).unwrap_err().to_string();
        assert!(error.contains(said), "{file}: {error}");
    }
    let error = read(&Environment::default(), "[alerts]\nrules = 3\n").unwrap_err().to_string();
    assert!(error.contains("takes tables"), "{error}");
    let error = read(&Environment::default(), "[alerts.rules.\"a b\"]\n").unwrap_err().to_string();
    assert!(error.contains("is no name"), "{error}");
    let error = read(&Environment::from([("MEMORY_THRESHOLD", "0.8")]), "").unwrap_err().to_string();
    assert!(
        error.contains("alerts.memory_percent = \"0.8\" (environment MEMORY_THRESHOLD): takes a percentage"),
        "{error}"
    );
    let config = read(&Environment::from([("ERROR_RATE_THRESHOLD", "0.01")]), "").unwrap();
    assert!(config.warnings[0].contains("for a share such as 0.01 write 1"), "{:?}", config.warnings);
}

#[test]
fn a_webhook_is_an_address_that_is_never_shown() {
    let environment = Environment::from([
        ("ISH_ALERTS_WEBHOOK_URL", "https://hooks.example/T0/hidden"),
        ("ISH_ALERTS_WEBHOOK_TOKEN", "hidden"),
    ]);
    let config = Config::read(&environment, None).unwrap();
    assert!(config.alerts.webhook.as_ref().is_some_and(|webhook| webhook.token.is_some()));
    assert!(!format!("{config:?}").contains("hidden"));
    for wrong in ["file:///hidden", "hidden", "ftp://hidden/x"] {
        let error = Config::read(&Environment::from([("ISH_ALERTS_WEBHOOK_URL", wrong)]), None).unwrap_err();
        assert!(error.faults[0].contains("alerts.webhook_url = \"(hidden)\""), "{wrong}: {error}");
    }
}
