//! The application in this process, as `ish serve` runs it, with a provider of its own upstream.
//!
//! It has a runtime of its own, so that [`Server::stop`] can hold the application to its word: once it has closed, no
//! task of it is left.

use std::net::SocketAddr;
use std::sync::Arc;

use ish::app::{App, Program};
use ish::chat::ChatService;
use ish::config::{Config, Environment};
use ish::memo::Memo;
use ish::metrics::Metrics;
use ish::streams::Streams;
use ish::workflows::Definitions;
use loadtest::provider::{Provider, ProviderOptions, Route, RunningProvider};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Database, Http, Socket, soon, until};

/// The admin's key of [`Server::start_with_keys`].
pub const ADMIN_KEY: &str = "ish_admin_key_of_the_tests";

/// The application while it serves.
pub struct Server {
    pub address: SocketAddr,
    /// What it calls upstream, under the name `openai`.
    pub provider: RunningProvider,
    pub folder: TempDir,
    /// Where it keeps what it stores; `None`: in files of the folder.
    database: Option<Arc<Database>>,
    parts: Option<Parts>,
    runtime: Option<Runtime>,
    serving: JoinHandle<std::io::Result<()>>,
    shutdown: CancellationToken,
}

/// Handles on what runs inside; dropped before the tasks are counted.
struct Parts {
    metrics: Arc<Metrics>,
    chat: ChatService,
    streams: Streams,
    memo: Memo,
}

