//! Decides whether the answer to one prompt may be given to another.
//!
//! Owns the guards, their order and the presets. Each guard looks for one way in which two prompts that an encoder
//! finds alike differ in meaning; the first that finds one vetoes. Leaves the search for candidates to the index, and
//! who may see an entry to the scope. English only: prompts in other scripts are vetoed here, other languages are
//! kept away before.

mod align;
mod numbers;
mod opposites;
mod profile;
mod question;
mod roles;
mod substitution;
mod words;

use std::fmt;

use self::align::Alignment;
pub use self::profile::Profile;
use self::profile::{Class, Token};
use self::substitution::{Bounds, Side};
use crate::embedding::{Similarity, WordVectors};

/// How much risk is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Preset {
    /// Only near repetitions: no word may be replaced.
    Strict,
    /// The shipped setting.
    #[default]
    Balanced,
    /// More hits where a wrong one costs little.
    Loose,
}

impl Preset {
    /// The lowest similarity that is ever served, where every word has its counterpart; measured for the model in
    /// `models/`.
    pub const fn threshold(self) -> Similarity {
        match self {
            Self::Strict => Similarity::constant(0.90),
            Self::Balanced => Similarity::constant(0.83),
            Self::Loose => Similarity::constant(0.75),
        }
    }

    /// The lowest similarity that is served where a word was replaced or added.
    const fn threshold_of_changed(self) -> Similarity {
        match self {
            Self::Strict => Similarity::constant(0.93),
            Self::Balanced => Similarity::constant(0.86),
            Self::Loose => Similarity::constant(0.80),
        }
    }

    const fn bounds(self) -> Option<Bounds> {
        match self {
            Self::Strict => None,
            Self::Balanced => Some(Bounds { replaced: 0.55, added: 0.55, synonym: 0.3, related: 0.4 }),
            Self::Loose => Some(Bounds { replaced: 0.50, added: 0.48, synonym: 0.3, related: 0.3 }),
        }
    }
}

/// One way in which prompts differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guard {
    /// The cosine is below the threshold.
    Similarity,
    /// A script or language that cannot be judged.
    Script,
    /// Other numbers.
    Numbers,
    /// Negated on one side.
    Negation,
    /// Other identifiers, flags, operators or file names.
    Identifiers,
    /// Another kind of answer is asked for.
    Question,
    /// Opposite words, another obligation, quantity or time.
    Opposites,
    /// Another person, place, product or unknown word.
    Names,
    /// The same words in other roles.
    Roles,
    /// A word was replaced or added.
    Substitution,
}

impl Guard {
    /// The order in which they are asked, cheapest first.
    pub const ALL: [Self; 10] = [
        Self::Similarity,
        Self::Script,
        Self::Numbers,
        Self::Negation,
        Self::Identifiers,
        Self::Question,
        Self::Opposites,
        Self::Names,
        Self::Roles,
        Self::Substitution,
    ];

    /// A short name for metrics and explanations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Similarity => "similarity",
            Self::Script => "script",
            Self::Numbers => "numbers",
            Self::Negation => "negation",
            Self::Identifiers => "identifiers",
            Self::Question => "question",
            Self::Opposites => "opposites",
            Self::Names => "names",
            Self::Roles => "roles",
            Self::Substitution => "substitution",
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What one guard said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Which one.
    pub guard: Guard,
    /// Whether it let the pair pass.
    pub passed: bool,
    /// What it found; empty if it passed.
    pub detail: String,
}

/// What all guards said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The answer may be reused.
    pub serve: bool,
    /// Every guard, in the order of [`Guard::ALL`].
    pub checks: Vec<Check>,
}

/// One prompt, as both sides of a comparison are given.
pub type Prompt<'a> = (&'a Profile, &'a WordVectors);

/// Asks every guard, for an explanation. A caller may raise the preset's threshold, never lower it.
pub fn verify(
    preset: Preset,
    threshold: Option<Similarity>,
    similarity: Similarity,
    query: Prompt<'_>,
    cached: Prompt<'_>,
) -> Verdict {
    let pair = Pair::new(preset, threshold, similarity, query, cached);
    let checks: Vec<Check> = Guard::ALL
        .into_iter()
        .map(|guard| {
            let found = pair.ask(guard);
            Check { guard, passed: found.is_none(), detail: found.unwrap_or_default() }
        })
        .collect();
    Verdict { serve: checks.iter().all(|check| check.passed), checks }
}

/// Stops at the first veto and names its guard; `None` means that the answer may be reused.
pub fn veto(
    preset: Preset,
    threshold: Option<Similarity>,
    similarity: Similarity,
    query: Prompt<'_>,
    cached: Prompt<'_>,
) -> Option<Guard> {
    if similarity < at_least(preset.threshold(), threshold) {
        return Some(Guard::Similarity);
    }
    let pair = Pair::new(preset, threshold, similarity, query, cached);
    Guard::ALL.into_iter().find(|&guard| pair.ask(guard).is_some())
}

