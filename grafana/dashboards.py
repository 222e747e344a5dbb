#!/usr/bin/env python3
"""The dashboards: `grafana/dashboards.py` writes grafana/dashboards/*.json, which are committed; `--check` only says whether they are as
this file would write them. What stands here is what differs between panels; the rest of Grafana's JSON is the same for all.

In expressions `@` stands for the instances that are looked at, and [i] for Grafana's own interval. A panel whose series are there
only once something went wrong adds `or vector(0)`, so that nothing wrong is a line at zero and not an empty panel."""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "dashboards"
RATE, INSTANCES = "[$__rate_interval]", 'job="ish", instance=~"$instance"'
#: What only watches the server is no request.
ASKED = 'route!~"/(livez|readyz|metrics)"'
#: Calls that did not fail through the provider's fault.
NOT_THEIRS = "abandoned|rejected|unsupported|malformed|full|budget|stopped"


def quantile(q: float, metric: str, by: str = "", where: str = "") -> str:
    labels, chosen = ", ".join(["le", *by.split()]), ", ".join(["@", *filter(None, [where])])
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{{chosen}}}[i])))"


def rate(metric: str, by: str = "", where: str = "") -> str:
    grouped, chosen = f" by ({', '.join(by.split())})" if by else "", ", ".join(["@", *filter(None, [where])])
    return f"sum{grouped} (rate({metric}{{{chosen}}}[i]))"


def rare(metric: str, by: str = "", where: str = "") -> str:
    return f"{rate(metric, by, where)} or vector(0)"


def rare_quantile(q: float, metric: str, by: str = "") -> str:
    # Where nothing was observed a quantile is not a number.
    return f"{quantile(q, metric, by)} >= 0 or vector(0)"


def share(metric: str, part: str, whole: str, by: str = "") -> str:
    """What part of a counter's series is of the whole; nothing, where the whole is nothing."""
    of = rate(metric, by, whole)
    return f"({rate(metric, by, part)} or 0 * {of}) / ({of} > 0)"


def panel(title: str, said: str, unit: str, *queries: tuple[str, str], kind: str = "timeseries", levels: list[float] | None = None) -> dict:
    """`queries` are expressions with their legends; `levels` are where green becomes yellow and yellow red."""
    return {"title": title, "description": said, "unit": unit, "queries": queries, "kind": kind, "levels": levels or []}


def stat(title: str, said: str, unit: str, query: str, levels: list[float] | None = None) -> dict:
    return panel(title, said, unit, (query, ""), kind="stat", levels=levels)


ERROR_RATIO = share("ish_http_requests_total", f'status="5xx", {ASKED}', ASKED)
HIT_RATIO = share("ish_chat_answers_total", 'status="hit"', 'status!="bypass"')
EMBEDDING_RATIO = share("ish_embeddings_total", 'outcome="hit"', 'outcome=~"hit|miss"')
QUERY_RATIO = share("ish_memo_lookups_total", 'cache="queries", outcome!="miss"', 'cache="queries"')
FAILURE_RATIO = share("ish_provider_requests_total", f'outcome!~"ok|{NOT_THEIRS}"', f'outcome!~"{NOT_THEIRS}"', "provider")
POOL_USE = "ish_pool_in_use{@} / ish_pool_limit{@}"
MEMORY = "process_resident_memory_bytes{@} / ish_memory_limit_bytes{@}"
CPU = "rate(process_cpu_seconds_total{@}[i]) / ish_cpu_limit_cores{@}"
DISK = "1 - ish_disk_free_bytes{@} / ish_disk_size_bytes{@}"