impl Server {
    /// Starts with the settings that every test shares.
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// Starts with some settings changed.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let provider = Provider::start(ProviderOptions::default()).await.unwrap();
        let base_url = provider.base_url();
        Self::begin(tempfile::tempdir().unwrap(), wished().await, (provider, base_url), change).await
    }

    /// Starts with the workflows of a program.
    pub async fn start_with_workflows(workflows: Definitions) -> Self {
        let provider = Provider::start(ProviderOptions::default()).await.unwrap();
        let base_url = provider.base_url();
        let (folder, database) = (tempfile::tempdir().unwrap(), wished().await);
        Self::begin_with(workflows, folder, database, (provider, base_url), |_| ()).await
    }

    /// Starts on a Postgres behind PgBouncer, whatever the others run on.
    pub async fn start_on_postgres(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(Database::new().await, change).await
    }

    /// The same on this one.
    pub async fn start_on(database: Database, change: impl FnOnce(&mut Config)) -> Self {
        let provider = Provider::start(ProviderOptions::default()).await.unwrap();
        let base_url = provider.base_url();
        Self::begin(tempfile::tempdir().unwrap(), Some(Arc::new(database)), (provider, base_url), change).await
    }

    /// Another instance on this one's Postgres, asking this one's provider.
    pub async fn beside(&self, change: impl FnOnce(&mut Config)) -> Self {
        let database = self.database.clone().expect("files have one server");
        let upstream = (idle_provider().await, self.provider.base_url());
        Self::begin(tempfile::tempdir().unwrap(), Some(database), upstream, change).await
    }

    /// Starts with keys: local mode is off, and [`ADMIN_KEY`] is the first key.
    pub async fn start_with_keys() -> Self {
        Self::start_with_keys_and(|_| ()).await
    }

    /// The same with some settings changed.
    pub async fn start_with_keys_and(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("admin.key");
        std::fs::write(&file, ADMIN_KEY).unwrap();
        let provider = Provider::start(ProviderOptions::default()).await.unwrap();
        let base_url = provider.base_url();
        Self::begin(folder, wished().await, (provider, base_url), |config| {
            config.server.admin_key_file = Some(file);
            change(config);
        })
        .await
    }

    /// Makes a key for `tenant`; only where [`ADMIN_KEY`] works.
    pub async fn new_key(&self, tenant: &str) -> String {
        self.make_key(&serde_json::json!({"name": "a test's", "tenant": tenant})).await
    }

    /// The same with the admin role.
    pub async fn new_admin_key(&self, tenant: &str) -> String {
        self.make_key(&serde_json::json!({"name": "a test's", "tenant": tenant, "admin": true})).await
    }

    async fn make_key(&self, wish: &serde_json::Value) -> String {
        self.made_key(wish).await["key"].as_str().unwrap().to_owned()
    }

    /// Makes a key of the test's own, and returns all that is said of it.
    pub async fn made_key(&self, wish: &serde_json::Value) -> serde_json::Value {
        let made = self.http().with_key(ADMIN_KEY).post("/api/admin/keys", wish).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.json()
    }

    /// Stops, and starts again on the same data folder with the same provider.
    pub async fn restart(self) -> Self {
        self.restart_with(|_| ()).await
    }

    /// As [`Server::restart`], with some settings changed.
    pub async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Self {
        let (folder, database, provider) = self.end().await;
        let base_url = provider.base_url();
        Self::begin(folder, database, (provider, base_url), change).await
    }

    async fn begin(
        folder: TempDir,
        database: Option<Arc<Database>>,
        upstream: (RunningProvider, String),
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::begin_with(Definitions::new(), folder, database, upstream, change).await
    }

    async fn begin_with(
        workflows: Definitions,
        folder: TempDir,
        database: Option<Arc<Database>>,
        (provider, base_url): (RunningProvider, String),
        change: impl FnOnce(&mut Config),
    ) -> Self {
        // The second installation in one process is refused, and that is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let data_dir = folder.path().to_str().unwrap().to_owned();
        let (url, direct_url) =
            database.as_ref().map_or(("", ""), |database| (database.url.as_str(), database.direct_url.as_str()));
        // Servers of one process would have one name, and take each other for their successors.
        let name = uuid::Uuid::now_v7().to_string();
        let environment = Environment::from([
            ("ISH_INSTANCE_ID", &*name),
            ("DATABASE_URL", url),
            ("DATABASE_DIRECT_URL", direct_url),
            // How long a busy machine takes to connect decides no test.
            ("ISH_DATABASE_ACQUIRE_TIMEOUT", "30"),
            ("ISH_LISTEN", "127.0.0.1:0"),
            ("ISH_DATA_DIR", &data_dir),
            ("ISH_DRAIN_TIMEOUT", "5"),
            // How long a look-up may wait on a busy machine decides no test.
            ("ISH_EMBEDDING_WAIT", "30"),
            ("OPENAI_BASE_URL", &base_url),
            ("OPENAI_API_KEY", "sk-upstream"),
            ("ISH_OPENAI_MODELS", "mock,mock-alt"),
        ]);
        let mut config = Config::read(&environment, None).unwrap();
        change(&mut config);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().thread_name("ish").build();
        let runtime = runtime.unwrap();
        let shutdown = CancellationToken::new();
        let stopping = shutdown.clone();
        // Built where it will run; blocking on another runtime is allowed on this kind of thread only.
        let handle = runtime.handle().clone();
        let built = tokio::task::spawn_blocking(move || handle.block_on(serve(config, workflows, stopping)));
        let (address, parts, serving) = built.await.unwrap();
        Self { address, provider, folder, database, parts: Some(parts), runtime: Some(runtime), serving, shutdown }
    }

    /// An HTTP client of this server.
    pub fn http(&self) -> Http {
        Http::new(self.address)
    }

    /// A socket that has been greeted.
    pub async fn socket(&self) -> Socket {
        Socket::greeted(self.address).await
    }

    /// Where its Postgres is.
    pub fn database_url(&self) -> &str {
        &self.database.as_ref().expect("it was started on one").url
    }

    /// Whether it stores on one.
    pub fn is_on_postgres(&self) -> bool {
        self.database.is_some()
    }

    pub fn chat(&self) -> &ChatService {
        &self.parts().chat
    }

    pub fn streams(&self) -> &Streams {
        &self.parts().streams
    }

    pub fn memo(&self) -> &Memo {
        &self.parts().memo
    }

    pub fn metrics(&self) -> &Metrics {
        &self.parts().metrics
    }

    fn parts(&self) -> &Parts {
        self.parts.as_ref().expect("the parts go only with the server")
    }

    /// Chat requests that have reached the provider.
    pub fn upstream_calls(&self) -> usize {
        usize::try_from(self.provider.counts().chat).unwrap()
    }

    /// The bodies of the chat requests that have reached the provider.
    pub fn upstream_bodies(&self) -> Vec<serde_json::Value> {
        let log = self.provider.log();
        log.iter().filter(|entry| entry.route == Route::Chat).map(loadtest::provider::Entry::json).collect()
    }

    /// Begins the drain, and leaves the waiting to [`Server::stop`].
    pub fn begin_drain(&self) {
        self.shutdown.cancel();
    }

    /// Ends the server and checks that nothing of it is left: no task, no upstream call, no panic behind it.
    pub async fn stop(self) {
        self.end().await;
    }

    async fn end(mut self) -> (TempDir, Option<Arc<Database>>, RunningProvider) {
        let parts = self.parts.take().expect("the parts go only with the server");
        assert_eq!(parts.metrics.panics.get(), 0, "a handler has panicked");
        self.shutdown.cancel();
        soon("the server's end", &mut self.serving).await.expect("serving does not panic").expect("the listener works");
        assert_eq!((parts.streams.running(), parts.chat.flights()), (0, 0), "answers left behind");
        assert_eq!(parts.metrics.ws_connections.get(), 0, "sockets left behind");
        drop(parts);
        let runtime = self.runtime.take().expect("the runtime goes only with the server");
        until("the end of every task of the application", || (runtime.metrics().num_alive_tasks() == 0).then_some(()))
            .await;
        runtime.shutdown_background();
        let provider = std::mem::replace(&mut self.provider, idle_provider().await);
        provider.wait_until_idle().await;
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        (folder, self.database.take(), provider)
    }
}

async fn serve(
    config: Config,
    workflows: Definitions,
    stopping: CancellationToken,
) -> (SocketAddr, Parts, JoinHandle<std::io::Result<()>>) {
    let app = App::build_with(config, Program { workflows, ..Program::default() })
        .await
        .expect("the application can be built");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    let parts = Parts {
        metrics: Arc::clone(&app.metrics),
        chat: app.chat.clone(),
        streams: app.streams.clone(),
        memo: app.memo.clone(),
    };
    let serving = tokio::spawn(app.serve(listener, async move { stopping.cancelled().await }));
    (address, parts, serving)
}

/// `ISH_TEST_STORE=postgres` runs every server of the tests on one.
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests chooses")]
async fn wished() -> Option<Arc<Database>> {
    match std::env::var("ISH_TEST_STORE").as_deref() {
        Ok("postgres") => Some(Arc::new(Database::new().await)),
        Ok(other) => panic!("ISH_TEST_STORE={other}: it takes postgres"),
        Err(_) => None,
    }
}

/// Stands in for a provider that has moved on to the next server.
async fn idle_provider() -> RunningProvider {
    Provider::start(ProviderOptions::default()).await.unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that fails drops the server inside a runtime, where waiting for another one's end is forbidden.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
