//! Words that only one of two prompts has, or that stand in another's place.
//!
//! Owns the decision whether they may be left out of account. The idea, that a replaced word is harmless when the
//! encoder sees the same meaning in its context, is late interaction (`ColBERT`, Khattab and Zaharia 2020) on one
//! encoder's word vectors.

use super::align::{Alignment, Bond};
use super::profile::{Class, Profile, Token};
use super::question::asks_what_it_is;
use super::roles::is_joined;
use super::words::{LIGHT_WORDS, WORKINGS, holds};
use crate::cache::lexicon::{Lexicon, Relation};
use crate::embedding::WordVectors;

/// Bounds on cosines of word vectors in context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// A word and the one in its place.
    pub replaced: f32,
    /// A word and the nearest of the other prompt, where nothing stands in its place.
    pub added: f32,
    /// A word and its `WordNet` synonym.
    pub synonym: f32,
    /// A word and a near relation of it.
    pub related: f32,
}

/// A prompt with its word vectors.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// The tokens.
    pub profile: &'a Profile,
    /// The vectors.
    pub vectors: &'a WordVectors,
}

impl Side<'_> {
    fn token(&self, position: usize) -> &Token {
        &self.profile.tokens[position]
    }

    /// Cosine of one word here and one there; `None` where a vector is missing.
    fn cosine(&self, position: usize, other: &Side<'_>, other_position: usize) -> Option<f32> {
        let here = self.vectors.position(&self.token(position).vector_word, 0)?;
        let there = other.vectors.position(&other.token(other_position).vector_word, 0)?;
        Some(self.vectors.cosine(here, other.vectors, there))
    }

    /// The largest cosine of one word here with any word there that is not grammar and may mean the same.
    fn support(&self, position: usize, other: &Side<'_>, other_rest: &[usize]) -> f32 {
        let words = 0..other.profile.tokens.len();
        let words = words.filter(|&word| !matches!(other.token(word).class, Class::Function | Class::Number));
        let words =
            words.filter(|word| !other_rest.contains(word) || may_replace(self.token(position), other.token(*word)));
        words.filter_map(|word| self.cosine(position, other, word)).fold(-1.0, f32::max)
    }
}

/// The first word that has no counterpart, if there is one, with the reason.
pub fn unexplained(query: Side<'_>, cached: Side<'_>, alignment: &Alignment, bounds: Bounds) -> Option<String> {
    if let Some(weak) = weak_bond(query, cached, alignment, bounds) {
        return Some(weak);
    }
    let mut cached_rest = alignment.cached_rest.clone();
    let mut query_rest = Vec::new();
    for &position in &alignment.query_rest {
        let partners = cached_rest.iter().enumerate();
        let best = partners
            .filter(|(_, other)| may_replace(query.token(position), cached.token(**other)))
            .filter(|(_, other)| !is_joined(query.profile, position) && !is_joined(cached.profile, **other))
            .filter_map(|(index, &other)| Some((index, query.cosine(position, &cached, other)?)))
            .max_by(|a, b| a.1.total_cmp(&b.1));
        match best {
            Some((index, cosine)) if cosine >= bounds.replaced => drop(cached_rest.remove(index)),
            _ => query_rest.push(position),
        }
    }
    let alone = |side: Side<'_>, other: Side<'_>, rest: &[usize], other_rest: &[usize]| {
        rest.iter().find_map(|&position| {
            let support = side.support(position, &other, other_rest);
            let fixed = side.token(position).class == Class::Name || is_joined(side.profile, position);
            (support < bounds.added || fixed)
                .then(|| format!("nothing stands for \"{}\" (nearest {support:.2})", side.token(position).text))
        })
    };
    alone(query, cached, &query_rest, &cached_rest)
        .or_else(|| alone(cached, query, &cached_rest, &query_rest))
        .or_else(|| other_light_word(query, cached, bounds))
}

/// Verbs like "make" and "work" may be missing, but one does not stand for another: how it is made is not how it works.
fn other_light_word(query: Side<'_>, cached: Side<'_>, bounds: Bounds) -> Option<String> {
    let lone = |side: Side<'_>, other: Side<'_>| {
        let positions = 0..side.profile.tokens.len();
        let lone = positions.filter(|&position| {
            let token = side.token(position);
            let known = |base| other.profile.tokens.iter().any(|other| other.bases.contains(base));
            holds(LIGHT_WORDS, &token.text) && !token.bases.iter().any(known)
        });
        lone.collect::<Vec<_>>()
    };
    let (query_lone, cached_lone) = (lone(query, cached), lone(cached, query));
    let workings = |side: Side<'_>, lone: &[usize]| {
        lone.iter().copied().find(|&position| holds(WORKINGS, &side.token(position).text))
    };
    if asks_what_it_is(&query.profile.tokens) != asks_what_it_is(&cached.profile.tokens) {
        let found = workings(query, &query_lone).map(|position| query.token(position));
        let found = found.or_else(|| workings(cached, &cached_lone).map(|position| cached.token(position)));
        if let Some(token) = found {
            return Some(format!("only one side asks what it is, the other has \"{}\"", token.text));
        }
    }
    let (&a, &b) = query_lone.first().zip(cached_lone.first())?;
    let alike = query_lone.iter().any(|&a| {
        cached_lone.iter().any(|&b| query.cosine(a, &cached, b).is_some_and(|cosine| cosine >= bounds.replaced))
    });
    (!alike).then(|| format!("\"{}\" for \"{}\"", query.token(a).text, cached.token(b).text))
}

/// `WordNet`'s relations hold for some meanings of a word; the vectors tell whether these are meant.
fn weak_bond(query: Side<'_>, cached: Side<'_>, alignment: &Alignment, bounds: Bounds) -> Option<String> {
    alignment.pairs.iter().find_map(|&(a, b, bond)| {
        let bound = match bond {
            Bond::Same | Bond::Typo => return None,
            Bond::Related(Relation::Synonym | Relation::Derived) => bounds.synonym,
            Bond::Related(_) => bounds.related,
        };
        let cosine = query.cosine(a, &cached, b).unwrap_or(0.0);
        let (a, b) = (&query.token(a).text, &cached.token(b).text);
        (cosine < bound).then(|| format!("\"{a}\" for \"{b}\" ({cosine:.2})"))
    })
}

/// Names, and two kinds of one thing, never stand for each other, however alike their contexts are.
fn may_replace(a: &Token, b: &Token) -> bool {
    let lexicon = Lexicon::embedded();
    let cousins = || a.bases.iter().any(|&a| b.bases.iter().any(|&b| lexicon.are_cousins(a, b)));
    let same_kind = || a.bases.iter().any(|&a| b.bases.iter().any(|&b| lexicon.are_of_one_concrete_kind(a, b)));
    a.class == Class::Content && b.class == Class::Content && !cousins() && !same_kind()
}
