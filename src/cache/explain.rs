//! The explanation of one look-up: what was asked, in which scope, what each step found, what each guard said, and the
//! rule that decided. Written only when somebody wants to read it.

use std::time::Duration;

use serde::Serialize;

use super::key::Keys;
use super::scope::{Digest, Scope};
use super::verify::Verdict;

/// How a hit matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// The canonical request was the same.
    Exact,
    /// The last turn was the same but for rewrites that keep its meaning.
    Normalized,
    /// The last turn means the same, verified.
    Semantic,
}

impl How {
    /// The word in metrics and frames.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Normalized => "normalized",
            Self::Semantic => "semantic",
        }
    }
}

/// Which tier answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// In the process.
    L1,
    /// In the Redis that instances share.
    L2,
    /// The store.
    L3,
}

impl Tier {
    /// The word in metrics and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::L3 => "l3",
        }
    }
}

/// The question as the cache reads it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ExplainedRequest {
    /// The last turn.
    pub prompt: String,
    /// The same, normalized.
    pub normalized: String,
    /// The public model name.
    pub model: String,
    /// Its language, as far as a cheap look can tell.
    pub language: &'static str,
    /// Whether it is understood without what came before.
    pub standalone: bool,
    /// How quickly its answer ages.
    pub freshness: String,
    /// Whether it may be matched by meaning.
    pub semantic_eligible: bool,
    /// Why not.
    pub why_not: Option<String>,
}

/// One step of the look-up.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// `exact`, `normalized`, `embedding`, `index`, `verifier`.
    pub step: &'static str,
    /// The tier, where one was asked.
    pub tier: Option<Tier>,
    /// `hit`, `miss`, `skipped`.
    pub result: &'static str,
    /// How long it took.
    pub ms: f64,
    /// What there is to say.
    pub detail: String,
}

/// One guard's word.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainedCheck {
    /// The guard.
    pub guard: &'static str,
    /// Whether it let the candidate pass.
    pub passed: bool,
    /// What it saw.
    pub detail: String,
}

/// One neighbour and the verdict on it.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainedNeighbour {
    /// Its exact key.
    pub key: Digest,
    /// Its question.
    pub prompt: String,
    /// Cosine.
    pub similarity: f32,
    /// What it had to reach.
    pub threshold: f32,
    /// Whether its answer may be served.
    pub serve: bool,
    /// Whether a user reported this pair.
    pub blocked: bool,
    /// Each guard.
    pub checks: Vec<ExplainedCheck>,
}

/// The three keys.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ExplainedKeys {
    /// Of the canonical request.
    pub exact: Option<Digest>,
    /// Of the normalized last turn.
    pub normalized: Option<Digest>,
    /// Of the index's partition.
    pub partition: Option<Digest>,
}

/// One look-up, explained.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// `hit`, `miss`, `bypass` or `collapsed`.
    pub decision: &'static str,
    /// How a hit matched.
    pub how: Option<How>,
    /// The rule that decided, as a sentence.
    pub rule: String,
    /// The question.
    pub request: ExplainedRequest,
    /// The scope; `None` where none was made.
    pub scope: Option<Scope>,
    /// Digest of the turns before the last, where those must be equal.
    pub context: Option<Digest>,
    /// The keys.
    pub keys: ExplainedKeys,
    /// The steps in their order.
    pub steps: Vec<Step>,
    /// The neighbours looked at, nearest first.
    pub neighbours: Vec<ExplainedNeighbour>,
}

impl Explanation {
    pub(super) fn new(request: ExplainedRequest) -> Self {
        Self {
            decision: "miss",
            how: None,
            rule: String::new(),
            request,
            scope: None,
            context: None,
            keys: ExplainedKeys::default(),
            steps: Vec::new(),
            neighbours: Vec::new(),
        }
    }

    pub(super) fn with_keys(&mut self, scope: &Scope, keys: &Keys) {
        self.scope = Some(scope.clone());
        self.context = keys.matching.as_ref().and_then(|matching| matching.context);
        let place = keys.place();
        self.keys = ExplainedKeys {
            exact: Some(keys.exact),
            normalized: place.map(|place| place.normalized),
            partition: place.map(|place| place.partition),
        };
    }

    pub(super) fn step(
        &mut self,
        step: &'static str,
        tier: Option<Tier>,
        result: &'static str,
        took: Duration,
        detail: String,
    ) {
        self.steps.push(Step { step, tier, result, ms: took.as_secs_f64() * 1000.0, detail });
    }

    /// The look-up missed, but an equal request was in flight.
    pub fn join_flight(&mut self) {
        self.decide(
            "collapsed",
            None,
            "an equal request was already being answered: this one shares its upstream call".to_owned(),
        );
    }

    /// The look-up missed, but the answer of an equal request was stored before an upstream call began.
    pub fn land(&mut self, how: How) {
        self.decide("hit", Some(how), "an equal request was answered while this one was looked up".to_owned());
    }

    /// Takes out what would show a person what others asked: the steps' findings and times, and every neighbour but
    /// `known`, an entry that this person was answered from before.
    pub fn veil(&mut self, known: Option<Digest>) {
        self.neighbours.retain(|neighbour| Some(neighbour.key) == known);
        if known.is_none() {
            self.steps.clear();
            let rule = "people share this scope: what others asked before is shown to admin keys only";
            self.decide("miss", None, rule.to_owned());
        }
    }

    pub(super) fn decide(&mut self, decision: &'static str, how: Option<How>, rule: String) {
        self.decision = decision;
        self.how = how;
        self.rule = rule;
    }
}

/// A verdict in the words of the explanation.
pub(super) fn checks(verdict: &Verdict) -> Vec<ExplainedCheck> {
    let explain = |check: &super::verify::Check| ExplainedCheck {
        guard: check.guard.name(),
        passed: check.passed,
        detail: check.detail.clone(),
    };
    verdict.checks.iter().map(explain).collect()
}
