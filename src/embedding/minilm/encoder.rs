//! Runs the MiniLM graph and pools its output.
//!
//! Owns batches of token ids, the padding mask, mean pooling and the word vectors. Leaves threads and queues to the
//! parent module.

use std::sync::Arc;

use ndarray::{ArrayView2, ArrayView3, Axis, s};
use rten::{LoadError, Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value};

use crate::embedding::wordpiece::{Encoding, WordPiece};
use crate::embedding::{DIM, Embedded, Embedding, InvalidVector, WordVectors};

/// 23 MB, laid out by `build.rs` from `models/`. The runtime reads weights in place where they are aligned.
static MODEL: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/minilm.rten")));

#[repr(align(64))]
struct Aligned<T: ?Sized>(T);

/// The pieces of the uncased BERT vocabulary, one a line in the order of their ids.
pub const VOCABULARY: &str = include_str!("../../../models/vocab.txt");

/// Texts are computed together while each is at most this many tokens longer than the one before: a long text must
/// not make the short ones beside it as expensive as itself.
const PADDING: usize = 4;

/// The model, loaded. Shared by threads; each call computes on the caller's thread.
pub struct Encoder {
    tokenizer: WordPiece,
    model: Model,
    inputs: [NodeId; 3],
    output: NodeId,
    options: RunOptions,
}

