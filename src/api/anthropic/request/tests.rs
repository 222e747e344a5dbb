//! Requests of Anthropic's, and what they become.

use proptest::prelude::*;

use super::*;
use crate::message::JsonObject;

fn made(body: &str) -> Result<String, InvalidRequest> {
    let object = JsonObject::parse(body.as_bytes()).map_err(InvalidRequest::from)?;
    canonical(&Node::root(object), "standard").map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

fn fault(body: &str) -> (Option<String>, String) {
    let fault = made(body).unwrap_err();
    (fault.param, fault.message)
}

#[test]
fn a_conversation_with_tools_images_and_signed_reasoning_keeps_all_of_it() {
    insta::assert_snapshot!(
        made(
            r#"{"model":"claude","max_tokens":100,"temperature":0.5,"top_k":5,"stop_sequences":["END"],"stream":true,
            "metadata":{"user_id":"u1"},"service_tier":"standard_only","thinking":{"type":"enabled","budget_tokens":50},
            "system":[{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}],
            "messages":[
            {"role":"user","content":[{"type":"text","text":"What is it?"},
                {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}},
                {"type":"image","source":{"type":"url","url":"https://example.com/x.png"}},
                {"type":"document","title":"d.pdf","source":{"type":"base64","media_type":"application/pdf","data":"BBBB"}}]},
            {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s1"},{"type":"redacted_thinking","data":"r"},
                {"type":"text","text":"I look."},
                {"type":"tool_use","id":"t1","name":"look","input":{"z":1,"a":2}},{"type":"tool_use","id":"t2","name":"look","input":{}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"red"},
                {"type":"tool_result","tool_use_id":"t2","is_error":true,"content":[{"type":"text","text":"blue"}]},
                {"type":"text","text":"So?"}]}],
            "tools":[{"name":"look","description":"Looks.","input_schema":{"type":"object","properties":{"z":{},"a":{}}},"strict":true,"cache_control":{"type":"ephemeral"}}],
            "tool_choice":{"type":"tool","name":"look","disable_parallel_tool_use":true},
            "output_config":{"effort":"low","format":{"type":"json_schema","schema":{"type":"object"}},"task_budget":7}}"#
        )
        .unwrap()
        .replace(",\"", ",\n\"")
    );
}

#[test]
fn a_plain_question_is_what_it_is_in_openais_dialect() {
    let wanted = r#"{"model":"standard","messages":[{"role":"system","content":"s"},{"role":"user","content":"hi"}],"max_tokens":9}"#;
    for body in [
        r#"{"max_tokens":9,"system":"s","messages":[{"role":"user","content":"hi"}]}"#,
        r#"{"max_tokens":9,"system":[{"type":"text","text":"s"}],"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}"#,
        r#"{"max_tokens":9,"system":"s","messages":[{"role":"user","content":"hi"}],"cache":{"ttl":5},"stream":false}"#,
    ] {
        assert_eq!(made(body).unwrap(), wanted);
    }
}

