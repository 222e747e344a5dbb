//! Pages: each row exactly once, whatever is added meanwhile.

use proptest::prelude::*;

use super::*;

impl Store {
    async fn with_conversations(count: usize) -> (Self, Vec<Uuid>) {
        let store = Self::new().await;
        let mut ids = Vec::new();
        for number in 0..count {
            // Several share one time: the identifier decides then.
            if number % 3 == 0 {
                store.clock.advance(Duration::from_millis(1));
            }
            ids.push(store.conversations.create("t", Some(&format!("number {number}"))).await.unwrap().id);
        }
        (store, ids)
    }
}

fn sorted(mut ids: Vec<Uuid>) -> Vec<Uuid> {
    ids.sort_unstable();
    ids
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_list_visits_each_conversation_once_while_others_are_made(
        count in 0_usize..40, limit in 1_usize..15, added in prop::collection::vec(0_usize..4, 50),
    ) {
        let visited = block_on(async {
            let (store, ids) = Store::with_conversations(count).await;
            let (mut seen, mut after, mut round) = (Vec::new(), None, 0);
            loop {
                let page = store.conversations.list("t", slice(limit), after).await.unwrap();
                assert!(page.data.len() <= limit);
                seen.extend(page.data.into_iter().map(|row| row.id));
                for _ in 0..added[round] {
                    store.conversations.create("t", Some("between two pages")).await.unwrap();
                    store.conversations.create("other", Some("of another tenant")).await.unwrap();
                }
                round += 1;
                let Some(cursor) = page.next_cursor else { break };
                after = Some(cursor.parse().unwrap());
            }
            (sorted(seen), sorted(ids))
        });
        // What is made after the walk began may come at its front's instant; what was there comes once.
        let mut seen = visited.0.clone();
        seen.dedup();
        prop_assert_eq!(seen.len(), visited.0.len(), "twice");
        prop_assert!(visited.1.iter().all(|id| visited.0.contains(id)), "missed");
    }

    #[test]
    fn messages_are_visited_once_while_others_are_said(turns in 0_usize..12, limit in 1_usize..7) {
        let (seen, wanted) = block_on(async {
            let store = Store::new().await;
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
            (seen, wanted)
        });
        prop_assert_eq!(seen, wanted);
    }

    #[test]
    fn offsets_cut_a_list_that_stands_still_into_the_same_rows(count in 0_usize..30, limit in 1_usize..9) {
        let (whole, parts) = block_on(async {
            let (store, _) = Store::with_conversations(count).await;
            let whole = store.conversations.list("t", slice(200), None).await.unwrap();
            let (mut parts, mut offset) = (Vec::new(), Some(0));
            while let Some(at) = offset {
                let page = store.conversations.list("t", Slice::new(Some(limit), Some(at)).unwrap(), None).await.unwrap();
                parts.extend(page.data.into_iter().map(|row| row.id));
                offset = page.next_offset;
            }
            (whole.data.into_iter().map(|row| row.id).collect::<Vec<_>>(), parts)
        });
        prop_assert_eq!(whole, parts);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_hold_while_many_write_at_once() {
    let (store, ids) = Store::with_conversations(120).await;
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
    let seen = {
        let mut seen = sorted(seen);
        seen.dedup();
        seen
    };
    assert_eq!(seen.len(), visited, "twice");
    assert!(ids.iter().all(|id| seen.binary_search(id).is_ok()), "missed");
}
