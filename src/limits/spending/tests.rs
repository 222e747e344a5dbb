//! What is reserved and spent, under many callers and over a start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::clock::new_id;
use crate::db::tests::{Backend, TestDb, contract, plan};
use crate::db::{Db, MigrationSet, Purpose};
use crate::keys::{Allowance, KeyRole, KeyWish, Keys};

contract!(
    a_reserve_is_granted_while_there_is_room_and_settled_once,
    no_cost_is_too_large_for_the_books,
    a_changed_budget_holds_for_the_next_reserve,
    a_period_begins_anew_and_an_old_reserve_stays_in_its_own,
    what_a_killed_process_had_reserved_counts_as_spent,
    two_hundred_callers_spend_no_more_than_was_granted,
);

const TOTAL: BudgetPeriod = BudgetPeriod::Total;

struct Books {
    spending: Spending,
    keys: Keys,
    clock: Clock,
    database: TestDb,
}

async fn books(database: TestDb) -> Books {
    let db = database.open(MigrationSet::ISH).await;
    // 2027-01-31 23:59:59.
    let clock = Clock::manual(1_801_439_999_000);
    Books { spending: Spending::new(db.clone(), clock.clone()), keys: Keys::new(db, clock.clone()), clock, database }
}

impl Books {
    async fn key(&self, budget: u64, period: BudgetPeriod) -> Uuid {
        let budget = Some(Money::from_billionths(budget));
        let allowance = Allowance { budget, budget_period: Some(period), ..Allowance::default() };
        self.keys.create(KeyWish { allowance, ..KeyWish::new("a test's", "t", KeyRole::User) }).await.unwrap().info.id
    }

    async fn spent(&self, key: Uuid) -> (u64, u64) {
        let spent = self.spending.by_key().await.unwrap().get(&key).copied().unwrap_or_default();
        (spent.spent.billionths(), spent.reserved.billionths())
    }

    async fn reserve(&self, key: Uuid, period: BudgetPeriod, amount: u64) -> (Uuid, Reserved) {
        let id = new_id();
        (id, self.spending.reserve(id, key, period, Money::from_billionths(amount)).await.unwrap())
    }

    async fn settle(&self, reserve: Uuid, cost: u64) {
        self.spending.settle(reserve, Money::from_billionths(cost)).await.unwrap();
    }
}

fn short(left: u64) -> Reserved {
    Reserved::Short(Money::from_billionths(left))
}

async fn a_reserve_is_granted_while_there_is_room_and_settled_once(database: TestDb) {
    let books = books(database).await;
    let key = books.key(100, TOTAL).await;
    let (first, granted) = books.reserve(key, TOTAL, 60).await;
    assert_eq!(granted, Reserved::Yes);
    assert_eq!(books.reserve(key, TOTAL, 41).await.1, short(40));
    let (second, granted) = books.reserve(key, TOTAL, 40).await;
    assert_eq!((granted, books.spent(key).await), (Reserved::Yes, (0, 100)));
    books.settle(first, 25).await;
    books.settle(first, 25).await;
    assert_eq!(books.spent(key).await, (25, 40), "a second ending changes nothing");
    assert_eq!(books.spending.extend(second, Money::from_billionths(36)).await.unwrap(), short(35));
    assert_eq!(books.spending.extend(second, Money::from_billionths(35)).await.unwrap(), Reserved::Yes);
    books.settle(second, 0).await;
    assert_eq!(books.spent(key).await, (25, 0));
    let other = books.key(1, TOTAL).await;
    assert_eq!(books.reserve(other, TOTAL, 1).await.1, Reserved::Yes, "each key has a budget of its own");
}

async fn no_cost_is_too_large_for_the_books(database: TestDb) {
    let books = books(database).await;
    let key = books.key(100, TOTAL).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(books.reserve(key, TOTAL, 2).await.0);
    }
    let last = held.pop().unwrap();
    for reserve in held {
        books.settle(reserve, u64::MAX).await;
    }
    assert_eq!(books.spent(key).await, (i64::MAX as u64 / 2, 2), "all are settled, and the sum stands still");
    books.clock.advance(LEASE);
    assert_eq!(books.spending.recover().await.unwrap(), 1);
    assert_eq!(books.spent(key).await, (i64::MAX as u64 / 2, 0));
    assert!(books.spending.extend(last, Money::from_billionths(1)).await.is_err(), "it has ended");
    assert_eq!(books.reserve(key, TOTAL, 1).await.1, short(0));
}

