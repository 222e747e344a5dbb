//! What is passed on, what is left out, what is refused, and how that is said.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::message::ChatRequest;
use crate::providers::{Call, ReplyMode};

const TO: Addressee<'static> = Addressee { provider: "p", dialect: "Test" };

fn call(members: &str) -> Call {
    let body = format!(r#"{{"model":"m"{members}}}"#);
    let body = if members.contains("\"messages\"") {
        body
    } else {
        body.replacen('{', r#"{"messages":[{"role":"user","content":"x"}],"#, 1)
    };
    Call {
        request: Arc::new(ChatRequest::parse(Bytes::from(body)).unwrap()),
        model: "m".to_owned(),
        mode: ReplyMode::Whole,
        served: crate::message::Served::default(),
    }
}

fn refused(members: &str) -> String {
    let call = call(members);
    let failure = Canonical::of(&call.request.body, TO).and_then(|mut canonical| {
        canonical.take_tools()?;
        canonical.take_tool_choice()?;
        canonical.take_response_format()?;
        canonical.rest()
    });
    let failure = failure.unwrap_err();
    format!(
        "{} {} {}: {failure}",
        failure.kind.as_str(),
        failure.kind.code(),
        failure.param.as_deref().unwrap_or_default()
    )
}

#[test]
fn what_openai_defines_and_nobody_takes_is_refused_by_name() {
    insta::assert_snapshot!(
        [
            refused(r#","seed":7"#),
            refused(r#","logprobs":true"#),
            refused(r#","logit_bias":{"50256":-100}"#),
            refused(r#","tools":[{"type":"web_search"}]"#),
            refused(r#","tools":[{"type":"function","function":{}}]"#),
            refused(r#","tool_choice":"maybe""#),
            refused(r#","tool_choice":{"type":"allowed_tools"}"#),
            refused(r#","response_format":{"type":"grammar"}"#),
            refused(r#","messages":[{"role":"function","name":"f","content":"x"}]"#),
            refused(r#","messages":[{"role":"tool","content":"x"}]"#),
            refused(r#","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///x"}}]}]"#),
            refused(r#","messages":[{"role":"user","content":[{"type":"video","video":1}]}]"#),
            refused(r#","messages":[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"[1"}}]}]"#),
        ]
        .join("\n")
    );
}

#[test]
fn what_asks_for_nothing_is_left_out_and_the_unknown_is_passed_on() {
    let call = call(
        r#","n":1,"logprobs":false,"presence_penalty":0,"seed":null,"user":"u","top_k":5,"thinking":{"b":1,"a":2}"#,
    );
    let rest = Canonical::of(&call.request.body, TO).unwrap().rest().unwrap();
    let rest: Vec<_> = rest.iter().map(|(name, raw)| (name.as_str(), raw.get())).collect();
    assert_eq!(rest, [("top_k", "5"), ("thinking", r#"{"b":1,"a":2}"#)]);
}

#[test]
fn an_outgoing_name_that_is_there_stays() {
    let mut out = Outgoing::default();
    out.put("b", 1);
    out.put("a", "x");
    out.put("b", 2);
    assert_eq!(out.bytes(), &br#"{"b":1,"a":"x"}"#[..]);
}

proptest! {
    #[test]
    fn never_panics_on_odd_messages(content in ".{0,40}", kind in "[a-z_]{0,12}", arguments in ".{0,20}") {
        let (content, kind, arguments) =
            (serde_json::Value::from(content), serde_json::Value::from(kind), serde_json::Value::from(arguments));
        let call = call(&format!(
            r#","messages":[{{"role":"user","content":[{{"type":{kind},"text":{content},"image_url":{{"url":{content}}}}}]}},{{"role":"assistant","tool_calls":[{{"id":"a","function":{{"name":"f","arguments":{arguments}}}}}]}}]"#
        ));
        let _ = Canonical::of(&call.request.body, TO);
    }
}
