//! Pairs that must become equal, pairs that must not, and what holds for any text.

use proptest::prelude::*;

use super::*;

const MERGE: &[(&str, &str)] = &[
    ("What is Rust?", "what is Rust"),
    ("What is Rust?", "What is Rust ?"),
    ("What is Rust?", "What is Rust??"),
    ("What is Rust?", "What is Rust?!"),
    ("What is Rust?", "  What   is\tRust? "),
    ("What is Rust?", "What is Rust\u{ff1f}"),
    ("What is Rust?", "What\u{a0}is Rust?"),
    ("What is Rust?", "What is\u{200b} Rust?"),
    ("What is Rust?", "\u{feff}What is Rust?"),
    ("What's Rust?", "What is Rust?"),
    ("What\u{2019}s Rust?", "What is Rust?"),
    ("whats the capital of France", "What is the capital of France?"),
    ("Please explain recursion", "explain recursion"),
    ("Could you please explain recursion?", "Explain recursion."),
    ("Can you explain recursion?", "Explain recursion"),
    ("Can you please write a test for the parser", "write a test for the parser"),
    ("Hi, what is recursion?", "What is recursion?"),
    ("Hello! What is recursion?", "What is recursion?"),
    ("Hey there, can you tell me what recursion is?", "what recursion is"),
    ("Good morning, how do magnets work", "How do magnets work?"),
    ("Can you tell me how magnets work?", "how magnets work"),
    ("I would like to know how magnets work", "how magnets work"),
    ("Do you know why the sky is blue?", "why the sky is blue"),
    ("How do magnets work, please?", "How do magnets work?"),
    ("How do magnets work please", "How do magnets work"),
    ("How do magnets work? Thanks!", "How do magnets work?"),
    ("How do magnets work? Thank you.", "How do magnets work?"),
    ("How do magnets work? Thanks in advance", "How do magnets work?"),
    ("Why don't cats swim?", "why do not cats swim"),
    ("Why can't dogs eat grapes", "Why cannot dogs eat grapes"),
    ("How do i learn SQL", "How do I learn SQL"),
    ("I'm learning SQL. What should I read?", "I am learning SQL. what should I read"),
    ("Explain TCP. How does it start?", "explain TCP. how does it start"),
    ("List the planets", "list the planets."),
    ("The cat sat on the mat", "the cat sat on the mat"),
    ("caf\u{e9} in Paris, what is the best", "cafe\u{301} in Paris, what is the best"),
    ("What is the \u{fb01}rst prime", "What is the first prime"),
    ("Was ist  Rust?", "Was ist Rust?"),
];

const KEEP_APART: &[(&str, &str)] = &[
    ("What is C?", "What is C++?"),
    ("What is C++?", "What is C#?"),
    ("What is C?", "What is c?"),
    ("What is -5 squared?", "What is 5 squared?"),
    ("Tell US history", "Tell us history"),
    ("Is US strong?", "is us strong"),
    ("What is a.b?", "What is a b?"),
    ("What is 5!", "What is 5"),
    ("What is n!", "What is n"),
    ("What is 2\u{b2}", "What is 22"),
    ("x\u{b2} + 1 is what", "x2 + 1 is what"),
    ("What is 1\u{bd}", "What is 11/2"),
    ("May is when?", "may is when?"),
    ("what may I eat", "what May I eat"),
    ("Polish my shoes", "polish my shoes"),
    ("what is polish", "what is Polish"),
    ("the price of turkey", "the price of Turkey"),
    ("Turkey recipes", "turkey recipes"),
    ("March to where", "march to where"),
    ("Will is who", "will is who"),
    ("He is a noble gas", "he is a noble gas"),
    ("what is It about", "what is it about"),
    ("what is IT about", "what is it about"),
    ("What is AIDS?", "What is aids?"),
    ("What does WHO do?", "What does who do?"),
    ("What is `Foo`?", "What is `foo`?"),
    ("what is `a  b`", "what is `a b`"),
    ("what is \"The  End\"", "what is \"The End\""),
    ("what does 'Let it Be' mean", "what does 'let it be' mean"),
    ("Hello, Dolly plot", "Dolly plot"),
    ("Hello world in C", "world in C"),
    ("Hey Jude lyrics", "Jude lyrics"),
    ("Please Please Me album", "Please Me album"),
    ("How do you say thank you", "How do you say"),
    ("what is another word for please", "what is another word for"),
    ("why do people say thanks", "why do people say"),
    ("Can you swim?", "swim"),
    ("What's changed?", "What is changed?"),
    ("Once upon a time...", "Once upon a time"),
    ("What does ? do", "What does do"),
    ("what does !", "what does"),
    ("What is vec!", "What is vec"),
    ("What does U.S. mean", "What does US mean"),
    ("fix:\n    x = 1", "fix:\nx = 1"),
    ("fix:\n  if a:\n    b", "fix:\n  if a:\n  b"),
    ("Explain a == b", "explain a == b."),
    ("He'd go", "He would go"),
    ("John's book", "John is book"),
    ("is iPhone good", "is iphone good"),
    ("What is 1.5", "What is 15"),
    ("What is 1,5", "What is 15"),
    ("is A good", "is a good"),
    ("do this, not that", "do this not that"),
    ("Can dogs eat grapes", "Can't dogs eat grapes"),
    ("Was ist das Haus", "was ist das haus"),
    ("What is \u{e0041}Rust", "What is Rust"),
    ("what is\u{660}", "what is"),
    ("ls -l what does", "ls -L what does"),
    ("x > y what", "x < y what"),
    ("what is #1", "what is 1"),
    ("what is 5%", "what is 5"),
    ("what is $5", "what is 5"),
];

