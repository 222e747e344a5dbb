//! Holds the arrows between modules and who may name which package, as ARCHITECTURE.md draws them. It reads the source
//! as the compiler does (`syn`), resolves `use` trees, inline `crate::...`, `super::...` and the tokens inside macros,
//! and leaves tests out, which may name what they like.
//!
//! Both tables are exact: an arrow that nothing uses any more is a fault too, so that they cannot outlive the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;
use syn::{Attribute, File, ImplItem, Item, Macro, UseTree};

/// Which modules a module names. In reading order from the leaves up: each may only name modules above itself here, so
/// that imports run one way by construction.
const ARROWS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("config", &[]),
    ("message", &[]),
    ("metrics", &[]),
    ("parallel", &[]),
    ("services", &["clock"]),
    ("profile", &["metrics"]),
    ("vitals", &["metrics"]),
    ("traces", &["config", "profile"]),
    ("telemetry", &["config", "profile", "traces"]),
    ("pool", &["metrics"]),
    ("profiler", &["config", "metrics", "pool"]),
    ("db", &["config", "pool", "traces"]),
    ("prices", &["config", "message"]),
    ("redis", &["config", "metrics", "pool", "traces"]),
    ("upstream", &["clock", "config", "pool", "traces"]),
    ("collector", &["config", "metrics", "traces", "upstream"]),
    ("embedding", &["config", "metrics", "services", "traces", "upstream"]),
    ("changes", &["db", "redis"]),
    ("tasks", &["changes", "clock", "config", "db", "metrics", "redis", "traces"]),
    ("workflows", &["clock", "db", "metrics", "tasks"]),
    ("instances", &["db"]),
    ("memo", &["changes", "clock", "config", "db", "embedding", "metrics", "redis"]),
    ("users", &["clock", "db", "memo"]),
    ("keys", &["changes", "clock", "db", "users"]),
    ("logins", &["changes", "clock", "config", "db", "keys", "metrics", "users"]),
    ("bucket", &[]),
    ("limits", &["bucket", "clock", "config", "db", "keys", "message", "metrics", "redis"]),
    ("endpoint", &["keys", "memo"]),
    ("conversations", &["clock", "db", "message", "tasks"]),
    ("providers", &["bucket", "clock", "config", "message", "metrics", "prices", "traces", "upstream"]),
    (
        "cache",
        &[
            "changes",
            "clock",
            "config",
            "db",
            "embedding",
            "message",
            "metrics",
            "parallel",
            "redis",
            "services",
            "traces",
            "upstream",
        ],
    ),
    (
        "chat",
        &[
            "cache",
            "clock",
            "config",
            "embedding",
            "keys",
            "limits",
            "message",
            "metrics",
            "prices",
            "providers",
            "upstream",
        ],
    ),
    ("gauges", &["chat", "limits", "logins", "memo", "pool", "vitals"]),
    ("alerts", &["clock", "config", "gauges", "metrics", "upstream"]),
    ("ai", &["cache", "chat", "keys", "message", "upstream"]),
    (
        "jobs",
        &["ai", "cache", "chat", "config", "conversations", "db", "keys", "message", "metrics", "tasks", "workflows"],
    ),
    (
        "streams",
        &[
            "cache",
            "chat",
            "conversations",
            "db",
            "jobs",
            "keys",
            "limits",
            "message",
            "metrics",
            "redis",
            "tasks",
            "traces",
            "upstream",
        ],
    ),
    (
        "api",
        &[
            "alerts",
            "cache",
            "chat",
            "clock",
            "config",
            "conversations",
            "db",
            "embedding",
            "endpoint",
            "gauges",
            "keys",
            "limits",
            "logins",
            "memo",
            "message",
            "metrics",
            "pool",
            "profiler",
            "redis",
            "services",
            "streams",
            "tasks",
            "telemetry",
            "traces",
            "upstream",
            "users",
            "workflows",
        ],
    ),
    (
        "app",
        &[
            "ai",
            "alerts",
            "api",
            "cache",
            "changes",
            "chat",
            "clock",
            "collector",
            "config",
            "conversations",
            "db",
            "embedding",
            "gauges",
            "instances",
            "jobs",
            "keys",
            "limits",
            "logins",
            "memo",
            "metrics",
            "pool",
            "prices",
            "profile",
            "profiler",
            "providers",
            "redis",
            "services",
            "streams",
            "tasks",
            "upstream",
            "users",
            "vitals",
            "workflows",
        ],
    ),
    (
        "cli",
        &[
            "alerts",
            "app",
            "clock",
            "config",
            "db",
            "embedding",
            "keys",
            "pool",
            "prices",
            "profiler",
            "providers",
            "redis",
            "telemetry",
            "upstream",
        ],
    ),
    ("main", &["cli"]),
];

