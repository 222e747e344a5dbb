//! A scraper elsewhere has a token for `/metrics`, which opens nothing else.

use crate::harness::{ADMIN_KEY, Server};

#[tokio::test]
async fn the_token_of_metrics_opens_them_and_nothing_else() {
    let token = "a token of the scraper alone";
    let server = Server::start_with_keys_and(|config| config.server.metrics_token = Some(token.into())).await;
    let elsewhere = server.http().with("x-forwarded-for", "203.0.113.7");
    for (http, status) in [
        (elsewhere.clone(), 401),
        (elsewhere.with_key("another token"), 401),
        (elsewhere.with_key(token), 200),
        (elsewhere.with_key(ADMIN_KEY), 200),
    ] {
        assert_eq!(http.get("/metrics").await.status, status);
    }
    for path in ["/api/status", "/api/alerts", "/v1/models"] {
        assert_eq!(elsewhere.with_key(token).get(path).await.status, 401, "{path}");
    }
    server.stop().await;
}
