//! Which word of one prompt stands for which word of the other.
//!
//! Owns the alignment by form, spelling and `WordNet` relation. Leaves words without a partner to
//! [`super::substitution`], and what the order of the partners means to [`super::roles`].

use super::profile::{Class, Profile, Token};
use super::question::is_degree;
use crate::cache::lexicon::{Lexicon, Relation};

/// How two words came to be partners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bond {
    /// The same word, perhaps in another form.
    Same,
    /// One is a misspelling of the other.
    Typo,
    /// `WordNet` relates them.
    Related(Relation),
}

/// Partners, and the topical words that have none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Alignment {
    /// Positions in the query, in the cached prompt, and why.
    pub pairs: Vec<(usize, usize, Bond)>,
    /// Topical words of the query without a partner.
    pub query_rest: Vec<usize>,
    /// Topical words of the cached prompt without a partner.
    pub cached_rest: Vec<usize>,
}

impl Alignment {
    /// Aligns the topical words, surest bonds first.
    pub fn new(query: &Profile, cached: &Profile) -> Self {
        let topical = |profile: &Profile| {
            let positions = 0..profile.tokens.len();
            let named = |token: &Token| token.is_topical() || token.class == Class::Code;
            positions.filter(|&position| named(&profile.tokens[position])).collect::<Vec<_>>()
        };
        let mut alignment = Self { pairs: Vec::new(), query_rest: topical(query), cached_rest: topical(cached) };
        let bonds: [fn(&Token, &Token) -> Option<Bond>; 4] = [same_text, same_base, typo, related];
        for bond in bonds {
            alignment.pair_by(query, cached, bond);
        }
        alignment.query_rest.retain(|&position| query.tokens[position].is_topical());
        alignment.cached_rest.retain(|&position| cached.tokens[position].is_topical());
        alignment.drop_framing(query, cached);
        alignment.drop_acronyms(query, cached);
        alignment
    }

    /// Every topical word has a counterpart.
    pub fn is_complete(&self) -> bool {
        self.query_rest.is_empty() && self.cached_rest.is_empty()
    }

    fn pair_by(&mut self, query: &Profile, cached: &Profile, bond: fn(&Token, &Token) -> Option<Bond>) {
        let (pairs, cached_rest) = (&mut self.pairs, &mut self.cached_rest);
        self.query_rest.retain(|&a| {
            let found = cached_rest
                .iter()
                .enumerate()
                .find_map(|(index, &b)| Some((index, b, bond(&query.tokens[a], &cached.tokens[b])?)));
            let Some((index, b, bond)) = found else {
                return true;
            };
            cached_rest.remove(index);
            pairs.push((a, b, bond));
            false
        });
    }

    /// A word left over is explained by a framing word or an identifier of the other side that says the same, or by
    /// the kind of the question: "in what year" for "when".
    fn drop_framing(&mut self, query: &Profile, cached: &Profile) {
        let cued = query.question != cached.question;
        let explained = |token: &Token, other: &Profile| {
            other.question.is_named_by(&token.text)
                || cued && is_degree(&token.text)
                || other.tokens.iter().any(|framing| match framing.class {
                    Class::Filler => same_text(token, framing).or_else(|| same_base(token, framing)).is_some(),
                    Class::Code => framing.text.eq_ignore_ascii_case(&token.text),
                    _ => false,
                })
        };
        self.query_rest.retain(|&position| !explained(&query.tokens[position], cached));
        self.cached_rest.retain(|&position| !explained(&cached.tokens[position], query));
    }

    /// "UK" and "United Kingdom".
    fn drop_acronyms(&mut self, query: &Profile, cached: &Profile) {
        drop_acronyms(query, &mut self.query_rest, cached, &mut self.cached_rest);
        drop_acronyms(cached, &mut self.cached_rest, query, &mut self.query_rest);
    }
}

fn drop_acronyms(short: &Profile, short_rest: &mut Vec<usize>, long: &Profile, long_rest: &mut Vec<usize>) {
    short_rest.retain(|&position| {
        let acronym = &short.tokens[position].text;
        let length = acronym.chars().count();
        if !(2..=5).contains(&length) {
            return true;
        }
        let spelled = long_rest.windows(length).position(|words| {
            words.iter().zip(acronym.chars()).all(|(&word, letter)| long.tokens[word].text.starts_with(letter))
                && words.last().zip(words.first()).is_some_and(|(last, first)| last - first < 2 * length)
        });
        let Some(start) = spelled else {
            return true;
        };
        long_rest.drain(start..start + length);
        false
    });
}

