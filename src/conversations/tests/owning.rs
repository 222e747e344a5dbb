//! Whose an unfinished answer is: taken over from the dead, each by one; only its owner changes it.

use futures_util::future::join_all;

use super::*;
use crate::db::tests::contract;

contract!(
    what_the_dead_left_is_taken_over_once,
    who_was_replaced_writes_nothing_more,
    what_is_given_up_is_taken_over,
    a_wish_to_end_reaches_the_owner,
);

const LEASE: Duration = Duration::from_secs(8);

fn progress(text: &str, epoch: u32, seq: u64) -> Progress {
    Progress { content: text.to_owned(), reasoning: "why".to_owned(), seq, epoch }
}

/// Nobody in the table of the living is this store: to the others it is dead.
async fn what_the_dead_left_is_taken_over_once(database: TestDb) {
    let store = Store::new(database).await;
    let whole = store.say("t", None, "done", "whole").await;
    let mut left = Vec::new();
    for number in 0..40 {
        let tenant = ["t", "u"][number % 2];
        let begun = store.ask(tenant, turn(&format!("question {number}"))).await;
        let text = progress(&format!("so far {number}"), 1, 3);
        assert_eq!(store.conversations.checkpoint(tenant, begun.reply, text).await.unwrap(), Hold::Kept);
        left.push(begun);
    }
    assert!(store.conversations.claim(LEASE, 9).await.unwrap().is_empty(), "one's own are not taken over");
    let other = store.beside().await;
    let claims = join_all((0..12).map(|_| other.claim(LEASE, 7))).await;
    let mut orphans: Vec<Orphan> = claims.into_iter().flat_map(Result::unwrap).collect();
    orphans.sort_by_key(|orphan| orphan.message.id);
    assert_eq!(orphans.len(), left.len(), "each once, and none twice");
    for (number, (orphan, begun)) in orphans.iter().zip(&left).enumerate() {
        let message = &orphan.message;
        assert_eq!((orphan.tenant.as_str(), message.id), (["t", "u"][number % 2], begun.reply));
        assert_eq!((message.stream, message.parent), (Some(begun.stream), Some(begun.message)));
        assert_eq!((message.content.as_str(), message.seq, message.epoch), (&*format!("so far {number}"), 3, 2));
        assert_eq!((message.state, orphan.is_cancelled), (MessageState::Streaming, false));
    }
    assert_eq!(store.conversations.message("t", whole.reply).await.unwrap().epoch, 1);
}

async fn who_was_replaced_writes_nothing_more(database: TestDb) {
    let store = Store::new(database).await;
    let begun = store.ask("t", turn("Who was paused?")).await;
    let other = store.beside().await;
    let orphan = other.claim(LEASE, 9).await.unwrap().remove(0);
    for epoch in [1, 2, 3] {
        let late = progress("too late", epoch, 9);
        assert_eq!(store.conversations.checkpoint("t", begun.reply, late).await.unwrap(), Hold::Lost);
        let end = Outcome { epoch, ..outcome("too late") };
        assert!(!store.conversations.finish("t", begun.reply, end).await.unwrap());
    }
    let anew = progress("anew", 2, 1);
    assert_eq!(other.checkpoint("t", begun.reply, anew).await.unwrap(), Hold::Kept);
    assert!(other.finish("t", begun.reply, orphan.interrupted()).await.unwrap());
    let ended = store.conversations.message("t", begun.reply).await.unwrap();
    assert_eq!((ended.state, ended.epoch, ended.elapsed_ms), (MessageState::Interrupted, 2, None));
}

async fn what_is_given_up_is_taken_over(database: TestDb) {
    let store = Store::new(database).await;
    let begun = store.ask("t", turn("Who goes on?")).await;
    let release = |text| store.conversations.release("t", begun.reply, progress(text, 1, 4));
    assert!(!store.conversations.release("u", begun.reply, progress("theirs", 1, 4)).await.unwrap());
    assert!(release("so far").await.unwrap());
    assert!(!release("again").await.unwrap(), "it is nobody's");
    let orphan = store.beside().await.claim(LEASE, 9).await.unwrap().remove(0);
    assert_eq!((orphan.message.content.as_str(), orphan.message.seq, orphan.message.epoch), ("so far", 4, 2));
}

async fn a_wish_to_end_reaches_the_owner(database: TestDb) {
    let store = Store::new(database).await;
    let (begun, kept) = (store.ask("t", turn("Who ends?")).await, store.ask("t", turn("Who stays?")).await);
    let other = store.beside().await;
    assert!(!other.want_cancel("u", begun.stream).await.unwrap(), "another tenant's");
    assert!(other.want_cancel("t", begun.stream).await.unwrap());
    assert_eq!(store.conversations.cancels().await.unwrap(), [begun.stream]);
    assert_eq!(other.cancels().await.unwrap(), [] as [Uuid; 0]);
    let save = |reply| store.conversations.checkpoint("t", reply, progress("some", 1, 1));
    assert_eq!(save(begun.reply).await.unwrap(), Hold::Cancelled);
    assert_eq!(save(kept.reply).await.unwrap(), Hold::Kept);
    let mut orphans = other.claim(LEASE, 9).await.unwrap();
    orphans.sort_by_key(|orphan| orphan.message.id);
    let cancelled: Vec<bool> = orphans.iter().map(|orphan| orphan.is_cancelled).collect();
    assert_eq!(cancelled, [true, false], "a new owner knows too");
    assert_eq!(orphans[0].interrupted().state, MessageState::Cancelled);
    assert!(other.finish("t", begun.reply, orphans[0].interrupted()).await.unwrap());
    assert!(!other.want_cancel("t", begun.stream).await.unwrap(), "it has ended");
}
