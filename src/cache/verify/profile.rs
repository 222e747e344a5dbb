//! What the verifier needs to know about one prompt, found once and kept beside it.
//!
//! Owns the way from text to tokens and their classes. Leaves comparing two profiles to the guards beside this file.

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use super::numbers::{scale_value, scaled, split_digits, times, word_value};
use super::question::QuestionType;
use super::words::{ALIASES, FILLERS, FUNCTION, NEGATIONS, PHRASAL, holds};
use crate::cache::lexicon::{Lemma, Lexicon};

/// What a token contributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Grammar: articles, prepositions, auxiliaries, pronouns.
    Function,
    /// Framing that any question may have or lack.
    Filler,
    /// A word with a topic.
    Content,
    /// A proper name, or a word that the lexicon does not know.
    Name,
    /// An identifier, path, flag, call or operator: compared letter by letter.
    Code,
    /// A number in one spelling.
    Number,
}

/// One token of the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Lower-cased, contractions and aliases resolved; code keeps its case.
    pub text: String,
    /// What it contributes.
    pub class: Class,
    /// What it may be a form of.
    pub bases: Vec<Lemma>,
    /// The word as the tokenizer of the encoder writes it, to find its vector.
    pub vector_word: String,
    /// A capital inside a sentence says that this is a name.
    pub capitalised: bool,
}

impl Token {
    /// Whether the token says what the text is about.
    pub fn is_topical(&self) -> bool {
        matches!(self.class, Class::Content | Class::Name)
    }
}

/// A prompt as the verifier sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// In the order of the text.
    pub tokens: Vec<Token>,
    /// The numbers in the order of the text.
    pub numbers: Vec<String>,
    /// How many negations there are.
    pub negations: usize,
    /// What is asked for.
    pub question: QuestionType,
    /// The text has letters that are not Latin, or most of its words are unknown: it cannot be judged.
    pub foreign: bool,
}

impl Profile {
    /// Reads a prompt. Costs some microseconds and several small allocations.
    pub fn new(text: &str) -> Self {
        let lexicon = Lexicon::embedded();
        let mut reader = Reader { tokens: Vec::new(), numbers: Vec::new(), lexicon, title_case: is_title_case(text) };
        let mut sentence_start = true;
        for chunk in text.split_whitespace() {
            reader.push_chunk(chunk, sentence_start);
            sentence_start = chunk.ends_with(['.', '!', '?', ':']);
        }
        reader.resolve_phrases();
        let Reader { tokens, numbers, .. } = reader;
        let negations = tokens.iter().filter(|token| holds(NEGATIONS, &token.text)).count();
        let question = QuestionType::of(&tokens);
        let foreign = is_foreign(text, &tokens);
        Self { tokens, numbers, negations, question, foreign }
    }

    /// Whether a word stands in the text.
    pub fn has(&self, word: &str) -> bool {
        self.tokens.iter().any(|token| token.text == word)
    }
}

/// The tokens that have been read so far.
struct Reader {
    tokens: Vec<Token>,
    numbers: Vec<String>,
    lexicon: Lexicon,
    title_case: bool,
}

impl Reader {
    /// Reads what stands between two spaces.
    fn push_chunk(&mut self, chunk: &str, sentence_start: bool) {
        let bare = trim(chunk);
        if bare.is_empty() {
            if is_operator(chunk) {
                self.push(chunk.to_owned(), Class::Code, false);
            }
            return;
        }
        let number = split_digits(bare);
        if number.as_ref().is_some_and(|(_, glued)| glued.contains(|c: char| c.is_ascii_digit())) {
            // "2024-05-03", "3ba17f-12", "5-10": no number with a unit. All of it counts, and no digit is a slip of the pen.
            self.push(bare.to_owned(), Class::Code, true);
        } else if let Some((number, glued)) = number {
            self.push_number(number, glued);
        } else if is_code(bare) {
            self.push(bare.trim_end_matches("()").to_owned(), Class::Code, true);
        } else {
            // "and/or", "state-of-the-art", "red,blue" are several words.
            for part in bare.split(['/', '-', '–', '—', ',', ':', ';', '&', '"', '(', ')', '+', '=']) {
                if !part.is_empty() {
                    self.push_word(part, sentence_start);
                }
            }
        }
    }

