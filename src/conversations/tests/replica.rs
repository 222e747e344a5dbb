//! What may be read from a replica is, and nothing else is; without it the primary does its work. Another database stands
//! for one that is far behind: what it holds tells who answered.

use futures_util::TryStreamExt;

use super::*;
use crate::db::tests::Backend;

/// A store whose replica holds one conversation of tenant "t", which the primary does not know.
async fn behind() -> (Store, Store) {
    let mut replica = Store::new(TestDb::new(Backend::Postgres).await).await;
    let url = replica.database.server().config.url.clone();
    replica.say("t", None, "Where do whales sleep?", "In the sea.").await;
    let mut primary = TestDb::new(Backend::PgBouncer).await;
    primary.server().config.replica_url = Some(url);
    (Store::new(primary).await, replica)
}

impl Store {
    async fn titles(&self) -> Vec<String> {
        let page = self.conversations.list("t", slice(9), None).await.unwrap();
        page.data.into_iter().map(|conversation| conversation.title).collect()
    }

    async fn count(&self, words: &str) -> usize {
        self.conversations.search("t", &SearchQuery::parse(words), slice(9)).await.unwrap().data.len()
    }
}

#[tokio::test]
async fn lists_and_search_are_the_replicas_and_what_was_just_written_is_the_primarys() {
    let (store, replica) = behind().await;
    let said = store.say("t", None, "Why is the sky blue?", "Air scatters blue light.").await;
    assert_eq!(store.titles().await, replica.titles().await);
    assert_eq!((store.count("whales").await, store.count("sky").await), (1, 0));
    // Its own words a person sees at once.
    assert_eq!(store.conversations.get("t", said.conversation).await.unwrap().messages, 2);
    let history = store.conversations.branch("t", said.conversation, None, slice(9), None).await.unwrap();
    assert_eq!(history.data.len(), 2);
    // An export is whole, however far behind the replica is.
    for format in [ExportFormat::Json, ExportFormat::Markdown] {
        let (_, pieces) = store.conversations.export("t", said.conversation, format, None).await.unwrap();
        let text: String = pieces.try_collect::<Vec<_>>().await.unwrap().concat();
        assert!(text.contains("sky blue?") && text.contains("scatters blue light"), "{text}");
    }
}

#[tokio::test]
async fn a_replica_that_is_away_costs_nobody_an_answer() {
    let (store, replica) = behind().await;
    store.say("t", None, "Why is the sky blue?", "Air scatters blue light.").await;
    assert_eq!(store.count("whales").await, 1);
    drop(replica);
    for _ in 0..3 {
        assert_eq!(store.titles().await.len(), 1);
        assert_eq!((store.count("whales").await, store.count("sky").await), (0, 1));
    }
}
