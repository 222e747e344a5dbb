//! What a stored question costs its Postgres: which transactions, and how often each waits for an answer. A further one is a
//! decision; see docs/postgres.md.

use serde_json::json;
use url::Url;

use crate::harness::{Database, Heard, Overheard, Server, until};

/// Of a question's own work; what an instance does from time to time is left out.
fn of_questions(heard: Vec<Heard>) -> Vec<(&'static str, usize)> {
    const MARKS: [(&str, &str); 7] = [
        ("ish_begin_turn", "begin"),
        ("ish_finish", "finish"),
        ("WITH RECURSIVE chain", "history"),
        ("OR normalized =", "look up"),
        ("AS wanted (low, high)", "candidates"),
        ("INSERT INTO entries", "learn"),
        ("ish_tenant", "else"),
    ];
    let named = |heard: Heard| {
        let is = |mark: &str| heard.statements.iter().any(|statement| statement.contains(mark));
        let (_, name) = MARKS.iter().find(|(mark, _)| is(mark))?;
        Some((*name, heard.ways))
    };
    let mut named: Vec<_> = heard.into_iter().filter_map(named).collect();
    named.sort_unstable();
    named
}

#[tokio::test]
async fn a_stored_question_takes_five_transactions() {
    let database = Database::new().await;
    let mut url = Url::parse(&database.url).unwrap();
    let line = Overheard::to(format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())).await;
    url.set_port(Some(line.address.port())).unwrap();
    let server = Server::start_on(database, |config| {
        config.database.as_mut().unwrap().url = url.to_string().into();
    });
    let server = server.await;
    until("the index", || server.chat().cache().index_loaded().then_some(())).await;
    let mut socket = server.socket().await;
    // The tenant's first, which makes the tenant's row of generations.
    let (first, _) = socket.ask_whole("first", "Why do leaves change their colour in autumn?").await;
    server.chat().cache().flush().await;
    line.take();

    let asked = json!({"type": "send", "id": "next", "conversation": first.conversation, "model": "mock",
        "content": "How do bees find their way home?"});
    let ack = socket.ask_with(asked).await;
    socket.answer(&ack.stream).await;
    server.chat().cache().flush().await;
    let expected = [("begin", 4), ("finish", 4), ("history", 1), ("learn", 5), ("look up", 1)];
    assert_eq!(of_questions(line.take()), expected);
    server.stop().await;
}
