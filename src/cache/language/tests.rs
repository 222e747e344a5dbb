//! Sentences by language.

use proptest::prelude::*;

use super::*;

const ENGLISH: &[&str] = &[
    "capital France",
    "python sort list descending",
    "kubernetes pod eviction",
    "rust borrow checker error",
    "best pizza recipe",
    "What is the capital of France?",
    "How do I reset my password?",
    "who invented the telephone",
    "photosynthesis explained",
    "difference between tcp and udp",
    "symptoms of flu",
    "WHAT IS THE SPEED OF LIGHT",
    "Explain quantum entanglement",
    "Why is the sky blue?",
    "tell me about Napoleon",
    "Is a croissant French?",
    "What does the German word Schadenfreude mean?",
    "How do you say thank you in Spanish?",
    "What is a café au lait?",
    "react hooks tutorial",
    "docker compose networking",
    "average rainfall Seattle",
    "World War II causes",
    "machine learning vs deep learning",
    "binary search tree insertion",
    "postgres index not used",
    "Who wrote Don Quixote?",
    "Write a haiku about autumn",
    "E = mc² meaning",
    "naïve Bayes classifier",
    "nginx reverse proxy websocket timeout",
    "linux kill process by port",
    "What is the meaning of π?",
    "Ohm's law",
    "tax deduction for home office",
    "Can dogs eat grapes?",
    "git undo last commit",
    "git merge conflict",
    "vitamin d deficiency",
    "mortgage amortization formula",
];

const OTHER: &[&str] = &[
    // German
    "Was ist die Hauptstadt von Frankreich?",
    "Hauptstadt Frankreich",
    "Wie funktioniert ein Motor?",
    "Erkläre mir die Relativitätstheorie",
    "Warum ist der Himmel blau?",
    "python liste absteigend sortieren",
    "Schreibe ein Gedicht",
    "Kannst du mir helfen?",
    "wetter berlin heute",
    // French
    "Quelle est la capitale de la France ?",
    "Comment faire du pain ?",
    "Pourquoi le ciel est bleu",
    "capitale de la France",
    "Explique la photosynthèse",
    "Qui a écrit Les Misérables ?",
    "Combien de jours dans une année",
    "recette de crêpes",
    "je voudrais un café",
    // Spanish
    "¿Cuál es la capital de Francia?",
    "Cómo hacer pan en casa",
    "por que el cielo es azul",
    "capital de Francia",
    "Explica la fotosíntesis",
    "Quien escribio Don Quijote",
    "receta de paella",
    "diferencia entre ser y estar",
    "Escribe un poema sobre el mar",
    // Italian
    "Qual è la capitale della Francia?",
    "Come si fa il pane?",
    "Perché il cielo è blu",
    "capitale della Francia",
    "Spiega la fotosintesi",
    "Chi ha scritto la Divina Commedia?",
    "ricetta della carbonara",
    "Dove si trova Roma",
    // Portuguese
    "Qual é a capital da França?",
    "Como fazer pão em casa",
    "Por que o céu é azul?",
    "receita de bolo de cenoura",
    "Quem descobriu o Brasil",
    "O que é fotossíntese",
    "diferença entre ser e estar",
    // Dutch
    "Wat is de hoofdstad van Frankrijk?",
    "Hoe maak ik brood?",
    "Waarom is de lucht blauw?",
    "hoofdstad van Nederland",
    "Wie schreef dit boek",
    "verschil tussen het en de",
    "Leg mij de relativiteitstheorie uit",
    // Polish
    "Jaka jest stolica Francji?",
    "Jak zrobić chleb?",
    "Dlaczego niebo jest niebieskie",
    "stolica Polski",
    "Kto napisał Pana Tadeusza",
    "Co to jest fotosynteza",
    "przepis na pierogi",
    // Indonesian and Malay
    "Apa ibu kota Prancis?",
    "Bagaimana cara membuat roti?",
    "Mengapa langit berwarna biru",
    "Siapa presiden pertama Indonesia",
    "jelaskan fotosintesis",
    "cara memasak nasi goreng",
    "Berapa harga tiket ini",
    // Romanised Hindi
    "Bharat ki rajdhani kya hai",
    "roti kaise banaye",
    "mujhe hindi mein batao",
    "aap kaise hain",
    "python kya hota hai",
    "vajan kam karne ke liye kya khaye",
    // Scandinavian
    "Vad är Sveriges huvudstad?",
    "Hur bakar man bröd?",
    "Hva er hovedstaden i Norge?",
    "Hvordan laver man brød",
    "Hvorfor er himlen blå",
    // Turkish
    "Fransa'nın başkenti neresidir?",
    "Ekmek nasıl yapılır?",
    "gökyüzü neden mavi",
    "bu ne demek",
    // Czech, Hungarian, Finnish, Romanian, Vietnamese, Tagalog, Swahili
    "Jaké je hlavní město Francie?",
    "Proč je nebe modré",
    "Mi Franciaország fővárosa?",
    "Miért kék az ég",
    "Mikä on Ranskan pääkaupunki?",
    "Miksi taivas on sininen",
    "Care este capitala Franței?",
    "De ce este cerul albastru",
    "Thủ đô của Pháp là gì?",
    "tại sao bầu trời xanh",
    "Ano ang kabisera ng Pransya?",
    "Bakit asul ang langit",
    "Mji mkuu wa Ufaransa ni nini?",
    // Other scripts
    "Какая столица Франции?",
    "Почему небо голубое",
    "Яка столиця Франції?",
    "法国的首都是哪里？",
    "フランスの首都はどこですか",
    "프랑스의 수도는 어디인가요?",
    "ما هي عاصمة فرنسا؟",
    "מהי בירת צרפת?",
    "फ्रांस की राजधानी क्या है?",
    "Ποια είναι η πρωτεύουσα της Γαλλίας;",
    "เมืองหลวงของฝรั่งเศสคืออะไร",
    "پایتخت فرانسه کجاست",
    "Kakaya stolitsa Frantsii",
    "kak eto rabotaet",
    // Keywords only
    "docker container neu starten",
    "sintomi influenza",
    "beste stranden Nederland",
    "symptomen griep",
    "recept appeltaart",
    "sejarah Indonesia singkat",
    "resep rendang",
    "grip belirtileri",
    "cele mai bune plaje",
    "legjobb strandok",
    "ordenar lista python",
    // Code alone, and nothing
    "fn main() { println!(\"hi\"); }",
    "for (int i = 0; i < n; i++) { sum += a[i]; }",
    "SELECT * FROM t WHERE (a = 1);",
    "x = [i*i for i in range(10)]",
    "",
    "12345",
    "?!",
    "🙂🙂",
];

#[test]
fn english_is_english() {
    let wrong: Vec<_> = ENGLISH.iter().filter(|text| detect(text) != Language::English).collect();
    assert!(wrong.is_empty(), "taken for another language: {wrong:#?}");
}

#[test]
fn everything_else_is_other() {
    let wrong: Vec<_> = OTHER.iter().filter(|text| detect(text) != Language::Other).collect();
    assert!(wrong.is_empty(), "taken for English: {wrong:#?}");
}

proptest! {
    #[test]
    fn never_panics(text in any::<String>()) {
        let _ = detect(&text);
    }
}
