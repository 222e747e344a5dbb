//! An answer can be matched by meaning from the moment it is there: its question is embedded while the provider works.

use std::time::Duration;

use ish::cache::{Asker, CacheControl, Plan};
use ish::message::{ChatRequest, Role};

use crate::harness::{Server, soon};

#[tokio::test]
async fn a_question_is_embedded_ahead_however_busy_the_embedder_is() {
    // No look-up waits at all, and the model is still being loaded.
    let server = Server::start_with(|config| config.embedding.wait = Duration::ZERO).await;
    let turns = [(Role::User, "Why do leaves change their colour in autumn?")];
    let request = ChatRequest::build("mock", &turns, &serde_json::Map::new()).unwrap();
    let cache = server.chat().cache();
    let Plan::Use(query) = cache.plan(&request, Asker { tenant: "local", user: None }, CacheControl::default()) else {
        panic!("a plain question")
    };
    assert!(soon("the embedding", cache.embed_ahead(&query)).await.is_some());
    server.stop().await;
}
