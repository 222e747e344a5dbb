//! Hand-written turns, and recorded conversations where they are at hand.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::cache::normalize::normalize;

#[test]
fn turns_that_name_everything_stand_alone() {
    for turn in [
        "How does the National Popular Vote Interstate Compact work?",
        "What is the difference between photosynthesis and cellular respiration in plants?",
        "What causes solar eclipses and lunar eclipses?",
        "How do I reverse a linked list in Python?",
        "Explain how transformers use attention for machine translation",
        "Who wrote the novel Pride and Prejudice in 1813?",
        "Write a SQL query joining customers and orders tables by customer id",
        "Why is the drinking age in the US 21 and not 18?",
    ] {
        assert!(is_standalone(turn), "{turn}");
    }
}

#[test]
fn turns_that_lean_on_others_do_not() {
    for turn in [
        "Is it treatable?",
        "What about the environmental impact of nuclear power plants?",
        "And how does Rust handle memory without garbage collection?",
        "But why do cats purr when people stroke their fur?",
        "How does this compare with traditional relational database systems?",
        "Explain the second one with a detailed worked example",
        "Why does the code crash when reading large input files quickly?",
        "Your answer about Python generators seems wrong regarding memory usage",
        "continue",
        "go on",
        "Another example using nested dictionary comprehension syntax",
        "Shorter version using bullet points only for executives",
        "translate it into German with formal business language",
        "Rewrite using formal business language for senior executives",
        "Explain further how gradient descent finds local minima",
        "What is the capital?",
        "Who are the main characters?",
        "How do the former and latter theories explain inflation",
        "Does he play professional football in Germany or Spain?",
        "Fix the error",
        "Python version?",
        "Then explain quantum entanglement like teaching young physics students",
        "How did the experiment influence modern psychology research ethics?",
        "my last question concerned kernel scheduling under heavy load",
        "Summarize quantum computing research breakthroughs, similarly…",
        "",
    ] {
        assert!(!is_standalone(turn), "{turn}");
    }
}

fn said(turns: &[(Role, &str)]) -> Vec<Turn> {
    let turn = |&(role, text): &(Role, &str)| Turn { role, text: text.to_owned(), text_only: true };
    turns.iter().map(turn).collect()
}

fn repeats(question: &str, earlier: &[(Role, &str)]) -> bool {
    is_standalone_repeat(question, &said(earlier).iter().collect::<Vec<_>>())
}

#[test]
fn a_question_repeated_with_nothing_asked_between_stands_alone() {
    let question = "How do I undo the last git commit?";
    let answer = (Role::Assistant, "Reset the branch to its parent.");
    assert!(!is_standalone(question), "alone it may point at a commit that was talked about");
    assert!(repeats(question, &[(Role::User, question), answer]));
    assert!(repeats(
        question,
        &[(Role::User, question), answer, (Role::User, "how do I undo the last git commit"), answer]
    ));
}

#[test]
fn a_repeated_question_leans_on_whatever_else_was_said() {
    let question = "How do I undo the last git commit?";
    let answer = (Role::Assistant, "Reset the branch to its parent.");
    for earlier in [
        &[(Role::User, question), answer, (Role::User, "I pushed it to the main branch already"), answer][..],
        &[(Role::User, "I merged two branches by mistake"), answer, (Role::User, question), answer],
        &[(Role::Assistant, "Your last commit deletes the payroll table."), (Role::User, question), answer],
        &[(Role::User, question), answer, (Role::Tool, "commit 41c deletes the payroll table")],
        &[],
    ] {
        assert!(!repeats(question, earlier), "{earlier:?}");
    }
    for leaning in
        ["continue", "How do I undo it with the git command line?", "Name another large city in northern Spain"]
    {
        assert!(!repeats(leaning, &[(Role::User, leaning), answer]), "{leaning}");
    }
}

proptest! {
    #[test]
    fn never_panics(text in any::<String>()) {
        let _ = is_standalone(&text);
    }
}

fn data(path: &str) -> Option<String> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data")).join(path);
    let text = fs::read_to_string(&path);
    if text.is_err() {
        eprintln!("SKIPPED: no labelled conversations at {}", path.display());
    }
    text.ok()
}

/// Raw turns of `TREC CAsT` 2019, each with its manual rewrite in which every reference is resolved.
fn cast() -> Option<Vec<(String, String, String)>> {
    let raw: Value = serde_json::from_str(&data("cast/cast_evaluation_topics_v1.0.json")?).expect("readable data");
    let resolved = data("cast/cast_evaluation_topics_annotated_resolved_v1.0.tsv")?;
    let resolved: HashMap<&str, &str> = resolved.lines().filter_map(|line| line.split_once('\t')).collect();
    let mut turns = Vec::new();
    for topic in raw.as_array().expect("readable data") {
        for turn in topic["turn"].as_array().expect("readable data") {
            let name = format!("{}_{}", topic["number"], turn["number"]);
            let raw = turn["raw_utterance"].as_str().expect("readable data").to_owned();
            let Some(resolved) = resolved.get(name.as_str()) else {
                continue;
            };
            turns.push((topic["number"].to_string(), raw, (*resolved).to_owned()));
        }
    }
    Some(turns)
}

#[test]
fn cast_turns_never_answer_another_conversation() {
    let Some(turns) = cast() else { return };
    let bare = |text: &str| normalize(text).to_lowercase();
    let standalone: Vec<_> = turns.iter().filter(|(_, raw, _)| is_standalone(raw)).collect();
    let changed: Vec<_> = standalone.iter().filter(|(_, raw, resolved)| bare(raw) != bare(resolved)).collect();
    let unchanged = turns.iter().filter(|(_, raw, resolved)| bare(raw) == bare(resolved)).count();
    println!(
        "CAsT: {} turns, {unchanged} need no context; {} called standalone, {} of them rewritten by the annotators",
        turns.len(),
        standalone.len(),
        changed.len()
    );
    for (topic, raw, resolved) in &changed {
        println!("  {topic}: {raw}  =>  {resolved}");
    }
    for (topic, raw, resolved) in &standalone {
        for (other_topic, other_raw, other_resolved) in &turns {
            let collide = topic != other_topic && bare(raw) == bare(other_raw);
            assert!(!collide || bare(resolved) == bare(other_resolved), "{raw} means two things");
        }
    }
}

#[test]
fn follow_ups_in_recorded_conversations_are_mostly_dependent() {
    let Some(text) = data("meancache_context/duplicates_with_context.json") else {
        return;
    };
    let conversations: Value = serde_json::from_str(&text).expect("readable data");
    let turns: Vec<&str> =
        conversations.as_array().expect("readable data").iter().filter_map(|turn| turn["u1"].as_str()).collect();
    let standalone: Vec<_> = turns.iter().filter(|turn| is_standalone(turn)).collect();
    println!("MeanCache: {} of {} follow-ups called standalone", standalone.len(), turns.len());
    for turn in &standalone {
        println!("  {turn}");
    }
    assert!(standalone.len() * 3 < turns.len());
}
