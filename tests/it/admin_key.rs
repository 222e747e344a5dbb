//! The key in the admin key file, whose first start stores it.

use ish::app::App;
use ish::config::{Config, Environment};

/// Where the key was revoked since, the next start says so, rather than something of a database.
#[tokio::test]
async fn a_revoked_key_in_the_admin_key_file_is_named() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin.key");
    std::fs::write(&file, "ish_admin_key_of_the_tests").unwrap();
    let (data, key) = (folder.path().to_str().unwrap(), file.to_str().unwrap());
    let environment =
        Environment::from([("ISH_LISTEN", "127.0.0.1:0"), ("ISH_DATA_DIR", data), ("ISH_ADMIN_KEY_FILE", key)]);
    let config = Config::read(&environment, None).unwrap();
    for _ in 0..2 {
        App::build(config.clone()).await.unwrap().close().await;
    }
    let app = App::build(config.clone()).await.unwrap();
    let keys = app.keys.list().await.unwrap();
    assert_eq!(keys.len(), 1, "stored once");
    assert!(app.keys.revoke(keys[0].id).await.unwrap());
    app.close().await;
    let fault = App::build(config).await.err().unwrap().to_string();
    assert!(fault.contains("admin.key") && fault.contains("was revoked"), "{fault}");
}
