//! Branches: what a question follows, what is sent along, what stands side by side.

use std::collections::HashMap;

use super::*;
use crate::db::tests::contract;

contract!(
    the_window_follows_the_branch_from_its_leaf,
    a_branch_is_selected_and_gone_on_with,
    what_belongs_elsewhere_is_refused,
    every_branch_reads_as_its_chain,
);

impl Store {
    /// A question with its whole answer, below `parent`.
    pub(super) async fn follow(&self, conversation: Uuid, parent: Parent, question: &str) -> BegunTurn {
        let turn = NewTurn { conversation: Some(conversation), parent, ..turn(question) };
        let begun = self.ask("t", turn).await;
        self.conversations.finish("t", begun.reply, outcome(&format!("to {question}"))).await.unwrap();
        begun
    }

    async fn again(&self, answer: Uuid, text: &str) -> BegunTurn {
        let begun = self.conversations.begin_again("t", answer, None, "mock").await.unwrap();
        self.conversations.finish("t", begun.reply, outcome(text)).await.unwrap();
        begun
    }

    /// What is sent where nothing is put in short.
    pub(super) async fn window(&self, message: Uuid, messages: usize) -> Vec<String> {
        let history = self.conversations.history("t", message, window(messages, 0)).await.unwrap();
        history.instructions.into_iter().chain(history.messages.into_iter().map(|(_, text)| text)).collect()
    }

    pub(super) async fn branch_texts(&self, conversation: Uuid, leaf: Option<Uuid>) -> Vec<String> {
        let page = self.conversations.branch("t", conversation, leaf, Slice::default(), None).await.unwrap();
        page.data.into_iter().map(|message| message.content).collect()
    }

    async fn leaf(&self, conversation: Uuid) -> Option<Uuid> {
        self.conversations.get("t", conversation).await.unwrap().leaf
    }
}

async fn the_window_follows_the_branch_from_its_leaf(database: TestDb) {
    let store = Store::new(database).await;
    let begun = store.ask("t", NewTurn { system: Some("Be brief.".to_owned()), ..turn("one") }).await;
    store.conversations.finish("t", begun.reply, outcome("to one")).await.unwrap();
    let id = begun.conversation;
    let two = store.follow(id, Parent::Selected, "two").await;
    let other = store.follow(id, Parent::Message(begun.reply), "two, edited").await;
    assert_eq!(store.window(other.message, 20).await, ["Be brief.", "one", "to one", "two, edited"]);
    assert_eq!(store.window(two.reply, 20).await, ["Be brief.", "one", "to one", "two", "to two"]);
    assert_eq!(store.window(two.reply, 2).await, ["Be brief.", "two", "to two"]);
    let first = store.follow(id, Parent::Start, "one, edited").await;
    assert_eq!(store.window(first.message, 20).await, ["Be brief.", "one, edited"], "instructions stay");
    let failed = store.ask("t", NewTurn { conversation: Some(id), ..turn("cut") }).await;
    let failure = Outcome { state: MessageState::Failed, ..outcome("") };
    store.conversations.finish("t", failed.reply, failure).await.unwrap();
    let next = store.follow(id, Parent::Selected, "next").await;
    assert_eq!(store.window(next.message, 20).await, ["Be brief.", "one, edited", "to one, edited", "cut", "next"]);
}

async fn a_branch_is_selected_and_gone_on_with(database: TestDb) {
    let store = Store::new(database).await;
    let one = store.say("t", None, "one", "to one").await;
    let id = one.conversation;
    let again = store.again(one.reply, "to one, again").await;
    assert_eq!((again.message, store.leaf(id).await), (one.message, Some(again.reply)));
    let two = store.follow(id, Parent::Selected, "two").await;
    assert_eq!(store.branch_texts(id, None).await, ["one", "to one, again", "two", "to two"]);

    store.conversations.select("t", id, one.reply).await.unwrap();
    assert_eq!(store.branch_texts(id, None).await, ["one", "to one"]);
    assert_eq!(store.branch_texts(id, Some(two.reply)).await, ["one", "to one, again", "two", "to two"]);
    let three = store.follow(id, Parent::Selected, "three").await;
    assert_eq!(store.branch_texts(id, None).await, ["one", "to one", "three", "to three"]);

    store.conversations.select("t", id, again.reply).await.unwrap();
    assert_eq!(store.leaf(id).await, Some(two.reply), "to its end");
    store.conversations.select("t", id, one.message).await.unwrap();
    assert_eq!(store.leaf(id).await, Some(three.reply), "the end that was written last");

    let page = store.conversations.branch("t", id, Some(three.reply), slice(3), None).await.unwrap();
    let beside: Vec<_> = page.data.iter().map(|message| message.siblings.clone().unwrap()).collect();
    assert_eq!(beside, [vec![one.reply, again.reply], vec![three.message], vec![three.reply]]);
    let before = page.next_cursor.unwrap().parse().unwrap();
    let rest = store.conversations.branch("t", id, Some(three.reply), slice(3), Some(before)).await.unwrap();
    assert_eq!((rest.data[0].id, rest.data.len(), rest.next_cursor), (one.message, 1, None));
}

