//! What is taken for an alert, checked: a figure that can be read and a threshold that it can be held to.

use std::collections::BTreeSet;

use super::figure::{FIGURES, Figure};
use super::parse::FigureError;
use crate::config::{AlertConfig, Config};

/// A checked [`AlertConfig`].
#[derive(Debug, Clone)]
pub struct Rule {
    config: AlertConfig,
    figure: Figure,
}

/// What is wrong with alerts, all at once.
#[derive(Debug, thiserror::Error)]
#[error("{} alert(s) cannot be looked for:\n{}", faults.len(), faults.iter().map(|fault| format!("  {fault}")).collect::<Vec<_>>().join("\n"))]
pub struct InvalidAlerts {
    /// One for each that is wrong.
    pub faults: Vec<InvalidAlert>,
}

/// What is wrong with one, and where it stands.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAlert {
    /// It looks at nothing that there is.
    #[error("alerts.rules.{name}.metric = {metric:?}: {source}")]
    Metric {
        /// The alert.
        name: String,
        /// As written.
        metric: String,
        /// Why.
        source: FigureError,
    },
    /// Nothing is beyond its threshold, or everything.
    #[error("alerts.rules.{name}.threshold = {threshold}: takes a number")]
    Threshold {
        /// The alert.
        name: String,
        /// Not finite.
        threshold: f64,
    },
    /// There is another one of its name.
    #[error("alerts.rules.{name}: there are two alerts of this name")]
    Twice {
        /// Their name.
        name: String,
    },
}

impl Rule {
    /// Checks them all, and returns them where they are looked for.
    ///
    /// # Errors
    /// [`InvalidAlerts`], with everything that is wrong.
    pub fn of_config(config: &Config) -> Result<Vec<Self>, InvalidAlerts> {
        let rules = Self::all(&config.alerts.rules)?;
        Ok(if config.alerts.enabled && config.monitoring.enabled { rules } else { Vec::new() })
    }

    pub(super) fn all(configs: &[AlertConfig]) -> Result<Vec<Self>, InvalidAlerts> {
        let (mut rules, mut faults, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
        for config in configs {
            if !names.insert(&config.name) {
                faults.push(InvalidAlert::Twice { name: config.name.clone() });
            }
            match Self::of(config) {
                Ok(rule) => rules.push(rule),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(rules) } else { Err(InvalidAlerts { faults }) }
    }

    fn of(config: &AlertConfig) -> Result<Self, InvalidAlert> {
        let AlertConfig { name, metric, threshold, .. } = config.clone();
        if !threshold.is_finite() {
            return Err(InvalidAlert::Threshold { name, threshold });
        }
        let figure = metric.parse().map_err(|source| InvalidAlert::Metric { name, metric, source })?;
        Ok(Self { config: config.clone(), figure })
    }

    /// As it was configured.
    pub fn config(&self) -> &AlertConfig {
        &self.config
    }

    pub(super) fn figure(&self) -> &Figure {
        &self.figure
    }

    /// What its figure says, for a person: the words of a named one, else the expression.
    pub(super) fn says(&self) -> &str {
        let named = FIGURES.iter().find(|figure| figure.name == self.config.metric);
        named.map_or(&self.config.metric, |figure| figure.says)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn those_that_are_built_in_can_be_looked_for() {
        let config = Config::read(&Environment::default(), None).unwrap();
        assert!(Rule::of_config(&config).unwrap().len() > 25);
    }

    #[test]
    fn all_that_is_wrong_is_said_with_its_place() {
        let named = |name: &str, metric: &str, threshold| AlertConfig::new(name, metric, threshold);
        let configs =
            [named("a", "cpuu", 1.0), named("b", "cpu", f64::NAN), named("c", "cpu", 1.0), named("c", "disk", 1.0)];
        let error = Rule::all(&configs).unwrap_err().to_string();
        for said in [
            "3 alert(s) cannot be looked for",
            "alerts.rules.a.metric = \"cpuu\": there is no metric \"cpuu\"; did you mean cpu?",
            "response_time_p95, question_time_p95",
            "alerts.rules.b.threshold = NaN: takes a number",
            "alerts.rules.c: there are two",
        ] {
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
