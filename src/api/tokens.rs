//! Texts as OpenAI's cl100k tokens, which some clients send in place of texts. The table takes tens of milliseconds and megabytes: it
//! is loaded when the first such request comes.

use tiktoken_rs::CoreBPE;

use crate::services::{Lazy, NotStarted, Services};

/// The table, once it is needed. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct TokenTable {
    table: Lazy<&'static CoreBPE>,
}

impl TokenTable {
    /// Registers it as `tokens`.
    pub fn new(services: &Services) -> Self {
        Self { table: services.lazy("tokens", || tokio::task::spawn_blocking(tiktoken_rs::cl100k_base_singleton)) }
    }

    /// The texts of lists of tokens; `None` where one of them is no token. Whoever cuts a text by its tokens may cut a character:
    /// what is left of one reads as U+FFFD.
    pub(super) async fn texts(&self, lists: Vec<Vec<u32>>) -> Result<Option<Vec<String>>, NotStarted> {
        let table = *self.table.get().await?;
        let text = move |tokens: &Vec<u32>| {
            let bytes = table.decode_bytes(tokens).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        let decoded = tokio::task::spawn_blocking(move || lists.iter().map(text).collect());
        Ok(decoded.await.ok().flatten())
    }
}