async fn what_belongs_elsewhere_is_refused(database: TestDb) {
    let store = Store::new(database).await;
    let ours = store.say("t", None, "ours", "answer").await;
    let elsewhere = store.say("t", None, "elsewhere", "answer").await;
    let theirs = store.say("u", None, "theirs", "answer").await;
    let begin = |parent| {
        let turn = NewTurn { conversation: Some(ours.conversation), parent: Parent::Message(parent), ..turn("x") };
        store.conversations.begin("t", turn)
    };
    for parent in [elsewhere.reply, theirs.reply, new_id()] {
        assert!(matches!(begin(parent).await, Err(ConversationError::NotFound(_))));
        let selected = store.conversations.select("t", ours.conversation, parent).await;
        assert!(matches!(selected, Err(ConversationError::NotFound(_))));
        let read = store.conversations.branch("t", ours.conversation, Some(parent), Slice::default(), None).await;
        assert!(matches!(read, Err(ConversationError::NotFound(_))));
    }
    assert!(matches!(begin(ours.message).await, Err(ConversationError::Conflict(_))), "a question follows an answer");
    let read = store.conversations.branch("u", ours.conversation, None, Slice::default(), None).await;
    assert!(matches!(read, Err(ConversationError::NotFound(_))));
    assert_eq!(store.leaf(ours.conversation).await, Some(ours.reply));
}

/// Whatever was asked, edited and made again: each branch reads as its chain of parents, in pages of any size, and the window is
/// its end.
async fn every_branch_reads_as_its_chain(database: TestDb) {
    let store = &Store::new(database).await;
    let steps = prop::collection::vec((0_usize..3, any::<prop::sample::Index>()), 1..14);
    holds(16, (steps, 1_usize..5), |(steps, limit)| async move {
        let mut answers = vec![store.say("t", None, "root", "to root").await];
        let id = answers[0].conversation;
        for (number, (kind, at)) in steps.iter().enumerate() {
            let chosen = *at.get(&answers);
            let name = format!("{number}");
            answers.push(match kind {
                0 => store.again(chosen.reply, &name).await,
                1 => store.follow(id, Parent::Start, &name).await,
                _ => store.follow(id, Parent::Message(chosen.reply), &name).await,
            });
        }
        let all = store.conversations.messages("t", id, slice(200), None).await.unwrap().data;
        let by_id: HashMap<Uuid, &StoredMessage> = all.iter().map(|message| (message.id, message)).collect();
        for answer in &answers {
            let mut chain = Vec::new();
            let mut next = Some(answer.reply);
            while let Some(id) = next {
                chain.insert(0, id);
                next = by_id[&id].parent;
            }
            let (mut seen, mut before) = (Vec::new(), None);
            loop {
                let page = store.conversations.branch("t", id, Some(answer.reply), slice(limit), before).await.unwrap();
                seen.splice(0..0, page.data.iter().map(|message| message.id));
                for message in &page.data {
                    let beside: Vec<Uuid> =
                        all.iter().filter(|other| other.parent == message.parent).map(|other| other.id).collect();
                    assert_eq!(message.siblings.as_ref(), Some(&beside));
                }
                let Some(cursor) = page.next_cursor else { break };
                before = Some(cursor.parse().unwrap());
            }
            assert_eq!(seen, chain);
            let texts: Vec<&str> = chain.iter().rev().take(limit).rev().map(|id| by_id[id].content.as_str()).collect();
            assert_eq!(store.window(answer.reply, limit).await, texts);
        }
    });
}
