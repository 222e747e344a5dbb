//! What matching by meaning costs, piece by piece: the embedding of a short and a long prompt, the verifier on a pair,
//! and a whole semantic look-up whose embedding is known.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use ish::cache::verify::{Preset, Profile, veto};
use ish::embedding::{Embedder, MiniLm};
use tokio::runtime::Runtime;

const SHORT: &str = "How do I undo the last commit in git without losing my changes?";
const BATCH: NonZeroUsize = NonZeroUsize::new(32).unwrap();
const REWORDED: &str = "What is the way to undo the last git commit while keeping my changes?";

fn matching(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let embedder: Arc<dyn Embedder> =
        Arc::new(MiniLm::start(NonZeroUsize::MIN, 64, BATCH).expect("the embedder starts"));
    let embed = |texts: Vec<String>| runtime.block_on(embedder.embed(texts, None)).expect("texts are embedded");
    let long = SHORT.repeat(14);
    criterion.bench_function("embed/short (16 tokens)", |bencher| bencher.iter(|| embed(vec![SHORT.to_owned()])));
    criterion.bench_function("embed/long (about 220 tokens)", |bencher| bencher.iter(|| embed(vec![long.clone()])));
    criterion.bench_function("embed/32 short ones", |bencher| bencher.iter(|| embed(vec![SHORT.to_owned(); 32])));

    let embedded = embed(vec![SHORT.to_owned(), REWORDED.to_owned()]);
    let (ours, theirs) = (Profile::new(SHORT), Profile::new(REWORDED));
    let similarity = embedded[0].embedding.cosine(&embedded[1].embedding);
    criterion.bench_function("verify/profile of a prompt", |bencher| bencher.iter(|| Profile::new(black_box(SHORT))));
    criterion.bench_function("verify/a pair that passes or is vetoed late", |bencher| {
        bencher.iter(|| {
            veto(Preset::Balanced, None, similarity, (&ours, &embedded[0].words), (&theirs, &embedded[1].words))
        });
    });
    criterion
        .bench_function("normalize", |bencher| bencher.iter(|| ish::cache::normalize::normalize(black_box(SHORT))));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = matching
}
criterion_main!(benches);
