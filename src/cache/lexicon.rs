//! What `WordNet` knows about single English words, read in place from the table that is embedded in the binary.
//!
//! Owns look-ups, base forms ("ran" is "run") and the relations between two words. Leaves what a relation means for
//! two prompts to [`super::verify`]. The table is made by `scripts/build_lexicon.py`; the rules of detachment are
//! those of `WordNet`'s own `morphy`.

/// 3 MB, see `models/README.md`.
static TABLE: &[u8] = include_bytes!("../../models/lexicon.bin");

/// A word of the table; numbers follow the alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lemma(u32);

/// Parts of speech, as bits of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts(u8);

impl Parts {
    /// Nouns.
    pub const NOUN: Self = Self(1);
    /// Verbs.
    pub const VERB: Self = Self(2);
    /// Adjectives.
    pub const ADJECTIVE: Self = Self(4);
    /// Adverbs.
    pub const ADVERB: Self = Self(8);

    /// Whether the two sets share a part of speech.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// How two words are related, if they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// One of their frequent meanings is the same.
    Synonym,
    /// One is made from the other: "drive" and "driver", "France" and "French".
    Derived,
    /// Adjectives of one cluster: "large" and "vast".
    Similar,
    /// One is a kind of the other, in one step: "dog" and "canine".
    Hypernym,
    /// They are opposites: "open" and "close".
    Antonym,
}

/// Kinds of a lemma's links below this are senses, by part of speech.
const ANTONYM: u32 = 4;
const DERIVATION: u32 = 5;
const HYPERNYM: u32 = 0;
const SIMILAR: u32 = 1;
const OPPOSITE: u32 = 2;
const NUMBER_BITS: u32 = 28;

/// The lexicographer's file of persons and of places in `WordNet`.
const LOCATION_FILE: u8 = 15;
const PERSON_FILE: u8 = 18;
/// Animals, artifacts, body parts, foods, places, natural objects, persons, plants, substances and times.
const CONCRETE_FILES: [u8; 10] = [5, 6, 8, 13, 15, 17, 18, 20, 27, 28];
const INSTANCE: u8 = 0x80;

/// The table. Copying it copies a few offsets.
#[derive(Debug, Clone, Copy)]
pub struct Lexicon {
    lemmas: Strings,
    flags: &'static [u8],
    lemma_links: Lists,
    synset_links: Lists,
    irregular: Strings,
    irregular_lemmas: &'static [u8],
}

impl Lexicon {
    /// The table inside the binary. Finds its parts, reads nothing.
    pub fn embedded() -> Self {
        let mut reader = Reader(&TABLE[4..]);
        let [lemmas, synsets, irregular] = [reader.number(), reader.number(), reader.number()];
        let lemma_texts = Strings::read(&mut reader, lemmas);
        let flags = reader.take(lemmas.next_multiple_of(4));
        let lemma_links = Lists::read(&mut reader, lemmas);
        let synset_links = Lists::read(&mut reader, synsets);
        let irregular_forms = Strings::read(&mut reader, irregular);
        let irregular_lemmas = reader.take(4 * irregular);
        Self { lemmas: lemma_texts, flags, lemma_links, synset_links, irregular: irregular_forms, irregular_lemmas }
    }

    /// Finds a lower-cased word as it stands.
    pub fn find(self, word: &str) -> Option<Lemma> {
        self.lemmas.find(word).map(Lemma)
    }

