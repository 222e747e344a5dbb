//! Rewrites of English words that keep their meaning: contractions, the capital of a sentence's first word, the
//! pronoun "i", and the mark that ends the text.

/// Words that are never a name, a chemical symbol or an abbreviation when they open a sentence, so that their capital
/// only says "a sentence begins". Words with a second reading stay out: May, Will, Mark, Polish, Turkey, Swift, Go,
/// Us, It, He (helium), As (arsenic), In (indium), No, At, Be, I, A.
#[rustfmt::skip]
const ORDINARY: &[&str] = &[
    "what", "how", "why", "when", "where", "which", "who", "whom", "whose", "is", "are", "was", "were", "do",
    "does", "did", "can", "could", "should", "would", "has", "have", "had", "the", "an", "if", "of", "on", "to",
    "for", "from", "with", "and", "or", "but", "by", "about", "there", "this", "that", "these", "those", "my",
    "your", "our", "some", "any", "many", "most", "all", "every", "after", "before", "because", "between", "during",
    "not", "yes", "we", "they", "you", "she", "explain", "describe", "list", "give", "show", "tell", "write",
    "create", "compare", "define", "find", "make", "name", "summarize", "summarise", "translate", "calculate",
    "convert", "generate", "suggest", "help", "provide", "solve", "discuss", "recommend", "outline", "identify",
    "analyze", "analyse", "using", "let", "prove", "implement", "rewrite", "please",
];

/// A contraction has one reading only; "'d" (had, would) and the possessive "'s" are not here.
#[rustfmt::skip]
const CONTRACTIONS: &[(&str, &str)] = &[
    ("don't", "do not"), ("doesn't", "does not"), ("didn't", "did not"), ("isn't", "is not"), ("aren't", "are not"),
    ("wasn't", "was not"), ("weren't", "were not"), ("can't", "cannot"), ("couldn't", "could not"),
    ("won't", "will not"), ("wouldn't", "would not"), ("shouldn't", "should not"), ("haven't", "have not"),
    ("hasn't", "has not"), ("hadn't", "had not"), ("mustn't", "must not"), ("needn't", "need not"), ("i'm", "I am"),
    ("i've", "I have"), ("i'll", "I will"), ("you're", "you are"), ("you've", "you have"), ("you'll", "you will"),
    ("we're", "we are"), ("we've", "we have"), ("we'll", "we will"), ("they're", "they are"),
    ("they've", "they have"), ("they'll", "they will"), ("he'll", "he will"), ("she'll", "she will"),
    ("it'll", "it will"),
];

/// "'s" after these is "is", unless the next word makes it "has".
const IS_CONTRACTIONS: &[(&str, &str)] = &[
    ("what's", "what is"),
    ("how's", "how is"),
    ("where's", "where is"),
    ("who's", "who is"),
    ("when's", "when is"),
    ("why's", "why is"),
    ("that's", "that is"),
    ("there's", "there is"),
    ("here's", "here is"),
    ("whats", "what is"),
];

/// Macros whose name ends in the mark that otherwise ends a sentence.
const BANG_WORDS: &[&str] = &[
    "vec", "print", "println", "eprint", "eprintln", "format", "panic", "assert", "write", "writeln", "dbg", "todo",
    "matches", "not", "bang", "yahoo",
];

/// `prose` with contractions written out and ordinary words folded; `at_start` says that it opens the text.
pub(super) fn fold_words(prose: &str, at_start: bool) -> String {
    let mut out = String::with_capacity(prose.len() + 8);
    let mut opens_sentence = at_start;
    let mut previous = "";
    let mut pieces = prose.split_inclusive([' ', '\n']).peekable();
    while let Some(piece) = pieces.next() {
        let token = piece.trim_end_matches([' ', '\n']);
        let core = token.trim_end_matches([',', ';', ':', '?', '!', '.', ')']);
        let next = pieces.peek().map_or("", |next| next.trim_end());
        match fold(core, opens_sentence, previous, next) {
            Some(folded) => out.push_str(&folded),
            None => out.push_str(core),
        }
        out.push_str(&piece[core.len()..]);
        if !token.is_empty() {
            opens_sentence = token.ends_with(['.', '?', '!']) || piece.ends_with('\n');
            previous = core;
        }
    }
    out
}

