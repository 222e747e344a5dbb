//! The server's own description of its routes, `src/api/openapi.json`, to which replies are held: status, content type,
//! and the schema of what is JSON.

use std::sync::LazyLock;

use http::{Method, StatusCode};
use serde_json::Value;

use super::{Reply, Schema};

static DOCUMENT: LazyLock<Document> =
    LazyLock::new(|| Document(Schema::of(include_str!("../../../src/api/openapi.json"))));

/// The description.
pub struct Document(Schema);

/// Stops the test when `reply` is none that the description of what was asked allows. Paths that are no routes, or are
/// written in a way that the server forgives, are not described.
pub fn check(method: &Method, path: &str, reply: &Reply) {
    if let Err(fault) = DOCUMENT.fits(method, path, reply) {
        panic!("{method} {path} is described otherwise: {fault}; the reply was {reply:?}");
    }
}

impl Document {
    /// The one that the server was built with.
    pub fn read() -> &'static Self {
        &DOCUMENT
    }

    /// Every method and path, such as `("GET", "/api/sessions/{id}")`.
    pub fn operations(&self) -> Vec<(String, String)> {
        let paths = self.0.root()["paths"].as_object().unwrap();
        let methods = |(path, item): (&String, &Value)| {
            let methods: Vec<String> = item.as_object().unwrap().keys().map(|name| name.to_uppercase()).collect();
            methods.into_iter().map(|method| (method, path.clone())).collect::<Vec<_>>()
        };
        paths.iter().flat_map(methods).collect()
    }

    /// Why `reply` is none that the description of `method` and `path` allows.
    pub fn fits(&self, method: &Method, path: &str, reply: &Reply) -> Result<(), String> {
        let path = path.split('?').next().unwrap_or_default();
        let paths = self.0.root()["paths"].as_object().unwrap();
        let Some((_, item)) = paths.iter().find(|(template, _)| is_of(template, path)) else { return Ok(()) };
        let Some(operation) = item.get(method.as_str().to_lowercase()) else {
            let refused = reply.status.is_client_error() || method == Method::HEAD || method == Method::OPTIONS;
            return if refused { Ok(()) } else { Err("there is no such method".to_owned()) };
        };
        let described = self.response(operation, reply.status)?;
        let kind = reply.header("content-type").split(';').next().unwrap_or_default();
        let Some(content) = described.get("content") else {
            return if reply.body.is_empty() { Ok(()) } else { Err(format!("{} has no body", reply.status)) };
        };
        let schema = content.get(kind).ok_or_else(|| format!("{kind:?} is none of its content types"))?;
        if !kind.ends_with("json") || kind == "application/x-ndjson" {
            return Ok(());
        }
        let json: Value = serde_json::from_slice(&reply.body).map_err(|error| error.to_string())?;
        self.0.check(&schema["schema"], &json, "body")
    }

    /// What is said of this status, by itself or as one of its hundred.
    fn response<'d>(&'d self, operation: &'d Value, status: StatusCode) -> Result<&'d Value, String> {
        let responses = &operation["responses"];
        let hundred = format!("{}XX", status.as_u16() / 100);
        let found = responses.get(status.as_str()).or_else(|| responses.get(hundred));
        let found = found.ok_or_else(|| format!("{status} is none of its statuses"))?;
        Ok(found["$ref"].as_str().map_or(found, |reference| self.0.resolve(reference)))
    }
}

/// Whether `path` is one of `template`'s. The page's files and a model's name may hold slashes; any path could be a file.
fn is_of(template: &str, path: &str) -> bool {
    if let Some(stem) = template.strip_suffix("{model}") {
        return path.strip_prefix(stem).is_some_and(|name| !name.is_empty());
    }
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    let fits = |(wanted, given): (&str, &str)| wanted == given || (wanted.starts_with('{') && !given.is_empty());
    template != "/{file}"
        && wanted.clone().count() == given.clone().count()
        && wanted.by_ref().zip(given.by_ref()).all(fits)
}
