//! A statement with its arguments written into it. Arguments that are bound cost a way of their own (what has no name is
//! prepared before each time), and cannot share a message with what begins and ends the transaction.
//!
//! Only what says nothing of a person is written: a server logs the text of a statement that fails. So there are literals of
//! numbers, identifiers, digests and names, and none of a text.

use std::borrow::Cow;
use std::fmt::Write;

use uuid::Uuid;

/// A name that an operator gave: a tenant's, an embedder's.
#[derive(Debug, Clone, Copy)]
pub struct Name<'a>(pub &'a str);

/// What can be written into a statement. Between quotation marks there is never more than letters, digits and hyphens, so
/// that nothing ends them.
pub trait Literal {
    /// Its type in Postgres.
    const TYPE: &'static str;

    /// The type of several.
    const ARRAY: &'static str;

    /// Writes it down, without its type.
    fn write(&self, text: &mut String);
}

/// A statement that is complete.
#[derive(Debug, Clone)]
pub struct Written {
    /// As it was written by hand, with `$1` and so on.
    statement: &'static str,
    arguments: Vec<String>,
}

impl Written {
    /// A statement, whose arguments follow.
    pub fn new(statement: &'static str) -> Self {
        Self { statement, arguments: Vec::new() }
    }

    /// The next argument.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "arguments are given as a query's are")]
    pub fn bind<L: Literal>(mut self, value: L) -> Self {
        let mut text = String::from("(");
        value.write(&mut text);
        let _ = write!(text, ")::{}", L::TYPE);
        self.arguments.push(text);
        self
    }

    /// As it was written by hand.
    pub(super) fn statement(&self) -> &'static str {
        self.statement
    }

    /// All of it as text.
    pub(super) fn text(&self) -> Cow<'static, str> {
        if self.arguments.is_empty() {
            return Cow::Borrowed(self.statement);
        }
        let mut parts = self.statement.split('$');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = part.split_at(digits);
            let argument = number.parse::<usize>().ok().and_then(|number| self.arguments.get(number.checked_sub(1)?));
            text.push_str(argument.expect("invariant: each $ of a statement is followed by the number of an argument"));
            text.push_str(rest);
        }
        Cow::Owned(text)
    }
}

impl Literal for i64 {
    const TYPE: &'static str = "bigint";
    const ARRAY: &'static str = "bigint[]";

    fn write(&self, text: &mut String) {
        let _ = write!(text, "{self}");
    }
}

impl Literal for Uuid {
    const TYPE: &'static str = "uuid";
    const ARRAY: &'static str = "uuid[]";

    fn write(&self, text: &mut String) {
        let _ = write!(text, "'{self}'");
    }
}

impl Literal for &[u8] {
    const TYPE: &'static str = "bytea";
    const ARRAY: &'static str = "bytea[]";

    fn write(&self, text: &mut String) {
        text.push_str("decode('");
        for byte in *self {
            let _ = write!(text, "{byte:02x}");
        }
        text.push_str("', 'hex')");
    }
}

impl<const N: usize> Literal for [u8; N] {
    const TYPE: &'static str = <&[u8]>::TYPE;
    const ARRAY: &'static str = <&[u8]>::ARRAY;

    fn write(&self, text: &mut String) {
        self.as_slice().write(text);
    }
}

impl Literal for Name<'_> {
    const TYPE: &'static str = "text";
    const ARRAY: &'static str = "text[]";

    fn write(&self, text: &mut String) {
        text.push_str("convert_from(");
        self.0.as_bytes().write(text);
        text.push_str(", 'UTF8')");
    }
}

impl<L: Literal> Literal for Option<L> {
    const TYPE: &'static str = L::TYPE;
    const ARRAY: &'static str = L::ARRAY;

    fn write(&self, text: &mut String) {
        match self {
            Some(value) => value.write(text),
            None => text.push_str("NULL"),
        }
    }
}

// Several of one kind, for `ANY` and `unnest`.
impl<L: Literal> Literal for Vec<L> {
    const TYPE: &'static str = L::ARRAY;
    const ARRAY: &'static str = L::ARRAY;

    fn write(&self, text: &mut String) {
        text.push_str("ARRAY[");
        for (number, one) in self.iter().enumerate() {
            text.push_str(if number == 0 { "" } else { ", " });
            one.write(text);
        }
        text.push(']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_stand_where_their_numbers_are() {
        let written = Written::new("SELECT $2, $1, $3 FROM x WHERE $2 > $10");
        let written = (3..=9).fold(written.bind(-7_i64).bind([0xab_u8, 1]), |written, _| written.bind(None::<i64>));
        assert_eq!(
            written.bind(9_i64).text(),
            "SELECT (decode('ab01', 'hex'))::bytea, (-7)::bigint, (NULL)::bigint FROM x \
             WHERE (decode('ab01', 'hex'))::bytea > (9)::bigint"
        );
        assert_eq!(Written::new("SELECT 1").text(), "SELECT 1");
    }

    #[test]
    fn a_name_ends_no_literal_and_a_list_has_its_type() {
        let name = Name("a'\\$1; --");
        assert_eq!(
            Written::new("SELECT $1").bind(name).text(),
            "SELECT (convert_from(decode('61275c24313b202d2d', 'hex'), 'UTF8'))::text"
        );
        let ids = vec![Uuid::nil(), Uuid::max()];
        assert_eq!(
            Written::new("SELECT $1, $2").bind(ids).bind(Vec::<i64>::new()).text(),
            "SELECT (ARRAY['00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff'])::uuid[], \
             (ARRAY[])::bigint[]"
        );
    }
}