/// What `core` is rewritten to, if anything.
fn fold(core: &str, opens_sentence: bool, previous: &str, next: &str) -> Option<String> {
    if core == "i" {
        return is_pronoun_place(previous).then(|| "I".to_owned());
    }
    let is_capital = core.starts_with(|c: char| c.is_ascii_uppercase());
    let is_short_form = core.contains(['\'', '’']) || core.eq_ignore_ascii_case("whats");
    if !(is_capital || is_short_form) || !is_plain_word(core) {
        return None;
    }
    let straight = core.replace('’', "'");
    let lower = straight.to_ascii_lowercase();
    // In the middle of a sentence a capital may be a title's, so it is kept; "I'm" has its own.
    let may_fold = !is_capital || opens_sentence || lower.starts_with("i'");
    if may_fold
        && is_short_form
        && let Some(long) = written_out(&lower, next)
    {
        return Some(long.to_owned());
    }
    if may_fold && is_capital && ORDINARY.contains(&lower.as_str()) {
        return Some(lower);
    }
    is_short_form.then_some(straight)
}

/// Letters and apostrophes only, all small but for perhaps the first; a single capital letter is a name, not a word.
fn is_plain_word(core: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphabetic() || matches!(c, '\'' | '’');
    core.len() > 1 && core.chars().all(is_word) && !core.chars().skip(1).any(|c| c.is_ascii_uppercase())
}

fn written_out(short: &str, next: &str) -> Option<&'static str> {
    long_form(CONTRACTIONS, short).or_else(|| long_form(IS_CONTRACTIONS, short).filter(|_| !may_be_has(next)))
}

fn long_form(table: &[(&str, &'static str)], short: &str) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == short).map(|(_, long)| *long)
}

/// After these an "i" is a person, not a variable or a numeral.
fn is_pronoun_place(previous: &str) -> bool {
    matches!(previous, "do" | "did" | "should" | "am" | "could" | "would" | "have" | "must" | "if" | "when")
}

/// "What's been done", "who's won": there "'s" may stand for "has".
fn may_be_has(next: &str) -> bool {
    let next = next.trim_end_matches(|c: char| !c.is_alphanumeric());
    next.is_empty()
        || next.ends_with("ed")
        || next.ends_with("en")
        || matches!(
            next,
            "got"
                | "gone"
                | "become"
                | "come"
                | "done"
                | "won"
                | "made"
                | "left"
                | "he"
                | "she"
                | "it"
                | "they"
                | "your"
                | "not"
                | "just"
                | "already"
                | "ever"
                | "always"
                | "recently"
                | "since"
                | "lost"
                | "led"
                | "died"
                | "had"
                | "gotten"
        )
}

/// `prose` without the marks that end it, where they only end it: not a factorial, a lone operator, an
/// abbreviation or an ellipsis.
pub(super) fn without_terminal(prose: &str) -> &str {
    let trimmed = prose.trim_end();
    let stripped = trimmed.trim_end_matches(['?', '!', '.', ' ']);
    let marks = &trimmed[stripped.len()..];
    let word = stripped.rsplit([' ', '\n']).next().unwrap_or_default();
    let has_letters = word.chars().any(char::is_alphanumeric);
    let is_ellipsis = marks.contains("..") || marks.contains(". .");
    let is_abbreviation = word.contains('.') && marks.starts_with('.');
    let is_detached = marks.starts_with(' ') && marks.trim() != "?";
    if !has_letters || is_ellipsis || is_abbreviation || is_detached {
        return trimmed;
    }
    let lone = word.chars().all(|c| c.is_ascii_lowercase()) && word.len() > 1 && !BANG_WORDS.contains(&word);
    if marks.starts_with('!') && !lone {
        // "5!?" asks about 5!, so only the question mark goes.
        return trimmed.trim_end_matches('?');
    }
    stripped
}
