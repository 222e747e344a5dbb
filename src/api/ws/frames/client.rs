//! What a client says on the socket, read member by member: a fault names the member, what it held and what it takes. A
//! member that is `null` is absent, but for `parent_id`.

use std::borrow::Cow;
use std::num::{NonZeroU32, NonZeroU64};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::api::node::Node;
use crate::api::params;
use crate::api::whole::Whole;
use crate::cache::CacheControl;
use crate::conversations::{NewTurn, Parent};
use crate::message::{InvalidRequest, JsonFault, JsonObject};
use crate::streams::{Again, Question};
use crate::traces::Incoming;
use crate::users::UserName;

/// Any of them.
pub(in crate::api) enum ClientFrame {
    Hello(HelloFrame),
    Send(Box<SendFrame>),
    Regenerate(RegenerateFrame),
    Cancel { stream: Uuid },
    Resume(ResumeFrame),
    Credit { stream: Uuid, deltas: u64 },
    Refresh { token: String },
    Ping { nonce: Option<Nonce> },
}

/// Why a text is none of them.
#[derive(Debug)]
pub(in crate::api) enum BadFrame {
    /// It is not one JSON object: who speaks is no client of ours.
    NoObject,
    /// It is one that cannot be acted on; with the client's own name for it, as far as that can be read.
    Fault { id: Option<String>, fault: InvalidRequest },
}

/// The first one.
pub(in crate::api) struct HelloFrame {
    pub protocol: u64,
    pub token: Option<String>,
    pub user: Option<UserName>,
    pub credit: Option<u64>,
}

/// A question.
#[derive(Debug)]
pub(in crate::api) struct SendFrame {
    pub id: String,
    content: String,
    conversation: Option<Uuid>,
    parent_id: Parent,
    model: Option<String>,
    system: Option<String>,
    control: CacheControl,
    params: Map<String, Value>,
    /// The trace that it belongs to.
    pub trace: Incoming,
}

/// A wish for a further answer.
#[derive(Debug)]
pub(in crate::api) struct RegenerateFrame {
    pub id: String,
    message: Uuid,
    model: Option<String>,
    control: CacheControl,
    params: Map<String, Value>,
    /// The trace that it belongs to.
    pub trace: Incoming,
}

/// A wish for what is missing of an answer.
#[derive(Debug)]
pub(in crate::api) struct ResumeFrame {
    pub stream: Uuid,
    pub epoch: u32,
    pub after: u64,
}

/// What a client tells its pings apart by; it comes back as it was.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(in crate::api) enum Nonce {
    Text(String),
    Number(i64),
}

const KINDS: &str = "hello, send, regenerate, cancel, resume, credit, refresh or ping";

/// What names a user.
const USER: &str = "PROVIDER/ID";

/// What identifiers take.
const GIVEN: &str = "an identifier that the server gave";

/// Members of a question, on the socket and over REST.
const ASKING: [&str; 6] = ["id", "content", "parent_id", "model", "system", "cache"];

impl ClientFrame {
    /// Reads one.
    pub(in crate::api) fn read(text: &str) -> Result<Self, BadFrame> {
        let read = match JsonObject::parse(text.as_bytes()) {
            Ok(object) => Self::of(&Node::root(object)),
            // It is an object, of which two members have one name: which of them counts, nobody can say.
            Err(JsonFault::Invalid(error)) if error.is_data() && text.trim_ascii_start().starts_with('{') => {
                Err(InvalidRequest { message: format!("the frame cannot be read: {error}"), param: None })
            }
            Err(_) => return Err(BadFrame::NoObject),
        };
        read.map_err(|fault| BadFrame::Fault { id: id_of(text), fault })
    }

    fn of(node: &Node<'_>) -> Result<Self, InvalidRequest> {
        let kind: Cow<'_, str> = node.need("type", KINDS)?;
        Ok(match &*kind {
            "hello" => Self::Hello(HelloFrame::read(node)?),
            "send" => Self::Send(Box::new(SendFrame::read(node)?)),
            "regenerate" => Self::Regenerate(RegenerateFrame::read(node)?),
            "cancel" => {
                node.takes_only("cancel", &["type", "stream"])?;
                Self::Cancel { stream: node.need("stream", GIVEN)? }
            }
            "resume" => Self::Resume(ResumeFrame::read(node)?),
            "credit" => {
                node.takes_only("credit", &["type", "stream", "deltas"])?;
                let Whole(deltas): Whole<NonZeroU64> = node.need("deltas", "a whole number of at least 1")?;
                Self::Credit { stream: node.need("stream", GIVEN)?, deltas: deltas.get() }
            }
            "refresh" => {
                node.takes_only("refresh", &["type", "token"])?;
                Self::Refresh { token: node.need("token", "a key")? }
            }
            "ping" => {
                node.takes_only("ping", &["type", "nonce"])?;
                Self::Ping { nonce: node.read("nonce", "a string or a whole number")? }
            }
            _ => return Err(node.not("type", KINDS)),
        })
    }
}