#[test]
fn what_has_no_place_is_refused_by_name() {
    let with = |members: &str| format!(r#"{{"messages":[{{"role":"user","content":"x"}}],{members}}}"#);
    let block = |block: &str| format!(r#"{{"messages":[{{"role":"user","content":[{block}]}}]}}"#);
    for (body, param) in [
        (r#"{"model":"m"}"#.to_owned(), "messages"),
        (r#"{"messages":[{"role":"robot","content":"x"}]}"#.to_owned(), "messages[0].role"),
        (r#"{"messages":[{"role":"user"}]}"#.to_owned(), "messages[0].content"),
        (r#"{"messages":[{"role":"user","content":7}]}"#.to_owned(), "messages[0].content"),
        (r#"{"messages":[{"role":"user","content":"x","name":"n"}]}"#.to_owned(), "messages[0].name"),
        (block(r#"{"type":"search_result"}"#), "messages[0].content[0].type"),
        (block(r#"{"type":"text","text":7}"#), "messages[0].content[0].text"),
        (block(r#"{"type":"image","source":{"type":"file","file_id":"f"}}"#), "messages[0].content[0].source.type"),
        (block(r#"{"type":"tool_result"}"#), "messages[0].content[0].tool_use_id"),
        (
            block(r#"{"type":"tool_result","tool_use_id":"a"},{"type":"tool_result","tool_use_id":"a"}"#),
            "messages[0].content[1].tool_use_id",
        ),
        (
            r#"{"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}},{"type":"tool_use","id":"a","name":"g","input":{}}]}]}"#.to_owned(),
            "messages[0].content[1].id",
        ),
        (with(r#""model":7"#), "model"),
        (with(r#""max_tokens":"many""#), "max_tokens"),
        (with(r#""stream":"yes""#), "stream"),
        (with(r#""temperature":"hot""#), "temperature"),
        (with(r#""system":7"#), "system"),
        (with(r#""stop_sequences":"END""#), "stop_sequences"),
        (with(r#""stop":"END""#), "stop"),
        (with(r#""n":2"#), "n"),
        (with(r#""mcp_servers":[]"#), "mcp_servers"),
        (with(r#""metadata":{"team":"x"}"#), "metadata.team"),
        (with(r#""tools":[{"type":"web_search_20250305","name":"w"}]"#), "tools[0].type"),
        (with(r#""tools":[{"name":"f","input_examples":[]}]"#), "tools[0].input_examples"),
        (with(r#""tool_choice":{"type":"never"}"#), "tool_choice.type"),
        (with(r#""output_config":{"format":{"type":"xml"}}"#), "output_config.format.type"),
    ] {
        let (named, message) = fault(&body);
        assert_eq!(named.as_deref(), Some(param), "{body}: {message}");
        assert!(message.contains(&format!("`{param}`")), "{message}");
    }
}

#[test]
fn an_order_of_its_own_is_kept_and_the_usual_one_is_not_said() {
    let order = |blocks: &str| {
        let body = format!(r#"{{"messages":[{{"role":"assistant","content":[{blocks}]}}]}}"#);
        let made: serde_json::Value = serde_json::from_str(&made(&body).unwrap()).unwrap();
        made["messages"][0]["block_order"].clone()
    };
    let text = r#"{"type":"text","text":"x"}"#;
    let call = |id: &str| format!(r#"{{"type":"tool_use","id":"{id}","name":"f","input":{{}}}}"#);
    let thought = |signature: &str| format!(r#"{{"type":"thinking","thinking":"x","signature":"{signature}"}}"#);
    let usual = [thought("s"), text.to_owned(), text.to_owned(), call("a"), call("b")].join(",");
    assert_eq!(order(&usual), json!(null));
    assert_eq!(order(&[call("a"), text.to_owned(), thought("s")].join(",")), json!(["tool_use", "text", "thinking"]));
    // What Anthropic is not sent has no place: an empty text, reasoning without a signature.
    let silent = [call("a"), r#"{"type":"text","text":""}"#.to_owned(), thought("")].join(",");
    assert_eq!(order(&silent), json!(null));
}

proptest! {
    #[test]
    fn never_panics_on_arbitrary_json(value in crate::api::node::any_json()) {
        let _ = made(&value.to_string());
        let _ = made(&json!({"messages": value}).to_string());
        let _ = made(&json!({"messages": [{"role": "user", "content": value}], "tools": value, "tool_choice": value, "output_config": value}).to_string());
        let _ = made(&json!({"messages": [{"role": "assistant", "content": [value]}], "system": value, "metadata": value}).to_string());
        for kind in ["text", "image", "document", "tool_use", "tool_result", "thinking"] {
            let mut block = value.clone();
            if let Some(members) = block.as_object_mut() {
                members.insert("type".to_owned(), kind.into());
            }
            let _ = made(&json!({"messages": [{"role": "user", "content": [block]}, {"role": "assistant", "content": [block]}]}).to_string());
        }
    }
}
