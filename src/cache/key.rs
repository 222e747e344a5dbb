//! Keys: exact (the canonical request), normalized (its last turn with meaning-preserving rewrites undone) and the
//! partition of the index. All three hold the scope's digest.

use super::canonical::canonical;
use super::context::{is_standalone, is_standalone_repeat};
use super::entry::Entry;
use super::index::{EntryId, PartitionId};
use super::normalize::normalize;
use super::scope::{Digest, Scope};
use crate::message::{ChatRequest, JsonObject, Role};

/// What a look-up goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Of the whole canonical request.
    pub exact: Digest,
    /// What only plain-text questions have.
    pub matching: Option<MatchKeys>,
}

/// Where a plain-text question stands besides its exact key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Of the normalized last turn.
    pub normalized: Digest,
    /// Where the index looks.
    pub partition: Digest,
}

impl Place {
    /// The index's name of the partition.
    pub fn partition_id(self) -> PartitionId {
        PartitionId(self.partition.0)
    }
}

/// Keys of a plain-text question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchKeys {
    /// Its further keys.
    pub place: Place,
    /// True when the last turn is understood without what came before.
    pub standalone: bool,
    /// Of the turns before the last; `None` when the last one stands alone.
    pub context: Option<Digest>,
}

impl Keys {
    /// The further keys of a plain-text question.
    pub fn place(&self) -> Option<Place> {
        self.matching.as_ref().map(|keys| keys.place)
    }

    /// The keys of `request` in `scope`.
    ///
    /// # Errors
    /// When the messages cannot be brought into canonical form.
    pub fn of(request: &ChatRequest, scope: &Scope) -> Result<Self, serde_json::Error> {
        let object = JsonObject::parse(&request.body).map_err(serde::de::Error::custom)?;
        let messages = object.get("messages").map_or(Ok(String::new()), |raw| canonical(raw.get()))?;
        let digest = scope.digest();
        let exact = exact_key(digest, &messages);
        Ok(Self { exact, matching: match_keys(request, digest) })
    }

    /// The entry's name in the index.
    pub fn entry_id(&self) -> EntryId {
        entry_id(self.exact)
    }
}

/// The first half of an exact key names its entry in the index.
pub fn entry_id(exact: Digest) -> EntryId {
    let mut half = [0; 16];
    half.copy_from_slice(&exact.0[..16]);
    EntryId(u128::from_be_bytes(half))
}

/// Keys for a request that is plain text throughout: turns of tools and agents match exactly or not at all.
fn match_keys(request: &ChatRequest, scope: Digest) -> Option<MatchKeys> {
    let prompt = request.prompt()?;
    // Also what the operator says: a file or an image in it is in no text that could be matched.
    if request.turns.iter().any(|turn| !turn.text_only) {
        return None;
    }
    let spoken: Vec<_> = request.turns.iter().filter(|turn| turn.role != Role::System).collect();
    // A first turn has nothing before it that it could lean on, unless that is there in short.
    let (earlier, summary) = (&spoken[..spoken.len() - 1], request.summary());
    let is_opening = summary.is_none() && (earlier.is_empty() || is_standalone_repeat(prompt, earlier));
    let standalone = is_opening || is_standalone(prompt);
    let context = (!standalone).then(|| {
        let summary = summary.map(|text| ["summary".as_bytes(), text.as_bytes()]);
        let said = earlier.iter().map(|turn| [turn.role.as_str().as_bytes(), turn.text.as_bytes()]);
        let parts: Vec<&[u8]> = summary.into_iter().chain(said).flatten().collect();
        Digest::of("ish context v1", &parts)
    });
    Some(MatchKeys { place: place(scope, context, prompt), standalone, context })
}

fn exact_key(scope: Digest, messages: &str) -> Digest {
    Digest::of("ish exact v1", &[&scope.0, messages.as_bytes()])
}

fn place(scope: Digest, context: Option<Digest>, prompt: &str) -> Place {
    let context_bytes = context.map_or([0; 32], |digest| digest.0);
    let normalized = Digest::of("ish normalized v1", &[&scope.0, &context_bytes, normalize(prompt).as_bytes()]);
    Place { normalized, partition: Digest::of("ish partition v1", &[&scope.0, &context_bytes]) }
}

/// The keys of an entry of the scope `old` in the scope `new`, as far as what is stored of it tells: each is made for the old
/// scope too, and holds only where that is the one it has. `None` where nobody would find it.
pub(super) fn moved_keys(entry: &Entry, old: &Scope, new: &Scope) -> Option<(Digest, Option<Place>)> {
    let (was, is) = (old.digest(), new.digest());
    let opening = opening(old, &entry.prompt).filter(|messages| exact_key(was, messages) == entry.key);
    let stands_alone = entry.place.is_some_and(|known| known == place(was, None, &entry.prompt));
    let moved_place = stands_alone.then(|| place(is, None, &entry.prompt));
    let key = match opening {
        Some(messages) => exact_key(is, &messages),
        // Its turns are not known: it is found by its text and its meaning, under a name that no request has.
        None => moved_place.map(|_| Digest::of("ish moved v1", &[&is.0, &entry.key.0]))?,
    };
    Some((key, moved_place))
}

/// The messages of a conversation's first question, in canonical form.
fn opening(scope: &Scope, prompt: &str) -> Option<String> {
    let instructions =
        if scope.system.is_empty() { Some(Vec::new()) } else { serde_json::from_str(&scope.system).ok() };
    let instructions: Vec<String> = instructions?;
    let told = instructions.iter().map(|text| (Role::System, text.as_str()));
    let said = told.chain([(Role::User, prompt)]);
    let said: Vec<_> = said.map(|(role, text)| serde_json::json!({"role": role.as_str(), "content": text})).collect();
    canonical(&serde_json::Value::Array(said).to_string()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::language::Language;
    use super::super::scope::{Audience, Visibility};
    use super::*;
    use crate::embedding::EmbedderId;

    /// Of a question with an exchange before it, and a summary of what was said before that.
    fn keys(question: &str, summary: Option<&str>) -> (Scope, Keys) {
        let turns = [(Role::User, "Why do tides turn?"), (Role::Assistant, "The Moon."), (Role::User, question)];
        let instructions = [Some("Be brief."), summary].into_iter().flatten().map(|text| (Role::System, text));
        let turns: Vec<_> = instructions.chain(turns).collect();
        let request = ChatRequest::build("m", &turns, &serde_json::Map::new()).unwrap();
        let request = ChatRequest { summary: summary.map(|_| 1), ..request };
        let audience = Audience { tenant: "t", visibility: Visibility::Tenant, namespace: "" };
        let scope = Scope::of(&request, &audience, Language::English, &EmbedderId::new("e")).unwrap();
        let keys = Keys::of(&request, &scope).unwrap();
        (scope, keys)
    }

    #[test]
    fn a_summary_is_context_and_no_instruction() {
        let places = |question| {
            [None, Some("Bees."), Some("Boats.")].map(|summary| {
                let (scope, keys) = keys(question, summary);
                assert_eq!(scope.system, "[\"Be brief.\"]");
                keys.place().unwrap()
            })
        };
        let [none, bees, boats] = places("And why twice a day?");
        assert!(none != bees && bees != boats && boats != none, "it leans on what was said");
        let [none, bees, boats] = places("What is the capital of France called today?");
        assert!(none == bees && bees == boats, "it stands alone");
        assert_ne!(keys("And why?", Some("Bees.")).1.exact, keys("And why?", Some("Boats.")).1.exact);
    }
}
