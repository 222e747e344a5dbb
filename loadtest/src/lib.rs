//! A provider that misbehaves on request, do-nothing floors, and a load generator.
//!
//! Three things live here, and none of them knows the server under test: [`provider`] is the
//! upstream of the integration tests and of the load runs; [`floor`] holds the two servers that do
//! nothing, whose speed is what a real one is measured against; [`generator`] sends the load.

pub mod floor;
pub mod generator;
pub mod provider;
