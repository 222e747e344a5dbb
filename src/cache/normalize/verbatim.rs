//! Splits a prompt into prose and what must stay byte for byte: code and quotations.
//!
//! Takes too much rather than too little; what a span contains is nobody's business here.

/// A piece of the text; all pieces in order are the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span<'a> {
    /// May be rewritten.
    Free(&'a str),
    /// Stays as it is.
    Verbatim(&'a str),
}

/// The text's spans, neighbours of one kind not joined.
pub(super) fn spans(text: &str) -> Vec<Span<'_>> {
    if text.contains("```") || text.contains("~~~") || is_code_listing(text) {
        // Fences may nest and stay open; a prompt with a listing is rarely worded the same twice anyway.
        return vec![Span::Verbatim(text)];
    }
    let mut spans = Vec::new();
    let mut rest = text;
    while let Some((start, end)) = next_quotation(rest) {
        if start > 0 {
            spans.push(Span::Free(&rest[..start]));
        }
        spans.push(Span::Verbatim(&rest[start..end]));
        rest = &rest[end..];
    }
    if !rest.is_empty() || spans.is_empty() {
        spans.push(Span::Free(rest));
    }
    spans
}

/// Marks that prose does not have; one anywhere makes the whole text a listing.
#[rustfmt::skip]
const CODE_MARKS: &[&str] = &[
    "{", "}", "=>", "->", "==", "!=", "<=", ">=", "&&", "||", "::", "</", "/>", "$(", ");", "()", "[]", "+=", "-=",
    ":=", " = ", "<-", "#include", ">>> ", "&mut ", "\\n", "\\t", " | ",
];

const CODE_STARTS: &[&str] = &[
    "def ", "class ", "import ", "from ", "fn ", "SELECT ", "INSERT ", "UPDATE ", "DELETE ", "$ ", "# ", "let ",
    "const ", "var ", "return ", "public ", "private ", "@", "//", "/*", "--", "|",
];

/// Whether the text holds code outside quotations: a mark, a line that starts like code, or an indented line.
fn is_code_listing(text: &str) -> bool {
    if text.bytes().any(opens_mark) && CODE_MARKS.iter().any(|mark| text.contains(mark)) {
        return true;
    }
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first_is_code =
        lines.next().is_some_and(|line| starts_like_code(line.trim_start()) && text.lines().count() > 1);
    first_is_code || lines.any(|line| line.starts_with([' ', '\t']) || starts_like_code(line) || line.ends_with(';'))
}

/// Whether a code mark may hold this byte: most prompts have none and need no search.
fn opens_mark(byte: u8) -> bool {
    matches!(
        byte,
        b'{' | b'}' | b'=' | b'<' | b'>' | b'&' | b'|' | b':' | b'/' | b'$' | b'(' | b')' | b'[' | b'\\' | b'#'
    )
}

fn starts_like_code(line: &str) -> bool {
    CODE_STARTS.iter().any(|start| line.starts_with(start))
}

/// The bytes of the next quotation, its marks included.
fn next_quotation(text: &str) -> Option<(usize, usize)> {
    text.char_indices().find_map(|(at, mark)| {
        let closing = match mark {
            '`' | '"' => mark,
            '“' | '„' => '”',
            '«' => '»',
            '‘' => '’',
            '\'' => '\'',
            _ => return None,
        };
        let is_single = matches!(mark, '\'' | '‘');
        let before = text[..at].chars().next_back();
        if is_single && before.is_some_and(char::is_alphanumeric) {
            return None;
        }
        let inside = at + mark.len_utf8();
        let end = text[inside..].match_indices(closing).find_map(|(offset, _)| {
            let end = inside + offset + closing.len_utf8();
            let after = text[end..].chars().next();
            let closes = offset > 0 && (!is_single || after.is_none_or(|c| !c.is_alphanumeric()));
            closes.then_some(end)
        });
        Some((at, end?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_has_a_byte_that_opens_the_search() {
        assert!(CODE_MARKS.iter().all(|mark| mark.bytes().any(opens_mark)));
    }

    #[test]
    fn quotations_and_code_are_cut_out() {
        use Span::{Free, Verbatim};
        assert_eq!(spans("What is `Foo`?"), [Free("What is "), Verbatim("`Foo`"), Free("?")]);
        assert_eq!(spans("What's 'It' about"), [Free("What's "), Verbatim("'It'"), Free(" about")]);
        assert_eq!(spans("don't and can't"), [Free("don't and can't")]);
        assert_eq!(spans("say \"hi"), [Free("say \"hi")]);
        assert_eq!(spans("Fix:\n    x"), [Verbatim("Fix:\n    x")]);
        assert_eq!(spans(""), [Free("")]);
    }
}