impl HelloFrame {
    fn read(node: &Node<'_>) -> Result<Self, InvalidRequest> {
        node.takes_only("hello", &["type", "protocol", "token", "user", "credit"])?;
        let Whole(protocol): Whole = node.need("protocol", "1")?;
        let credit: Option<Whole<NonZeroU64>> = node.read("credit", "a whole number of at least 1")?;
        let user: Option<Cow<'_, str>> = node.read("user", USER)?;
        let user = user.map(|name| name.parse().map_err(|_| node.not("user", USER))).transpose()?;
        let token = node.read("token", "a key")?;
        Ok(Self { protocol, token, user, credit: credit.map(|Whole(credit)| credit.get()) })
    }
}

impl SendFrame {
    fn read(node: &Node<'_>) -> Result<Self, InvalidRequest> {
        let conversation = node.read("conversation", GIVEN)?;
        let known = [&["type", "conversation", "params", "traceparent"][..], &ASKING].concat();
        node.takes_only("send", &known)?;
        if conversation.is_none() && node.has("parent_id") {
            let fault = "`parent_id` needs the `conversation` that it belongs to";
            return Err(InvalidRequest::of("parent_id", fault));
        }
        Self::asked(node, conversation, request_id(node)?)
    }

    /// The same as the body of a request: its conversation stands in the path, and it needs no name.
    pub(in crate::api) fn of_body(node: &Node<'_>, conversation: Uuid) -> Result<Self, InvalidRequest> {
        let known = [&["stream", "params"][..], &ASKING].concat();
        node.takes_only("the body", &known)?;
        let id = if node.get("id").is_some() { request_id(node)? } else { crate::clock::new_id().to_string() };
        Self::asked(node, Some(conversation), id)
    }

    fn asked(node: &Node<'_>, conversation: Option<Uuid>, id: String) -> Result<Self, InvalidRequest> {
        Ok(Self {
            id,
            content: node.need("content", "a string")?,
            conversation,
            parent_id: match node.read("parent_id", GIVEN)? {
                Some(parent) => Parent::Message(parent),
                None if node.has("parent_id") => Parent::Start,
                None => Parent::Selected,
            },
            model: node.read("model", "a string")?,
            system: node.read("system", "a string")?,
            control: control(node, "{}")?,
            params: params_of(node)?,
            // A request's stands in its head.
            trace: Incoming::new(node.read("traceparent", "a string")?),
        })
    }

    /// The question.
    pub(in crate::api) fn into_question(self) -> Question {
        let turn = NewTurn {
            conversation: self.conversation,
            parent: self.parent_id,
            client_id: Some(self.id),
            content: self.content,
            system: self.system.filter(|system| !system.is_empty()),
            model: String::new(),
        };
        Question { turn, model: self.model, params: self.params, control: self.control }
    }
}

