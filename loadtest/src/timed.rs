//! Streams whose deltas say when they were sent: a provider that writes the time into each, at an even pace, and sockets that
//! read it. Both ends are in this process, so that a delta's way is read off one clock.

pub(crate) mod passed;
pub(crate) mod provider;
pub(crate) mod reader;
