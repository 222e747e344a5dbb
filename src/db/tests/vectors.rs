//! Vectors are stored where pgvector is, indexed as wished; without it everything else is as it was.

use sqlx::Row;

use super::super::PostgresDb;
use super::server::TestServer;
use crate::config::VectorIndex;

/// The indexes over vectors that stand.
async fn indexes(server: &TestServer) -> Vec<String> {
    let named =
        "SELECT indexname::text FROM pg_indexes WHERE tablename = 'entry_vectors' AND indexdef LIKE '%meaning%'";
    let rows = sqlx::query(named).fetch_all(&mut server.owner().await).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn opened(server: &mut TestServer, wished: VectorIndex) -> PostgresDb {
    server.config.vector_index = wished;
    server.connect().await
}

#[tokio::test]
async fn without_pgvector_a_server_does_all_but_search_vectors() {
    let mut server = TestServer::without_vectors().await;
    for _ in 0..2 {
        let db = opened(&mut server, VectorIndex::Hnsw).await;
        assert_eq!(db.vectors(), None);
    }
    let applied = sqlx::query("SELECT FROM ish_migrations WHERE version = 14");
    assert!(applied.fetch_optional(&mut server.owner().await).await.unwrap().is_none(), "it waits for pgvector");
}

#[tokio::test]
async fn the_index_is_the_one_that_is_wished_whatever_was_before() {
    let mut server = TestServer::without_schema().await;
    assert_eq!(opened(&mut server, VectorIndex::Off).await.vectors(), None);
    assert!(indexes(&server).await.is_empty());
    let (hnsw, lists) = (["entry_vectors_hnsw"], ["entry_vectors_ivfflat"]);
    let wishes = [
        (VectorIndex::Hnsw, hnsw),
        (VectorIndex::Hnsw, hnsw),
        (VectorIndex::IvfFlat, lists),
        (VectorIndex::Hnsw, hnsw),
    ];
    for (wished, index) in wishes {
        let db = opened(&mut server, wished).await;
        assert_eq!(db.vectors().map(|search| search.index), Some(wished));
        assert_eq!(indexes(&server).await, index);
    }
    assert_eq!(opened(&mut server, VectorIndex::Off).await.vectors(), None);
}