    fn push_number(&mut self, number: String, glued: &str) {
        let glued = glued.trim_start_matches('-').to_lowercase();
        let scaled = scaled(&number, &glued);
        let unit = if scaled.is_some() { "" } else { glued.as_str() };
        let number = scaled.unwrap_or(number);
        self.numbers.push(number.clone());
        self.push(number, Class::Number, false);
        if !unit.is_empty() {
            self.push_word(if unit == "%" { "percent" } else { unit }, false);
        }
    }

    fn push_word(&mut self, word: &str, sentence_start: bool) {
        let lower = word.to_lowercase().replace('’', "'");
        let (stem, ending) = split_contraction(&lower);
        let capitalised = !self.title_case && !sentence_start && word.starts_with(char::is_uppercase) && lower != "i";
        if let Some(value) = word_value(stem) {
            self.push_number_word(value);
        } else if let Some(factor) = scale_value(stem) {
            self.scale_number(factor);
        } else if !stem.is_empty() {
            let text = ALIASES.iter().find(|(short, _)| *short == stem).map_or(stem, |&(_, long)| long);
            // "US" is a country and "us" is not.
            let acronym = word.len() > 1 && word.chars().all(char::is_uppercase);
            // "Vitamin A" names something by a letter.
            let letter = word == "A" && capitalised;
            let class = self.classify(text, capitalised, letter || acronym && !self.title_case);
            self.push(text.to_owned(), class, capitalised);
            if let Some(token) = self.tokens.last_mut() {
                token.vector_word = vector_word(stem);
            }
        }
        if !ending.is_empty() {
            self.push(ending.to_owned(), Class::Function, false);
        }
    }

    /// "Twenty five" is 25, "two thousand" is 2000.
    fn push_number_word(&mut self, value: u64) {
        let tens = self.last_number().filter(|&tens| (20..100).contains(&tens) && tens % 10 == 0 && value < 10);
        if let Some(tens) = tens {
            self.replace_last_number((tens + value).to_string());
        } else {
            self.numbers.push(value.to_string());
            self.push(value.to_string(), Class::Number, false);
        }
    }

    fn scale_number(&mut self, factor: u64) {
        match self.last_number() {
            Some(number) => {
                if let Some(product) = times(&number.to_string(), factor) {
                    self.replace_last_number(product);
                }
            }
            None => self.push_number_word(factor),
        }
    }

    fn last_number(&self) -> Option<u64> {
        let last = self.tokens.last().filter(|token| token.class == Class::Number)?;
        last.text.parse().ok()
    }

    fn replace_last_number(&mut self, number: String) {
        if let Some(token) = self.tokens.last_mut() {
            token.text.clone_from(&number);
        }
        self.numbers.pop();
        self.numbers.push(number);
    }

    fn classify(&self, text: &str, capitalised: bool, acronym: bool) -> Class {
        if acronym {
            return Class::Name;
        }
        if holds(FUNCTION, text) || holds(NEGATIONS, text) || is_contraction_ending(text) {
            return Class::Function;
        }
        if holds(FILLERS, text) {
            return Class::Filler;
        }
        let bases = self.lexicon.bases(text);
        let is_name = bases.is_empty() || self.lexicon.find(text).is_some_and(|lemma| self.lexicon.is_name(lemma));
        if capitalised || is_name || text.chars().count() == 1 { Class::Name } else { Class::Content }
    }

    fn push(&mut self, text: String, class: Class, capitalised: bool) {
        let bases = match class {
            Class::Content | Class::Name | Class::Filler => self.lexicon.bases(&text),
            _ => Vec::new(),
        };
        let vector_word = vector_word(&text);
        self.tokens.push(Token { text, class, bases, vector_word, capitalised });
    }

