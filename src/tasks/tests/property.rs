//! Claims come in the order of priority and age, whatever was enqueued.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config as ProptestConfig, TestRunner};

use super::*;

/// A task by its priority and how long it has waited, in half levels of aging, so that none is as old as another's level.
fn order(tasks: &[(Priority, u32)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    let half_levels = |index: &usize| {
        let (priority, waited) = tasks[*index];
        2 * priority.level() - i64::from(waited)
    };
    order.sort_by_key(|index| (half_levels(index), *index));
    order
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_come_by_priority_and_age() {
    let database = TestDb::new(Backend::Sqlite).await;
    let queue = queue(&database).await;
    let handle = tokio::runtime::Handle::current();
    let priority = prop::sample::select(Priority::ALL.to_vec());
    let mut runner = TestRunner::new(ProptestConfig { cases: 24, ..ProptestConfig::default() });
    let holds = runner.run(&vec((priority, 0..8_u32), 1..12), |tasks| {
        let claimed = tokio::task::block_in_place(|| handle.block_on(claimed_in_order(&queue, &tasks)));
        prop_assert_eq!(claimed, order(&tasks));
        Ok(())
    });
    holds.unwrap();
}

async fn claimed_in_order(queue: &Queue, tasks: &[(Priority, u32)]) -> Vec<usize> {
    let now = queue.slots().await.unwrap().1;
    let half_level = ms(config().aging) / 2;
    let new = tasks.iter().map(|(priority, waited)| {
        greet("x").priority(*priority).run_at((now - i64::from(*waited) * half_level) as u64)
    });
    let enqueued = ids_of(&queue.enqueue_all(new.collect()).await.unwrap());
    let mut claimed = Vec::new();
    while let Some(task) = claim(queue, 1).await.pop() {
        assert!(settle(queue, &task, End::Done(None)).await);
        claimed.push(enqueued.iter().position(|id| *id == task.id).unwrap());
    }
    claimed
}

fn ids_of(enqueued: &[Enqueued]) -> Vec<Uuid> {
    enqueued.iter().map(|task| task.id).collect()
}
