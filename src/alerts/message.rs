//! What a webhook is told, as Alertmanager tells it (version 4 of its webhooks), so that whatever understands that understands this.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rule::Rule;
use super::state::Standing;
use crate::clock::rfc3339;
use crate::config::{Comparison, Severity};

/// An end that has not come.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// One alert that began or ended.
#[derive(Debug, Clone)]
pub(super) struct Notice {
    name: String,
    severity: Severity,
    summary: String,
    runbook: Option<String>,
    value: Option<f64>,
    fired_at_ms: u64,
    resolved_at_ms: Option<u64>,
}

/// All that began or ended in one look.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    version: &'static str,
    group_key: String,
    truncated_alerts: u32,
    /// As long as one of them fires, all do.
    status: &'static str,
    receiver: &'static str,
    group_labels: BTreeMap<&'static str, String>,
    common_labels: BTreeMap<&'static str, String>,
    common_annotations: BTreeMap<&'static str, String>,
    #[serde(rename = "externalURL")]
    external_url: &'static str,
    alerts: Vec<Told>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    status: &'static str,
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'static str,
    fingerprint: String,
}

impl Notice {
    pub fn of(rule: &Rule, standing: &Standing, fired_at_ms: u64, resolved_at_ms: Option<u64>) -> Self {
        let config = rule.config();
        Self {
            name: config.name.clone(),
            severity: config.severity,
            summary: summary(rule, standing),
            runbook: config.runbook.clone(),
            value: standing.found.as_ref().map(|found| found.value),
            fired_at_ms,
            resolved_at_ms,
        }
    }

    fn told(&self, instance: &str) -> Told {
        let labels = BTreeMap::from([
            ("alertname", self.name.clone()),
            ("instance", instance.to_owned()),
            ("job", "ish".to_owned()),
            ("severity", self.severity.as_str().to_owned()),
        ]);
        let value = self.value.map(|value| ("value", short(value)));
        let runbook = self.runbook.clone().map(|runbook| ("runbook_url", runbook));
        let fingerprint = blake3::hash(format!("{labels:?}").as_bytes()).to_hex();
        Told {
            status: if self.resolved_at_ms.is_some() { "resolved" } else { "firing" },
            annotations: [("summary", self.summary.clone())].into_iter().chain(value).chain(runbook).collect(),
            starts_at: rfc3339(self.fired_at_ms),
            ends_at: self.resolved_at_ms.map_or_else(|| NO_TIME.to_owned(), rfc3339),
            generator_url: "",
            fingerprint: fingerprint[..16].to_owned(),
            labels,
        }
    }
}

impl Message {
    /// One message of at least one alert.
    pub fn of(instance: &str, notices: &[Notice]) -> Self {
        let alerts: Vec<Told> = notices.iter().map(|notice| notice.told(instance)).collect();
        let is_firing = alerts.iter().any(|alert| alert.status == "firing");
        let group_labels = BTreeMap::from([("instance", instance.to_owned()), ("job", "ish".to_owned())]);
        Self {
            version: "4",
            group_key: format!("{{}}:{{instance={instance:?}, job=\"ish\"}}"),
            truncated_alerts: 0,
            status: if is_firing { "firing" } else { "resolved" },
            receiver: "ish",
            group_labels,
            common_labels: common(alerts.iter().map(|alert| &alert.labels)),
            common_annotations: common(alerts.iter().map(|alert| &alert.annotations)),
            external_url: "",
            alerts,
        }
    }

    /// How many alerts it is of.
    pub fn count(&self) -> usize {
        self.alerts.len()
    }
}

/// What all of them say alike.
fn common<'m>(mut all: impl Iterator<Item = &'m BTreeMap<&'static str, String>>) -> BTreeMap<&'static str, String> {
    let mut alike = all.next().cloned().unwrap_or_default();
    for other in all {
        alike.retain(|name, value| other.get(name) == Some(value));
    }
    alike
}

