//! The attributes of `ish`. Use them through `ish` itself, which re-exports them; its `docs/macros.md` teaches them.
//!
//! Each writes only what a person could: a call to a documented plain function of `ish`. A function keeps its signature, its
//! attributes and the spans of its body. Where an attribute cannot be applied, the function is left as it stands, beside
//! errors that name the fix.

mod ai_optimized;
mod arguments;
mod async_job;
mod cache_key;
mod companion;
mod entry;
mod fast_endpoint;
mod options;
mod profiled;
mod shape;
mod span_of_time;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Caches what an async function answers: `Ok` alone, by everything that it is asked with.
///
/// ```text
/// #[fast_endpoint(cache_ttl = 300)]
/// async fn product(State(shop): State<Shop>, caller: Caller, Path(id): Path<u64>) -> Result<Json<Product>, ShopError> {
///     BODY
/// }
/// ```
/// becomes
/// ```text
/// async fn product(State(shop): State<Shop>, caller: Caller, Path(id): Path<u64>) -> Result<Json<Product>, ShopError> {
///     let arguments = (State(shop), caller, Path(id));
///     let memo = HasMemo::memo(&arguments.0.0).clone();
///     let key = product::key(&arguments.1, &arguments.2.0);
///     let op = async move { product::uncached(arguments.0, arguments.1, arguments.2).await.map(|answer| answer.0) };
///     product::META.answer(&memo, &key, op).await.map(Json)
/// }
/// struct product {}
/// impl product {
///     const META: Endpoint = Endpoint::new("shop::product", Duration::from_secs(300));
///     async fn uncached(State(shop): State<Shop>, caller: Caller, Path(id): Path<u64>) -> .. { BODY }
///     fn key(caller: &Caller, id: &u64) -> Key { Self::META.key(caller.scope(), &(part(id),)) }
///     async fn invalidate(state: &impl HasMemo, caller: &Caller, id: &u64) { .. }
/// }
/// ```
/// Options: `cache_ttl` (seconds, or a time with its unit: `"5m"`), `stale_if_error` (the same), `public`, `skip(argument, ..)`,
/// `state = argument`, `scope = argument`, `version`.
#[proc_macro_attribute]
pub fn fast_endpoint(options: TokenStream, item: TokenStream) -> TokenStream {
    entry::attribute("fast_endpoint", fast_endpoint::expand, options.into(), &item.into()).into()
}

/// Makes a job of an async function, which stays callable.
///
/// ```text
/// #[async_job(priority = "high", retries = 5, queue = "mail")]
/// async fn send_digest(mailer: &Mailer, user: Uuid, day: String) -> Result<(), MailError> { BODY }
/// ```
/// becomes the function as it stands, and
/// ```text
/// #[derive(Serialize, Deserialize)]
/// struct send_digest { user: Uuid, day: String }
/// impl send_digest {
///     fn job(user: Uuid, day: String) -> NewTask { .. }
/// }
/// impl Job for send_digest { const KIND: &'static str = "send_digest"; .. }
/// ```
/// Options: `priority`, `retries`, `backoff`, `timeout`, `unique_by(argument, ..)`, `queue`, `kind`, `version`.
#[proc_macro_attribute]
pub fn async_job(options: TokenStream, item: TokenStream) -> TokenStream {
    entry::attribute("async_job", async_job::expand, options.into(), &item.into()).into()
}

/// Asks a model with the prompt that the function's body makes, through the semantic cache, and gives the typed reply.
///
/// ```text
/// #[ai_optimized(provider = "openai", model = "gpt-4", cache_ttl = 3600)]
/// async fn title(ai: &Ai, text: &str) -> Result<String, AiError> { format!("A title for: {text}") }
/// ```
/// becomes
/// ```text
/// async fn title(ai: &Ai, text: &str) -> Result<String, AiError> {
///     let prompt = IntoPrompt::into_prompt({ format!("A title for: {text}") });
///     let question = Question::new("openai", "gpt-4", prompt).ttl(Duration::from_secs(3600));
///     Ok(ai.ask(question).await?.value)
/// }
/// ```
/// Options: `provider`, `model`, `cache_ttl`, `semantic`, `threshold`, `timeout`, `temperature`, `max_tokens`.
#[proc_macro_attribute]
pub fn ai_optimized(options: TokenStream, item: TokenStream) -> TokenStream {
    entry::attribute("ai_optimized", ai_optimized::expand, options.into(), &item.into()).into()
}

/// Times an async function: `profile(component, operation, body)`.
///
/// `#[profiled("search", "rank")]`, `#[profiled(component = "search", operation = "rank")]`; without an operation it is the
/// function's name.
#[proc_macro_attribute]
pub fn profiled(options: TokenStream, item: TokenStream) -> TokenStream {
    entry::attribute("profiled", profiled::expand, options.into(), &item.into()).into()
}

/// Makes a struct or an enum part of keys: each of its fields, in order.
#[proc_macro_derive(CacheKey)]
pub fn cache_key(item: TokenStream) -> TokenStream {
    entry::derive(item.into()).into()
}