    /// The word of a lemma.
    pub fn text(self, lemma: Lemma) -> &'static str {
        self.lemmas.get(lemma.0)
    }

    /// Every lemma that a lower-cased `word` may be a form of, the word itself first, without repetition.
    pub fn bases(self, word: &str) -> Vec<Lemma> {
        let mut bases: Vec<Lemma> = self.find(word).into_iter().collect();
        let mut form = self.irregular.first(word);
        while form < self.irregular.count && self.irregular.get(form) == word {
            push_new(&mut bases, Lemma(number_at(self.irregular_lemmas, form)));
            form += 1;
        }
        for &(ending, replacement, parts) in DETACHMENTS {
            let Some(stem) = word.strip_suffix(ending).filter(|stem| stem.len() > 1) else {
                continue;
            };
            let mut base = [0; 40];
            let length = stem.len() + replacement.len();
            let Some(base) = base.get_mut(..length) else { continue };
            base[..stem.len()].copy_from_slice(stem.as_bytes());
            base[stem.len()..].copy_from_slice(replacement.as_bytes());
            let found = str::from_utf8(base).ok().and_then(|base| self.find(base));
            for lemma in found.into_iter().filter(|&lemma| self.parts(lemma).meets(parts)) {
                push_new(&mut bases, lemma);
            }
        }
        bases
    }

    /// As which parts of speech a lemma is used.
    pub fn parts(self, lemma: Lemma) -> Parts {
        let senses = self.lemma_links.get(lemma.0).filter(|link| kind(*link) < ANTONYM);
        Parts(senses.fold(0, |parts, link| parts | 1 << kind(link)))
    }

    /// Whether the word mostly names an individual: a place, a person, a work.
    pub fn is_name(self, lemma: Lemma) -> bool {
        self.flags[lemma.0 as usize] & INSTANCE != 0
    }

    /// Whether the word mostly names a place.
    pub fn is_place(self, lemma: Lemma) -> bool {
        self.file(lemma) == LOCATION_FILE
    }

    /// Whether the word mostly names a kind of person, or a person.
    pub fn is_person(self, lemma: Lemma) -> bool {
        self.file(lemma) == PERSON_FILE
    }

    fn file(self, lemma: Lemma) -> u8 {
        self.flags[lemma.0 as usize] & 0x3F
    }

    /// How two lemmas are related; opposites first, since they are near synonyms in every other respect.
    pub fn relation(self, a: Lemma, b: Lemma) -> Option<Relation> {
        if a == b {
            return Some(Relation::Synonym);
        }
        if self.are_opposite(a, b) {
            return Some(Relation::Antonym);
        }
        if self.senses(a).any(|sense| self.senses(b).any(|other| sense == other)) {
            return Some(Relation::Synonym);
        }
        if self.linked(a, DERIVATION).any(|other| other == b) {
            return Some(Relation::Derived);
        }
        if self.senses(a).any(|a| self.senses(b).any(|b| self.synsets_linked(a, b, SIMILAR))) {
            return Some(Relation::Similar);
        }
        let is_hypernym = |a, b| self.senses(a).any(|a| self.senses(b).any(|b| self.synsets_linked(a, b, HYPERNYM)));
        is_hypernym(a, b).then_some(Relation::Hypernym)
    }

    /// Opposites by themselves, or adjectives whose clusters are opposite ("arid" and "wet").
    pub fn are_opposite(self, a: Lemma, b: Lemma) -> bool {
        self.linked(a, ANTONYM).any(|other| other == b)
            || self.cluster_heads(a).any(|head| {
                let opposites = self.synset_links.get(head).filter(|link| kind(*link) == OPPOSITE).map(number);
                opposites.into_iter().any(|opposite| self.cluster_heads(b).any(|head| head == opposite))
            })
    }

    /// Two names for animals, body parts, foods, places, persons, plants, substances or times: what `WordNet` does not
    /// relate among these is different, since its synonyms for things are nearly complete.
    pub fn are_of_one_concrete_kind(self, a: Lemma, b: Lemma) -> bool {
        a != b && self.file(a) == self.file(b) && CONCRETE_FILES.contains(&self.file(a))
    }

    /// Different kinds of one thing, within two steps of kinship: "dog" and "cat", "chicago" and "boston".
    pub fn are_cousins(self, a: Lemma, b: Lemma) -> bool {
        let above = |lemma| self.first_noun(lemma).into_iter().flat_map(move |sense| self.hypernyms(sense));
        let near = |lemma| above(lemma).flat_map(move |sense| std::iter::once(sense).chain(self.hypernyms(sense)));
        a != b && above(a).any(|sense| near(b).any(|other| sense == other))
            || above(b).any(|sense| near(a).any(|other| sense == other))
    }

    fn first_noun(self, lemma: Lemma) -> Option<u32> {
        self.lemma_links.get(lemma.0).find(|link| kind(*link) == 0).map(number)
    }

    fn hypernyms(self, sense: u32) -> impl Iterator<Item = u32> {
        self.synset_links.get(sense).filter(|link| kind(*link) == HYPERNYM).map(number)
    }

    /// The first adjective sense and the heads of its cluster.
    fn cluster_heads(self, lemma: Lemma) -> impl Iterator<Item = u32> {
        let first = self.lemma_links.get(lemma.0).find(|link| kind(*link) == 2).map(number);
        let similar = move |sense| self.synset_links.get(sense).filter(|link| kind(*link) == SIMILAR).map(number);
        first.into_iter().flat_map(move |sense| std::iter::once(sense).chain(similar(sense)))
    }

    fn senses(self, lemma: Lemma) -> impl Iterator<Item = u32> {
        self.lemma_links.get(lemma.0).filter(|link| kind(*link) < ANTONYM).map(number)
    }

    /// The lemmas that are linked to this one.
    fn linked(self, lemma: Lemma, wanted: u32) -> impl Iterator<Item = Lemma> {
        self.lemma_links.get(lemma.0).filter(move |link| kind(*link) == wanted).map(|link| Lemma(number(link)))
    }

    fn synsets_linked(self, a: u32, b: u32, wanted: u32) -> bool {
        let reaches = |from, to| self.synset_links.get(from).any(|link| kind(link) == wanted && number(link) == to);
        reaches(a, b) || reaches(b, a)
    }
}

