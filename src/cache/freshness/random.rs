//! Prompts whose answers should differ each time: chance, play and invention.

use super::super::words::Words;
use super::{is_how_to, is_order};

/// The cue that asks for chance or invention, if there is one.
pub(super) fn reason(words: &Words) -> Option<&'static str> {
    if is_how_to(words) {
        return None;
    }
    if let Some(cue) = words.first_of(CHANCE) {
        return Some(cue);
    }
    if let Some(cue) = OPENINGS.iter().copied().find(|opening| words.starts_with(opening)) {
        return Some(cue);
    }
    let general = words.starts_with_any(&[
        "what is",
        "what are",
        "what 's the difference",
        "why",
        "who",
        "when",
        "explain",
        "define",
        "describe",
        "where",
    ]);
    if general {
        return None;
    }
    let made = MAKING.iter().copied().find(|verb| is_order(words, verb)).filter(|_| words.has_any(WORKS));
    made.or_else(|| words.first_of(INVENTION))
}

#[rustfmt::skip]
const CHANCE: &[&str] = &[
    "roll a dice", "roll a die", "roll two dice", "roll the dice", "roll dice", "roll 2d6", "roll a d20",
    "roll d20", "flip a coin", "toss a coin", "heads or tails", "pick a number", "pick a random", "pick a card",
    "pick one", "pick a color", "pick a name", "pick a movie", "pick something", "choose one for me",
    "choose for me", "choose a random", "choose a number", "choose between", "think of a number", "surprise me",
    "give me a random", "a random number between", "random number between", "random fact", "random word",
    "random name", "random password", "random quote", "random joke", "random movie", "random color",
    "random country", "random animal", "random recipe", "random question", "tell me a joke", "tell me another joke",
    "tell me a story", "tell me a riddle", "tell me something", "tell me a fun fact", "a joke about",
    "another joke", "know any jokes", "know any good jokes", "a good joke", "got any jokes", "make me laugh",
    "make me smile", "entertain me", "i 'm bored", "i am bored", "inspire me", "motivate me", "fun fact",
    "lottery numbers", "winning numbers", "shuffle this", "shuffle the", "shuffle these", "magic 8 ball",
    "truth or dare", "would you rather", "draw a card", "draw a tarot", "tarot reading", "say something funny",
    "say something", "generate a uuid", "generate a guid", "generate a password", "generate a strong password",
    "generate a random", "generate random", "generate a secure password", "strong password for", "new password",
    "make up a", "make something up", "invent a", "brainstorm", "come up with", "uuid please", "quote of the day",
    "word of the day", "joke of the day", "riddle me", "ask me a", "quiz me", "give me a quiz", "play a game",
    "let 's play", "rock paper scissors", "give me a writing prompt", "what should i eat", "what should i cook",
    "what should i watch", "what should i name", "what should i call", "name ideas", "gift ideas", "date ideas",
    "guess a number", "guess what number", "give me a joke", "share a joke", "pun about", "a pun",
];

/// Orders whose object is left to chance.
const OPENINGS: &[&str] = &[
    "pick",
    "choose",
    "throw",
    "roll",
    "flip",
    "toss",
    "think of",
    "suggest a name",
    "suggest some names",
    "surprise",
];

/// Verbs of making; with one of `WORKS` they ask for something made up.
const MAKING: &[&str] = &[
    "write", "compose", "create", "generate", "draft", "make", "give me", "suggest", "sing", "imagine", "tell",
    "design", "i need", "i want",
];

#[rustfmt::skip]
const WORKS: &[&str] = &[
    "poem", "poems", "story", "stories", "song", "songs", "haiku", "limerick", "lyrics", "rap", "sonnet", "tweet",
    "caption", "captions", "speech", "screenplay", "dialogue", "joke", "jokes", "riddle", "slogan", "slogans",
    "tagline", "ideas", "names", "nickname", "nicknames", "username", "usernames", "fairy tale", "love letter",
    "short story", "blog post", "character", "backstory", "plot", "novel", "rhyme", "toast", "pickup line",
    "pickup lines", "motto", "jingle", "password", "passwords", "essay", "cover letter", "logo", "message for",
    "birthday wish", "wishes", "prompts", "creative", "fictional", "bedtime",
];

const INVENTION: &[&str] = &[
    "imagine you are",
    "imagine a world",
    "pretend you are",
    "pretend to be",
    "role play",
    "roleplay",
    "freestyle",
    "improvise",
];