async fn a_changed_budget_holds_for_the_next_reserve(database: TestDb) {
    let books = books(database).await;
    let key = books.key(100, TOTAL).await;
    assert_eq!(books.reserve(key, TOTAL, 80).await.1, Reserved::Yes);
    let smaller = Allowance { budget: Some(Money::from_billionths(50)), ..Allowance::default() };
    assert!(books.keys.allow(key, smaller).await.unwrap());
    assert_eq!(books.reserve(key, TOTAL, 1).await.1, short(0));
}

async fn a_period_begins_anew_and_an_old_reserve_stays_in_its_own(database: TestDb) {
    let books = books(database).await;
    for period in [BudgetPeriod::Day, BudgetPeriod::Month] {
        let key = books.key(100, period).await;
        let before = books.clock.now_ms();
        let (reserve, _) = books.reserve(key, period, 100).await;
        assert_eq!(books.reserve(key, period, 1).await.1, short(0));
        books.clock.advance(std::time::Duration::from_secs(1));
        assert_eq!(books.spent(key).await, (0, 0));
        assert_eq!(books.reserve(key, period, 100).await.1, Reserved::Yes);
        books.settle(reserve, 70).await;
        assert_eq!(books.spent(key).await, (0, 100));
        assert!(start(period, books.clock.now_ms()) > start(period, before));
        books.clock.advance(std::time::Duration::from_secs(28 * 86_400 - 1));
    }
    assert_eq!(start(TOTAL, books.clock.now_ms()), 0);
}

async fn what_a_killed_process_had_reserved_counts_as_spent(database: TestDb) {
    let books = books(database).await;
    let key = books.key(100, TOTAL).await;
    let (settled, _) = books.reserve(key, TOTAL, 30).await;
    books.settle(settled, 10).await;
    books.reserve(key, TOTAL, 20).await;
    books.reserve(key, TOTAL, 5).await;
    // Another process opens the same database; nothing of this one was closed.
    let next = Spending::new(books.database.open(MigrationSet::ISH).await, books.clock.clone());
    books.clock.advance(LEASE);
    assert_eq!(next.recover().await.unwrap(), 2);
    let spent = next.by_key().await.unwrap()[&key];
    assert_eq!((spent.spent.billionths(), spent.reserved.billionths()), (35, 0));
    assert_eq!(next.recover().await.unwrap(), 0);
}

#[tokio::test]
async fn an_instance_that_starts_leaves_the_reserves_of_others_until_their_time_is_over() {
    let books = books(TestDb::new(Backend::PgBouncer).await).await;
    let key = books.key(100, TOTAL).await;
    let (reserve, _) = books.reserve(key, TOTAL, 30).await;
    let (left, _) = books.reserve(key, TOTAL, 50).await;
    books.clock.advance(LEASE / 2);
    assert_eq!(books.spending.extend(reserve, Money::from_billionths(5)).await.unwrap(), Reserved::Yes);
    let other = Spending::new(books.database.open(MigrationSet::ISH).await, books.clock.clone());
    assert_eq!(other.recover().await.unwrap(), 0);
    assert_eq!(books.spent(key).await, (0, 85));
    books.clock.advance(LEASE / 2);
    assert_eq!(books.spent(key).await, (50, 35), "it reads as spent before a start books it");
    assert_eq!(other.recover().await.unwrap(), 1);
    books.settle(reserve, 20).await;
    books.settle(left, 20).await;
    assert_eq!(books.spent(key).await, (70, 0), "what was booked is not settled again");
}