/// Ending, what takes its place, and which parts of speech it can end.
const DETACHMENTS: &[(&str, &str, Parts)] = &[
    ("s", "", Parts::NOUN),
    ("ses", "s", Parts::NOUN),
    ("ves", "f", Parts::NOUN),
    ("xes", "x", Parts::NOUN),
    ("zes", "z", Parts::NOUN),
    ("ches", "ch", Parts::NOUN),
    ("shes", "sh", Parts::NOUN),
    ("men", "man", Parts::NOUN),
    ("ies", "y", Parts::NOUN),
    ("s", "", Parts::VERB),
    ("ies", "y", Parts::VERB),
    ("es", "e", Parts::VERB),
    ("es", "", Parts::VERB),
    ("ed", "e", Parts::VERB),
    ("ed", "", Parts::VERB),
    ("ing", "e", Parts::VERB),
    ("ing", "", Parts::VERB),
    ("er", "", Parts::ADJECTIVE),
    ("est", "", Parts::ADJECTIVE),
    ("er", "e", Parts::ADJECTIVE),
    ("est", "e", Parts::ADJECTIVE),
    ("ier", "y", Parts::ADJECTIVE),
    ("iest", "y", Parts::ADJECTIVE),
    ("ly", "", Parts::ADJECTIVE),
    ("ily", "y", Parts::ADJECTIVE),
];

fn push_new(bases: &mut Vec<Lemma>, lemma: Lemma) {
    if !bases.contains(&lemma) {
        bases.push(lemma);
    }
}

const fn kind(link: u32) -> u32 {
    link >> NUMBER_BITS
}

const fn number(link: u32) -> u32 {
    link & ((1 << NUMBER_BITS) - 1)
}

fn number_at(bytes: &[u8], index: u32) -> u32 {
    bytes.as_chunks::<4>().0.get(index as usize).map_or(0, |&bytes| u32::from_le_bytes(bytes))
}

/// Sorted strings: their ends, then their bytes.
#[derive(Debug, Clone, Copy)]
struct Strings {
    count: u32,
    ends: &'static [u8],
    bytes: &'static [u8],
}

impl Strings {
    fn read(reader: &mut Reader, count: usize) -> Self {
        let ends = reader.take(4 * (count + 1));
        let length = number_at(ends, count as u32) as usize;
        let bytes = &reader.take(length.next_multiple_of(4))[..length];
        Self { count: count as u32, ends, bytes }
    }

