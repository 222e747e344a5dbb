//! What one dialect's clients say and another's providers do not know: providers here refuse every member that their
//! dialect does not define. It is translated, left out where it is a hint, or refused by us, by name; between equals it
//! all arrives.

use ish::config::{Config, ProviderKind};
use loadtest::provider::{Behaviour, Entry, Route};
use serde_json::{Value, json};

use crate::harness::{Reply, Server, asking};

const ALL: [ProviderKind; 4] =
    [ProviderKind::OpenAi, ProviderKind::Anthropic, ProviderKind::Gemini, ProviderKind::Ollama];

/// A server whose provider speaks this dialect and refuses every word of another.
async fn strict(kind: ProviderKind) -> Server {
    let server = Server::start_with(|config: &mut Config| {
        let provider = &mut config.providers[0];
        provider.kind = kind;
        if kind != ProviderKind::OpenAi {
            provider.base_url.set_path("");
        }
        config.cache.semantic = false;
    })
    .await;
    server.provider.set_behaviour(Behaviour { strict: true, ..Behaviour::default() });
    server
}

fn last(server: &Server) -> Entry {
    server.provider.log().into_iter().rfind(|entry| entry.route == Route::Chat).unwrap()
}

/// All that Anthropic's clients send and only Anthropic reads, around a question.
fn marked(prompt: &str) -> Value {
    let mark = json!({"type": "ephemeral"});
    json!({"model": "mock", "max_tokens": 100, "cache_control": mark, "context_management": {"edits": []},
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "output_config": {"task_budget": {"type": "tokens", "total": 9}},
        "system": [{"type": "text", "text": "Be brief.", "cache_control": mark}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": prompt, "cache_control": mark}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "r"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {}, "cache_control": mark}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "dark", "is_error": true, "cache_control": mark}]}],
        "tools": [{"name": "look", "input_schema": {"type": "object"}, "cache_control": mark}]})
}

#[tokio::test]
async fn anthropics_hints_reach_no_provider_that_refuses_them() {
    for kind in ALL {
        let server = strict(kind).await;
        for stream in [false, true] {
            let mut body = marked(&format!("Who is told, {stream}?"));
            body["stream"] = stream.into();
            let reply = server.http().post("/v1/messages", &body).await;
            assert_eq!(reply.status, 200, "{kind:?}: {reply:?}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn what_anthropics_hints_mean_is_said_in_openais_words() {
    let server = strict(ProviderKind::OpenAi).await;
    assert_eq!(server.http().post("/v1/messages", &marked("Who is told?")).await.status, 200);
    let sent = last(&server).json();
    assert_eq!(sent["reasoning_effort"], "low");
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": [{"type": "text", "text": "Who is told?"}]},
            {"role": "assistant", "content": "I look.", "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "t1", "content": "dark"}])
    );
    // Reasoning that nobody signed is that of a provider which says it in the clear, and wants it back.
    server.provider.set_behaviour(Behaviour::default());
    let mut body = marked("Who has thought?");
    body["messages"][1]["content"] = json!([{"type": "thinking", "thinking": "so", "signature": ""},
        {"type": "tool_use", "id": "t1", "name": "look", "input": {}}]);
    assert_eq!(server.http().post("/v1/messages", &body).await.status, 200);
    assert_eq!(last(&server).json()["messages"][2]["reasoning_content"], "so");
    server.stop().await;
}

fn assert_refused(reply: &Reply, named: &str) {
    assert_eq!(reply.status, 400, "{named}: {reply:?}");
    let json = reply.json();
    let message = json["error"]["message"].as_str().or_else(|| json["error"].as_str()).unwrap();
    assert!(message.contains(&format!("`{named}`")) && message.contains("`openai`"), "{message}");
}

/// Where an answer without it would be another one, it is refused before anything is sent.
#[tokio::test]
async fn what_would_change_the_answer_is_refused_by_name() {
    for kind in ALL {
        let server = strict(kind).await;
        if kind != ProviderKind::Anthropic {
            for (name, member, value) in [
                ("inference_geo", "inference_geo", json!("us")),
                ("output_config.colour", "output_config", json!({"colour": "red"})),
            ] {
                let mut body = marked("What is lost?");
                body[member] = value;
                assert_refused(&server.http().post("/v1/messages", &body).await, name);
            }
        }
        if kind != ProviderKind::Ollama {
            for (name, value) in [("repeat_penalty", json!(1.3)), ("mirostat", json!(2)), ("unheard_of", json!(1))] {
                let mut body = running("What is lost?");
                body["options"][name] = value;
                assert_refused(&server.http().post("/api/chat", &body).await, &format!("options.{name}"));
            }
        }
        assert_eq!(server.upstream_calls(), 0, "{kind:?}");
        server.stop().await;
    }
}

/// How a model is to be run at an Ollama, around a question.
fn running(prompt: &str) -> Value {
    json!({"model": "mock", "stream": false, "keep_alive": "5m", "think": true,
        "options": {"num_predict": 100, "temperature": 0.5, "num_ctx": 4096, "num_gpu": 1, "repeat_penalty": 1.0},
        "messages": [{"role": "user", "content": prompt}]})
}

#[tokio::test]
async fn ollamas_hints_reach_no_provider_that_refuses_them() {
    for kind in ALL {
        let server = strict(kind).await;
        let reply = server.http().post("/api/chat", &running("Who is told?")).await;
        assert_eq!(reply.status, 200, "{kind:?}: {reply:?}");
        let sent = last(&server).json();
        assert_eq!(sent.get("keep_alive").is_some(), kind == ProviderKind::Ollama, "{sent}");
        assert_eq!(sent["options"].get("num_ctx").is_some(), kind == ProviderKind::Ollama, "{sent}");
        server.stop().await;
    }
}

/// A client of OpenAI's means the provider that it names: what it adds is passed on, and judged there.
#[tokio::test]
async fn an_openai_clients_own_words_are_passed_on() {
    let server = strict(ProviderKind::OpenAi).await;
    let mut body = asking("Who knows this word?");
    body["keep_alive"] = json!("5m");
    let reply = server.http().chat(&body).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    assert!(reply.json()["error"]["message"].as_str().unwrap().contains("unknown member keep_alive"), "{reply:?}");
    server.stop().await;
}

/// The order of an assistant's blocks survives where the provider has the concept; elsewhere texts go before calls.
#[tokio::test]
async fn blocks_keep_their_order_between_equals() {
    let call = |id: &str| json!({"type": "tool_use", "id": id, "name": "look", "input": {}});
    let text = |text: &str| json!({"type": "text", "text": text});
    let thought = |signature: &str| json!({"type": "thinking", "thinking": "hm", "signature": signature});
    let blocks = json!([thought("1"), text("First."), call("a"), thought("2"), text("Then."), call("b")]);
    let body = json!({"model": "mock", "max_tokens": 100, "messages": [
        {"role": "user", "content": "Look twice."}, {"role": "assistant", "content": blocks},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "x"},
            {"type": "tool_result", "tool_use_id": "b", "content": "y"}]}],
        "tools": [{"name": "look", "input_schema": {"type": "object"}}]});
    for kind in ALL {
        let server = strict(kind).await;
        let reply = server.http().post("/v1/messages", &body).await;
        assert_eq!(reply.status, 200, "{kind:?}: {reply:?}");
        let sent = last(&server).json();
        match kind {
            ProviderKind::Anthropic => assert_eq!(sent["messages"][1]["content"], blocks),
            ProviderKind::OpenAi => {
                assert_eq!(sent["messages"][1]["content"], json!([text("First."), text("Then.")]));
                assert_eq!(sent["messages"][1]["tool_calls"][1]["id"], "b");
            }
            ProviderKind::Gemini | ProviderKind::Ollama => {}
        }
        server.stop().await;
    }
}

/// The order is a part of the question: who asks in another one is not answered from this one's entry.
#[tokio::test]
async fn another_order_is_another_question() {
    let server = strict(ProviderKind::Anthropic).await;
    let (text, call) = (
        json!({"type": "text", "text": "I look."}),
        json!({"type": "tool_use", "id": "a", "name": "look", "input": {}}),
    );
    let result = json!({"type": "tool_result", "tool_use_id": "a", "content": "x"});
    for (blocks, status) in [(json!([text, call]), "MISS"), (json!([call, text]), "MISS"), (json!([call, text]), "HIT")]
    {
        let body = json!({"model": "mock", "max_tokens": 100, "messages": [{"role": "user", "content": "Look."},
            {"role": "assistant", "content": blocks}, {"role": "user", "content": [result]}]});
        assert_eq!(server.http().post("/v1/messages", &body).await.header("x-ish-cache"), status, "{blocks}");
    }
    server.stop().await;
}

/// Betas and a later version go to Anthropic, and to nobody else; who asks with other betas is answered anew.
#[tokio::test]
async fn anthropics_headers_reach_anthropic_and_are_part_of_the_question() {
    let body =
        json!({"model": "mock", "max_tokens": 100, "messages": [{"role": "user", "content": "Which beta is it?"}]});
    for kind in ALL {
        let server = strict(kind).await;
        let http = server.http().with("anthropic-beta", "b-2,a-1").with("anthropic-beta", "c-3");
        let reply = http.with("anthropic-version", "2026-10-21").post("/v1/messages", &body).await;
        assert_eq!((reply.status.as_u16(), reply.header("x-ish-cache")), (200, "MISS"), "{kind:?}: {reply:?}");
        let headers = last(&server).headers;
        let sent = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let of_anthropic = |value: &str| (kind == ProviderKind::Anthropic).then(|| value.to_owned());
        assert_eq!(sent("anthropic-beta"), of_anthropic("a-1,b-2,c-3"), "{kind:?}");
        assert_eq!(sent("anthropic-version"), of_anthropic("2026-10-21"), "{kind:?}");
        // In another order they are the same; without them the question is another one, whatever the version.
        let same = server.http().with("anthropic-version", "2026-10-21").with("anthropic-beta", "c-3, a-1, b-2");
        assert_eq!(same.post("/v1/messages", &body).await.header("x-ish-cache"), "HIT");
        assert_eq!(server.http().post("/v1/messages", &body).await.header("x-ish-cache"), "MISS");
        for version in ["2023-06-01", "2026-10-21"] {
            let plain = server.http().with("anthropic-version", version);
            assert_eq!(plain.post("/v1/messages", &body).await.header("x-ish-cache"), "HIT");
        }
        let older = server.http().with("anthropic-version", "2023-01-01").post("/v1/messages", &body).await;
        assert_eq!((older.status.as_u16(), &older.json()["error"]["type"]), (400, &json!("invalid_request_error")));
        server.stop().await;
    }
}
