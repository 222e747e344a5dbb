//! The alerts that are built in. Each has the name, the severity and the patience of its like in prometheus/prometheus.rules.yml
//! (a test holds them to it), so that one runbook serves both.

use std::time::Duration;

use super::{AlertConfig, Comparison, Severity};
use crate::config::reader::{Reader, setting};

/// What operators set by names that they know.
pub(super) struct Thresholds {
    response_time_s: f64,
    error_rate: f64,
    memory: f64,
    cpu: f64,
    disk: f64,
    embedding_hit_rate: f64,
    query_hit_rate: f64,
}

impl Thresholds {
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let response_time_ms = positive(reader, "alerts.response_time_ms", f64::MAX, "takes milliseconds above 0");
        let error_rate = error_rate(reader);
        let [memory, cpu, disk, embedding, query] = ["memory", "cpu", "disk", "embedding_hit_rate", "query_hit_rate"]
            .map(|name| Some(reader.percent(&format!("alerts.{name}_percent"))? / 100.0));
        Some(Self {
            response_time_s: response_time_ms? / 1_000.0,
            error_rate: error_rate?,
            memory: memory?,
            cpu: cpu?,
            disk: disk?,
            embedding_hit_rate: embedding?,
            query_hit_rate: query?,
        })
    }

    pub fn rules(&self) -> Vec<AlertConfig> {
        let mut rules = self.of_requests();
        rules.extend(of_providers());
        rules.extend(self.of_caches());
        rules.extend(of_work());
        rules.extend(self.of_process());
        rules
    }

    fn of_requests(&self) -> Vec<AlertConfig> {
        vec![
            after(10, rule("IshErrorRate", "error_rate", self.error_rate)),
            over(10, after(5, rule("IshAnswersFail", "answer_failure_rate", 0.05))),
            at_once(rule("IshPanics", "ish_panics_total", 0.0)),
            after(5, rule("IshOverloaded", "ish_limits_refused_total{reason=\"overloaded\"}", 0.0)),
            // Of an hour with a request in two seconds.
            below(enough(1_800, over(10, after(15, rule("IshThroughputDropped", "throughput_of_hour", 0.5))))),
            after(10, rule("IshSlowRequests", "response_time_p95", self.response_time_s)),
            after(10, rule("IshSlowQuestions", "question_time_p95", self.response_time_s)),
            after(5, rule("IshRuntimeLag", "runtime_lag_p99", 0.1)),
        ]
    }

    fn of_caches(&self) -> Vec<AlertConfig> {
        let hit_rate = |rule| info(below(enough(100, over(60, after(60, rule)))));
        vec![
            // Three reports, of so many hits.
            critical(at_once(enough(400, over(60, rule("IshWrongAnswers", "wrong_answer_rate", 0.005))))),
            at_most(after(1, rule("IshRedisDown", "redis_up", 0.0))),
            after(5, rule("IshTierFailing", "cache_errors", 0.05)),
            over(10, after(10, rule("IshEmbedderSlow", "embedding_time_p95", 0.05))),
            hit_rate(rule("IshEmbeddingHitRateLow", "embedding_hit_rate", self.embedding_hit_rate)),
            hit_rate(rule("IshQueryHitRateLow", "query_hit_rate", self.query_hit_rate)),
        ]
    }

    fn of_process(&self) -> Vec<AlertConfig> {
        vec![
            after(10, rule("IshMemory", "memory", self.memory)),
            after(5, rule("IshCpu", "cpu", self.cpu)),
            after(10, rule("IshDisk", "disk", self.disk)),
            after(5, rule("IshFiles", "files", 0.8)),
        ]
    }
}

fn of_providers() -> Vec<AlertConfig> {
    let all_down = rule("IshAllProvidersDown", "all_providers_failure_rate", 1.0);
    vec![
        after(5, rule("IshProviderFailing", "provider_failure_rate", 0.5)),
        critical(at_least(enough(3, after(2, all_down)))),
        at_least(after(5, rule("IshBreakerOpen", "breaker", 2.0))),
    ]
}

fn of_work() -> Vec<AlertConfig> {
    vec![
        after(5, rule("IshUrgentTasksWait", "urgent_queue_age", 30.0)),
        after(10, rule("IshTasksWait", "queue_age", 900.0)),
        at_once(rule("IshDeadLetters", "dead_letters", 0.0)),
        at_once(rule("IshWorkflowFailed", "failed_workflows", 0.0)),
        after(10, rule("IshWorkflowStuck", "ish_workflows_stuck", 0.0)),
        after(5, rule("IshPoolSaturated", "pool_use", 0.8)),
        critical(after(2, rule("IshPoolTimeouts", "pool_timeouts", 0.0))),
    ]
}

/// 1: one of a hundred. Who writes 0.01 may have meant that; it is one of ten thousand.
fn error_rate(reader: &mut Reader) -> Option<f64> {
    let key = "alerts.error_rate_percent";
    let percent = positive(reader, key, 100.0, "takes a percentage above 0, up to 100")?;
    if percent < 0.1 {
        let (text, origin) = reader.text(setting(key));
        let warning =
            format!("{key} is {text} ({origin}): {text} of a hundred requests; for a share such as 0.01 write 1");
        reader.warnings.push(warning);
    }
    Some(percent / 100.0)
}

fn positive(reader: &mut Reader, key: &str, most: f64, accepted: &str) -> Option<f64> {
    let (text, origin) = reader.text(setting(key));
    let number = text.parse().ok().filter(|number| *number > 0.0 && *number <= most);
    if number.is_none() {
        reader.fault(key, &text, &origin, accepted);
    }
    number
}

fn rule(name: &str, metric: &str, threshold: f64) -> AlertConfig {
    let runbook = Some(format!("docs/runbooks.md#{}", name.to_lowercase()));
    AlertConfig { runbook, ..AlertConfig::new(name, metric, threshold) }
}

fn after(minutes: u64, rule: AlertConfig) -> AlertConfig {
    AlertConfig { hold: Duration::from_mins(minutes), ..rule }
}

/// What has happened at all in a quarter of an hour.
fn at_once(rule: AlertConfig) -> AlertConfig {
    over(15, AlertConfig { hold: Duration::ZERO, ..rule })
}

fn over(minutes: u64, rule: AlertConfig) -> AlertConfig {
    AlertConfig { window: Duration::from_mins(minutes), ..rule }
}

fn enough(events: u32, rule: AlertConfig) -> AlertConfig {
    AlertConfig { least_events: events, ..rule }
}

fn at_least(rule: AlertConfig) -> AlertConfig {
    AlertConfig { comparison: Comparison::AtLeast, ..rule }
}

fn at_most(rule: AlertConfig) -> AlertConfig {
    AlertConfig { comparison: Comparison::AtMost, ..rule }
}

fn below(rule: AlertConfig) -> AlertConfig {
    AlertConfig { comparison: Comparison::Below, ..rule }
}

fn critical(rule: AlertConfig) -> AlertConfig {
    AlertConfig { severity: Severity::Critical, ..rule }
}

fn info(rule: AlertConfig) -> AlertConfig {
    AlertConfig { severity: Severity::Info, ..rule }
}
