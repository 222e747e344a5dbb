//! What a hit saved is said in money where the asked model has a price, whatever name the provider gives itself.

use ish::config::PriceConfig;
use serde_json::json;

use crate::harness::Server;

#[tokio::test]
async fn a_priced_model_shows_what_a_hit_saved() {
    let price = PriceConfig {
        model: "openai/mock".to_owned(),
        input: 1_000_000.0,
        output: 0.0,
        cached_input: None,
        cache_write: None,
    };
    let server = Server::start_with(|config| config.prices = vec![price]).await;
    for _ in 0..2 {
        let question = "Who discovered the moons of Mars?";
        let body = json!({"model": "openai/mock", "messages": [{"role": "user", "content": question}]});
        assert_eq!(server.http().chat(&body).await.status, 200);
    }
    let stats = server.http().get("/api/cache/stats").await.json();
    assert!(stats["saved"]["usd"].as_f64().unwrap() >= 1.0, "{stats}");
    server.stop().await;
}