    /// Only what is asked for is validated: the whole would cost more than all look-ups of a prompt.
    fn get(self, index: u32) -> &'static str {
        str::from_utf8(self.raw(index)).expect("invariant: the embedded lexicon holds UTF-8")
    }

    fn raw(self, index: u32) -> &'static [u8] {
        &self.bytes[number_at(self.ends, index) as usize..number_at(self.ends, index + 1) as usize]
    }

    /// The first string that is not less than `word`.
    fn first(self, word: &str) -> u32 {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = u32::midpoint(low, high);
            if self.raw(middle) < word.as_bytes() { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn find(self, word: &str) -> Option<u32> {
        Some(self.first(word)).filter(|&index| index < self.count && self.raw(index) == word.as_bytes())
    }
}

/// Lists of links: their ends, then the links.
#[derive(Debug, Clone, Copy)]
struct Lists {
    ends: &'static [u8],
    links: &'static [u8],
}

impl Lists {
    fn read(reader: &mut Reader, count: usize) -> Self {
        let ends = reader.take(4 * (count + 1));
        let links = reader.take(4 * number_at(ends, count as u32) as usize);
        Self { ends, links }
    }

    fn get(self, index: u32) -> impl Iterator<Item = u32> {
        (number_at(self.ends, index)..number_at(self.ends, index + 1)).map(move |link| number_at(self.links, link))
    }
}

/// What is left of the table while its parts are found.
struct Reader(&'static [u8]);

impl Reader {
    fn take(&mut self, length: usize) -> &'static [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn number(&mut self) -> usize {
        number_at(self.take(4), 0) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn related(a: &str, b: &str) -> Option<Relation> {
        let lexicon = Lexicon::embedded();
        lexicon.relation(lexicon.find(a)?, lexicon.find(b)?)
    }

    fn bases(word: &str) -> Vec<&'static str> {
        let lexicon = Lexicon::embedded();
        lexicon.bases(word).into_iter().map(|lemma| lexicon.text(lemma)).collect()
    }

    #[test]
    fn the_table_is_read_to_its_end() {
        let lexicon = Lexicon::embedded();
        assert_eq!(lexicon.lemmas.count, 83_253);
        assert!(lexicon.lemmas.get(0) < lexicon.lemmas.get(1));
        assert_eq!(lexicon.irregular_lemmas.len() / 4, 4890);
    }

    #[test]
    fn forms_lead_to_their_bases() {
        assert!(bases("countries").contains(&"country"));
        assert!(bases("ran").contains(&"run"));
        assert!(bases("running").contains(&"run"));
        assert!(bases("children").contains(&"child"));
        assert!(bases("biggest").contains(&"big"));
        assert!(bases("baking").contains(&"bake"));
        assert_eq!(bases("qwzzk"), Vec::<&str>::new());
    }

    #[test]
    fn relations_of_the_database_are_found() {
        assert_eq!(related("buy", "sell"), Some(Relation::Antonym));
        assert_eq!(related("large", "small"), Some(Relation::Antonym));
        assert_eq!(related("arid", "wet"), Some(Relation::Antonym));
        assert_eq!(related("car", "automobile"), Some(Relation::Synonym));
        assert_eq!(related("inventor", "invent"), Some(Relation::Derived));
        assert_eq!(related("poodle", "dog"), Some(Relation::Hypernym));
        assert_eq!(related("table", "cloud"), None);
        assert_eq!(related("france", "spain"), None);
    }

    #[test]
    fn names_are_told_from_kinds() {
        let lexicon = Lexicon::embedded();
        let is_name = |word| lexicon.find(word).is_some_and(|lemma| lexicon.is_name(lemma));
        assert!(is_name("france") && is_name("einstein"));
        assert!(!is_name("country") && !is_name("python"));
    }

    proptest! {
        #[test]
        fn any_word_may_be_asked_for(word in "\\PC{0,60}") {
            let lexicon = Lexicon::embedded();
            for lemma in lexicon.bases(&word) {
                prop_assert_eq!(lexicon.find(lexicon.text(lemma)), Some(lemma));
            }
        }
    }
}
