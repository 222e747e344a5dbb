//! What one lower-case word says about its language.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Points for English and against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) english: u32,
    pub(super) other: u32,
}

impl Weight {
    pub(super) fn plus(self, other: Self) -> Self {
        Self { english: self.english + other.english, other: self.other + other.other }
    }
}

/// What the lists know of a word, zero if nothing. Function words count most.
pub(super) fn of_word(word: &str) -> Weight {
    LEXICON.get(word).copied().unwrap_or_default()
}

/// What the letters of a word that no list knows say: only a hint.
pub(super) fn of_letters(word: &str) -> Weight {
    let is_foreign =
        FOREIGN_PARTS.iter().any(|part| word.contains(part)) || FOREIGN_ENDS.iter().any(|end| ends(word, end));
    let mut weight = Weight::default();
    if is_foreign {
        weight.other += 2;
    } else if ENGLISH_ENDS.iter().any(|end| ends(word, end)) {
        weight.english += 1;
    }
    if !word.is_ascii() {
        weight.other += 2;
    }
    weight
}

fn ends(word: &str, end: &str) -> bool {
    word.len() > end.len() + 1 && word.ends_with(end)
}

/// The lists below as one table, made at the first look-up; an English reading wins over a foreign one.
static LEXICON: LazyLock<HashMap<&str, Weight>> = LazyLock::new(|| {
    let foreign = FOREIGN.iter().copied().flatten().map(|word| {
        let other = if word.is_ascii() { 4 } else { 6 };
        (*word, Weight { english: 0, other })
    });
    let content = ENGLISH_CONTENT.iter().map(|word| (*word, Weight { english: 2, other: 0 }));
    let function = ENGLISH.iter().map(|word| (*word, Weight { english: 4, other: 0 }));
    foreign.chain(content).chain(function).collect()
});

/// Frequent English words that are not frequent words of another language here (so no "die", "an", "in", "me").
#[rustfmt::skip]
const ENGLISH: &[&str] = &[
    "the", "of", "and", "is", "are", "was", "were", "what", "how", "why", "when", "where", "which", "who", "whose",
    "does", "do", "did", "can", "could", "should", "would", "have", "has", "had", "with", "from", "for", "this",
    "that", "these", "those", "there", "it", "its", "you", "your", "my", "they", "their", "them", "we", "our", "he",
    "she", "his", "her", "not", "but", "or", "if", "because", "about", "between", "into", "through", "than", "then",
    "be", "been", "being", "will", "shall", "might", "must", "please", "tell", "explain", "describe", "give",
    "show", "write", "make", "find", "list", "get", "use", "using", "any", "some", "many", "much", "more", "most",
    "other", "only", "also", "after", "before", "without", "while", "during", "best", "by", "at", "as", "to", "i",
    "don", "doesn", "isn", "thanks", "hello", "good", "like", "know", "need", "want", "help",
];

