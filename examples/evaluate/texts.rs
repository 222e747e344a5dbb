//! Vectors and profiles of the texts under test, each computed once.
//!
//! Owns the file that keeps vectors between runs. Uses as many threads as there are cores.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::thread;

use anyhow::Result;
use ish::cache::verify::{Guard, Preset, Profile, Verdict, verify, veto};
use ish::embedding::minilm::{Encoder, MODEL_ID};
use ish::embedding::{Embedded, Embedding, Similarity, WordVectors};

/// One text, ready for the verifier.
pub struct Text {
    /// Sentence and word vectors.
    pub embedding: Embedding,
    /// Word vectors.
    pub words: WordVectors,
    /// The verifier's view.
    pub profile: Profile,
}

/// All texts that were asked for.
pub struct Texts {
    known: HashMap<String, Text>,
    file: Option<PathBuf>,
}

impl Texts {
    /// Reads the file of an earlier run if one is named.
    pub fn open(file: Option<PathBuf>) -> Result<Self> {
        let mut texts = Self { known: HashMap::new(), file };
        if let Some(file) = texts.file.as_ref().filter(|file| file.exists()) {
            let mut reader = BufReader::new(File::open(file)?);
            while let Some(text) = read_block(&mut reader)? {
                let embedding = Embedding::from_bytes(&read_block(&mut reader)?.unwrap_or_default())?;
                let words = WordVectors::from_bytes(&read_block(&mut reader)?.unwrap_or_default())?;
                let text = String::from_utf8(text)?;
                let profile = Profile::new(&text);
                texts.known.insert(text, Text { embedding, words, profile });
            }
        }
        Ok(texts)
    }

    /// Computes what is missing.
    pub fn prepare<'a>(&mut self, wanted: impl Iterator<Item = &'a str>) -> Result<()> {
        let mut missing: Vec<String> =
            wanted.filter(|text| !self.known.contains_key(*text)).map(str::to_owned).collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        eprintln!("embedding {} texts with {MODEL_ID}", missing.len());
        let threads = thread::available_parallelism()?.get();
        let share = missing.len().div_ceil(threads);
        let encoder = Encoder::load()?;
        let embedded: Vec<Embedded> = thread::scope(|scope| {
            let parts: Vec<_> = missing.chunks(share).map(|part| scope.spawn(|| embed(&encoder, part))).collect();
            parts.into_iter().flat_map(|part| part.join().expect("invariant: embedding does not panic")).collect()
        });
        let mut writer = match &self.file {
            Some(file) => Some(BufWriter::new(OpenOptions::new().append(true).create(true).open(file)?)),
            None => None,
        };
        for (text, embedded) in missing.into_iter().zip(embedded) {
            if let Some(writer) = &mut writer {
                write_block(writer, text.as_bytes())?;
                write_block(writer, &embedded.embedding.to_bytes())?;
                write_block(writer, &embedded.words.to_bytes())?;
            }
            let profile = Profile::new(&text);
            self.known.insert(text, Text { embedding: embedded.embedding, words: embedded.words, profile });
        }
        Ok(())
    }

    /// A text that was prepared.
    pub fn get(&self, text: &str) -> &Text {
        &self.known[text]
    }

    /// Cosine of two prepared texts.
    pub fn similarity(&self, a: &str, b: &str) -> Similarity {
        self.get(a).embedding.cosine(&self.get(b).embedding)
    }

    /// The first veto, if any.
    pub fn veto(&self, preset: Preset, a: &str, b: &str) -> Option<Guard> {
        let (x, y) = (self.get(a), self.get(b));
        veto(preset, None, self.similarity(a, b), (&x.profile, &x.words), (&y.profile, &y.words))
    }

    /// What every guard says.
    pub fn verdict(&self, preset: Preset, a: &str, b: &str) -> Verdict {
        let (x, y) = (self.get(a), self.get(b));
        verify(preset, None, self.similarity(a, b), (&x.profile, &x.words), (&y.profile, &y.words))
    }
}

fn embed(encoder: &Encoder, texts: &[String]) -> Vec<Embedded> {
    let batches = texts.chunks(256);
    batches.flat_map(|batch| encoder.embed(batch).expect("invariant: the embedded model runs")).collect()
}

fn write_block(writer: &mut impl Write, bytes: &[u8]) -> Result<()> {
    writer.write_all(&u32::try_from(bytes.len())?.to_le_bytes())?;
    Ok(writer.write_all(bytes)?)
}

fn read_block(reader: &mut impl Read) -> Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if reader.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut length[1..])?;
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    reader.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}
