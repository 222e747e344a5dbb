//! Tasks in Postgres: many processes enqueue and claim. Every verb crosses tenants but [`enqueue_in`], which is part of its
//! caller's transaction. Times are by the server's clock alone. Whatever locks several tasks does so in the order of their
//! identifiers, or passes over those that are locked, so that no two wait for each other.

mod enqueue;
mod intake;
mod look;
mod manage;
mod present;
mod work;

use sqlx::Error;

pub(super) use enqueue::{enqueue, enqueue_in, move_slot};
pub(super) use intake::Intake;
pub(super) use look::{counted, list, now_ms, pauses, slots, task, waiting};
pub(super) use manage::{cancel, pause, purge, resume, retry, trim};
pub(super) use present::{leave, sign, workers};
#[cfg(test)]
pub(super) use work::CLAIM;
pub(super) use work::{beat, claim, expired, settle};

use super::stored::Unreadable;

fn decoded<T>(read: Result<T, Unreadable>) -> Result<T, Error> {
    read.map_err(Error::Decode)
}