fn summary(rule: &Rule, standing: &Standing) -> String {
    let config = rule.config();
    let limit = match config.comparison {
        Comparison::Above | Comparison::AtLeast => "at most",
        Comparison::Below | Comparison::AtMost => "at least",
    };
    let found = standing.found.as_ref();
    let of = found.map(|found| found.of.as_str()).filter(|of| !of.is_empty());
    let of = of.map(|of| format!(" ({of})")).unwrap_or_default();
    let value = found.map_or_else(|| "not known".to_owned(), |found| short(found.value));
    format!("{}{of}: {value}; it should be {limit} {}", rule.says(), short(config.threshold))
}

/// Four digits behind the point at most.
fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::figure::Finding;
    use super::super::state::{Now, Standing};
    use super::*;
    use crate::config::AlertConfig;

    fn notice(name: &str, of: &str, resolved_at_ms: Option<u64>) -> Notice {
        let config = AlertConfig { runbook: Some("r".to_owned()), ..AlertConfig::new(name, "memory", 0.8) };
        let rule = Rule::all(&[config]).unwrap().remove(0);
        let mut standing = Standing::new(Now { wall_ms: 0, steady_ms: 0 });
        standing.found = Some(Finding { value: 0.912_34, of: of.to_owned() });
        Notice::of(&rule, &standing, 1_700_000_000_000, resolved_at_ms)
    }

    #[test]
    fn one_alert_is_told_as_alertmanager_does() {
        let message = json!(Message::of("a:1", &[notice("Full", "", None)]));
        let summary = "share of the memory that it may use: 0.9123; it should be at most 0.8";
        let labels = json!({"alertname": "Full", "instance": "a:1", "job": "ish", "severity": "warning"});
        let annotations = json!({"summary": summary, "value": "0.9123", "runbook_url": "r"});
        let fingerprint = message["alerts"][0]["fingerprint"].clone();
        assert_eq!(fingerprint.as_str().unwrap().len(), 16);
        let wanted = json!({
            "version": "4", "groupKey": "{}:{instance=\"a:1\", job=\"ish\"}", "truncatedAlerts": 0, "status": "firing",
            "receiver": "ish", "groupLabels": {"instance": "a:1", "job": "ish"}, "commonLabels": labels,
            "commonAnnotations": annotations, "externalURL": "",
            "alerts": [{
                "status": "firing", "labels": labels, "annotations": annotations, "startsAt": "2023-11-14T22:13:20.000Z",
                "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": fingerprint,
            }],
        });
        assert_eq!(message, wanted);
        let end = json!(Message::of("a:1", &[notice("Full", "", Some(1_700_000_060_000))]));
        assert_eq!(
            (&end["status"], &end["alerts"][0]["endsAt"]),
            (&json!("resolved"), &json!("2023-11-14T22:14:20.000Z"))
        );
        assert_eq!(end["alerts"][0]["fingerprint"], fingerprint, "one alert from its beginning to its end");
    }

    #[test]
    fn several_have_in_common_what_all_say() {
        let both = [notice("One", "pool=\"http\"", Some(1)), notice("Two", "", None)];
        let message = json!(Message::of("a:1", &both));
        assert_eq!((message["status"].as_str(), message["alerts"].as_array().unwrap().len()), (Some("firing"), 2));
        assert_eq!(message["commonLabels"], json!({"instance": "a:1", "job": "ish", "severity": "warning"}));
        assert_eq!(message["commonAnnotations"], json!({"value": "0.9123", "runbook_url": "r"}));
        let summary = message["alerts"][0]["annotations"]["summary"].as_str().unwrap();
        assert!(summary.contains("may use (pool=\"http\"): 0.9123"), "{summary}");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 1.0, 0.5, 12.345_678, 100.0].map(short), ["0", "1", "0.5", "12.3457", "100"]);
    }
}