/// Where a package (or a part of `std`) may be named: files, or folders with a slash at the end. Packages that are not
/// listed here may be named anywhere.
const PACKAGES: &[(&str, &[&str])] = &[
    ("axum", &["api.rs", "api/", "app.rs", "app/watched.rs", "cli/"]),
    ("clap", &["cli.rs", "cli/", "keys.rs", "keys/allowance.rs", "main.rs"]),
    // Work that crosses tenants.
    (
        "crate::db::Purpose",
        &[
            "cache/postgres.rs",
            "cache/postgres/",
            "changes/postgres.rs",
            "conversations/postgres/owners.rs",
            "instances/postgres.rs",
            "keys/postgres.rs",
            "limits/spending/postgres.rs",
            "logins/postgres.rs",
            "memo/postgres.rs",
            "tasks/postgres/",
            "users/postgres.rs",
            "workflows/postgres.rs",
            "workflows/postgres/",
        ],
    ),
    ("croner", &["tasks/cron.rs"]),
    ("fail", &["cli/serve.rs", "db/writer.rs", "workflows.rs", "workflows/postgres.rs", "workflows/sqlite.rs"]),
    ("flate2", &["db/packed.rs"]),
    ("governor", &["bucket.rs", "limits/meters.rs"]),
    (
        "moka",
        &[
            "api/prepared.rs",
            "cache/memory.rs",
            "cache/touched.rs",
            "embedding/service.rs",
            "keys/remembered.rs",
            "memo/tier.rs",
            "providers/breakers.rs",
            "streams/afterlife.rs",
        ],
    ),
    ("ndarray", &["cache/index/partition.rs", "embedding/minilm/encoder.rs"]),
    ("opentelemetry", &["traces/"]),
    ("opentelemetry_proto", &["traces/wire.rs"]),
    ("opentelemetry_sdk", &["traces/"]),
    ("petgraph", &["workflows/graph.rs"]),
    ("pprof", &["profiler/flame.rs"]),
    ("prometheus", &["api/ws/writer.rs", "metrics.rs", "metrics/"]),
    (
        "redis",
        &[
            "cache/flight/redis.rs",
            "cache/redis.rs",
            "changes/redis.rs",
            "limits/redis.rs",
            "memo/redis.rs",
            "redis.rs",
            "redis/",
            "streams/redis.rs",
        ],
    ),
    ("reqwest", &["upstream.rs"]),
    ("rten", &["embedding/minilm.rs", "embedding/minilm/encoder.rs"]),
    ("rustix", &["metrics/durations/timing.rs", "profiler/process.rs", "vitals.rs"]),
    ("rustls", &["upstream.rs"]),
    (
        "sqlx",
        &[
            "cache/postgres.rs",
            "cache/postgres/",
            "cache/sqlite.rs",
            "changes/postgres.rs",
            "conversations/postgres.rs",
            "conversations/postgres/",
            "conversations/sqlite.rs",
            "conversations/sqlite/",
            "db.rs",
            "db/",
            "instances/postgres.rs",
            "keys/postgres.rs",
            "keys/sqlite.rs",
            "limits/spending/postgres.rs",
            "limits/spending/sqlite.rs",
            "logins/postgres.rs",
            "logins/sqlite.rs",
            "memo/postgres.rs",
            "tasks/postgres.rs",
            "tasks/postgres/",
            "tasks/sqlite.rs",
            "tasks/sqlite/",
            "users/postgres.rs",
            "users/sqlite.rs",
            "workflows/postgres.rs",
            "workflows/postgres/",
            "workflows/sqlite.rs",
            "workflows/sqlite/",
        ],
    ),
    ("std::env", &["config/reader.rs"]),
    ("tiktoken_rs", &["api/tokens.rs"]),
    ("tokio_tungstenite", &["cli/chat/connection.rs"]),
    (
        "toml",
        &["config/alerts/rules.rs", "config/chat.rs", "config/providers.rs", "config/reader.rs", "config/routing.rs"],
    ),
    ("tower", &["api.rs", "app.rs", "upstream/connects.rs"]),
    ("tracing_opentelemetry", &["traces/"]),
];

/// A path that a file names, from the root of a package: `["crate", "cache", "Hit"]` or `["axum", "Router"]`.
type Named = Vec<String>;

/// Collects every path that a file names.
struct Names {
    /// The module that is being read, below `crate`.
    module: Vec<String>,
    found: BTreeSet<Named>,
}

