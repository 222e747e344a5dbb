//! Prompts about this moment or this place.

use super::super::words::Words;
use super::{is_about_programs, is_how_to, prices};

/// The cue that ties the prompt to the moment or place of asking, if there is one.
pub(super) fn reason(text: &str, words: &Words) -> Option<&'static str> {
    let is_recipe = is_about_programs(words);
    if is_recipe && (is_how_to(words) || words.starts_with("what does")) {
        return None;
    }
    if let Some(cue) = words.first_of(ALWAYS) {
        return Some(cue);
    }
    let is_term = words.has_any(TERMS);
    if let Some(cue) = words.first_of(DEICTIC).filter(|_| !is_term) {
        return Some(cue);
    }
    now(words)
        .filter(|_| !is_recipe && !is_term)
        .or_else(|| reading(words))
        .or_else(|| state(words))
        .or_else(|| current(words))
        .or_else(|| prices::price(words))
        .or_else(|| weather(words))
        .or_else(|| nearest(words))
        .or_else(|| sport(words))
        .or_else(|| prices::exchange(text, words))
        .or_else(|| road(words))
}

/// Cues with no other reading.
#[rustfmt::skip]
const ALWAYS: &[&str] = &[
    "right now", "at this moment", "as we speak", "near me", "near here", "nearby me", "around here", "close to me",
    "in my area", "my location", "my current location", "where am i", "in my town", "in my neighborhood",
    "closest to me", "nearest to me", "what time is it", "time is it", "day of the week is it", "is it today",
    "current time in", "local time", "what day is it", "what day is today", "what year is it", "what month is it",
    "what date is it", "today 's date", "todays date", "breaking news", "in the news", "latest news", "news about",
    "news on", "any news", "top headlines", "headlines", "news today", "trending now", "what 's trending",
    "what is trending", "trending on", "trending topics", "last night", "opening hours", "open now", "still open",
    "flight status", "train status", "is it raining", "is it snowing", "will it rain", "will it snow",
    "going to rain", "going to snow", "do i need an umbrella", "should i bring an umbrella", "live score",
    "live scores", "who is winning", "who 's winning", "who is leading", "who 's leading", "traffic like",
    "how is traffic", "how 's traffic", "how is the traffic", "how 's the traffic", "heavy traffic on",
    "server status", "is down", "an outage", "outages", "air quality in", "pollen count", "uv index in",
    "what 's happening", "what is happening in", "what 's going on in", "what is going on in", "days until",
    "days till", "days left", "hours until", "weeks until", "how long until", "how long till", "countdown to",
    "when is the next", "when 's the next", "what time is the next", "next flight", "next train", "next bus",
    "flights to", "cheapest flight", "on tv tonight", "playing tonight", "movies playing", "in theaters",
    "up to the minute", "phase of the moon tonight", "wait time", "wait times", "tonight 's",
    "who won the election", "polling numbers", "approval rating", "new on netflix", "gas prices", "last 24 hours",
    "past 24 hours", "past week",
];

/// Relative dates; in a question about programs they are somebody's data.
#[rustfmt::skip]
const DEICTIC: &[&str] = &[
    "today", "today 's", "tonight", "tomorrow", "yesterday", "this morning", "this afternoon", "this evening",
    "this week", "this weekend", "this month", "this year", "this season", "last week", "last weekend",
    "last month", "last year", "next week", "next weekend", "next month", "next year", "at the moment", "currently",
    "presently", "latest", "newest", "most recent", "recently released", "just released", "upcoming", "ongoing",
    "so far this", "this quarter", "these days", "as of now", "just happened", "just announced", "up to date",
];

/// Beside one of these the cue itself is what is asked about.
#[rustfmt::skip]
const TERMS: &[&str] = &[
    "mean", "meaning", "means", "definition", "word", "translate", "translation", "synonym", "in spanish",
    "in french", "in german", "in italian", "in japanese", "in hindi", "in english", "in chinese", "in latin",
    "timestamp", "pronounce", "spell", "sentence", "grammar", "lyrics", "song", "who wrote",
];

/// The time, the date or the score itself, as against the time complexity or the date of a battle.
fn reading(words: &Words) -> Option<&'static str> {
    let asked = [
        "what is the time",
        "what 's the time",
        "what is the date",
        "what 's the date",
        "what is the score",
        "what 's the score",
        "time in",
        "date today",
    ];
    let cue = words.first_of(&asked)?;
    let next = words.after(cue)?;
    let is_general = cue == "time in" && !words.starts_with("time in");
    let ends = matches!(next, "" | "in" | "now" | "right" | "there" | "here" | "at" | "please" | "on")
        || cue == "time in"
        || cue == "date today";
    (ends && !is_general && !words.has("format")).then_some(cue)
}

/// "Is the site down": a state that lasts minutes.
fn state(words: &Words) -> Option<&'static str> {
    let is_short = words.iter().count() <= 6;
    let asks = words.starts_with_any(&["is", "are", "why is"]) && is_short;
    (asks
        && (words.ends_with("down")
            || words.ends_with("open")
            || words.ends_with("up")
            || words.has("open on")
            || words.ends_with("working")
            || words.ends_with("available")))
    .then_some("state")
}

