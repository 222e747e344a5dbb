//! Questions about what something costs or what a currency is worth at the moment.

use super::super::words::Words;

/// What something costs, as against how prices come about.
pub(super) fn price(words: &Words) -> Option<&'static str> {
    #[rustfmt::skip]
    const THEORY: &[&str] = &[
    "elasticity", "discrimination", "ceiling", "floor", "index", "mechanism", "theory", "determined", "set by",
    "calculated", "affects", "affect", "factors", "define", "definition", "why", "works", "earnings", "gouging",
    "opportunity cost", "cost benefit", "marginal", "fixing", "does price", "cost function", "how do stock",
    "how are", "how do prices", "price action", "price tag", "sunk cost", "cost accounting", "mean", "formula",
    "invented", "model", "effect", "relationship", "law of",
    ];
    const ASKED: &[&str] = &[
        "price of",
        "prices of",
        "stock price",
        "share price",
        "stock prices",
        "price today",
        "how much is",
        "how much are",
        "how much does",
        "how much do",
        "market cap",
        "trading at",
        "cost of living in",
        "house prices",
        "oil prices",
        "bitcoin price",
        "gold price",
        "ethereum price",
        "stock doing",
        "market doing",
        "stocks to buy",
        "mortgage rates",
        "going rate",
        "price in",
        "best deal",
        "on sale",
        "prices for",
        "ticket price",
        "bitcoin worth",
        "stock worth",
    ];
    let is_bare = words.ends_with("price") && words.iter().count() <= 3;
    let cue = words.first_of(ASKED).or(is_bare.then_some("price"))?;
    // "How much does an elephant weigh" asks for no price.
    let asks_amount = cue.starts_with("how much");
    let is_money = words.has_any(&[
        "cost",
        "costs",
        "price",
        "worth",
        "bitcoin",
        "ethereum",
        "btc",
        "barrel",
        "ounce",
        "eth",
        "iphone",
        "ticket",
        "tickets",
        "dollar",
        "dollars",
        "euro",
        "rent",
        "gas",
        "gold",
        "silver",
        "stock",
        "tesla",
        "subscription",
        "charge",
        "pay",
        "fee",
    ]);
    let is_asked = if asks_amount { is_money } else { true };
    (is_asked && !words.has_any(THEORY)).then_some(cue)
}

/// What one currency is worth in another.
pub(super) fn exchange(text: &str, words: &Words) -> Option<&'static str> {
    const CURRENCIES: &[&str] = &[
        "usd",
        "eur",
        "gbp",
        "inr",
        "jpy",
        "cny",
        "aud",
        "cad",
        "dollars",
        "euros",
        "pounds sterling",
        "rupees",
        "yen",
        "btc",
        "pesos",
    ];
    let rate = words.has("exchange rate")
        && !words.has_any(&["how", "why", "define", "mean", "fixed", "floating", "nominal", "affect", "a"]);
    let two = CURRENCIES.iter().filter(|currency| words.has(currency)).count() >= 2 && words.has_any(&["to", "in"]);
    let worth = text.contains(['$', '€', '£'])
        && words.has_any(&["in euros", "in dollars", "in rupees", "to euros", "to rupees"]);
    (rate || worth || (two && !words.has_any(&["why", "history"]))).then_some("exchange rate")
}
