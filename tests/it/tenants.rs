//! Twenty tenants at once on two instances, over REST, the socket, the cache, search and resume: nobody ever sees a byte of
//! another's. All ask some of the same questions, which the provider answers differently each time, and each writes a word
//! of its own, which no reply to another may hold. Whoever takes on the role of tenants and names none sees no row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use crate::harness::{ADMIN_KEY, Http, Line, Server, Socket, asking, redis_host, report};
use crate::on_redis::over;

const TENANTS: usize = 20;

/// What all tenants ask alike.
const SHARED: [&str; 5] = [
    "How do I reset my password?",
    "What is the capital of France?",
    "Explain binary search in one sentence.",
    "Which planet is the largest?",
    "How many legs does a spider have?",
];

/// Requests of each tenant in `make test`; `make soak` asks for more.
#[expect(clippy::disallowed_methods, reason = "how many, which only the one who starts the tests knows")]
fn requests() -> usize {
    std::env::var("ISH_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(30)
}

/// Conversations and streams of all tenants, so that each can ask for another's.
#[derive(Default)]
struct Known {
    sessions: Vec<(usize, String)>,
    streams: Vec<(usize, String)>,
}

struct Tenant {
    number: usize,
    word: String,
    http: [Http; 2],
    socket: Socket,
    known: Arc<Mutex<Known>>,
    /// Answers to the shared questions.
    heard: BTreeSet<String>,
    asked: usize,
    seed: u64,
}

impl Tenant {
    async fn of(number: usize, instances: [&Server; 2], known: &Arc<Mutex<Known>>) -> Self {
        let key = instances[0].new_key(&format!("tenant-{number}")).await;
        let http = instances.map(|instance| instance.http().with_key(&key));
        let hello = json!({"type": "hello", "protocol": 1, "token": key});
        let (socket, _) = Socket::greeted_with(instances[number % 2].address, hello).await;
        let (word, seed) = (format!("owned{number:02}x"), number as u64 + 1);
        Self { number, word, http, socket, known: Arc::clone(known), heard: BTreeSet::new(), asked: 0, seed }
    }

    /// The next number below `below`, the same in every run.
    fn next(&mut self, below: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as usize % below
    }

    fn http(&mut self) -> Http {
        self.asked += 1;
        self.http[self.asked % 2].clone()
    }

    /// Whatever this tenant is shown holds no other's word.
    fn judge(&self, shown: &str) {
        for found in shown.match_indices("owned") {
            let word: String = shown[found.0..].chars().take(self.word.len()).collect();
            assert_eq!(word, self.word, "tenant {} was shown another's: {shown}", self.number);
        }
    }

    fn foreign(&mut self, of: impl Fn(&Known) -> &Vec<(usize, String)>) -> Option<String> {
        let pick = self.next(1_000);
        let known = self.known.lock().unwrap();
        let theirs: Vec<_> = of(&known).iter().filter(|(owner, _)| *owner != self.number).collect();
        theirs.get(pick % theirs.len().max(1)).map(|(_, id)| id.clone())
    }

    async fn step(&mut self) {
        let question = SHARED[self.next(SHARED.len())];
        match self.next(10) {
            0 | 1 => {
                let reply = self.http().chat(&asking(question)).await;
                self.heard.insert(reply.text());
            }
            2 => {
                let reply = self.http().stream(&asking(question)).await.whole().await;
                self.heard.insert(reply.text());
            }
            3 => self.write().await,
            4 => self.read("/api/sessions".to_owned()).await,
            5 => {
                let word = self.word.clone();
                self.read(format!("/api/sessions?q={word}")).await;
                let other = format!("owned{:02}x", (self.number + 1) % TENANTS);
                let found = self.http().get(&format!("/api/sessions?q={other}")).await.json();
                assert_eq!(found["data"], json!([]), "tenant {} found another's word", self.number);
            }
            6 => {
                if let Some(session) = self.foreign(|known| &known.sessions) {
                    let refused = self.http().get(&format!("/api/sessions/{session}/messages")).await;
                    assert_eq!(refused.status, 404, "{refused:?}");
                }
            }
            7 => self.say().await,
            8 => self.resume_foreign().await,
            _ => {
                let reply = self.http().post("/api/cache/explain", &json!({"prompt": question, "model": "mock"})).await;
                assert_eq!(reply.status, 200, "{reply:?}");
                self.judge(&String::from_utf8_lossy(&reply.body));
            }
        }
    }

    async fn write(&mut self) {
        let message = format!("What is {} number {}?", self.word, self.asked);
        let told = self.http().post("/api/chat", &json!({"message": message, "model": "mock"})).await;
        assert_eq!(told.status, 200, "{told:?}");
        let session = told.json()["session"].as_str().unwrap().to_owned();
        self.read(format!("/api/sessions/{session}/messages")).await;
        self.known.lock().unwrap().sessions.push((self.number, session));
    }

    async fn read(&mut self, path: String) {
        let reply = self.http().get(&path).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        self.judge(&String::from_utf8_lossy(&reply.body));
    }

    async fn say(&mut self) {
        self.asked += 1;
        let (id, message) = (format!("n{}", self.asked), format!("Say {} in turn {}.", self.word, self.asked));
        let ack = self.socket.ask(&id, &message).await;
        assert_eq!(self.socket.answer(&ack.stream).await.ending(), "done");
        let mut known = self.known.lock().unwrap();
        known.sessions.push((self.number, ack.conversation));
        known.streams.push((self.number, ack.stream));
    }

    async fn resume_foreign(&mut self) {
        let Some(stream) = self.foreign(|known| &known.streams) else { return };
        self.asked += 1;
        self.socket.say(json!({"type": "resume", "stream": stream, "epoch": 1, "after": 0})).await;
        let refused: Value = self.socket.hear_type("gone").await;
        self.judge(&refused.to_string());
    }
}

/// The rows of every table of tenants that a transaction sees which has taken on their role and says it is of this tenant, or says
/// nothing.
async fn rows(server: &Server, tenant: Option<&str>) -> BTreeMap<String, i64> {
    let options: PgConnectOptions = server.database_url().parse().unwrap();
    // PgBouncer takes no parameter that it does not know.
    let mut login = options.extra_float_digits(None).connect().await.unwrap();
    let mut transaction = login.begin().await.unwrap();
    sqlx::raw_sql("SET LOCAL ROLE ish_tenant").execute(&mut *transaction).await.unwrap();
    if let Some(tenant) = tenant {
        let says = sqlx::query("SELECT set_config('ish.tenant', $1, true)").bind(tenant).persistent(false);
        says.execute(&mut *transaction).await.unwrap();
    }
    let tables = "SELECT relname::text FROM pg_class WHERE relrowsecurity AND has_table_privilege(oid, 'SELECT')";
    let tables = sqlx::query(tables).persistent(false).fetch_all(&mut *transaction).await.unwrap();
    let mut seen = BTreeMap::new();
    for table in tables.iter().map(|row| row.get::<String, _>(0)) {
        let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let count = sqlx::query(count).persistent(false).fetch_one(&mut *transaction).await.unwrap();
        seen.insert(table, count.get(0));
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tenant_sees_a_byte_of_another() {
    let (line, folder) = (Line::to(redis_host()).await, tempfile::tempdir().unwrap());
    let file = folder.path().join("admin.key");
    std::fs::write(&file, ADMIN_KEY).unwrap();
    let shared = over(&line);
    let configured = |config: &mut ish::config::Config| {
        shared(config);
        config.server.admin_key_file = Some(file.clone());
    };
    let first = Server::start_on_postgres(configured).await;
    let second = first.beside(configured).await;
    first.provider.change_behaviour(|behaviour| behaviour.vary = true);
    let known = Arc::default();
    let mut tenants = tokio::task::JoinSet::new();
    for number in 0..TENANTS {
        let mut tenant = Tenant::of(number, [&first, &second], &known).await;
        tenants.spawn(async move {
            for _ in 0..requests() {
                tenant.step().await;
            }
            tenant
        });
    }
    let mut heard = BTreeSet::new();
    let (mut asked, mut answers) = (0, 0);
    while let Some(tenant) = tenants.join_next().await {
        let tenant = tenant.unwrap();
        asked += tenant.asked;
        answers += tenant.heard.len();
        heard.extend(tenant.heard);
    }
    assert_eq!(heard.len(), answers, "an answer that the provider made once was heard by two tenants");
    let (unset, set) = (rows(&first, None).await, rows(&first, Some("tenant-0")).await);
    assert!(unset.values().all(|count| *count == 0), "seen by nobody's transaction: {unset:?}");
    assert!(set["messages"] > 0 && set["conversations"] > 0, "{set:?}");
    report::write(
        "tenants",
        "mixed requests of tenants on two instances; foreign bytes",
        &json!({
            "tenants": TENANTS, "requests": asked, "different_answers_to_shared_questions": answers, "foreign": 0,
            "rows_seen_with_no_tenant_set": unset,
        }),
    );
    second.stop().await;
    first.stop().await;
}