impl Names {
    fn of(file: &File, module: Vec<String>) -> BTreeSet<Named> {
        let mut names = Self { module, found: BTreeSet::new() };
        names.visit_file(file);
        names.found
    }

    fn add(&mut self, segments: &[String]) {
        let Some((first, rest)) = segments.split_first() else { return };
        let resolved = match first.as_str() {
            "crate" | "ish" => [vec!["crate".to_owned()], rest.to_vec()].concat(),
            "self" => below(&self.module, rest),
            "super" => {
                let ups = segments.iter().take_while(|segment| *segment == "super").count();
                let base = &self.module[..self.module.len().saturating_sub(ups)];
                below(base, &segments[ups..])
            }
            _ => segments.to_vec(),
        };
        self.found.insert(resolved);
    }

    fn add_use(&mut self, tree: &UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.add_use(&path.tree, &with(&path.ident)),
            UseTree::Name(name) => self.add(&with(&name.ident)),
            UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            UseTree::Glob(_) => self.add(before),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_use(tree, before)),
        }
    }

    /// The input of a macro or an attribute is tokens, not paths: whatever looks like one counts as one.
    fn add_tokens(&mut self, tokens: &str) {
        let text = tokens.replace(" ::", "::").replace(":: ", "::");
        let is_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
        for word in text.split(|c| !is_path(c)).filter(|word| word.contains("::")) {
            let segments: Vec<String> =
                word.trim_matches(':').split("::").map(|segment| segment.trim_matches(':').to_owned()).collect();
            self.add(&segments);
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Fn(function) => function.attrs.as_slice(),
            _ => &[],
        };
        if !is_test(attributes) {
            syn::visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module.push(module.ident.to_string());
        syn::visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_use(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.add(&segments);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.add_tokens(&called.tokens.to_string());
        syn::visit::visit_macro(self, called);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.add_tokens(&list.tokens.to_string());
        syn::visit::visit_meta_list(self, list);
    }
}

fn below(base: &[String], rest: &[String]) -> Named {
    [&["crate".to_owned()], base, rest].concat()
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Const(item) => &item.attrs,
        _ => &[],
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let configured = attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test");
        configured || attribute.path().is_ident("test")
    })
}

/// One source file.
struct Source {
    /// Below `src`, with slashes.
    name: String,
    text: String,
}

impl Source {
    fn parsed(&self) -> File {
        syn::parse_file(&self.text).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn module(&self) -> Vec<String> {
        let stem = self.name.trim_end_matches(".rs");
        if stem == "lib" { Vec::new() } else { stem.split('/').map(str::to_owned).collect() }
    }

    fn names(&self) -> BTreeSet<Named> {
        Names::of(&self.parsed(), self.module())
    }

    /// Whether the file is tests alone: `tests.rs` and what lies below it.
    fn is_tests(&self) -> bool {
        self.module().iter().any(|part| part == "tests")
    }
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    let source = |path: &PathBuf| Source {
        name: path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/"),
        text: fs::read_to_string(path).unwrap(),
    };
    paths.iter().map(source).collect()
}

/// The arrows that a file draws: from its top module to others that exist.
fn arrows(names: &BTreeSet<Named>, from: &str) -> BTreeSet<String> {
    let own = names.iter().filter(|named| named[0] == "crate").filter_map(|named| named.get(1));
    own.filter(|to| *to != from && ARROWS.iter().any(|(module, _)| module == *to)).cloned().collect()
}

/// The restricted packages that a file names.
fn packages(names: &BTreeSet<Named>) -> BTreeSet<&'static str> {
    let named = |package: &str| {
        let wanted: Vec<&str> = package.split("::").collect();
        names.iter().any(|named| named.len() >= wanted.len() && named.iter().zip(&wanted).all(|(a, b)| a == b))
    };
    PACKAGES.iter().map(|(package, _)| *package).filter(|package| named(package)).collect()
}

fn is_within(name: &str, places: &[&str]) -> bool {
    places.iter().any(|place| name == *place || place.ends_with('/') && name.starts_with(place))
}

/// Every fault of `sources` against both tables.
fn faults(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| source.name != "lib.rs" && !source.is_tests()) {
        let names = source.names();
        let from = source.module()[0].clone();
        let allowed = ARROWS.iter().find(|(module, _)| *module == from).map(|(_, to)| *to);
        let Some(allowed) = allowed else {
            faults.push(format!("{}: the module {from} has no place in the drawing", source.name));
            continue;
        };
        for to in arrows(&names, &from).iter().filter(|to| !allowed.contains(&to.as_str())) {
            faults.push(format!("{}: {from} must not name {to}", source.name));
        }
        for package in packages(&names) {
            let places = PACKAGES.iter().find(|(listed, _)| *listed == package).unwrap().1;
            if !is_within(&source.name, places) {
                faults.push(format!("{}: the package {package} is named only in {places:?}", source.name));
            }
        }
    }
    faults
}

