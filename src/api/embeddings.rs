//! `/v1/embeddings` by the embedder in this process, in each form that OpenAI's clients send and read.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use base64::Engine;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{ApiError, OpenAiProblem};
use super::node::Node;
use super::{Api, body};
use crate::embedding::{EmbedError, Embedding};
use crate::message::{InvalidRequest, JsonObject};

/// The public name of the embedder's model.
pub(super) const MODEL: &str = "all-minilm-l6-v2";

/// Most texts of one request.
const MAX_TEXTS: usize = 2_048;

struct Wish {
    model: String,
    input: Input,
    encoding: Encoding,
    dimensions: Option<usize>,
}

#[derive(Deserialize, Default, PartialEq, Eq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    Base64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<Token>),
    TokenLists(Vec<Vec<Token>>),
}

/// A token's number.
#[derive(Deserialize, Clone, Copy)]
#[serde(transparent)]
struct Token(#[serde(deserialize_with = "super::whole::needed")] u32);

impl Wish {
    fn parse(bytes: &[u8]) -> Result<Self, InvalidRequest> {
        let root = Node::root(JsonObject::parse(bytes)?);
        root.checked::<String>("user", "a string")?;
        Ok(Self {
            model: root.need("model", "a string")?,
            input: root.need("input", "a string, a list of strings, or token arrays")?,
            encoding: root.read("encoding_format", "\"float\" or \"base64\"")?.unwrap_or_default(),
            dimensions: root.read("dimensions", "a whole number")?,
        })
    }
}

pub(super) async fn embeddings(State(api): State<Api>, request: Request<Body>) -> Result<Json<Value>, OpenAiProblem> {
    let bytes = body::read(request.into_body(), api.0.facts.max_body_bytes).await?;
    let wish = Wish::parse(&bytes)?;
    if wish.model != MODEL {
        let message = format!("the embedding model `{}` does not exist here; `{MODEL}` does", excerpt(&wish.model));
        return Err(OpenAiProblem(ApiError::unknown_model(message)));
    }
    if wish.dimensions.is_some_and(|dimensions| dimensions != crate::embedding::DIM) {
        return Err(
            InvalidRequest::of("dimensions", format!("`{MODEL}` has {} dimensions", crate::embedding::DIM)).into()
        );
    }
    let texts = texts(&api, wish.input).await?;
    let embedded = api.0.chat.cache().embeddings().embed_all(texts).await.map_err(failure)?;
    let tokens: u64 = embedded.iter().map(|embedded| u64::from(embedded.tokens)).sum();
    let data: Vec<Value> = embedded
        .iter()
        .enumerate()
        .map(|(index, embedded)| json!({"object": "embedding", "index": index, "embedding": encoded(&embedded.embedding, wish.encoding)}))
        .collect();
    Ok(Json(
        json!({"object": "list", "data": data, "model": MODEL, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}),
    ))
}

async fn texts(api: &Api, input: Input) -> Result<Vec<String>, ApiError> {
    let texts = match input {
        Input::Text(text) => vec![text],
        Input::Texts(texts) => texts,
        Input::Tokens(tokens) => decode(api, vec![tokens]).await?,
        Input::TokenLists(lists) => decode(api, lists).await?,
    };
    if texts.is_empty() || texts.len() > MAX_TEXTS || texts.iter().any(String::is_empty) {
        return Err(
            InvalidRequest::of("input", format!("`input` takes 1 to {MAX_TEXTS} texts, none of them empty")).into()
        );
    }
    Ok(texts)
}

/// Token arrays, as LangChain sends them, are OpenAI's cl100k.
async fn decode(api: &Api, lists: Vec<Vec<Token>>) -> Result<Vec<String>, ApiError> {
    let lists = lists.into_iter().map(|tokens| tokens.into_iter().map(|token| token.0).collect()).collect();
    let texts = api.0.tokens.texts(lists).await.map_err(|error| failure(EmbedError::Failed(error.into())))?;
    let fault = || InvalidRequest::of("input", "a token array holds tokens that cl100k does not know").into();
    texts.ok_or_else(fault)
}

fn encoded(embedding: &Embedding, encoding: Encoding) -> Value {
    match encoding {
        Encoding::Float => json!(embedding.values().to_vec()),
        Encoding::Base64 => base64::engine::general_purpose::STANDARD.encode(embedding.to_bytes()).into(),
    }
}

fn failure(error: EmbedError) -> ApiError {
    match error {
        EmbedError::Busy => ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_exceeded",
            "the embedder has more than it can do: try again",
        ),
        other => {
            tracing::error!(error = &other as &dyn std::error::Error, "texts could not be embedded");
            ApiError::new(StatusCode::BAD_GATEWAY, "embedder_failed", "the embedder failed")
        }
    }
}

fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}
