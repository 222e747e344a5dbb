//! What was said before the window, in short: of its own branch alone, and gone with its conversation.

use futures_util::TryStreamExt;
use serde_json::Value;

use super::*;
use crate::config::{Config, Environment};
use crate::db::tests::contract;
use crate::tasks::{Filter, Job, JobContext, JobError, NewTask, Policy, Queue};

contract!(
    a_summary_stands_for_its_branch_alone,
    a_summary_goes_with_its_conversation,
    an_answer_and_what_follows_it_are_one_commit,
);

impl Store {
    /// A conversation of so many questions, each with its answer.
    async fn talk(&self, questions: usize) -> Vec<BegunTurn> {
        let mut said = vec![self.say("t", None, "question 0", "to question 0").await];
        for number in 1..questions {
            said.push(self.follow(said[0].conversation, Parent::Selected, &format!("question {number}")).await);
        }
        said
    }

    async fn sent(&self, message: Uuid) -> (Option<String>, Vec<String>) {
        let history = self.conversations.history("t", message, window(4, 2)).await.unwrap();
        (history.summary, history.messages.into_iter().map(|(_, text)| text).collect())
    }
}

async fn a_summary_stands_for_its_branch_alone(database: TestDb) {
    let store = Store::new(database).await;
    let said = store.talk(6).await;
    let (id, last) = (said[0].conversation, said[5].reply);
    let passage = store.conversations.passage("t", last, window(4, 2)).await.unwrap().unwrap();
    assert_eq!((passage.end, passage.messages.len(), passage.earlier), (said[3].reply, 8, None));
    assert_eq!(passage.messages[7], (Role::Assistant, "to question 3".to_owned()));
    assert!(store.conversations.keep_summary("t", passage.end, "In short\0.", "m").await.unwrap());
    assert!(!store.conversations.keep_summary("t", passage.end, "Again.", "m").await.unwrap());
    assert!(!store.conversations.keep_summary("u", said[2].reply, "Theirs.", "m").await.unwrap());

    let (summary, messages) = store.sent(last).await;
    assert_eq!(summary.as_deref(), Some("In short\0."));
    assert_eq!(messages, ["question 4", "to question 4", "question 5", "to question 5"]);
    assert_eq!(store.conversations.passage("t", last, window(4, 2)).await.unwrap(), None);

    // A branch from before its end knows nothing of it; one from behind it does, and is put in short further.
    let early = store.follow(id, Parent::Message(said[1].reply), "early").await;
    assert_eq!(store.sent(early.message).await.0, None);
    let mut late = store.follow(id, Parent::Message(said[4].reply), "late").await;
    for number in 0..2 {
        late = store.follow(id, Parent::Selected, &format!("later {number}")).await;
    }
    let next = store.conversations.passage("t", late.reply, window(4, 2)).await.unwrap().unwrap();
    assert_eq!(next.earlier.as_deref(), Some("In short\0."));
    let put: Vec<_> = next.messages.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(put, ["question 4", "to question 4", "late", "to late"]);
    assert!(store.conversations.keep_summary("t", next.end, "Of the late branch.", "m").await.unwrap());
    assert_eq!(store.sent(late.message).await.0.as_deref(), Some("Of the late branch."));
    assert_eq!(store.sent(last).await.0.as_deref(), Some("In short\0."));

    let off = store.conversations.history("t", last, window(4, 0)).await.unwrap();
    assert_eq!((off.summary, off.messages.len()), (None, 4));
    let theirs = store.conversations.history("u", last, window(4, 2)).await.unwrap();
    assert_eq!(theirs, History::default());
}

async fn a_summary_goes_with_its_conversation(database: TestDb) {
    let store = Store::new(database).await;
    let said = store.talk(4).await;
    for (turn, text) in [(said[0], "Zebras, in short."), (said[2], "More.")] {
        assert!(store.conversations.keep_summary("t", turn.reply, text, "m").await.unwrap());
    }
    let id = said[0].conversation;
    let search = SearchQuery::parse("zebras");
    assert!(store.conversations.search("t", &search, slice(9)).await.unwrap().data.is_empty(), "it is never found");
    let (_, pieces) = store.conversations.export("t", id, ExportFormat::Json, None).await.unwrap();
    let whole: Value = serde_json::from_str(&pieces.try_collect::<String>().await.unwrap()).unwrap();
    let summaries = whole["summaries"].as_array().unwrap();
    assert_eq!((whole["messages"].as_array().unwrap().len(), summaries.len()), (8, 2));
    assert_eq!(summaries[0]["message"], said[0].reply.to_string());
    assert_eq!((&summaries[0]["content"], &summaries[0]["model"]), (&"Zebras, in short.".into(), &"m".into()));

    store.conversations.delete("t", id).await.unwrap();
    assert_eq!(query!(&store.db, summaries_after("t", id, None, 9)).unwrap(), []);
    assert!(!store.conversations.keep_summary("t", said[3].reply, "Late.", "m").await.unwrap());
}

/// Nothing.
#[derive(serde::Serialize, serde::Deserialize)]
struct Follow {}

impl Job for Follow {
    const KIND: &'static str = "follow";
    const VERSION: u16 = 1;
    const POLICY: Policy = Policy::DEFAULT;
    type State = ();
    type Output = ();

    async fn run(self, _: std::sync::Arc<()>, _: JobContext) -> Result<(), JobError> {
        Ok(())
    }
}

async fn an_answer_and_what_follows_it_are_one_commit(database: TestDb) {
    let store = Store::new(database).await;
    let queue = Queue::new(store.db.clone(), &Config::read(&Environment::default(), None).unwrap().tasks);
    let follow = |key: &str| NewTask::new(&Follow {}).tenant("t").idempotency(key);
    let end = async |begun: BegunTurn, task: NewTask| {
        store.conversations.finish_and_enqueue("t", begun.reply, outcome("answer"), (&queue, task)).await
    };
    let begun = store.ask("t", turn("one")).await;
    assert!(end(begun, follow("1")).await.unwrap());
    assert!(!end(begun, follow("2")).await.unwrap(), "it has ended");
    assert_eq!(queue.list(&Filter::default(), 9).await.unwrap().len(), 1);

    let begun = store.ask("t", turn("two")).await;
    assert!(end(begun, follow("3").tenant("")).await.is_err(), "no task, no end");
    let state = store.conversations.message("t", begun.reply).await.unwrap().state;
    assert_eq!((state, queue.list(&Filter::default(), 9).await.unwrap().len()), (MessageState::Streaming, 1));
}