impl RegenerateFrame {
    fn read(node: &Node<'_>) -> Result<Self, InvalidRequest> {
        node.takes_only("regenerate", &["type", "id", "message", "model", "cache", "params", "traceparent"])?;
        Ok(Self {
            id: request_id(node)?,
            message: node.need("message", GIVEN)?,
            model: node.read("model", "a string")?,
            control: control(node, r#"{"mode":"refresh"}"#)?,
            params: params_of(node)?,
            trace: Incoming::new(node.read("traceparent", "a string")?),
        })
    }

    /// The wish; past the cache unless it says otherwise.
    pub(in crate::api) fn into_again(self) -> Again {
        Again {
            message: self.message,
            client_id: Some(self.id),
            model: self.model,
            params: self.params,
            control: self.control,
        }
    }
}

impl ResumeFrame {
    fn read(node: &Node<'_>) -> Result<Self, InvalidRequest> {
        node.takes_only("resume", &["type", "stream", "epoch", "after"])?;
        let Whole(epoch): Whole<NonZeroU32> = node.need("epoch", "a whole number of at least 1")?;
        let Whole(after): Whole = node.need("after", "a whole number of at least 0")?;
        Ok(Self { stream: node.need("stream", GIVEN)?, epoch: epoch.get(), after })
    }
}

/// Whether a client may name a request so.
pub(in crate::api) fn is_request_id(id: &str) -> bool {
    (1..=64).contains(&id.chars().count())
}

fn request_id(node: &Node<'_>) -> Result<String, InvalidRequest> {
    let expected = "a string of 1 to 64 characters";
    let id: String = node.need("id", expected)?;
    if is_request_id(&id) { Ok(id) } else { Err(node.not("id", expected)) }
}

fn params_of(node: &Node<'_>) -> Result<Map<String, Value>, InvalidRequest> {
    node.child("params")?.map_or_else(|| Ok(Map::new()), |node| params::read(&node))
}

fn control(node: &Node<'_>, default: &str) -> Result<CacheControl, InvalidRequest> {
    CacheControl::of_json(node.get("cache").map_or(default, RawValue::get))
}

/// The name of a frame that has a fault, if it is one that can be told.
fn id_of(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        id: Option<Value>,
    }
    let named: Named = serde_json::from_str(text).ok()?;
    named.id?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> (Option<String>, String) {
        match ClientFrame::read(text) {
            Err(BadFrame::Fault { id, fault }) => (id, fault.message),
            Err(BadFrame::NoObject) => panic!("no object: {text}"),
            Ok(_) => panic!("taken: {text}"),
        }
    }

    #[test]
    fn a_fault_names_the_member_what_it_held_and_what_it_takes() {
        let stream = "01890000-0000-7000-8000-000000000000";
        let faults = [
            "{}".to_owned(),
            r#"{"type":7}"#.to_owned(),
            r#"{"type":"dance"}"#.to_owned(),
            r#"{"type":"hello","protocol":"1"}"#.to_owned(),
            r#"{"type":"hello","protocol":1,"credit":0}"#.to_owned(),
            r#"{"type":"send","content":"x"}"#.to_owned(),
            r#"{"type":"send","id":"","content":"x"}"#.to_owned(),
            r#"{"type":"send","id":"f"}"#.to_owned(),
            r#"{"type":"send","id":"f","content":"\ud800"}"#.to_owned(),
            r#"{"type":"send","id":"f","content":"x","parent_id":null}"#.to_owned(),
            r#"{"type":"send","id":"f","content":"x","temperature":1}"#.to_owned(),
            r#"{"type":"send","id":"f","content":"x","params":{"temperature":-3}}"#.to_owned(),
            r#"{"type":"send","id":"f","content":"x","cache":{"mode":"maybe"}}"#.to_owned(),
            r#"{"type":"send","id":"f","content":"x","content":"y"}"#.to_owned(),
            r#"{"type":"send","id":"f","id":"g","content":"x"}"#.to_owned(),
            r#"{"type":"regenerate","id":"f","message":"7"}"#.to_owned(),
            r#"{"type":"refresh","token":null}"#.to_owned(),
            r#"{"type":"ping","nonce":1.5}"#.to_owned(),
            format!(r#"{{"type":"credit","stream":"{stream}","deltas":-1}}"#),
            format!(r#"{{"type":"resume","stream":"{stream}","epoch":4294967296,"after":0}}"#),
        ];
        let said: Vec<_> = faults.iter().map(|text| fault(text)).collect();
        insta::assert_snapshot!(
            said.iter()
                .map(|(id, message)| format!("{}: {message}", id.as_deref().unwrap_or("-")))
                .collect::<Vec<_>>()
                .join("\n")
        );
    }

    #[test]
    fn what_is_no_object_is_no_frame() {
        for text in
            ["", "hello", "[]", "null", "7", "{", r#"{"type":"ping"} {}"#, r#"{"type" "ping"}"#, "[{\"type\":1}]"]
        {
            assert!(matches!(ClientFrame::read(text), Err(BadFrame::NoObject)), "{text}");
        }
    }

    #[test]
    fn a_whole_number_may_have_a_point_and_null_is_absent() {
        let text = r#"{"type":"hello","protocol":1.0,"token":null,"credit":2.0}"#;
        let Ok(ClientFrame::Hello(hello)) = ClientFrame::read(text) else { panic!("{text}") };
        assert_eq!((hello.protocol, hello.token, hello.credit), (1, None, Some(2)));
    }
}