/// Words of questions that English has and its neighbours have otherwise; names of tools ("python") say nothing.
#[rustfmt::skip]
const ENGLISH_CONTENT: &[&str] = &[
    "capital", "city", "country", "people", "world", "year", "years", "day", "time", "work", "life", "money",
    "book", "books", "name", "number", "difference", "example", "examples", "meaning", "history", "weather",
    "today", "summary", "definition", "sort", "array", "string", "list", "file", "code", "error", "install",
    "update", "delete", "create", "server", "network", "database", "query", "table", "function", "class", "loop",
    "descending", "ascending", "reverse", "machine", "learning", "deep", "neural", "model", "data", "compare",
    "convert", "calculate", "translate", "summarize", "recipe", "side", "effects", "symptoms", "health", "food",
    "water", "price", "cheap", "buy", "new", "old", "long", "high", "low", "top", "first", "last", "next", "free",
    "vs", "versus", "pros", "cons", "tutorial", "guide", "tips", "ideas", "benefits", "causes", "treatment",
    "facts", "war", "café", "cafe", "naïve", "résumé", "cliché", "façade", "fiancé", "déjà", "jalapeño", "décor",
    "purée", "abroad", "across", "actually", "address", "advice", "again", "against", "allowed", "alone", "already",
    "always", "among", "ancient", "animals", "another", "answer", "answers", "anxiety", "anyone", "apple", "apply",
    "army", "around", "asked", "attack", "average", "avoid", "away", "baby", "back", "ball", "bank", "battery",
    "battle", "beach", "beaches", "beautiful", "become", "becoming", "beginner", "beginners", "behind", "believe",
    "belly", "below", "better", "bill", "bird", "birthday", "blood", "blue", "body", "born", "both", "brain",
    "branch", "bread", "break", "bring", "build", "building", "business", "button", "buying", "cake", "called",
    "card", "career", "cause", "cell", "chain", "chance", "chances", "change", "changed", "check", "child",
    "children", "choose", "cleaning", "clear", "close", "cold", "college", "commit", "common", "company",
    "compared", "computer", "core", "course", "crack", "credit", "culture", "cure", "deal", "death", "decision",
    "degree", "desert", "development", "different", "distance", "dogs", "doing", "down", "dream", "dreams", "drink",
    "drinking", "drive", "driver", "drug", "each", "earn", "earth", "earthquake", "easiest", "easy", "eating",
    "effect", "election", "employees", "engine", "english", "enjoy", "enough", "even", "events", "ever", "every",
    "everyone", "everything", "exam", "eyes", "face", "fake", "fall", "family", "famous", "fast", "faster",
    "fastest", "fear", "feeding", "feel", "feeling", "field", "fight", "fish", "flat", "flower", "flu", "follow",
    "following", "force", "forget", "forgot", "found", "friend", "front", "full", "funniest", "future", "gain",
    "gets", "getting", "gift", "girl", "given", "glass", "gold", "government", "gravity", "great", "greatest",
    "green", "grow", "growth", "hair", "happened", "happens", "hard", "having", "head", "headache", "heap", "heard",
    "height", "higher", "highest", "home", "hours", "house", "human", "hurt", "husband", "improve", "instead",
    "internship", "join", "just", "keep", "keyboard", "kill", "kind", "king", "knowledge", "land", "large", "later",
    "law", "laws", "leak", "learn", "leave", "left", "letter", "level", "light", "likely", "little", "living",
    "lock", "longer", "look", "looking", "loss", "lost", "made", "main", "major", "makes", "making", "market",
    "marks", "marriage", "married", "math", "meet", "memory", "merge", "method", "middle", "milk", "million",
    "mind", "month", "months", "morning", "mother", "mountain", "mouse", "move", "movie", "near", "needing",
    "never", "night", "north", "notes", "nuclear", "numbers", "often", "once", "open", "order", "outside",
    "overcome", "paid", "pain", "parents", "part", "pass", "past", "phone", "picture", "pie", "places", "planning",
    "play", "police", "popular", "poses", "pounds", "preparation", "pressure", "prevent", "problem", "process",
    "promise", "proof", "pull", "purpose", "push", "queen", "queue", "quickly", "rain", "rank", "rate", "read",
    "really", "reasons", "related", "relationship", "religion", "remember", "remove", "repair", "replace",
    "required", "research", "reset", "return", "review", "rich", "right", "river", "role", "root", "rules",
    "running", "safe", "safety", "said", "sales", "same", "save", "says", "school", "score", "screen", "search",
    "season", "second", "secret", "security", "seen", "sell", "send", "sentence", "sequence", "service", "share",
    "short", "shows", "signs", "single", "size", "skills", "sleep", "small", "smart", "smoking", "snow", "solar",
    "solution", "solve", "someone", "something", "sore", "south", "space", "speak", "speaking", "speed", "spend",
    "stack", "star", "stars", "starter", "starting", "state", "states", "stay", "still", "stock", "stomach",
    "stories", "story", "straight", "strategy", "strength", "student", "study", "studying", "subject", "successful",
    "summer", "take", "taken", "taking", "teach", "teacher", "terms", "themselves", "theory", "things", "think",
    "thinking", "third", "though", "thread", "three", "throat", "tool", "tools", "topics", "towards", "track",
    "training", "travel", "treat", "tree", "type", "under", "understand", "university", "useful", "very", "views",
    "voice", "vote", "wall", "warning", "watch", "watching", "wear", "weed", "week", "weight", "well", "wheel",
    "white", "whole", "wife", "wind", "winners", "woman", "women", "word", "works", "worth", "writer", "writing",
    "written", "wrong", "young", "yourself", "zero",
];

