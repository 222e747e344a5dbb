//! Expansions as a person would write them.

use std::str::FromStr;

use proc_macro2::TokenStream;

use super::ATTRIBUTES;

/// The items that an attribute makes, formatted.
fn made(attribute: &str, options: &str, function: &str) -> String {
    let (name, expand) = ATTRIBUTES.iter().find(|(name, _)| *name == attribute).unwrap();
    let tokens = |text: &str| TokenStream::from_str(text).unwrap();
    let made = crate::entry::expanded(name, *expand, tokens(options), &tokens(function)).unwrap();
    prettyplease::unparse(&syn::parse2(made).unwrap())
}

#[test]
fn a_handler() {
    let handler = "
        #[doc = \"A product.\"]
        pub async fn product(
            State(shop): State<Shop>, caller: Caller, Path((group, mut id)): Path<(String, u64)>,
            Query(Page { size, from }): Query<Page>, headers: HeaderMap,
        ) -> Result<Json<Product>, ShopError> { id += 1; shop.find(&group, id, size, from).await.map(Json) }";
    insta::assert_snapshot!(made("fast_endpoint", "cache_ttl = 300, skip(headers)", handler));
}

#[test]
fn any_function_with_all_options() {
    let function = "
        #[expect(clippy::unused_async, reason = \"r\")] #[cfg(unix)]
        async fn rate<'a, S: HasMemo>(state: &'a S, from: &'a str, Pair { to, .. }: Pair, _: u8) -> io::Result<f64> { Ok(1.0) }";
    let options = "cache_ttl = \"250ms\", stale_if_error = \"1h\", version = 3, public";
    insta::assert_snapshot!(made("fast_endpoint", options, function));
}

#[test]
fn a_handler_that_cannot_fail() {
    let handler = "async fn now(State(s): State<S>) -> axum::Json<u64> { axum::Json(1) }";
    insta::assert_snapshot!(made("fast_endpoint", "cache_ttl = 1, public", handler));
}

#[test]
fn a_job_with_state_and_context() {
    let function = "
        pub(crate) async fn send_digest(
            mailer: &Mailer, context: &JobContext, user: Uuid, #[serde(default)] mut day: String,
        ) -> Result<u32, MailError> { day.clear(); mailer.send(user).await }";
    let options = "priority = \"high\", retries = 5, backoff = \"1s..5m\", timeout = \"10m\", unique_by(user, day), queue = \"mail\", version = 2";
    insta::assert_snapshot!(made("async_job", options, function));
}

#[test]
fn a_plain_job() {
    insta::assert_snapshot!(made(
        "async_job",
        "kind = \"sweep.all\"",
        "async fn sweep() -> anyhow::Result<()> { Ok(()) }"
    ));
}

#[test]
fn a_question_with_a_typed_answer() {
    let function = "
        pub async fn summarise(ai: &Ai, text: &str) -> Result<AiReply<Summary>, AiError> {
            let text = tidy(text)?; format!(\"Summarise: {text}\")
        }";
    let options = "provider = \"openai\", model = \"gpt-4\", cache_ttl = 3600, semantic = false, threshold = 0.93, timeout = \"30s\", temperature = 0, max_tokens = 200";
    insta::assert_snapshot!(made("ai_optimized", options, function));
}

#[test]
fn a_question_for_text() {
    let function = "async fn title(State(ai): State<Ai>, text: String) -> Result<String, AiError> { text }";
    insta::assert_snapshot!(made(
        "ai_optimized",
        "provider = \"openai\", model = \"gpt-4\", semantic = true",
        function
    ));
}

#[test]
fn a_timed_method() {
    let method = "async fn rank(&self, of: &[u8]) -> Result<usize, E> { self.check()?; Ok(of.len()) }";
    insta::assert_snapshot!(made("profiled", "\"search\"", method));
}
