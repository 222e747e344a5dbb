//! What is asked and what is answered: the canonical chat request, its turns, deltas, completions and usage.
//!
//! A [`ChatRequest`] is validated at construction and carries the original bytes with it, so that a provider
//! speaking the same dialect can pass them on untouched. Leaf module: it knows no provider, cache or transport.

mod completion;
mod dialect;
mod event;
mod json_object;
mod outgoing;
mod plain_turn;
mod request;
mod served;

pub use completion::{Assembler, Choice, Completion, Delta, FinishReason, Usage};
pub use dialect::Dialect;
pub use event::write_event;
pub use json_object::{JsonFault, JsonObject};
pub use outgoing::Outgoing;
pub use request::{ChatRequest, InvalidRequest, Role, Turn};
pub use served::{Served, ServedBy};