/// "Now" as the moment of asking: at the end, or after the verb that asks about it.
fn now(words: &Words) -> Option<&'static str> {
    let other = words.has_any(&[
        "now that",
        "years from now",
        "months from now",
        "days from now",
        "now i",
        "now you see",
        "times now",
        "months now",
        "years now",
        "until now",
        "till now",
        "by now",
        "from now on",
        "now called",
        "now known",
        "apocalypse now",
        "buy now",
        "even now",
        "now and then",
        "up to now",
        "before now",
        "pay later",
        "what now",
        "what do i do now",
        "what should i do now",
    ]);
    (!other && words.has("now")).then_some("now")
}

/// "Current" as "of this moment", not the one that flows.
fn current(words: &Words) -> Option<&'static str> {
    #[rustfmt::skip]
    const FLOWING: &[&str] = &[
    "circuit", "circuits", "electric", "electrical", "electricity", "voltage", "ohm", "ohms", "ampere", "amperes",
    "amp", "amps", "resistor", "resistance", "ocean", "alternating", "direct current", "ac", "dc", "eddy", "wire",
    "transformer", "capacitor", "inductor", "coil", "semiconductor", "diode", "transistor", "river", "charge",
    "conductor", "flow", "flows", "battery", "motor", "magnetic", "kirchhoff", "current density", "convection",
    "rip", "leakage", "current account", "current assets", "current ratio", "current liabilities",
    "current divider", "current transformer", "current events mean", "current affairs", "current directory",
    "current working", "short circuit", "generator", "electron", "electrons", "currents", "potential", "led",
    "relay", "induced", "earth leakage", "swim", "undercurrent", "electromagnetic",
    ];
    let next = words.after("current")?;
    let describes = !matches!(
        next,
        "" | "in"
            | "of"
            | "is"
            | "and"
            | "through"
            | "flow"
            | "on"
            | "to"
            | "from"
            | "mean"
            | "measured"
            | "with"
            | "by"
            | "for"
            | "as"
            | "are"
            | "can"
            | "at"
            | "or"
            | "using"
    );
    (describes && !words.has_any(FLOWING)).then_some("current")
}

fn weather(words: &Words) -> Option<&'static str> {
    const ASKED: &[&str] = &[
        "the weather in",
        "weather in",
        "the weather like",
        "weather for",
        "weather forecast",
        "weather outside",
        "weather at",
        "forecast for",
        "weather report",
        "how 's the weather",
        "how is the weather",
        "what 's the weather",
        "what is the weather",
        "temperature outside",
        "hot outside",
        "cold outside",
        "temperature in",
        "humidity in",
        "is it sunny",
        "is it cold in",
        "is it hot in",
    ];
    let general = words.has_any(&[
        "affect",
        "affects",
        "cause",
        "causes",
        "why",
        "predict",
        "climate",
        "average",
        "winter",
        "summer",
        "spring",
        "autumn",
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
        "oven",
        "convert",
        "how does",
        "how do",
        "core",
        "body",
        "fahrenheit",
        "celsius",
        "kelvin",
        "physics",
        "boiling",
        "melting",
        "space",
        "mean",
        "forecasting",
        "on mars",
        "history",
    ]);
    let alone =
        words.starts_with("weather") && words.iter().count() <= 3 && !words.has_any(&["weathering", "balloon", "vane"]);
    let cue = words.first_of(ASKED).or(alone.then_some("weather"))?;
    (!general).then_some(cue)
}

/// "Nearest" from where the asker stands: places people go to, not stars.
fn nearest(words: &Words) -> Option<&'static str> {
    #[rustfmt::skip]
    const PLACES: &[&str] = &[
    "gas station", "atm", "hospital", "pharmacy", "restaurant", "restaurants", "store", "airport", "starbucks",
    "hotel", "hotels", "bank", "station", "parking", "supermarket", "cafe", "coffee", "grocery", "mcdonalds",
    "bus stop", "gym", "charging", "bathroom", "toilet", "post office", "police", "walmart", "clinic", "dentist",
    "mechanic", "pizza", "shop", "mall", "beach", "cinema",
    ];
    let cue = words.first_of(&["nearest", "closest", "nearby"])?;
    words.has_any(PLACES).then_some(cue)
}

/// Results and openings that are asked without a date.
fn sport(words: &Words) -> Option<&'static str> {
    #[rustfmt::skip]
    const ASKED: &[&str] = &[
    "who won the game", "who won the match", "who won the race", "did the lakers", "did the yankees",
    "win the game", "final score", "standings", "league table", "train schedule", "bus schedule", "schedule for",
    "game schedule", "what time does", "what time do", "what time is", "is the store open", "open today",
    "open on sunday", "results of the match", "kick off", "sold out", "available tickets", "tickets for",
    "is the market open", "stock market open", "what channel", "box office",
    ];
    let cue = words.first_of(ASKED)?;
    let is_past =
        words.iter().any(|word| word.len() == 4 && word.starts_with(['1', '2']) && word.parse::<u16>().is_ok());
    (!is_past).then_some(cue)
}

/// Traffic of cars, not of visitors.
fn road(words: &Words) -> Option<&'static str> {
    let cue = words.first_of(&["traffic on", "traffic to", "score of the"])?;
    let other = is_how_to(words)
        || words
            .has_any(&["website", "websites", "site", "blog", "page", "web", "network", "credit", "why", "increase"]);
    (!other).then_some(cue)
}