DASHBOARDS = {
    "overview": (
        "ish: overview",
        [
            stat("Instances up", "Instances that answer Prometheus.", "none", 'sum(up{job="ish"})'),
            stat("Errors", "5xx of all requests; the budget is 0.5 %.", "percentunit", ERROR_RATIO, [0.005, 0.01]),
            stat("Slow requests", "95th percentile to the head of a response, providers' time included.", "s", quantile(0.95, "ish_http_request_duration_seconds", where=ASKED), [0.5, 2]),
            stat("From the cache", "Answers from the cache, of all that it could give.", "percentunit", HIT_RATIO),
            stat("Saved an hour", "What cached answers did not cost, as far as prices are configured.", "currencyUSD", "sum(rate(ish_cache_saved_usd_total{@}[i])) * 3600"),
            stat("Spent an hour", "What providers' answers cost, as far as prices are configured.", "currencyUSD", "(sum(rate(ish_provider_cost_usd_total{@}[i])) or vector(0)) * 3600"),
            panel("Requests", "Answered requests by status class.", "reqps", (rate("ish_http_requests_total", "status", ASKED), "{{status}}"), ("sum(ish_http_requests_in_flight{@})", "in flight")),
            panel("Response time", "Time to the head of a response; of a question to a provider that is the provider's time.", "s", *((quantile(q, "ish_http_request_duration_seconds", where=ASKED), name) for q, name in [(0.5, "median"), (0.95, "95 %"), (0.99, "99 %")]), levels=[0.5, 2]),
            panel("Error rate", "5xx of all requests. Yellow: the month's budget; red: ERROR_RATE_THRESHOLD.", "percentunit", (ERROR_RATIO, "errors"), levels=[0.005, 0.01]),
            panel("Answers", "Answers begun, by what the cache had to say.", "reqps", (rate("ish_chat_answers_total", "status"), "{{status}}")),
            panel("Hit rates", "Of answers, embeddings and query results: how many came from a cache.", "percentunit", (HIT_RATIO, "answers"), (f"{EMBEDDING_RATIO} or vector(0)", "embeddings"), (f"{QUERY_RATIO} or vector(0)", "queries")),
            panel("Providers' failures", "Calls that failed through the provider's fault.", "percentunit", (f"{FAILURE_RATIO} or vector(0)", "{{provider}}"), levels=[0.1, 0.5]),
            panel("Sockets and answers", "Open WebSocket connections, and stored answers being made.", "none", ("sum(ish_ws_connections{@})", "sockets"), ("sum(ish_streams_running{@})", "answers")),
            panel("Oldest task", "How long the oldest task that could run has waited.", "s", ("max by (priority) (ish_tasks_oldest_seconds{@})", "{{priority}}"), levels=[30, 900]),
            panel("Pools", "Share of each pool's connections in use.", "percentunit", (POOL_USE, "{{instance}} {{pool}}"), levels=[0.6, 0.8]),
            panel("Processor", "Of what each instance may use. Red: CPU_THRESHOLD, time for one more.", "percentunit", (CPU, "{{instance}}"), levels=[0.5, 0.7]),
            panel("Memory", "Of what each instance may use. Red: MEMORY_THRESHOLD.", "percentunit", (MEMORY, "{{instance}}"), levels=[0.6, 0.8]),
            panel("Disk", "Of the file system of the data folder. Red: DISK_THRESHOLD.", "percentunit", (DISK, "{{instance}}"), levels=[0.7, 0.85]),
            panel("Alerts inside the instances", "What each finds wrong with itself (docs/alerts.md), by severity; messages that its webhook did not take.", "none", ("sum by (instance, severity) (ish_alerts_firing{@})", "{{instance}} {{severity}}"), (rare("ish_alert_messages_total", "outcome", 'outcome!="sent"'), "{{outcome}} a second")),
        ],
    ),
    "cache": (
        "ish: cache",
        [
            panel("How answers were found", "Hits by how they matched and where the entry was.", "reqps", (rate("ish_chat_answers_total", "how tier", 'status="hit"'), "{{how}} {{tier}}")),
            panel("What ish takes of a question", "99th percentile: a hit whole, a miss until a provider is asked, a bypass until it replies.", "s", (quantile(0.99, "ish_chat_duration_seconds", "status"), "{{status}}")),
            panel("Look-ups", "By tier and outcome.", "ops", (rate("ish_cache_lookups_total", "tier kind outcome"), "{{tier}} {{kind}} {{outcome}}")),
            panel("Nearest neighbours", "Cosine of the best neighbour of look-ups by meaning: presets decide around 0.9.", "none", ("sum by (le) (increase(ish_cache_similarity_ratio_bucket{@}[i]))", "{{le}}"), kind="heatmap"),
            panel("Verdicts", "Candidates by the guard that vetoed them, or served.", "ops", (rate("ish_verifier_verdicts_total", "guard"), "{{guard}}")),
            panel("Reported as wrong", "Answers that users reported: each is evicted, and its pair blocked.", "ops", (rate("ish_cache_wrong_answers_total"), "reports")),
            panel("Past the cache", "Requests that it had no part in, by reason.", "reqps", (rare("ish_cache_bypass_total", "reason"), "{{reason}}")),
            panel("Saved tokens", "What cached answers did not cost.", "ops", (rate("ish_cache_saved_tokens_total", "direction"), "{{direction}}")),
            panel("Saved time and money", "Time that the answers took when they were made, each second; US dollars an hour.", "none", (rate("ish_cache_saved_seconds_total"), "seconds a second"), (rate("ish_cache_saved_usd_total") + " * 3600", "US dollars an hour")),
            panel("Entries", "In memory and in the index of meanings.", "none", ("sum by (instance) (ish_cache_l1_entries{@})", "{{instance}} l1"), ("sum by (instance) (ish_index_entries{@})", "{{instance}} index")),
            panel("Memory", "Of both.", "bytes", ("sum by (instance) (ish_cache_l1_bytes{@})", "{{instance}} l1"), ("sum by (instance) (ish_index_bytes{@})", "{{instance}} index")),
            panel("Writes", "Answers stored, and those dropped since the queue was full.", "ops", (rate("ish_cache_entries_stored_total"), "stored"), (rate("ish_cache_writes_dropped_total"), "dropped")),
            panel("Tiers that fail", "Each failure is a miss.", "ops", (rare("ish_cache_errors_total", "tier"), "{{tier}}")),
            panel("Embeddings", "Remembered, made, or gone without.", "ops", (rate("ish_embeddings_total", "outcome"), "{{outcome}}")),
            panel("Embedding time", "What look-ups by meaning wait for.", "s", (quantile(0.5, "ish_embedding_duration_seconds"), "median"), (quantile(0.95, "ish_embedding_duration_seconds"), "95 %"), levels=[0.02, 0.05]),
            panel("Shared calls", "Provider calls that equal requests share: joined here, read along from other instances.", "ops", (rate("ish_flights_joined_total"), "joined"), (rare("ish_flights_followed_total", "outcome"), "followed {{outcome}}"), ("sum(ish_flights_in_flight{@})", "in flight")),
            panel("Changes of other instances", "Followed, and looks that failed, were told of, or came too late.", "ops", (rare("ish_cache_changes_followed_total", "kind"), "{{kind}}"), (rate("ish_cache_changes_failed_total"), "failed"), (rate("ish_cache_changes_told_total"), "told"), (rate("ish_cache_changes_missed_total"), "missed")),
            panel("How far behind", "Age of other instances' changes when they were followed.", "s", (rare_quantile(0.99, "ish_cache_changes_lag_seconds"), "99 %"), levels=[2, 10]),
            panel("Other caches", "Share found, by cache: embeddings that instances share, query results, look-ups of users, what service code keeps.", "percentunit", (f"""{share('ish_memo_lookups_total', 'outcome!="miss"', '', 'cache')} or vector(0)""", "{{cache}}")),
            panel("Their size", "Values in memory.", "none", ("sum by (instance, cache) (ish_memo_entries{@})", "{{instance}} {{cache}}")),
            panel("Their trouble", "Values not kept, not read back, not exchanged; and what fell.", "ops", (rate("ish_memo_errors_total", "cache reason"), "{{cache}} {{reason}}"), (rate("ish_memo_fallen_total"), "fallen")),
        ],
    ),
    "providers": (
        "ish: providers",
        [
            panel("Calls", "By how they ended.", "reqps", (rate("ish_provider_requests_total", "provider outcome"), "{{provider}} {{outcome}}")),
            panel("First token", "Time from a streamed call to its first token.", "s", *((quantile(q, "ish_provider_time_to_first_token_seconds", "provider"), f"{{{{provider}}}} {name}") for q, name in [(0.5, "median"), (0.95, "95 %")]), levels=[5, 10]),
            panel("Between tokens", "Mean time between two tokens of a stream, from its first on.", "s", *((quantile(q, "ish_provider_token_gap_seconds", "provider"), f"{{{{provider}}}} {name}") for q, name in [(0.5, "median"), (0.95, "95 %")])),
            panel("Whole calls", "Streams to their end.", "s", *((quantile(q, "gen_ai_client_operation_duration_seconds", "gen_ai_provider_name gen_ai_operation_name"), f"{{{{gen_ai_provider_name}}}} {name}") for q, name in [(0.5, "median"), (0.95, "95 %")])),
            panel("Tokens", "As providers count them, each second.", "ops", (rate("ish_provider_tokens_total", "provider direction"), "{{provider}} {{direction}}")),
            panel("Tokens of a call", "Mean.", "none", (f"{rate('gen_ai_client_token_usage_sum', 'gen_ai_provider_name gen_ai_token_type')} / ({rate('gen_ai_client_token_usage_count', 'gen_ai_provider_name gen_ai_token_type')} > 0)", "{{gen_ai_provider_name}} {{gen_ai_token_type}}")),
            panel("Cost", "US dollars an hour by target, as far as prices are configured.", "currencyUSD", ("sum by (target) (rate(ish_provider_cost_usd_total{@}[i])) * 3600 or vector(0)", "{{target}}")),
            panel("In flight", "Calls that run, by target.", "none", ("sum by (target) (ish_target_requests_in_flight{@})", "{{target}}")),
            panel("Breakers", "0 closed, 1 half-open, 2 open: not asked.", "none", ("max by (instance, target) (ish_target_breaker_state{@})", "{{instance}} {{target}}"), levels=[1, 2]),
            panel("Breakers' changes", "By the state that they went to.", "ops", (rare("ish_target_breaker_transitions_total", "target to"), "{{target}} {{to}}")),
            panel("Retries", "By the failure before, and those that the budget forbade.", "ops", (rare("ish_provider_retries_total", "target reason"), "{{target}} {{reason}}"), (rare("ish_provider_retries_refused_total", "target"), "{{target}} refused")),
            panel("Fallbacks", "Requests that went on to another target.", "ops", (rare("ish_provider_fallbacks_total", "target reason when"), "{{target}} {{reason}} {{when}}")),
        ],
    ),
    "chat": (
        "ish: chat and WebSocket",
        [
            panel("Sockets", "Open connections by instance.", "none", ("ish_ws_connections{@}", "{{instance}}")),
            panel("Frames", "In and out.", "ops", (rate("ish_ws_frames_total", "direction"), "{{direction}}")),
            panel("Waiting to be written", "Frames that wait for slow readers.", "bytes", ("ish_ws_held_bytes{@}", "{{instance}}")),
            panel("Refused sockets", "By the bound that was reached.", "ops", (rare("ish_ws_refused_total", "reason"), "{{reason}}")),
            panel("Closed sockets", "By close code; docs/websocket.md says what each means.", "ops", (rare("ish_ws_closes_total", "code"), "{{code}}")),
            panel("Answers being made", "Stored answers: sockets, and questions with a conversation.", "none", ("ish_streams_running{@}", "{{instance}}")),
            panel("Answers that ended", "By state.", "ops", (rate("ish_streams_ended_total", "state"), "{{state}}")),
            panel("Ended answers in memory", "Kept for listeners who are behind.", "bytes", ("ish_stream_ended_bytes{@}", "{{instance}}")),
            panel("Let go", "Ended answers let go for want of room while a listener had no credit.", "ops", (rate("ish_streams_let_go_total"), "let go")),
            panel("Over instances", "Answers taken over from the dead, lost to others, and pieces followed.", "ops", (rate("ish_streams_taken_over_total"), "taken over"), (rate("ish_streams_lost_total"), "lost"), (rare("ish_stream_pieces_followed_total", "from"), "followed from {{from}}")),
            panel("Instances", "How many each one knows of, and its signs of life that failed.", "none", ("ish_instances{@}", "{{instance}}"), (rate("ish_instance_beats_failed_total"), "failed signs of life a second")),
            panel("In work", "Requests and questions in work, and those that wait for a place.", "none", ("sum(ish_limits_in_flight{@})", "in work"), ("sum(ish_limits_waiting{@})", "waiting")),
            panel("Wait for a place", "99th percentile.", "s", (rare_quantile(0.99, "ish_limits_wait_seconds"), "99 %")),
            panel("Refused by a limit", "By which.", "reqps", (rare("ish_limits_refused_total", "reason"), "{{reason}}")),
            panel("Limits' books", "Keys and addresses whose rates are remembered, and costs that could not be booked.", "none", ("sum by (kind) (ish_limits_tracked{@})", "{{kind}}"), ("sum(ish_limits_unsettled_total{@})", "not booked")),
            panel("Logins", "Of browsers: begun, refused, ended before their time.", "ops", (rare("ish_logins_total", "outcome"), "{{outcome}}")),
            panel("Requests by route", "The busiest ten.", "reqps", (f"topk(10, {rate('ish_http_requests_total', 'route', ASKED)})", "{{route}}")),
            panel("Time by route", "95th percentile to the head of the response, of the slowest ten.", "s", (f"topk(10, {quantile(0.95, 'ish_http_request_duration_seconds', 'route', ASKED)})", "{{route}}"), levels=[0.5, 2]),
        ],
    ),
    "tasks": (
        "ish: tasks",
        [
            stat("Dead letters", "Tasks that failed for good and are kept.", "none", "max(ish_tasks_dead{@})", [1, 10]),
            stat("Running", "Tasks that run now.", "none", "sum(ish_tasks_running{@})"),
            panel("Waiting", "Tasks that could run now, by priority.", "none", ("max by (priority) (ish_tasks_waiting{@})", "{{priority}}")),
            panel("Oldest", "How long the oldest of them has waited.", "s", ("max by (priority) (ish_tasks_oldest_seconds{@})", "{{priority}}"), levels=[30, 900]),
            panel("Workers", "Slots there are, between tasks.min_workers and tasks.max_workers, and those in use.", "none", ("sum by (instance) (ish_tasks_workers{@})", "{{instance}} slots"), ("sum by (instance) (ish_tasks_running{@})", "{{instance}} running")),
            panel("Wait", "95th percentile from when a task could run until it did.", "s", (quantile(0.95, "ish_tasks_wait_seconds", "priority"), "{{priority}}")),
            panel("Run time", "95th percentile of attempts, by kind.", "s", (quantile(0.95, "ish_tasks_duration_seconds", "kind"), "{{kind}}")),
            panel("Ends", "Attempts by outcome.", "ops", (rate("ish_tasks_ended_total", "outcome"), "{{outcome}}")),
            panel("Failures by kind", "Attempts that were retried, discarded or lost.", "ops", (rare("ish_tasks_ended_total", "kind outcome", 'outcome=~"retried|discarded|lost"'), "{{kind}} {{outcome}}")),
            panel("Workflows", "Runs under way, and those that cannot go on.", "none", ("max(ish_workflows_running{@})", "under way"), ("max(ish_workflows_stuck{@})", "stuck")),
            panel("Workflows' ends", "By outcome.", "ops", (rare("ish_workflows_ended_total", "workflow outcome"), "{{workflow}} {{outcome}}")),
            panel("Rescues", "Tasks taken over from silent workers, and workers' signs of life that failed.", "ops", (rate("ish_tasks_rescued_total"), "rescued"), (rate("ish_tasks_beats_failed_total"), "failed signs of life")),
        ],
    ),
    "runtime": (
        "ish: stores and runtime",
        [
            panel("Pools in use", "Of what each may use at once. Red: saturated.", "percentunit", (POOL_USE, "{{instance}} {{pool}}"), levels=[0.6, 0.8]),
            panel("Connections", "Open, where the pool tells; and who waits for one.", "none", ("sum by (instance, pool) (ish_pool_size{@})", "{{instance}} {{pool}}"), ("sum by (instance, pool) (ish_pool_waiting{@})", "{{instance}} {{pool}} waiting")),
            panel("Wait for a connection", "99th percentile.", "s", (quantile(0.99, "ish_pool_wait_seconds", "pool"), "{{pool}}")),
            panel("Given", "Connections of pools that were given, and waits in vain.", "ops", (rate("ish_pool_acquired_total", "pool"), "{{pool}}"), (rate("ish_pool_acquire_timeouts_total", "pool"), "{{pool}} in vain")),
            panel("Made and closed", "Connections made, closed for their age, lost, or held for too long.", "ops", *((rate(f"ish_pool_{what}_total", "pool"), f"{{{{pool}}}} {what}") for what in ["created", "recycled", "errors", "held_too_long"])),
            panel("Redis", "1 while there is a connection; 0 without one, and where none is configured.", "none", ("ish_redis_up{@}", "{{instance}}")),
            panel("Redis: commands", "By outcome.", "ops", (rare("ish_redis_commands_total", "outcome"), "{{outcome}}")),
            panel("Redis: time", "99th percentile by purpose.", "s", (rare_quantile(0.99, "ish_redis_command_duration_seconds", "purpose"), "{{purpose}}"), levels=[0.02, 0.05]),
            panel("Processor", "Of what each instance may use.", "percentunit", (CPU, "{{instance}}"), levels=[0.5, 0.7]),
            panel("Memory", "Resident, and what an instance may use.", "bytes", ("process_resident_memory_bytes{@}", "{{instance}}"), ("ish_memory_limit_bytes{@}", "{{instance}} limit")),
            panel("Late", "How long work that could run waits for a thread: 99th percentile.", "s", (quantile(0.99, "ish_runtime_lag_seconds", "instance"), "{{instance}}"), levels=[0.02, 0.1]),
            panel("Files and threads", "Open files, of what there may be, threads, and tasks of the runtime.", "none", ("process_open_fds{@}", "{{instance}} files"), ("ish_runtime_tasks{@}", "{{instance}} tasks"), ("process_max_fds{@}", "{{instance}} most files"), ("process_threads{@}", "{{instance}} threads")),
            panel("Disk", "Free on the file system of the data folder.", "bytes", ("ish_disk_free_bytes{@}", "{{instance}} free"), ("ish_disk_size_bytes{@}", "{{instance}} size")),
            panel("Up since", "When each process was started, and its version.", "dateTimeAsIso", ("process_start_time_seconds{@} * 1000", "{{instance}}"), kind="stat"),
            panel("Version", "How many instances run which.", "none", ("count by (version) (ish_build_info{@})", "{{version}}"), kind="stat"),
            panel("Defects", "Panics in handlers; the log says where.", "ops", (rate("ish_panics_total"), "panics")),
            panel("Operations: time", "95th percentile from begin to end, of the stages that ish counts of its own and of what `#[profiled]` stands on.", "s", (rare_quantile(0.95, "ish_profile_duration_seconds", "component operation"), "{{component}} {{operation}}")),
            panel("Profiled operations: at work", "Threads that each keeps busy.", "none", (rare("ish_profile_busy_seconds_total", "component operation"), "{{component}} {{operation}}")),
        ],
    ),
}

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
VARIABLES = [
    {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
    {
        "name": "instance",
        "label": "Instance",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": 'label_values(up{job="ish"}, instance)', "refId": "instance"},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    },
]
SIZES = {"stat": (4, 4), "timeseries": (8, 8), "heatmap": (8, 8)}


def thresholds(levels: list[float]) -> dict:
    steps = [{"color": "green", "value": None}, *({"color": color, "value": level} for color, level in zip(["yellow", "red"], levels))]
    return {"mode": "absolute", "steps": steps}


def in_full(number: int, spec: dict, place: tuple[int, int]) -> dict:
    kind, (width, height) = spec["kind"], SIZES[spec["kind"]]
    custom = {} if kind != "timeseries" else {"fillOpacity": 10, "thresholdsStyle": {"mode": "line" if spec["levels"] else "off"}}
    targets = [
        {
            "refId": chr(ord("A") + at),
            "datasource": SOURCE,
            "expr": expr.replace("@", INSTANCES).replace("[i]", RATE),
            "legendFormat": legend or "__auto",
            **({"format": "heatmap"} if kind == "heatmap" else {}),
        }
        for at, (expr, legend) in enumerate(spec["queries"])
    ]
    return {
        "id": number,
        "type": kind,
        "title": spec["title"],
        "description": spec["description"],
        "datasource": SOURCE,
        "gridPos": {"x": place[0], "y": place[1], "w": width, "h": height},
        "fieldConfig": {"defaults": {"unit": spec["unit"], "thresholds": thresholds(spec["levels"]), "custom": custom}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}} if kind == "timeseries" else {},
        "targets": targets,
    }


def dashboard(name: str, title: str, specs: list[dict]) -> dict:
    panels, x, y, row = [], 0, 0, 0
    for number, spec in enumerate(specs, 1):
        width, height = SIZES[spec["kind"]]
        # A row is of one height.
        if x + width > 24 or (x and height != row):
            x, y = 0, y + row
        panels.append(in_full(number, spec, (x, y)))
        x, row = x + width, height
    return {
        "uid": f"ish-{name}",
        "title": title,
        "tags": ["ish"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": VARIABLES},
        "links": [{"type": "dashboards", "tags": ["ish"], "title": "ish", "keepTime": True, "includeVars": True}],
        "panels": panels,
    }


def files() -> dict[str, str]:
    return {f"{name}.json": json.dumps(dashboard(name, *of), indent=1, ensure_ascii=False) + "\n" for name, of in DASHBOARDS.items()}


def main() -> int:
    wanted = files()
    if sys.argv[1:] == ["--check"]:
        there = {file.name: file.read_text() for file in FOLDER.glob("*.json")}
        different = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
        if different:
            print(f"grafana/dashboards: {', '.join(different)} differ from what dashboards.py writes; run it", file=sys.stderr)
        return 1 if different else 0
    for name, text in wanted.items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