    /// Replaces "turn ... off" by "disable" and the like; the particle may stand up to four words behind.
    fn resolve_phrases(&mut self) {
        for start in 0..self.tokens.len() {
            let verb = self.tokens[start].text.as_str();
            if !PHRASAL.iter().any(|(first, ..)| *first == verb) {
                continue;
            }
            let end = self.tokens.len().min(start + 6);
            let found = (start + 1..end).find_map(|position| {
                let particle = self.tokens[position].text.as_str();
                let phrase = PHRASAL.iter().find(|(first, second, _)| *first == verb && *second == particle)?;
                Some((position, phrase.2))
            });
            if let Some((position, meaning)) = found {
                self.tokens[start].text = meaning.to_owned();
                self.tokens[start].class = Class::Content;
                self.tokens[start].bases = self.lexicon.bases(meaning);
                self.tokens.remove(position);
                return;
            }
        }
    }
}

/// Removes punctuation around a word but keeps what belongs to it: "C++", "C#", "-v", "`f()`".
fn trim(chunk: &str) -> &str {
    let chunk = chunk.trim_matches(['"', '\'', '“', '”', '‘', '’', '`', '*', '?', '!', ';', ',', '…', '«', '»']);
    let chunk = chunk.trim_start_matches(['(', '[', '{', '¿', '¡']).trim_end_matches([':', '.', ',', ';', '?', '!']);
    let chunk = if chunk.contains(['(', '[', '{']) { chunk } else { chunk.trim_end_matches([')', ']', '}']) };
    let chunk = chunk.trim_matches(['"', '\'', '`', '?', '“', '”']);
    if chunk.contains(|c: char| c.is_alphanumeric()) { chunk } else { "" }
}

fn is_operator(chunk: &str) -> bool {
    let chunk = chunk.trim_matches(['"', '\'', '`', '?', ',', '(', ')']);
    !chunk.is_empty() && chunk.chars().all(|c| "=<>!&|+*/%^~:-".contains(c)) && !matches!(chunk, "-" | "--" | ":" | "!")
}

/// Identifiers, paths, flags, calls, file names and names of languages with a sign in them.
fn is_code(word: &str) -> bool {
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    let inner_capital = word.chars().zip(word.chars().skip(1)).any(|(a, b)| a.is_lowercase() && b.is_uppercase());
    let has_digit_inside = word.chars().any(|c| c.is_ascii_digit()) && letters > 0;
    let dotted = word.split('.').count() > 1 && word.split('.').all(|part| part.chars().count() > 1) && letters > 2;
    word.contains(['_', '\\', '<', '>', '{', '[', '(', '@', '#', '$'])
        || word.contains("::")
        || word.contains("->")
        || word.contains("://")
        || word.ends_with("++")
        || (word.starts_with('-') && letters > 0)
        || (word.starts_with(['/', '.', '~']) && letters > 1)
        || word.matches('/').count() > 1
        || inner_capital
        || has_digit_inside
        || dotted
}

/// "Don't" is "do" and "not"; "'s" and the like only bend a word.
fn split_contraction(word: &str) -> (&str, &'static str) {
    match word {
        "can't" | "cant" | "cannot" => return ("can", "not"),
        "won't" | "wont" => return ("will", "not"),
        "shan't" => return ("shall", "not"),
        "dont" => return ("do", "not"),
        "doesnt" => return ("does", "not"),
        "didnt" => return ("did", "not"),
        "isnt" => return ("is", "not"),
        "wanna" => return ("want", "to"),
        "gonna" => return ("going", "to"),
        "whats" => return ("what", "is"),
        "hows" => return ("how", "is"),
        "im" => return ("i", "am"),
        _ => {}
    }
    if let Some(stem) = word.strip_suffix("n't") {
        return (stem, "not");
    }
    for ending in ["'s", "'re", "'ve", "'ll", "'d", "'m", "'"] {
        if let Some(stem) = word.strip_suffix(ending) {
            return (stem, if ending == "'s" { "'s" } else { "" });
        }
    }
    (word, "")
}

