//! Pages: each row exactly once, whatever is added meanwhile.

use super::*;
use crate::db::tests::contract;

contract!(
    the_list_visits_each_conversation_once_while_others_are_made,
    messages_are_visited_once_while_others_are_said,
    offsets_cut_a_list_that_stands_still_into_the_same_rows,
    pages_hold_while_many_write_at_once,
);

impl Store {
    async fn conversations(&self, tenant: &str, count: usize) -> Vec<Uuid> {
        let mut ids = Vec::new();
        for number in 0..count {
            // Several share one time: the identifier decides then.
            if number % 3 == 0 {
                self.clock.advance(Duration::from_millis(1));
            }
            ids.push(self.conversations.create(tenant, Some(&format!("number {number}"))).await.unwrap().id);
        }
        ids
    }
}

fn distinct(ids: Vec<Uuid>) -> std::collections::BTreeSet<Uuid> {
    ids.into_iter().collect()
}

async fn the_list_visits_each_conversation_once_while_others_are_made(database: TestDb) {
    let store = &Store::new(database).await;
    let added = prop::collection::vec(0_usize..4, 50);
    holds(24, (0_usize..40, 1_usize..15, added), |(count, limit, added)| async move {
        let tenant = new_tenant();
        let ids = store.conversations(&tenant, count).await;
        let (mut seen, mut after, mut round) = (Vec::new(), None, 0);
        loop {
            let page = store.conversations.list(&tenant, slice(limit), after).await.unwrap();
            assert!(page.data.len() <= limit);
            seen.extend(page.data.into_iter().map(|row| row.id));
            for _ in 0..added[round] {
                store.conversations.create(&tenant, Some("between two pages")).await.unwrap();
                store.conversations.create("other", Some("of another tenant")).await.unwrap();
            }
            round += 1;
            let Some(cursor) = page.next_cursor else { break };
            after = Some(cursor.parse().unwrap());
        }
        // What is made after the walk began may come at its front's instant; what was there comes once.
        let visited = seen.len();
        let seen = distinct(seen);
        assert_eq!(seen.len(), visited, "twice");
        assert!(ids.iter().all(|id| seen.contains(id)), "missed");
    });
}

async fn messages_are_visited_once_while_others_are_said(database: TestDb) {
    let store = &Store::new(database).await;
    holds(24, (0_usize..12, 1_usize..7), |(turns, limit)| async move {
        let id = store.conversations.create("t", None).await.unwrap().id;
        let mut wanted = Vec::new();
        for number in 0..turns {
            let begun = store.say("t", Some(id), &format!("question {number}"), "answer").await;
            wanted.extend([begun.message, begun.reply]);
        }
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let page = store.conversations.messages("t", id, slice(limit), before).await.unwrap();
            let earlier: Vec<Uuid> = page.data.iter().map(|message| message.id).collect();
            seen.splice(0..0, earlier);
            let Some(cursor) = page.next_cursor else { break };
            before = Some(cursor.parse().unwrap());
            store.say("t", Some(id), "said between two pages", "answer").await;
        }
        assert_eq!(seen, wanted);
    });
}

async fn offsets_cut_a_list_that_stands_still_into_the_same_rows(database: TestDb) {
    let store = &Store::new(database).await;
    holds(24, (0_usize..30, 1_usize..9), |(count, limit)| async move {
        let tenant = new_tenant();
        store.conversations(&tenant, count).await;
        let whole = store.conversations.list(&tenant, slice(200), None).await.unwrap();
        let (mut parts, mut offset) = (Vec::new(), Some(0));
        while let Some(at) = offset {
            let part = Slice::new(Some(limit), Some(at)).unwrap();
            let page = store.conversations.list(&tenant, part, None).await.unwrap();
            parts.extend(page.data.into_iter().map(|row| row.id));
            offset = page.next_offset;
        }
        assert_eq!(whole.data.into_iter().map(|row| row.id).collect::<Vec<_>>(), parts);
    });
}

async fn pages_hold_while_many_write_at_once(database: TestDb) {
    let store = Store::new(database).await;
    let ids = store.conversations("t", 120).await;
    let writers = (0..4).map(|writer| {
        let conversations = store.conversations.clone();
        tokio::spawn(async move {
            for number in 0..30 {
                conversations.create("t", Some(&format!("{writer}: {number}"))).await.unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.conversations.list("t", slice(7), after).await.unwrap();
        seen.extend(page.data.into_iter().map(|row| row.id));
        let Some(cursor) = page.next_cursor else { break };
        after = Some(cursor.parse().unwrap());
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let visited = seen.len();
    let seen = distinct(seen);
    assert_eq!(seen.len(), visited, "twice");
    assert!(ids.iter().all(|id| seen.contains(id)), "missed");
}
