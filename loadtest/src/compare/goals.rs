//! What the cells are measured against, each beside its floor of the same run.

use super::table::Row;
use crate::spread::Spread;
use crate::trial::goal::{Bound, Goal};

/// Of the one core: what a request that only passes through may take.
const PASSING_US: f64 = 60.0;
/// What a miss may take beyond passing through, its embedding and its durable write.
const MISS_US: f64 = 40.0;
/// The threads of the embedding and of the writes, as they are named.
const WORKERS: [&str; 2] = ["embed", "sqlx-sqlite"];

/// Of all cells that were measured.
pub(super) fn of(rows: &[Row]) -> Vec<Goal> {
    let row = |name: &str| rows.iter().find(|row| row.cell == name);
    let mut goals = Vec::new();
    for (cell, least) in
        [("exact hit JSON", 0.5), ("exact hit SSE", 0.5), ("pass-through JSON", 0.85), ("pass-through SSE", 0.85)]
    {
        goals.extend(row(cell).map(|row| rate(rows, row, least)));
    }
    goals.extend(row("pass-through JSON").and_then(|row| {
        let goal = Goal::new(
            row.cell,
            "processor time of a request",
            "µs",
            Bound::AtMost(PASSING_US),
            row.cpu_us_per_request?,
        );
        Some(goal.beside(floor(rows, row)?.cpu_us_per_request))
    }));
    goals.extend(row("pass-through SSE").and_then(|row| {
        let goal =
            Goal::new(row.cell, "processor time of a reply", "µs", Bound::RatioAtMost(1.5), row.cpu_us_per_request?);
        Some(goal.beside(floor(rows, row)?.cpu_us_per_request).of_floor(middle(row.cpu_to_floor)))
    }));
    for (miss, passing) in [("storable miss JSON", "pass-through JSON"), ("storable miss SSE", "pass-through SSE")] {
        goals.extend(row(miss).zip(row(passing)).and_then(|(miss, passing)| beyond(miss, passing)));
    }
    for (cell, p50_ms, p99_ms) in
        [("exact hit JSON", 1.0, Some(10.0)), ("exact hit SSE", 1.0, Some(10.0)), ("semantic hit JSON", 10.0, None)]
    {
        let Some(row) = row(cell) else { continue };
        goals.push(
            Goal::new(cell, "p50", "ms", Bound::AtMost(p50_ms), row.p50_us / 1e3)
                .beside(floor(rows, row).map(|floor| floor.p50_us / 1e3)),
        );
        goals.extend(p99_ms.map(|p99_ms| {
            let goal = Goal::new(cell, "p99", "ms", Bound::AtMost(p99_ms), row.p99_us / 1e3);
            goal.beside(floor(rows, row).map(|floor| floor.p99_us / 1e3))
        }));
    }
    goals
}

/// Requests per second against the floor's, within each round.
fn rate(rows: &[Row], row: &Row, least: f64) -> Goal {
    let goal = Goal::new(row.cell, "answered per second", "/s", Bound::RatioAtLeast(least), row.per_second);
    goal.beside(floor(rows, row).map(|floor| floor.per_second)).of_floor(middle(row.rate_to_floor))
}

/// What a miss takes that neither passing through, nor its embedding, nor its write explains.
fn beyond(miss: &Row, passing: &Row) -> Option<Goal> {
    let workers = |row: &Row| {
        let named =
            row.cpu_us_by_thread.iter().filter(|(name, _)| WORKERS.iter().any(|worker| name.starts_with(worker)));
        named.map(|(_, us)| us).sum::<f64>()
    };
    let own = |row: &Row| Some(row.cpu_us_per_request? - workers(row));
    let beyond = own(miss)? - own(passing)?;
    let name = "processor time beyond passing through, embedding and write";
    Some(Goal::new(miss.cell, name, "µs", Bound::AtMost(MISS_US), beyond))
}

fn floor<'r>(rows: &'r [Row], row: &Row) -> Option<&'r Row> {
    rows.iter().find(|floor| Some(floor.cell) == row.floor)
}

fn middle(spread: Option<Spread>) -> Option<f64> {
    spread.map(|spread| spread.median)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn row(cell: &'static str, floor: Option<&'static str>, cpu: f64, threads: &[(&str, f64)]) -> Row {
        let cpu_us_by_thread: BTreeMap<String, f64> =
            threads.iter().map(|(name, us)| ((*name).to_owned(), *us)).collect();
        let ratio = floor.map(|_| Spread { median: 0.9, min: 0.8, max: 1.0 });
        Row {
            cell,
            floor,
            cpu_us_per_request: Some(cpu),
            rate_to_floor: ratio,
            cpu_to_floor: ratio,
            cpu_us_by_thread,
            ..Row::default()
        }
    }

    #[test]
    fn a_miss_is_not_charged_for_its_embedding_and_its_write() {
        let rows = [
            row("floor: proxy JSON", None, 30.0, &[]),
            row("pass-through JSON", Some("floor: proxy JSON"), 50.0, &[("tokio-rt-worker", 49.0)]),
            row(
                "storable miss JSON",
                Some("floor: proxy JSON"),
                350.0,
                &[("embedder", 200.0), ("sqlx-sqlite-worker", 70.0)],
            ),
        ];
        let goals = of(&rows);
        let named: Vec<(&str, &str, bool)> = goals.iter().map(|goal| (&*goal.test, &*goal.unit, goal.met)).collect();
        assert_eq!(
            named,
            [("pass-through JSON", "/s", true), ("pass-through JSON", "µs", true), ("storable miss JSON", "µs", true)]
        );
        assert!((goals[2].measured - 30.0).abs() < 1e-9, "350 less 270, less 50");
        assert_eq!(goals[1].floor, Some(30.0));
    }
}
