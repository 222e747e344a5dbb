//! A page of a longer list.

use serde::Serialize;

/// A page of a longer list.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    /// The items.
    pub data: Vec<T>,
    /// Where the next page begins; `None`: this was the last.
    pub next_cursor: Option<String>,
}