fn is_contraction_ending(word: &str) -> bool {
    word.starts_with('\'')
}

/// As the encoder's tokenizer writes the word: its first run of letters and digits, without accents.
fn vector_word(word: &str) -> String {
    let start = word.find(char::is_alphanumeric).unwrap_or(word.len());
    let run = word[start..].split(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
    if run.is_ascii() {
        return run.to_ascii_lowercase();
    }
    let unmarked = run.nfd().filter(|c| c.general_category() != GeneralCategory::NonspacingMark);
    unmarked.flat_map(char::to_lowercase).collect()
}

/// Most words begin with a capital, so that capitals say nothing.
fn is_title_case(text: &str) -> bool {
    let words = text.split_whitespace().filter(|word| word.starts_with(char::is_alphabetic));
    let (all, capitalised) = words.fold((0, 0), |(all, capitalised), word| {
        (all + 1, capitalised + usize::from(word.starts_with(char::is_uppercase)))
    });
    all >= 3 && capitalised * 10 > all * 6
}

/// Letters beyond Latin, or too few English function words and known words to trust the lists.
fn is_foreign(text: &str, tokens: &[Token]) -> bool {
    let beyond_latin =
        |c: char| c.is_alphabetic() && u32::from(c) > 0x24F && !(0x1E00..=0x1EFF).contains(&u32::from(c));
    if text.chars().any(beyond_latin) {
        return true;
    }
    let words = tokens.iter().filter(|token| !matches!(token.class, Class::Number | Class::Code));
    let (all, known) = words.fold((0, 0), |(all, known), token| {
        let is_known = token.class != Class::Name || token.capitalised || !token.bases.is_empty();
        (all + 1, known + usize::from(is_known))
    });
    all >= 3 && known * 2 < all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_class(text: &str, class: Class) -> Vec<String> {
        let tokens = Profile::new(text).tokens;
        tokens.into_iter().filter(|token| token.class == class).map(|token| token.text).collect()
    }

    #[test]
    fn tokens_get_their_class() {
        assert_eq!(
            of_class("Does foo_bar() work with camelCase in C++ or C#?", Class::Code),
            ["foo_bar", "camelCase", "C++", "C#"]
        );
        assert_eq!(of_class("Why did Anna move to lisbon?", Class::Name), ["anna", "lisbon"]);
        assert_eq!(of_class("a == b", Class::Code), ["=="]);
        assert_eq!(of_class("is 3ba17f-12 a 5km or a 5-10 km run", Class::Code), ["3ba17f-12", "5-10"]);
        assert_eq!(of_class("Which bird sings?", Class::Content), ["bird", "sings"]);
    }

    #[test]
    fn numbers_have_one_spelling() {
        let numbers = |text: &str| Profile::new(text).numbers;
        assert_eq!(numbers("twenty five cats, 3 dogs and 2k fish"), ["25", "3", "2000"]);
        assert_eq!(numbers("two thousand"), ["2000"]);
        assert_eq!(numbers("the 2nd of 10km"), ["2", "10"]);
        assert_eq!(numbers("no one knows"), Vec::<String>::new());
    }

    #[test]
    fn negations_are_counted() {
        let negations = |text: &str| Profile::new(text).negations;
        assert_eq!(negations("Why can't I sleep?"), 1);
        assert_eq!(negations("I don’t know why it isn't here"), 2);
        assert_eq!(negations("Is it cold?"), 0);
    }

    #[test]
    fn foreign_text_is_noticed() {
        for text in ["東京はどこ", "Как дела", "wo wohnt der grüne Mann", "مرحبا"] {
            assert!(Profile::new(text).foreign, "{text}");
        }
        assert!(!Profile::new("What is a naïve résumé?").foreign);
    }

    proptest! {
        #[test]
        fn any_text_has_a_profile(text in "\\PC*|(?s).{0,200}") {
            let profile = Profile::new(&text);
            prop_assert_eq!(profile.clone(), Profile::new(&text));
        }
    }
}
