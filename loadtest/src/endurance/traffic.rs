//! What has to be answered: answers that are remembered, questions in several wordings, and what goes past the cache, whole and as
//! streams.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use loadtest::generator::{self, Expected, Mix, Plan, Prompts, Report};

use crate::party::Party;
use crate::probe::Probe;

/// Connections of each kind.
const CONNECTIONS: usize = 32;

pub(super) struct Traffic<'p> {
    pub party: &'p Party,
    /// Requests per second of all kinds together.
    pub rate: f64,
    pub lasts: Duration,
    pub seed: u64,
    pub salt: u64,
}

impl Traffic<'_> {
    /// Has the server learn the questions, so that what it stores afterwards does not grow.
    pub(super) async fn warm(&self, probe: &Probe) -> anyhow::Result<()> {
        for wording in self.mix()?.wordings().flatten() {
            probe.ask(&self.party.base(), "loadtest", wording).await?;
        }
        Ok(())
    }

    /// All kinds at once, each told by itself.
    pub(super) async fn answered(&self) -> anyhow::Result<Vec<(&'static str, Report)>> {
        let questions = Prompts::Mixed(Arc::new(self.mix()?));
        let kinds = [
            ("questions", 0.5, Plan { expected: kinds(), ..self.plan(questions) }),
            ("past the cache", 0.3, past(self.plan(Prompts::Unique { salt: self.salt }))),
            (
                "streams past the cache",
                0.2,
                Plan { stream: true, ..past(self.plan(Prompts::Unique { salt: self.salt + 1 })) },
            ),
        ];
        let runs = kinds.into_iter().map(|(name, share, plan)| async move {
            let plan = Plan { rate: Some(self.rate * share), ..plan };
            anyhow::Ok((name, generator::run(plan).await?))
        });
        try_join_all(runs).await
    }

    fn mix(&self) -> anyhow::Result<Mix> {
        Mix::read(include_str!("../../data/questions.tsv"), 1.0, self.seed)
    }

    fn plan(&self, prompts: Prompts) -> Plan {
        Plan { connections: CONNECTIONS, ..Plan::new(self.party.target().clone(), prompts, self.lasts) }
    }
}

fn kinds() -> Expected {
    Expected { kinds: Some("x-ish-cache"), ..Expected::default() }
}

fn past(plan: Plan) -> Plan {
    Plan { headers: vec![("x-ish-cache".into(), "off".to_owned())], ..plan }
}
