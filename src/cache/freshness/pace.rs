//! How fast the facts move that a prompt asks for, where it is not tied to the moment.

use super::super::words::Words;
use super::{Freshness, is_recent_year};

/// How fast the facts asked for move, for a prompt that is none of the above.
pub(super) fn pace(words: &Words) -> Freshness {
    #[rustfmt::skip]
    const FAST: &[&str] = &[
    "recent", "recently", "what 's new in", "what is new in", "new features in", "release date", "still alive",
    "soon", "rumors", "coming out", "is it worth buying", "best stocks", "best deals", "going to win",
    "predictions for", "latest version", "now",
    ];
    #[rustfmt::skip]
    const SLOW: &[&str] = &[
    "who is the president", "president of", "prime minister", "ceo of", "the ceo", "king of", "queen of",
    "mayor of", "governor of", "the pope", "chancellor of", "world champion", "richest", "population of",
    "how many people live", "net worth", "how old is", "how old are", "world record", "highest grossing",
    "most followed", "most popular", "most expensive", "tallest building", "best", "top 10", "top ten", "is still",
    "are still", "salary", "inflation rate", "interest rate", "interest rates", "minimum wage", "unemployment rate",
    "gdp", "tax rate", "who owns", "married to", "dating", "nowadays", "version of", "how many users",
    "how many employees", "legal in", "visa", "cost", "price", "cheapest", "subscription", "who is the",
    "currently", "latest", "fastest",
    ];
    let is_dated = words.iter().any(is_recent_year);
    if words.has_any(FAST) {
        Freshness::Fast
    } else if is_dated || words.has_any(SLOW) {
        Freshness::Slow
    } else {
        Freshness::Timeless
    }
}