fn at_least(own: Similarity, wanted: Option<Similarity>) -> Similarity {
    wanted.filter(|wanted| *wanted > own).unwrap_or(own)
}

/// Two prompts side by side.
struct Pair<'a> {
    required: Similarity,
    similarity: Similarity,
    bounds: Option<Bounds>,
    query: Side<'a>,
    cached: Side<'a>,
    alignment: Alignment,
}

impl<'a> Pair<'a> {
    fn new(
        preset: Preset,
        threshold: Option<Similarity>,
        similarity: Similarity,
        query: Prompt<'a>,
        cached: Prompt<'a>,
    ) -> Self {
        // An encoder that gives no word vectors cannot justify a replaced word.
        let blind = query.1.is_empty() || cached.1.is_empty();
        let preset = if blind { Preset::Strict } else { preset };
        let alignment = Alignment::new(query.0, cached.0);
        let own = if alignment.is_complete() { preset.threshold() } else { preset.threshold_of_changed() };
        Self {
            required: at_least(own, threshold),
            similarity,
            bounds: preset.bounds(),
            query: Side { profile: query.0, vectors: query.1 },
            cached: Side { profile: cached.0, vectors: cached.1 },
            alignment,
        }
    }

    /// What the guard has against this pair.
    fn ask(&self, guard: Guard) -> Option<String> {
        let (query, cached) = (self.query.profile, self.cached.profile);
        match guard {
            Guard::Similarity => {
                (self.similarity < self.required).then(|| format!("{} is below {}", self.similarity, self.required))
            }
            Guard::Script => (query.foreign || cached.foreign).then(|| "not readable as English".to_owned()),
            Guard::Numbers => {
                (query.numbers != cached.numbers).then(|| format!("{:?} is not {:?}", query.numbers, cached.numbers))
            }
            Guard::Negation => (query.negations % 2 != cached.negations % 2)
                .then(|| format!("{} negations, and {}", query.negations, cached.negations)),
            Guard::Identifiers => lone_identifier(query, cached).or_else(|| lone_identifier(cached, query)),
            Guard::Question => other_question(query, cached),
            Guard::Opposites => opposites::found(query, cached),
            Guard::Names => self.lone_name(),
            Guard::Roles => roles::swapped(query, cached, &self.alignment)
                .map(|(a, b)| format!("\"{a}\" and \"{b}\" change places")),
            Guard::Substitution => self.substitution(),
        }
    }

    fn lone_name(&self) -> Option<String> {
        let lone = |profile: &Profile, rest: &[usize]| {
            let mut tokens = rest.iter().map(|&position| &profile.tokens[position]);
            tokens.find(|token| token.class == Class::Name).map(|token| format!("only one side has \"{}\"", token.text))
        };
        lone(self.query.profile, &self.alignment.query_rest)
            .or_else(|| lone(self.cached.profile, &self.alignment.cached_rest))
    }

    fn substitution(&self) -> Option<String> {
        if let Some(bounds) = self.bounds {
            return substitution::unexplained(self.query, self.cached, &self.alignment, bounds);
        }
        let lone = self.alignment.query_rest.first().map(|&position| &self.query.profile.tokens[position]);
        let lone = lone.or_else(|| Some(&self.cached.profile.tokens[*self.alignment.cached_rest.first()?]));
        lone.map(|token| format!("only one side has \"{}\"", token.text))
    }
}

fn other_question(query: &Profile, cached: &Profile) -> Option<String> {
    if !query.question.agrees(&query.tokens, cached.question, &cached.tokens) {
        return Some(format!("{:?} is not {:?}", query.question, cached.question));
    }
    if question::asks_for_actor(&query.tokens, &cached.tokens)
        || question::asks_for_actor(&cached.tokens, &query.tokens)
    {
        return Some("one asks who acts, the other who is acted on".to_owned());
    }
    if !question::asks_what_it_is(&query.tokens) && !question::asks_what_it_is(&cached.tokens) {
        return None;
    }
    let (a, b) = (question::ending(&query.tokens), question::ending(&cached.tokens));
    (a != b).then(|| format!("one ends with \"{}\"", a.or(b).unwrap_or_default()))
}

