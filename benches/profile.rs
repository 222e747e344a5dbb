//! What it costs to count a stage, beside a reading of the clock; and what a report costs its reader.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use ish::config::{Config, Environment};
use ish::metrics::Metrics;
use ish::pool::Pools;
use ish::profiler::Profiler;

fn profile(criterion: &mut Criterion) {
    let metrics = Arc::new(Metrics::new());
    let config = Config::read(&Environment::from([("ISH_LISTEN", "127.0.0.1:0")]), None).expect("a configuration");
    let profiler = Profiler::new(&config, &metrics, &Pools::new(Arc::clone(&metrics)));
    let stage = &metrics.stages.search;
    criterion.bench_function("the clock", |bench| bench.iter(Instant::now));
    criterion.bench_function("a time that is known", |bench| {
        bench.iter(|| stage.record(black_box(Duration::from_micros(7))));
    });
    criterion.bench_function("a stage from begin to end", |bench| bench.iter(|| drop(stage.begin())));
    criterion.bench_function("one that is glanced at", |bench| bench.iter(|| drop(stage.glance())));
    criterion.bench_function("a report", |bench| bench.iter(|| profiler.report()));
}

criterion_group!(benches, profile);
criterion_main!(benches);