async fn two_hundred_callers_spend_no_more_than_was_granted(database: TestDb) {
    let books = Arc::new(books(database).await);
    let (budget, most) = (2_000, 50);
    let key = books.key(budget, TOTAL).await;
    let (spent, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let callers = (0..200_u64).map(|caller| {
        let (books, spent, refused) = (Arc::clone(&books), Arc::clone(&spent), Arc::clone(&refused));
        tokio::spawn(async move {
            for call in 0..3 {
                let (reserve, granted) = books.reserve(key, TOTAL, most).await;
                if granted != Reserved::Yes {
                    refused.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                // Some cost less than was held, none more.
                let cost = (caller * 7 + call * 13) % (most + 1);
                books.settle(reserve, cost).await;
                spent.fetch_add(cost, Ordering::SeqCst);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let spent = spent.load(Ordering::SeqCst);
    assert_eq!(books.spent(key).await, (spent, 0), "every dollar is booked, and nothing is held any more");
    assert!(0 < spent && spent <= budget, "{spent}");
    assert!(refused.load(Ordering::SeqCst) > 0);
    assert_eq!(books.reserve(key, TOTAL, budget - spent + 1).await.1, short(budget - spent));
    assert_eq!(books.reserve(key, TOTAL, budget - spent).await.1, Reserved::Yes, "what was not spent is there");
}

/// What may happen to the books of one key.
#[derive(Debug, Clone)]
enum Step {
    Reserve(u64),
    Extend(usize, u64),
    Settle(usize, u64),
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u64..400).prop_map(Step::Reserve),
        2 => (0_usize..8, 0_u64..300).prop_map(|(which, amount)| Step::Extend(which, amount)),
        4 => (0_usize..8, 0_u64..100).prop_map(|(which, share)| Step::Settle(which, share)),
        1 => Just(Step::Crash),
    ]
}

/// Against a ledger that is plain numbers: whatever happens, spent and reserved are what they should be, and within the
/// budget as long as no call costs more than was held for it.
async fn agree_with_a_plain_ledger(database: TestDb, steps: Vec<Step>) {
    let books = books(database).await;
    let key = books.key(1_000, TOTAL).await;
    let (mut spent, mut held) = (0, Vec::<(Uuid, u64)>::new());
    for step in steps {
        let reserved: u64 = held.iter().map(|(_, amount)| amount).sum();
        match step {
            Step::Reserve(amount) => {
                let (id, granted) = books.reserve(key, TOTAL, amount).await;
                let fits = spent + reserved + amount <= 1_000;
                assert_eq!(granted, if fits { Reserved::Yes } else { short(1_000 - spent - reserved) });
                held.extend(fits.then_some((id, amount)));
            }
            Step::Extend(which, more) if !held.is_empty() => {
                let place = which % held.len();
                let granted = books.spending.extend(held[place].0, Money::from_billionths(more)).await.unwrap();
                let fits = spent + reserved + more <= 1_000;
                assert_eq!(granted == Reserved::Yes, fits);
                held[place].1 += if fits { more } else { 0 };
            }
            Step::Settle(which, share) if !held.is_empty() => {
                let (id, amount) = held.swap_remove(which % held.len());
                let cost = amount * share / 100;
                books.settle(id, cost).await;
                spent += cost;
            }
            Step::Crash => {
                books.clock.advance(LEASE);
                assert_eq!(books.spending.recover().await.unwrap(), held.len() as u64);
                spent += reserved;
                held.clear();
            }
            _ => {}
        }
        let reserved: u64 = held.iter().map(|(_, amount)| amount).sum();
        assert_eq!(books.spent(key).await, (spent, reserved));
        assert!(spent + reserved <= 1_000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_books_agree_with_a_plain_ledger(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { agree_with_a_plain_ledger(TestDb::new(Backend::Sqlite).await, steps).await });
    }

    #[test]
    fn the_books_of_a_server_agree_with_a_plain_ledger(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { agree_with_a_plain_ledger(TestDb::new(Backend::PgBouncer).await, steps).await });
    }
}

#[tokio::test]
async fn a_reserve_reads_no_table_whole() {
    let database = TestDb::new(Backend::Postgres).await;
    let Db::Postgres(db) = database.open(MigrationSet::ISH).await else { panic!("it is a server") };
    let mut tx = db.system(Purpose::Spending).await.unwrap();
    let rows = sqlx::query(
        "WITH made AS (INSERT INTO keys (id, hash, name, tenant, role, hint, created_at) \
           SELECT gen_random_uuid(), sha256(n::text::bytea), '', 't', 'user', '', n FROM generate_series(1, 3000) AS n \
           RETURNING id) \
         INSERT INTO spending (key, period) SELECT id, 0 FROM made",
    );
    tx.execute(rows).await.unwrap();
    tx.commit().await.unwrap();
    database.analyze().await;
    let mut tx = db.system(Purpose::Spending).await.unwrap();
    let id = new_id();
    let plan =
        plan(postgres::RESERVE, &mut tx, |query| query.bind(id).bind(id).bind(0_i64).bind(1_i64).bind(1_i64)).await;
    assert!(plan.contains("spending_pkey") && plan.contains("keys_pkey") && !plan.contains("Seq Scan"), "{plan}");
}