#[test]
fn imports_run_one_way() {
    for (position, (module, to)) in ARROWS.iter().enumerate() {
        for named in *to {
            let before = ARROWS[..position].iter().any(|(earlier, _)| earlier == named);
            assert!(before, "{module} names {named}, which stands further up");
        }
    }
    assert_eq!(faults(&sources()), Vec::<String>::new());
}

#[test]
fn the_drawing_holds_nothing_that_is_not_there() {
    let (mut drawn, mut named) =
        (BTreeMap::<String, BTreeSet<String>>::new(), BTreeMap::<&str, BTreeSet<String>>::new());
    for source in sources().iter().filter(|source| source.name != "lib.rs" && !source.is_tests()) {
        let (names, from) = (source.names(), source.module()[0].clone());
        drawn.entry(from.clone()).or_default().extend(arrows(&names, &from));
        for package in packages(&names) {
            named.entry(package).or_default().insert(source.name.clone());
        }
    }
    for (module, to) in ARROWS {
        let unused: Vec<_> = to.iter().filter(|to| !drawn[*module].contains(**to)).collect();
        assert!(unused.is_empty(), "{module} no longer names {unused:?}");
    }
    for (package, places) in PACKAGES {
        for place in *places {
            let used = named.get(package).is_some_and(|files| files.iter().any(|file| is_within(file, &[place])));
            assert!(used, "{package} is no longer named in {place}");
        }
    }
}

#[test]
fn a_planted_violation_is_found() {
    let plant = |name: &str, text: &str| faults(&[Source { name: name.to_owned(), text: text.to_owned() }]);
    let found = [
        ("cache/entry.rs", "use crate::streams::Streams;"),
        ("cache/entry.rs", "fn f() -> crate::api::Access { todo!() }"),
        ("cache/index/block.rs", "use super::super::super::chat::ChatService;"),
        ("cache/entry.rs", "mod inner { use super::super::super::chat::ChatService; }"),
        ("cache.rs", "use super::{api::Access, clock::Clock};"),
        ("message/request.rs", "fn f() { let x = vec![crate::cache::Mode::On]; }"),
        ("chat.rs", "use axum::Router;"),
        ("streams/log.rs", "impl X { fn f(self) -> sqlx::Error { } }"),
        ("streams/log.rs", "fn f() { tracing::info!(\"{}\", ::sqlx::query(\"x\")); }"),
        ("providers/openai.rs", "use reqwest as client;"),
        ("chat.rs", "#[derive(clap::ValueEnum)] enum X {}"),
        ("chat.rs", "use std::{env, sync::Arc};"),
        ("chat.rs", "fn f() { std::env::var(\"X\"); }"),
        ("conversations/postgres.rs", "use crate::db::{PostgresDb, Purpose};"),
        ("novel.rs", ""),
    ];
    for (name, text) in found {
        assert_eq!(plant(name, text).len(), 1, "{name}: {text}: {:?}", plant(name, text));
    }
    let lawful = [
        ("cache/entry.rs", "#[cfg(test)] mod tests { use crate::streams::Streams; }"),
        ("cache/entry.rs", "//! [`crate::streams`]\n/// [`crate::api`]\nfn f() {}"),
        ("cache/entry.rs", "fn f() { env!(\"CARGO_PKG_VERSION\"); }"),
        ("db/writer.rs", "use sqlx::Error;"),
        ("main.rs", "use ish::cli::Cli;"),
    ];
    for (name, text) in lawful {
        assert_eq!(plant(name, text), Vec::<String>::new(), "{name}: {text}");
    }
}

#[test]
fn files_read_as_our_style_has_it() {
    for source in sources() {
        let name = &source.name;
        assert!(!name.ends_with("/mod.rs"), "{name}: it is named by its noun, never mod.rs");
        assert!(source.text.starts_with("//!"), "{name}: it opens with what it owns");
        for (number, line) in source.text.lines().enumerate() {
            let code = line.trim_start();
            assert!(
                !code.contains("#[allow(") && !code.contains("#![allow("),
                "{name}:{}: expect, with a reason",
                number + 1
            );
            let unfinished = ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("];
            assert!(!unfinished.iter().any(|word| code.contains(word)), "{name}:{}: {code}", number + 1);
        }
    }
}