fn same_text(a: &Token, b: &Token) -> Option<Bond> {
    (a.text == b.text || a.text.eq_ignore_ascii_case(&b.text)).then_some(Bond::Same)
}

fn same_base(a: &Token, b: &Token) -> Option<Bond> {
    let without_plural = |text: &str| text.strip_suffix('s').map(str::to_owned);
    let unknown_plural = (a.bases.is_empty() || b.bases.is_empty())
        && (without_plural(&a.text).as_deref() == Some(&b.text) || without_plural(&b.text).as_deref() == Some(&a.text));
    (unknown_plural || a.bases.iter().any(|base| b.bases.contains(base))).then_some(Bond::Same)
}

/// A misspelling is a word that nobody knows beside one like it. Two unknown words are names, which differ for a
/// reason.
fn typo(a: &Token, b: &Token) -> Option<Bond> {
    let (long, short) = if a.text.len() > b.text.len() { (a, b) } else { (b, a) };
    let known = usize::from(!a.bases.is_empty()) + usize::from(!b.bases.is_empty());
    let allowed = match (known, short.text.len()) {
        (2, _) | (_, 0..=4) => return None,
        (1, 5..=7) => 1,
        (1, _) => 2,
        (_, 5..=7) => return None,
        (_, _) => 1,
    };
    let same_start = a.text.chars().next() == b.text.chars().next();
    (same_start && within(&long.text, &short.text, allowed)).then_some(Bond::Typo)
}

/// Whether at most `allowed` letters must be inserted, removed, replaced or swapped with their neighbour.
fn within(a: &str, b: &str, allowed: usize) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > allowed {
        return false;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let above = &rows[i - 1];
            let mut cost = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                cost = cost.min(rows[i - 2][j - 2] + 1);
            }
            row.push(cost);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()] <= allowed
}

fn related(a: &Token, b: &Token) -> Option<Bond> {
    let lexicon = Lexicon::embedded();
    let mut best = None;
    for &x in &a.bases {
        for &y in &b.bases {
            match lexicon.relation(x, y) {
                None => {}
                Some(Relation::Antonym) => return None,
                Some(relation) => best = best.or(Some(relation)),
            }
        }
    }
    let name = a.class == Class::Name || b.class == Class::Name;
    best.filter(|relation| {
        !name || *relation == Relation::Derived || (*relation == Relation::Synonym && a.bases.len() == 1)
    })
    .map(Bond::Related)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(a: &str, b: &str) -> (Vec<String>, Vec<String>) {
        let (a, b) = (Profile::new(a), Profile::new(b));
        let alignment = Alignment::new(&a, &b);
        let texts = |profile: &Profile, rest: &[usize]| {
            rest.iter().map(|&position| profile.tokens[position].text.clone()).collect()
        };
        (texts(&a, &alignment.query_rest), texts(&b, &alignment.cached_rest))
    }

    #[test]
    fn forms_typos_and_synonyms_are_partners() {
        let nothing = (vec![], vec![]);
        assert_eq!(rest("fixing broken cars", "fix a broken automobile"), nothing);
        assert_eq!(rest("my favourit restaurnat", "my favourite restaurant"), nothing);
        assert_eq!(rest("French wine", "wine from France"), nothing);
        assert_eq!(rest("tea in the UK", "tea in the United Kingdom"), nothing);
    }

    #[test]
    fn names_have_no_near_misses() {
        assert_eq!(rest("trips to norway", "trips to sweden"), (vec!["norway".into()], vec!["sweden".into()]));
        assert_eq!(rest("songs by Xandra", "songs by Xandro"), (vec!["xandra".into()], vec!["xandro".into()]));
    }

    #[test]
    fn swapped_neighbours_are_one_mistake() {
        assert!(within("recieve", "receive", 1));
        assert!(!within("receive", "deceiver", 1));
    }
}