/// Frequent words per language: German, Dutch, Scandinavian, French, Spanish, Portuguese, Italian, Romanian, Polish, Czech
/// and South Slavic, Hungarian, Finnish, Turkish, Indonesian and Malay, Tagalog, Swahili, Vietnamese without marks,
/// romanised Hindi and Russian.
#[rustfmt::skip]
const FOREIGN: &[&[&str]] = &[
    &[
        "der", "die", "das", "und", "ist", "ein", "eine", "einen", "einem", "einer", "nicht", "wie", "warum", "wo",
        "wer", "wann", "ich", "du", "wir", "ihr", "mit", "von", "für", "auf", "zu", "zum", "zur", "im", "den",
        "dem", "des", "auch", "kann", "kannst", "sind", "hat", "haben", "werden", "wird", "bitte", "mir", "mich",
        "aus", "bei", "nach", "oder", "aber", "wenn", "welche", "welcher", "gibt", "man", "macht", "ohne", "über",
        "liste", "sortieren", "heute", "wetter", "schreibe", "erkläre", "viele", "geht", "mein", "meine",
    ],
    &[
        "het", "een", "van", "voor", "niet", "wat", "hoe", "waarom", "waar", "wie", "ik", "jij", "je", "zijn",
        "deze", "dit", "ook", "naar", "maar", "om", "bij", "kan", "heeft", "hebben", "wordt", "worden", "geen",
        "wij", "uit", "mijn", "jouw", "tussen", "verschil", "hoofdstad", "wil", "graag", "wanneer", "welke",
    ],
    &[
        "och", "att", "det", "som", "är", "inte", "hur", "vad", "varför", "jag", "kan", "på", "med", "til", "ikke",
        "hva", "hvad", "hvor", "hvordan", "hvorfor", "jeg", "er", "og", "af", "av", "till", "från", "mellan",
        "mellem", "mellom", "vilken", "hvem", "vem", "ett",
    ],
    &[
        "le", "la", "les", "des", "du", "de", "une", "et", "est", "dans", "pour", "que", "qui", "quoi", "quel",
        "quelle", "quels", "quelles", "comment", "pourquoi", "où", "quand", "je", "tu", "nous", "vous", "il",
        "elle", "avec", "sur", "pas", "ce", "cette", "sont", "au", "aux", "plus", "mon", "ma", "mes", "faire",
        "peut", "peux", "entre", "par", "ou", "en", "écris", "explique", "combien", "moi", "fait",
    ],
    &[
        "el", "los", "las", "del", "y", "es", "en", "por", "para", "con", "una", "un", "que", "qué", "cómo", "como",
        "cuál", "cual", "dónde", "donde", "cuándo", "cuando", "quién", "quien", "porque", "su", "lo", "se", "mi",
        "más", "puedo", "son", "está", "hay", "hacer", "cuántos", "cuantos", "entre", "sobre", "tiene", "dime",
        "escribe", "explica", "fue", "ser", "mejor", "al",
    ],
    &[
        "o", "os", "um", "uma", "do", "da", "dos", "das", "no", "na", "em", "para", "com", "não", "nao", "é", "são",
        "qual", "quais", "como", "onde", "quem", "porquê", "você", "voce", "eu", "meu", "minha", "fazer", "posso",
        "pelo", "pela", "mais", "ao", "à", "às", "isso",
    ],
    &[
        "il", "lo", "gli", "di", "che", "è", "per", "non", "una", "uno", "del", "della", "dello", "dei", "delle",
        "come", "perché", "perche", "dove", "quando", "chi", "cosa", "qual", "quale", "sono", "con", "nel", "nella",
        "si", "posso", "mio", "mia", "più", "tra", "ed", "quanti", "quanto", "fare", "scrivi", "spiega",
    ],
    &[
        "și", "si", "este", "care", "cum", "unde", "când", "cine", "pentru", "sunt", "din", "cu", "ce", "nu", "ale",
        "lui", "între",
    ],
    &[
        "jest", "się", "sie", "nie", "jak", "co", "gdzie", "kiedy", "dlaczego", "kto", "na", "w", "z", "i", "do",
        "czy", "są", "dla", "jaka", "jaki", "jakie", "ile", "od", "po", "przez", "mogę", "moge", "który", "która",
        "stolica", "zrobić", "zrobic", "między",
    ],
    &[
        "je", "jsou", "kde", "kdy", "proč", "kdo", "jaký", "jaké", "jaká", "mezi", "jsem", "mohu", "hlavní",
        "město", "što", "gdje", "kako", "zašto", "tko", "koji", "koja", "koje", "nije", "sam", "u", "za", "ako",
        "prečo", "kaj",
    ],
    &[
        "az", "és", "hogy", "nem", "egy", "mi", "hol", "miért", "mikor", "van", "melyik", "hogyan", "ki", "mennyi",
    ],
    &[
        "ja", "ei", "mikä", "miten", "missä", "miksi", "kuka", "ovat", "kuinka", "mitä", "voi", "että",
    ],
    &[
        "ve", "bir", "bu", "ne", "nasıl", "nasil", "neden", "nerede", "için", "icin", "mi", "mı", "kim", "hangi",
        "nedir", "ile", "var", "çok", "kadar", "yapılır", "olan", "başkenti",
    ],
    &[
        "apa", "yang", "di", "dan", "itu", "ini", "bagaimana", "mengapa", "kenapa", "siapa", "kapan", "dimana",
        "mana", "untuk", "dengan", "dari", "ke", "adalah", "saya", "kamu", "anda", "tidak", "bisa", "cara",
        "berapa", "membuat", "antara", "pada", "ibukota", "ibu", "tolong", "jelaskan", "aku", "dalam", "oleh",
        "apakah",
    ],
    &[
        "ang", "ng", "mga", "ano", "paano", "bakit", "saan", "kailan", "sino", "ako", "ikaw", "ka", "po", "ba",
        "sa", "ay", "ko", "mo",
    ],
    &[
        "ni", "ya", "wa", "kwa", "nini", "gani", "jinsi", "katika", "habari", "kuwa", "vipi", "wapi", "nani", "cha",
        "mji", "mkuu",
    ],
    &[
        "là", "gì", "của", "và", "không", "như", "thế", "nào", "làm", "sao", "tôi", "bạn", "có", "cho", "ở", "đâu",
    ],
    &[
        "kya", "hai", "hain", "kaise", "kyon", "kyun", "kab", "kahan", "kaun", "mein", "ka", "ki", "ke", "ko", "se",
        "aur", "nahi", "nahin", "mujhe", "mera", "meri", "aap", "tum", "hum", "karna", "karne", "karo", "kare",
        "karen", "bataye", "batao", "bataiye", "liye", "raha", "rahi", "tha", "thi", "ho", "hota", "hoti", "bhi",
        "kitna", "kitne", "wala", "accha", "rajdhani", "chahiye", "par", "kuch",
    ],
    &[
        "chto", "kak", "pochemu", "gde", "kogda", "kto", "eto", "ya", "ne", "kakoy", "kakaya", "mozhno", "stolitsa",
        "chem", "mezhdu",
    ],
];

