//! Long texts as a file holds them: in zlib's form (RFC 1950), whose checksum tells damage. A text stands in one of two
//! columns: as it is, or packed, where that is worth it. Postgres packs what is long by itself.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row};

/// Bytes from which a text is packed: below, little is saved, and most texts are shorter.
const WORTH: usize = 512;

/// Bytes that are packed where they are; what is longer takes about a millisecond and more.
const AT_ONCE: usize = 64 * 1024;

/// The text packed; `None` where it is to be stored as it is. Done before a write begins: others wait for that.
pub(crate) async fn pack(text: &str) -> Option<Vec<u8>> {
    if text.len() <= AT_ONCE {
        return packed(text);
    }
    let text = text.to_owned();
    // A thread that failed packs nothing: the text is stored as it is.
    tokio::task::spawn_blocking(move || packed(&text)).await.ok().flatten()
}

fn packed(text: &str) -> Option<Vec<u8>> {
    if text.len() < WORTH {
        return None;
    }
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(text.len() / 2), Compression::fast());
    encoder.write_all(text.as_bytes()).ok()?;
    let bytes = encoder.finish().ok()?;
    (bytes.len() < text.len() / 8 * 7).then_some(bytes)
}

/// The text again.
///
/// # Errors
/// When these bytes are not what [`pack`] made.
pub(crate) fn unpack(bytes: &[u8]) -> io::Result<String> {
    let mut text = String::with_capacity(bytes.len() * 3);
    ZlibDecoder::new(bytes).read_to_string(&mut text)?;
    Ok(text)
}

/// The text of a row, from whichever of its two columns holds it.
pub(crate) fn text(row: &SqliteRow, plain: &str, packed: &str) -> Result<String, Error> {
    match row.try_get::<Option<&[u8]>, _>(packed)? {
        Some(bytes) => unpack(bytes).map_err(|error| Error::Decode(Box::new(error))),
        None => row.try_get(plain),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn only_what_becomes_smaller_is_packed() {
        let spoken = "Spring tides come twice a month, when the Moon and the Sun pull together. ";
        assert_eq!(pack(&spoken.repeat(2)).await, None, "short");
        let long = spoken.repeat(2_000);
        let bytes = pack(&long).await.unwrap();
        assert!(bytes.len() < long.len() / 10);
        assert_eq!(unpack(&bytes).unwrap(), long);
        let noise: String = (0..4_096_u64)
            .map(|place| {
                char::from_u32(0x4E00 + u32::from(blake3::hash(&place.to_le_bytes()).as_bytes()[0]) * 80).unwrap()
            })
            .collect();
        assert!(pack(&noise).await.is_none_or(|bytes| bytes.len() < noise.len()));
    }

    #[tokio::test]
    async fn damage_is_told() {
        let mut bytes = pack(&"What is said twice is said once too often. ".repeat(40)).await.unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(unpack(&bytes).is_err());
        assert!(unpack(&bytes[..last / 2]).is_err());
    }

    proptest! {
        #[test]
        fn a_packed_text_comes_back(words in proptest::collection::vec("\\PC{1,12}", 50..400)) {
            let text = words.join(" ");
            if let Some(bytes) = packed(&text) {
                prop_assert!(bytes.len() < text.len());
                prop_assert_eq!(unpack(&bytes).unwrap(), text);
            }
        }

        #[test]
        fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpack(&bytes);
        }
    }
}