#[test]
fn same_meaning_merges() {
    for (a, b) in MERGE {
        assert_eq!(normalize(a), normalize(b), "{a:?} and {b:?}");
    }
}

#[test]
fn different_meaning_stays_apart() {
    for (a, b) in KEEP_APART {
        assert_ne!(normalize(a), normalize(b), "{a:?} and {b:?}");
    }
}

#[test]
fn nothing_visible_is_lost_entirely() {
    for text in [
        "?",
        "...",
        "please",
        "Hi!",
        "thanks",
        "Hello",
        "can you please",
        "Thank you!",
        "`",
        "\"",
        "\u{2019}",
        "what is \u{2019} for",
    ] {
        assert!(!normalize(text).is_empty(), "{text:?}");
    }
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec![
            "What", "what's", "is", "the", "Please", "please", "Hi,", "hello", "can you", "could you please", "tell me", "how",
            "don't", "I\u{2019}m", "i", "do", "thanks", "Thank you", "?", "!", ".", "...", ",", "\n", "  ", "\t", "explain", "'s",
            "`Code  X`", "\"Quo te\"", "'", "\u{201c}", "\u{201d}", "```", "    ", "\u{ff40}", "\u{ff02}", "\u{200b}", "\u{b2}",
            "(", ")", "x", "A", "whats", "Good morning", "good", "I'd like to know", "-", "'", "\u{fb01}", "\u{ff5b}", "\u{a0}",
        ]).prop_map(str::to_owned),
        1 => "[A-Z]{2,5}",
        1 => "[-+]?[0-9]{1,4}",
        1 => any::<char>().prop_map(String::from),
    ]
}

fn prompt() -> impl Strategy<Value = String> {
    (prop::collection::vec(piece(), 0..12), any::<bool>())
        .prop_map(|(pieces, spaced)| pieces.join(if spaced { " " } else { "" }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn twice_is_once(text in prompt()) {
        let once = normalize(&text);
        prop_assert_eq!(normalize(&once), once);
    }

    #[test]
    fn any_text_is_taken(text in any::<String>()) {
        let once = normalize(&text);
        prop_assert_eq!(normalize(&once), once);
    }

    #[test]
    fn numbers_capitals_and_code_survive(
        number in "[-+]?[0-9]{1,6}(\\.[0-9]{1,3})?[%°]?",
        capitals in "[A-Z]{2,6}",
        code in "[ -_a-z]{1,12}",
    ) {
        let code = format!("`{code}`");
        let text = format!("Please tell me what {number} and {capitals} mean in {code}, thanks!");
        let normal = normalize(&text);
        for part in [&number, &capitals, &code] {
            prop_assert!(normal.contains(part.as_str()), "{} lost {}", normal, part);
        }
    }
}