/// Letter groups that English words hardly have.
#[rustfmt::skip]
const FOREIGN_PARTS: &[&str] = &[
    "stadt", "reich", "schaft", "schr", "schw", "schl", "schn", "pfl", "mpf", "tsch", "zung", "tzt", "ijk", "ij",
    "oek", "aard", "uur", "eeu", "cht", "szcz", "cz", "rz", "sz", "prz", "krz", "wsk", "ñ", "ção", "ções", "lho",
    "nho", "nha", "eir", "quel", "eaux", "eux", "oeu", "aient", "zione", "zioni", "ggio", "cchi", "gli", "ellement",
    "uez", "iendo", "mente", "ngkan", "nya", "kkan", "aan", "kj", "bj", "fj",
];

const FOREIGN_ENDS: &[&str] = &[
    "ung", "ungen", "keit", "heit", "lich", "isch", "ieren", "iert", "chen", "tje", "oire", "aire", "ement", "ité",
    "eur", "ción", "ciones", "dad", "ando", "iendo", "dade", "agem", "inho", "ità", "ezza", "ncia", "ias", "ami",
    "ach", "ego", "emu", "owa", "owy", "osc", "kan", "lar", "ler", "nin", "dir", "dır", "ssa", "ista", "ois", "ais",
    "eis", "oso", "osa", "ados", "adas", "idos",
];

const ENGLISH_ENDS: &[&str] = &[
    "ing", "tion", "ness", "ship", "ght", "th", "sh", "ck", "ly", "ed", "ful", "less", "able", "ous", "ity", "ment",
    "ore", "ook", "ee", "oo", "ow", "dge", "tch", "ll", "y",
];