/// An identifier of one side that the other has not.
fn lone_identifier(profile: &Profile, other: &Profile) -> Option<String> {
    let mut code = profile.tokens.iter().filter(|token| token.class == Class::Code);
    let has = |token: &Token| other.tokens.iter().any(|other| other.text.eq_ignore_ascii_case(&token.text));
    code.find(|token| !has(token)).map(|token| format!("only one side has \"{}\"", token.text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::embedding::Embedded;
    use crate::embedding::minilm::Encoder;

    const PAIRS: &str = include_str!("../../tests/fixtures/pairs.tsv");

    struct Case {
        same: bool,
        texts: [&'static str; 2],
        profiles: [Profile; 2],
        embedded: [Embedded; 2],
    }

    impl Case {
        fn similarity(&self) -> Similarity {
            self.embedded[0].embedding.cosine(&self.embedded[1].embedding)
        }

        fn prompt(&self, side: usize) -> Prompt<'_> {
            (&self.profiles[side], &self.embedded[side].words)
        }

        fn verdict(&self, preset: Preset) -> Verdict {
            verify(preset, None, self.similarity(), self.prompt(0), self.prompt(1))
        }
    }

    fn cases() -> Vec<Case> {
        let encoder = Encoder::load().unwrap();
        let rows = PAIRS.lines().skip(1).map(|row| {
            let fields: Vec<&str> = row.split('\t').collect();
            let [_, label, a, b] = fields[..] else { panic!("{row}") };
            let embedded = encoder.embed(&[a.to_owned(), b.to_owned()]).unwrap().try_into().unwrap();
            Case { same: label == "match", texts: [a, b], profiles: [a, b].map(Profile::new), embedded }
        });
        rows.collect()
    }

    #[test]
    fn no_different_pair_is_served_and_most_alike_ones_are() {
        let (mut alike, mut alike_served, mut different) = (0, 0, 0);
        for case in cases() {
            let verdict = case.verdict(Preset::Balanced);
            if case.same {
                alike += 1;
                alike_served += usize::from(verdict.serve);
            } else {
                different += 1;
                assert!(!verdict.serve, "{:?} {}", case.texts, case.similarity());
            }
            let first = veto(Preset::Balanced, None, case.similarity(), case.prompt(0), case.prompt(1));
            let failed = verdict.checks.iter().find(|check| !check.passed).map(|check| check.guard);
            assert_eq!(first, failed, "{:?}", case.texts);
        }
        assert!(alike >= 40 && different >= 60, "{alike} {different}");
        assert!(alike_served * 10 >= alike * 7, "{alike_served} of {alike}");
    }

    #[test]
    fn presets_are_ordered_and_a_caller_can_only_tighten() {
        for case in cases() {
            let [strict, balanced, loose] =
                [Preset::Strict, Preset::Balanced, Preset::Loose].map(|preset| case.verdict(preset).serve);
            assert!(!strict || balanced, "{:?}", case.texts);
            assert!(!balanced || loose, "{:?}", case.texts);
            let ask = |threshold| {
                veto(Preset::Balanced, Similarity::new(threshold), case.similarity(), case.prompt(0), case.prompt(1))
            };
            assert_eq!(ask(0.1).is_none(), balanced, "{:?}", case.texts);
            assert!(ask(1.0).is_some() || case.similarity() >= Similarity::MAX, "{:?}", case.texts);
        }
    }

    #[test]
    fn without_word_vectors_no_word_may_be_replaced() {
        let none = WordVectors::default();
        let ask = |a: &str, b: &str| {
            veto(Preset::Loose, None, Similarity::MAX, (&Profile::new(a), &none), (&Profile::new(b), &none))
        };
        assert_eq!(ask("how do I bake a cake", "How can I bake cakes?"), None);
        assert_eq!(ask("how do I decorate a cake", "how do I cover a cake"), Some(Guard::Substitution));
    }

    #[test]
    fn every_guard_has_its_say() {
        let vetoes = [
            ("rent a van for 3 days", "rent a van for 4 days", Guard::Numbers),
            ("does it rain", "doesn't it rain", Guard::Negation),
            ("what does os.walk do", "what does os.stat do", Guard::Identifiers),
            ("where is order 3ba17fdf-12", "where is order 3ba17fdf-14", Guard::Identifiers),
            ("what happened on 2024-05-03", "what happened on 2024-05-04", Guard::Identifiers),
            ("when do owls hunt", "why do owls hunt", Guard::Question),
            ("how do I inhale", "how do I exhale", Guard::Opposites),
            ("fly to oslo", "fly to bergen", Guard::Names),
            ("why do wolves hunt bears", "why do bears hunt wolves", Guard::Roles),
            ("рецепт", "рецепт", Guard::Script),
        ];
        let none = WordVectors::default();
        for (a, b, guard) in vetoes {
            let (query, cached) = (Profile::new(a), Profile::new(b));
            let found = veto(Preset::Balanced, None, Similarity::MAX, (&query, &none), (&cached, &none));
            assert_eq!(found, Some(guard), "{a} | {b}");
        }
    }

    proptest! {
        #[test]
        fn any_two_texts_can_be_compared(a in "\\PC{0,80}|[a-z ]{0,60}", b in "\\PC{0,80}|[a-z ]{0,60}") {
            let none = WordVectors::default();
            let (x, y) = (Profile::new(&a), Profile::new(&b));
            let there = veto(Preset::Balanced, None, Similarity::MAX, (&x, &none), (&y, &none));
            let back = veto(Preset::Balanced, None, Similarity::MAX, (&y, &none), (&x, &none));
            prop_assert_eq!(there.is_none(), back.is_none());
        }
    }
}
