//! Keys: exact (the canonical request), normalized (its last turn with meaning-preserving rewrites undone) and the
//! partition of the index. All three hold the scope's digest.

use super::canonical::canonical;
use super::context::{is_standalone, is_standalone_repeat};
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
        let exact = Digest::of("ish exact v1", &[&digest.0, messages.as_bytes()]);
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
    let context_bytes = context.map_or([0; 32], |digest| digest.0);
    let normalized = Digest::of("ish normalized v1", &[&scope.0, &context_bytes, normalize(prompt).as_bytes()]);
    let partition = Digest::of("ish partition v1", &[&scope.0, &context_bytes]);
    Some(MatchKeys { place: Place { normalized, partition }, standalone, context })
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
