//! What a run asks, request by request.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::Mix;

/// Where the request bodies of a run come from.
#[derive(Clone, Debug)]
pub enum Prompts {
    /// Always these bytes.
    Body(Bytes),
    /// These prompts in turn, byte for byte the same each time round.
    InTurn(Arc<[String]>),
    /// These prompts in turn, with one to eight blanks before each word, so that hardly two
    /// bodies of a run are equal although they say the same.
    Respaced {
        /// The prompts.
        prompts: Arc<[String]>,
        /// How many spacings to leave out; different runs with different ones share no body.
        skip: u64,
    },
    /// Every prompt a new one. Runs with different `salt`s share no prompt.
    Unique {
        /// Tells this run's prompts from those of other runs.
        salt: u64,
    },
    /// Questions as people ask them, in several wordings.
    Mixed(Arc<Mix>),
    /// Every prompt a new one that ends with a directive of the provider's, such as `fault=cut after=3`, in turn; asked of the
    /// model `mock-alt`, so that a server that turns from it has `mock` left.
    Directed {
        /// Tells this run's prompts from those of other runs.
        salt: u64,
        /// What stands between the double brackets.
        directives: Arc<[String]>,
    },
    /// The same as bodies of `POST /api/chat`: messages of stored conversations, each of a new one.
    Stored {
        /// Tells this run's prompts from those of other runs.
        salt: u64,
    },
}

const THINGS: [&str; 16] = [
    "rain", "granite", "sleep", "traffic", "sugar", "music", "salt", "wind", "glass", "yeast", "light", "paper",
    "iron", "noise", "sand", "steam",
];

impl Prompts {
    /// Whether a reply can be the one to request `number`.
    pub(super) fn accept(&self, number: u64, reply: &[u8]) -> bool {
        match self {
            Self::Mixed(mix) => mix.is_answered(number, reply),
            _ => true,
        }
    }

    /// The body of request `number`.
    pub(super) fn body(&self, number: u64, stream: bool) -> Bytes {
        match self {
            Self::Body(bytes) => bytes.clone(),
            Self::InTurn(prompts) => chat(pick(prompts, number), stream),
            Self::Respaced { prompts, skip } => {
                let round = skip + number / prompts.len().max(1) as u64;
                chat(&respaced(pick(prompts, number), round), stream)
            }
            Self::Unique { salt } => chat(&unique(*salt, number), stream),
            Self::Mixed(mix) => chat(mix.prompt(number), stream),
            Self::Directed { salt, directives } => {
                let prompt = format!("{} [[{}]]", unique(*salt, number), pick(directives, number));
                chat_with("mock-alt", &prompt, stream)
            }
            Self::Stored { salt } => json!({ "model": "mock", "message": unique(*salt, number) }).to_string().into(),
        }
    }
}

/// A chat request of one user message to the model `mock`, as bytes.
pub fn chat(prompt: &str, stream: bool) -> Bytes {
    chat_with("mock", prompt, stream)
}

fn chat_with(model: &str, prompt: &str, stream: bool) -> Bytes {
    let mut request = json!({ "model": model, "messages": [{ "role": "user", "content": prompt }] });
    if stream {
        request["stream"] = true.into();
    }
    request.to_string().into()
}

fn pick(prompts: &[String], number: u64) -> &str {
    prompts.get((number % prompts.len().max(1) as u64) as usize).map_or("", String::as_str)
}

/// Writes `round` in base 8 as the number of blanks before each word. There is always one before the first, so that the
/// prompt's own bytes never come out.
fn respaced(prompt: &str, mut round: u64) -> String {
    let mut text = String::with_capacity(prompt.len() + 64);
    for word in prompt.split_whitespace() {
        text.push_str(&"        "[..=(round % 8) as usize]);
        text.push_str(word);
        round /= 8;
    }
    text
}

/// Question `number` of the run `salt`: different subjects and a different number, so that no honest cache can take one for
/// another.
pub fn unique(salt: u64, number: u64) -> String {
    let thing = |shift: u32| THINGS[(number >> shift) as usize % THINGS.len()];
    format!("Explain what {} does to {} near {} in case {salt}{number:08}", thing(0), thing(4), thing(8))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn unique_prompts_never_repeat() {
        let prompts = Prompts::Unique { salt: 7 };
        let bodies: HashSet<Bytes> = (0..5000).map(|number| prompts.body(number, false)).collect();
        assert_eq!(bodies.len(), 5000);
    }

    #[test]
    fn directives_come_in_turn_to_a_model_of_their_own() {
        let directives = ["fault=cut".to_owned(), "fault=503".to_owned()].into();
        let prompts = Prompts::Directed { salt: 1, directives };
        for (number, end) in [(0, "[[fault=cut]]"), (1, "[[fault=503]]"), (2, "[[fault=cut]]")] {
            let body: serde_json::Value = serde_json::from_slice(&prompts.body(number, false)).unwrap();
            assert_eq!(body["model"], "mock-alt");
            assert!(body["messages"][0]["content"].as_str().unwrap().ends_with(end), "{body}");
        }
    }

    #[test]
    fn respaced_prompts_differ_in_blanks_only() {
        let prompts = ["how do i reset my password".to_owned()].into();
        let prompts = Prompts::Respaced { prompts, skip: 0 };
        let bodies: HashSet<Bytes> = (0..1024).map(|number| prompts.body(number, true)).collect();
        assert_eq!(bodies.len(), 1024);
        assert_eq!(respaced("a  b c", 0), " a b c");
        assert_eq!(respaced("a b c", 15), "        a  b c");
    }
}
