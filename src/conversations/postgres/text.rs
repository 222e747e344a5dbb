//! Text on its way into Postgres and back: what people and models write may hold U+0000, which Postgres stores in no text. It
//! is written as U+E000 (of the private use area) and `0`, and U+E000 itself as U+E000 and `1`.

use std::borrow::Cow;

const ESCAPE: char = '\u{e000}';

/// As it is stored.
pub(super) fn stored(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(ESCAPE, "\u{e000}1").replace('\0', "\u{e000}0"))
}

/// As it was written.
pub(super) fn written(stored: &str) -> String {
    if !stored.contains(ESCAPE) {
        return stored.to_owned();
    }
    stored.replace("\u{e000}0", "\0").replace("\u{e000}1", "\u{e000}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_comes_back(parts in prop::collection::vec(prop_oneof![Just("\0"), Just("\u{e000}"), Just("0"), Just("1"), Just("é")], 0..12)) {
            let text = parts.concat();
            prop_assert!(!stored(&text).contains('\0'));
            prop_assert_eq!(written(&stored(&text)), text);
        }
    }
}