/// Why the encoder gave no vectors. Neither happens with the model that is embedded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The runtime refused the graph or its inputs.
    #[error("the model does not run")]
    Run(#[from] rten::RunError),
    /// The output has another shape than `(texts, tokens, DIM)`.
    #[error("the model's output has an unexpected shape")]
    Shape,
    /// The output holds values that are no vector.
    #[error("the model's output is no vector")]
    Vector(#[from] InvalidVector),
}

impl Encoder {
    /// Reads the embedded model: about 20 ms.
    ///
    /// # Errors
    /// If the embedded file is no model that the runtime knows.
    ///
    /// # Panics
    /// If the embedded file is another model than the one in `models/`, which a test holds.
    pub fn load() -> Result<Self, LoadError> {
        let model = ModelOptions::with_all_ops().prepack_weights(true).load_static_slice(&MODEL.0)?;
        let node = |name| model.node_id(name).expect("invariant: the embedded model has this node");
        let inputs = [node("input_ids"), node("attention_mask"), node("token_type_ids")];
        let output = node("last_hidden_state");
        let options = RunOptions::default().with_thread_pool(Some(Arc::new(ThreadPool::with_num_threads(1))));
        Ok(Self { tokenizer: WordPiece::new(VOCABULARY), model, inputs, output, options })
    }

    /// Embeds `texts`, in their order.
    ///
    /// # Errors
    /// [`EncodeError`], for all texts alike.
    pub fn embed(&self, texts: &[String]) -> Result<Vec<Embedded>, EncodeError> {
        let encodings: Vec<Encoding> = texts.iter().map(|text| self.tokenizer.encode(text)).collect();
        let mut order: Vec<usize> = (0..encodings.len()).collect();
        order.sort_by_key(|&position| encodings[position].ids.len());
        let mut embedded = vec![None; texts.len()];
        for group in order.chunk_by(|&a, &b| encodings[b].ids.len() <= encodings[a].ids.len() + PADDING) {
            let together: Vec<&Encoding> = group.iter().map(|&position| &encodings[position]).collect();
            for (&position, result) in group.iter().zip(self.embed_together(&together)?) {
                embedded[position] = Some(result);
            }
        }
        Ok(embedded.into_iter().flatten().collect())
    }

    fn embed_together(&self, encodings: &[&Encoding]) -> Result<Vec<Embedded>, EncodeError> {
        let rows = encodings.len();
        let columns = encodings.iter().map(|encoding| encoding.ids.len()).max().unwrap_or(0);
        let mut ids = vec![0_i32; rows * columns];
        let mut mask = vec![0_i32; rows * columns];
        for (row, encoding) in encodings.iter().enumerate() {
            let start = row * columns;
            ids[start..start + encoding.ids.len()].copy_from_slice(&encoding.ids);
            mask[start..start + encoding.ids.len()].fill(1);
        }
        let types = vec![0_i32; rows * columns];
        let tensor = |data| Value::from_shape([rows, columns], data).map_err(|_| EncodeError::Shape);
        let inputs = self.inputs.into_iter().zip([tensor(ids)?, tensor(mask)?, tensor(types)?]);
        let inputs = inputs.map(|(node, value)| (node, value.into())).collect();
        let [output] = self.model.run_n(inputs, [self.output], Some(self.options.clone()))?;
        let (shape, hidden) = output.into_shape_vec::<f32, 3>().map_err(|_| EncodeError::Shape)?;
        let hidden = ArrayView3::from_shape(shape, &hidden).map_err(|_| EncodeError::Shape)?;
        hidden.outer_iter().zip(encodings).map(|(hidden, encoding)| pool(&hidden, encoding)).collect()
    }
}

/// Mean over the tokens of the text, and over the pieces of each word; `hidden` is `(tokens, DIM)`, padded.
fn pool(hidden: &ArrayView2<'_, f32>, encoding: &Encoding) -> Result<Embedded, EncodeError> {
    let mean = |pieces: std::ops::Range<usize>| -> Result<[f32; DIM], EncodeError> {
        let mean = hidden.slice(s![pieces, ..]).mean_axis(Axis(0)).ok_or(EncodeError::Shape)?;
        mean.as_slice().and_then(|mean| mean.try_into().ok()).ok_or(EncodeError::Shape)
    };
    let mut words = WordVectors::default();
    for word in &encoding.words {
        words.push(&word.text, &mean(word.pieces.clone())?);
    }
    Ok(Embedded {
        embedding: Embedding::new(&mean(0..encoding.ids.len())?)?,
        words,
        truncated: encoding.truncated,
        tokens: encoding.ids.len() as u32,
    })
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    fn fixture() -> Vec<(String, Embedding)> {
        let vectors = include_bytes!("../../../tests/fixtures/vectors.f16");
        let texts = include_str!("../../../tests/fixtures/wordpiece.jsonl").lines();
        let rows = vectors.chunks_exact(2 * DIM).map(|row| {
            let values: Vec<f32> =
                row.as_chunks::<2>().0.iter().map(|&value| f16::from_le_bytes(value).to_f32()).collect();
            Embedding::new(&values).unwrap()
        });
        let texts = texts.map(|line| serde_json::from_str::<(String, Vec<i32>)>(line).unwrap().0);
        texts.zip(rows).collect()
    }

    /// Mean and lowest cosine to the f32 model.
    fn agreement(embedded: &[Embedded], fixture: &[(String, Embedding)]) -> (f32, f32) {
        let cosines: Vec<f32> =
            embedded.iter().zip(fixture).map(|(ours, (_, theirs))| ours.embedding.cosine(theirs).get()).collect();
        let lowest = cosines.iter().copied().fold(1.0, f32::min);
        (cosines.iter().sum::<f32>() / cosines.len() as f32, lowest)
    }

    #[test]
    fn vectors_agree_with_the_f32_model_and_with_themselves_in_a_batch() {
        let (encoder, fixture) = (Encoder::load().unwrap(), fixture());
        assert!(fixture.len() >= 200);
        let one_by_one: Vec<Embedded> =
            fixture.iter().map(|(text, _)| encoder.embed(std::slice::from_ref(text)).unwrap().remove(0)).collect();
        let (mean, lowest) = agreement(&one_by_one, &fixture);
        println!("one by one: mean {mean:.4}, lowest {lowest:.4}");
        let texts: Vec<String> = fixture.iter().map(|(text, _)| text.clone()).collect();
        let together: Vec<Embedded> = texts.chunks(32).flat_map(|texts| encoder.embed(texts).unwrap()).collect();
        assert!(mean >= 0.993 && lowest >= 0.975, "{mean} {lowest}");
        for (alone, batched) in one_by_one.iter().zip(&together) {
            assert!(alone.embedding.cosine(&batched.embedding).get() > 0.999_99);
        }
    }
}
