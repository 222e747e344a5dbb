//! A page of a longer list: how much of it, from where, and what came. A cursor names the last row seen, so that rows
//! which are added meanwhile neither repeat nor hide another; an offset only counts, and may.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use uuid::Uuid;

use crate::message::InvalidRequest;

/// Rows of a page unless said otherwise.
const DEFAULT_LIMIT: usize = 50;

/// Most rows of a page.
const MAX_LIMIT: usize = 200;

/// Rows that may be skipped: they are read to be counted, so a cursor leads further.
const MAX_OFFSET: usize = 100_000;

/// How many rows, after how many others. Within bounds by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    limit: usize,
    offset: usize,
}

impl Slice {
    /// 50 rows from the first on, where nothing else is asked for.
    ///
    /// # Errors
    /// A limit outside 1 to 200, an offset above 100,000.
    pub fn new(limit: Option<usize>, offset: Option<usize>) -> Result<Self, InvalidRequest> {
        let (limit, offset) = (limit.unwrap_or(DEFAULT_LIMIT), offset.unwrap_or(0));
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(InvalidRequest::of("limit", format!("`limit` is {limit}; it takes 1 to {MAX_LIMIT}")));
        }
        if offset > MAX_OFFSET {
            let fault = format!("`offset` is {offset}; it takes 0 to {MAX_OFFSET}, a cursor leads further");
            return Err(InvalidRequest::of("offset", fault));
        }
        Ok(Self { limit, offset })
    }

    /// Rows to skip.
    pub fn offset(self) -> usize {
        self.offset
    }

    /// One more than wanted: whether it came tells whether there is a next page.
    pub(super) fn probe(self) -> usize {
        self.limit + 1
    }

    /// Takes the row off that was read only to know whether it is there.
    pub(super) fn cut<T>(self, rows: &mut Vec<T>) -> More {
        let follows = rows.len() > self.limit;
        rows.truncate(self.limit);
        More { follows, offset: self.offset, rows: rows.len() }
    }
}

impl Default for Slice {
    fn default() -> Self {
        Self { limit: DEFAULT_LIMIT, offset: 0 }
    }
}

/// Whether rows follow a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct More {
    follows: bool,
    offset: usize,
    rows: usize,
}

impl More {
    /// The cursor of the next page, if there is one.
    pub(super) fn cursor(self, last: Option<impl ToString>) -> Option<String> {
        last.filter(|_| self.follows).map(|last| last.to_string())
    }

    /// The offset of the next page, if there is one.
    pub(super) fn next_offset(self) -> Option<usize> {
        self.follows.then_some(self.offset + self.rows)
    }
}

/// A place in the list of conversations: the last one seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListCursor {
    pub(super) updated_ms: u64,
    pub(super) id: Uuid,
}

impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.updated_ms, self.id)
    }
}

impl FromStr for ListCursor {
    type Err = InvalidRequest;

    fn from_str(text: &str) -> Result<Self, InvalidRequest> {
        let parts = text.split_once('.').and_then(|(time, id)| {
            let time = time.parse::<i64>().ok().and_then(|time| u64::try_from(time).ok())?;
            Some(Self { updated_ms: time, id: id.parse().ok()? })
        });
        parts.ok_or_else(|| InvalidRequest::of("cursor", "`cursor` is none that this list gave as `next_cursor`"))
    }
}

/// A page.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    /// The items.
    pub data: Vec<T>,
    /// Where the next page begins; `None`: this was the last, or the order has no cursors.
    pub next_cursor: Option<String>,
    /// Where the next page begins, counted; `None`: this was the last.
    pub next_offset: Option<usize>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_are_told() {
        assert_eq!(Slice::new(None, None).unwrap(), Slice { limit: 50, offset: 0 });
        assert!(Slice::new(Some(200), Some(100_000)).is_ok());
        assert_eq!(Slice::new(Some(0), None).unwrap_err().message, "`limit` is 0; it takes 1 to 200");
        assert_eq!(Slice::new(Some(201), None).unwrap_err().param.as_deref(), Some("limit"));
        assert!(Slice::new(None, Some(100_001)).unwrap_err().message.contains("0 to 100000"));
    }

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_went(time in 0..u64::MAX / 2, id: u128) {
            let cursor = ListCursor { updated_ms: time, id: Uuid::from_u128(id) };
            prop_assert_eq!(cursor.to_string().parse::<ListCursor>().unwrap(), cursor);
        }

        #[test]
        fn any_other_text_is_refused(text in "\\PC{0,40}") {
            prop_assert!(text.parse::<ListCursor>().is_err());
        }
    }
}
