//! Turns: begun once, by whichever instance; ended once, by whoever they belong to.

use futures_util::future::join_all;

use super::*;
use crate::db::tests::contract;

contract!(
    a_send_that_comes_twice_is_one_turn,
    questions_of_two_instances_follow_each_other,
    an_answer_ends_once,
    nobody_ends_what_is_anothers,
    a_conversation_that_goes_meanwhile_takes_all_with_it,
    any_text_comes_back_as_it_went,
    a_long_text_comes_back_by_every_way,
);

/// Long ones are stored in another form than short ones.
async fn a_long_text_comes_back_by_every_way(database: TestDb) {
    let store = Store::new(database).await;
    let long =
        |words: &str| format!("{words} {} zanzibar", "Spring tides come when Moon and Sun pull together. ".repeat(60));
    let [system, question, answer, why] = ["Be brief.", "Why tides?", "Gravity.", "Hm."].map(long);
    let asked = NewTurn { system: Some(system.clone()), ..turn(&question) };
    let begun = store.ask("t", asked).await;
    let ended = Outcome { reasoning: why.clone(), ..outcome(&answer) };
    store.conversations.finish("t", begun.reply, ended).await.unwrap();
    store.conversations.finish("t", begun.reply, outcome("too late")).await.unwrap();

    let reply = store.conversations.message("t", begun.reply).await.unwrap();
    assert_eq!((&reply.content, &reply.reasoning), (&answer, &why));
    let by_stream = store.conversations.message_of_stream("t", begun.stream).await.unwrap();
    assert_eq!((&by_stream.content, &by_stream.reasoning), (&answer, &why));
    assert_eq!(store.branch_texts(begun.conversation, None).await, [&*system, &*question, &*answer]);
    let page = store.conversations.messages("t", begun.conversation, Slice::default(), None).await.unwrap().data;
    assert_eq!(page.iter().map(|message| &message.content).collect::<Vec<_>>(), [&system, &question, &answer]);
    assert_eq!(store.window(begun.reply, 20).await, [&system, &question, &answer].map(Clone::clone));

    assert_eq!(store.checked_texts().await, 3, "the title, the question, the answer");
    let found = store.found("t", "gravity zanzibar").await.remove(0);
    assert_eq!(found.r#match.message, Some(begun.reply));
    assert!(found.r#match.snippet.iter().any(|part| part.hit && part.text == "Gravity"), "{found:?}");
    let other = store.say("t", None, &question, "No.").await;
    store.conversations.delete("t", begun.conversation).await.unwrap();
    assert_eq!(store.checked_texts().await, 3);
    let found: Vec<_> = store.found("t", "zanzibar").await.iter().map(|found| found.conversation.id).collect();
    assert_eq!(found, [other.conversation]);
}

/// Many sends of one client identifier at once, to two instances, are one turn.
async fn a_send_that_comes_twice_is_one_turn(database: TestDb) {
    let store = Store::new(database).await;
    let instances = [store.conversations.clone(), store.beside().await];
    let named = |name: &str| NewTurn { client_id: Some(name.to_owned()), ..turn("once?") };
    let begun = join_all((0..12).map(|number| instances[number % 2].begin("t", named("a\0b")))).await;
    let begun: Vec<BegunTurn> = begun.into_iter().map(Result::unwrap).collect();
    assert_eq!(begun.iter().filter(|begun| !begun.duplicate).count(), 1);
    for one in &begun {
        assert_eq!(BegunTurn { duplicate: false, ..*one }, BegunTurn { duplicate: false, ..begun[0] });
    }
    assert_eq!(store.conversations.list("t", slice(10), None).await.unwrap().data.len(), 1);
    assert!(!store.conversations.begin("u", named("a\0b")).await.unwrap().duplicate, "another tenant's is another");

    let again =
        (0..6).map(|number| instances[number % 2].begin_again("t", begun[0].reply, Some("again".to_owned()), "mock"));
    let again: Vec<BegunTurn> = join_all(again).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(again.iter().filter(|begun| !begun.duplicate).count(), 1);
    assert!(again.iter().all(|one| one.reply == again[0].reply && one.message == begun[0].message));
}

async fn questions_of_two_instances_follow_each_other(database: TestDb) {
    let store = Store::new(database).await;
    let instances = [store.conversations.clone(), store.beside().await];
    let id = store.conversations.create("t", None).await.unwrap().id;
    let ask = |number: usize| {
        let asked = NewTurn { conversation: Some(id), ..turn(&format!("question {number}")) };
        instances[number % 2].begin("t", asked)
    };
    for begun in join_all((0..10).map(ask)).await {
        begun.unwrap();
    }
    let branch = store.conversations.branch("t", id, None, slice(200), None).await.unwrap().data;
    assert_eq!(branch.len(), 20, "one after the other, none beside another");
    let title = store.conversations.get("t", id).await.unwrap().title;
    assert_eq!(title, branch[0].content, "the first gives the title");
}

fn progress(text: &str, epoch: u32, seq: u64) -> Progress {
    Progress { content: text.to_owned(), reasoning: "why".to_owned(), seq, epoch }
}

async fn an_answer_ends_once(database: TestDb) {
    let store = Store::new(database).await;
    let begun = store.ask("t", turn("How far?")).await;
    let save = |text, epoch, seq| store.conversations.checkpoint("t", begun.reply, progress(text, epoch, seq));
    for (text, epoch, seq, hold) in [
        ("some", 1, 2, Hold::Kept),
        ("less", 1, 1, Hold::Lost),
        ("anew", 2, 1, Hold::Kept),
        ("of before", 1, 9, Hold::Lost),
    ] {
        assert_eq!(save(text, epoch, seq).await.unwrap(), hold, "{text}");
    }
    let saved = store.conversations.message_of_stream("t", begun.stream).await.unwrap();
    assert_eq!((saved.content.as_str(), saved.reasoning.as_str(), saved.epoch, saved.seq), ("anew", "why", 2, 1));
    assert_eq!((saved.id, saved.state), (begun.reply, MessageState::Streaming));
    store.clock.advance(Duration::from_secs(1));
    let whole = Outcome {
        epoch: 2,
        seq: 7,
        finish_reason: Some("stop".to_owned()),
        usage: Some(crate::message::Usage { input_tokens: 3, output_tokens: 4, ..Default::default() }),
        cache: Some(r#"{"b": 1, "a": [2]}"#.to_owned()),
        explanation: Some(r#"{"z":1,  "a":2}"#.to_owned()),
        error: Some(r#"{"code": "x"}"#.to_owned()),
        ..outcome("the whole")
    };
    assert!(store.conversations.finish("t", begun.reply, whole).await.unwrap());
    assert!(!store.conversations.finish("t", begun.reply, outcome("another end")).await.unwrap());
    assert_eq!(save("too late", 9, 9).await.unwrap(), Hold::Lost);
    let ended = store.conversations.message("t", begun.reply).await.unwrap();
    let expected = serde_json::json!({
        "id": begun.reply, "parent": begun.message, "role": "assistant", "content": "the whole", "state": "complete",
        "model": "mock", "created_at": "2023-11-14T22:13:20.001Z", "finish_reason": "stop",
        "usage": ended.usage, "cache": {"b": 1, "a": [2]}, "error": {"code": "x"}, "stream": begun.stream, "epoch": 2,
        "seq": 7, "elapsed_ms": 1,
    });
    assert_eq!(serde_json::to_value(&ended).unwrap(), expected);
    assert_eq!(ended.usage.map(|usage| (usage.input_tokens, usage.output_tokens)), Some((3, 4)));
    let explanation = store.conversations.explanation("t", begun.reply).await.unwrap();
    assert_eq!(explanation, r#"{"z":1,  "a":2}"#, "as it was written");
    let conversation = store.conversations.get("t", begun.conversation).await.unwrap();
    assert_eq!(conversation.updated_at, "2023-11-14T22:13:21.001Z");
}

async fn nobody_ends_what_is_anothers(database: TestDb) {
    let store = Store::new(database).await;
    let begun = store.ask("t", turn("Mine?")).await;
    assert_eq!(store.conversations.checkpoint("u", begun.reply, progress("theirs", 1, 5)).await.unwrap(), Hold::Lost);
    assert!(!store.conversations.finish("u", begun.reply, outcome("theirs")).await.unwrap());
    let message = store.conversations.message("t", begun.reply).await.unwrap();
    assert_eq!((message.content.as_str(), message.state), ("", MessageState::Streaming));
    assert!(matches!(store.conversations.message("u", begun.reply).await, Err(ConversationError::NotFound(_))));
    assert!(store.conversations.rename("u", begun.conversation, "theirs").await.is_err());
    assert!(store.conversations.delete("u", begun.conversation).await.is_err());
    assert_eq!(store.conversations.history("u", begun.reply, window(9, 0)).await.unwrap(), History::default());
    assert!(store.conversations.list("u", slice(9), None).await.unwrap().data.is_empty());
    assert_eq!(store.conversations.get("t", begun.conversation).await.unwrap().title, "Mine?");
}

/// Whoever comes first: nothing waits for what waits for it, and nothing is left of what was deleted.
async fn a_conversation_that_goes_meanwhile_takes_all_with_it(database: TestDb) {
    let store = Store::new(database).await;
    let instances = [store.conversations.clone(), store.beside().await];
    for round in 0..20 {
        let begun = store.ask("t", turn(&format!("round {round}"))).await;
        let deleting = instances[round % 2].delete("t", begun.conversation);
        let saving = instances[0].checkpoint("t", begun.reply, progress("so far", 1, 1));
        let ending = instances[0].finish("t", begun.reply, outcome("the end"));
        let (deleted, saved, ended) = tokio::join!(deleting, saving, ending);
        deleted.unwrap();
        // Each comes before the end of the conversation, or is told that it is gone.
        assert_ne!(saved.unwrap(), Hold::Cancelled);
        ended.unwrap();
        assert!(matches!(store.conversations.message("t", begun.reply).await, Err(ConversationError::NotFound(_))));
    }
    assert!(store.conversations.list("t", slice(9), None).await.unwrap().data.is_empty());
    assert!(store.found("t", "round").await.is_empty());
}

async fn any_text_comes_back_as_it_went(database: TestDb) {
    let store = &Store::new(database).await;
    let text = prop_oneof![any::<String>(), "[\0\u{e000}01é\u{10ffff}]{0,8}"];
    holds(64, (text.clone(), text.clone(), text), |(question, answer, name)| async move {
        let asked = NewTurn { client_id: Some(new_id().to_string() + &name), system: Some(name), ..turn(&question) };
        let begun = store.ask("t", asked.clone()).await;
        let ended = Outcome { reasoning: question.clone(), finish_reason: Some(answer.clone()), ..outcome(&answer) };
        store.conversations.finish("t", begun.reply, ended).await.unwrap();
        let said = store.conversations.message("t", begun.message).await.unwrap();
        let answered = store.conversations.message("t", begun.reply).await.unwrap();
        assert_eq!((said.content, answered.content, answered.reasoning), (question.clone(), answer.clone(), question));
        assert_eq!(answered.finish_reason, Some(answer));
        assert!(store.conversations.begin("t", asked).await.unwrap().duplicate);
    });
}
