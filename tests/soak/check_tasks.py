"""The judge of the tasks' soak: compares what the queue promised and what jobs wrote down with the rows of the table, whole; shares no
code with either side.

Usage: check_tasks.py ROWS FOLDER      (ROWS: the table, a JSON object a line) prints a JSON verdict; exits with 1 when something was
lost, done without need, or ended as it must not.
"""

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

LOST = "its worker was lost"
#: How each kind ends, after which failures, in how many attempts at most.
KINDS = {
    "errand": ("completed", {LOST, "not yet"}, 100),
    "hopeless": ("discarded", {LOST, "never"}, 3),
    "poison": ("discarded", {LOST}, 2),
}
#: Of a task's failures the table keeps so many.
KEPT = 10


def main() -> int:
    rows, folder = sys.argv[1:]
    with open(rows) as file:
        tasks = {row["id"]: row for row in map(json.loads, file)}
    notes = Path(folder)
    promised = [line.split() for line in (notes / "promised").read_text().splitlines()]
    # In their order: (what, task, attempt).
    log = [(what, task, int(attempt)) for what, task, attempt in map(str.split, (notes / "log").read_text().splitlines())]
    told = verdict(tasks, promised, log)
    print(json.dumps(told))
    return 1 if told["faults"] else 0


def verdict(tasks: dict, promised: list, log: list) -> dict:
    begun, done = Counter(), defaultdict(list)
    for what, task, attempt in log:
        if what == "begun":
            begun[task, attempt] += 1
        else:
            done[task].append(attempt)
    faults = list(of_promises(tasks, promised))
    for task in tasks.values():
        faults += (f"{task['kind']} {task['id']}: {fault}" for fault in of_task(task, done[task["id"]], begun))
    faults += [f"attempt {attempt} of {task} had {times} workers" for (task, attempt), times in begun.items() if times > 1]
    attempts = sum(task["attempt"] for task in tasks.values())
    return {
        "promised": len(promised),
        "tasks": len(tasks),
        "states": Counter(f"{task['kind']} {task['state']}" for task in tasks.values()),
        "attempts": attempts,
        "attempts_lost_with_their_worker": sum(failure["error"] == LOST for task in tasks.values() for failure in failures(task)),
        "attempts_claimed_that_no_job_saw": attempts - len(begun),
        "done_once": sum(len(times) == 1 for times in done.values()),
        "done_again_after_a_rescue": sum(len(times) > 1 for times in done.values()),
        "faults": faults[:20],
    }


def of_promises(tasks: dict, promised: list):
    """Each number has one task, of its kind; nothing is there that was not promised."""
    of_number = {}
    for number, kind, task in promised:
        if of_number.setdefault(number, task) != task:
            yield f"number {number} was promised as two tasks"
        if task not in tasks:
            yield f"lost: {kind} {number}"
        elif tasks[task]["kind"] != kind or str(arguments(tasks[task])["number"]) != number:
            yield f"number {number} is another task"
    strangers = set(tasks) - set(of_number.values())
    if strangers:
        yield f"{len(strangers)} tasks that nobody was promised"


def of_task(task: dict, dones: list, begun: Counter):
    """It ended as its kind does; each attempt but the last of a completed one has failed, for a reason that its kind has; it was
    done once, and again only after an attempt that was lost although its job had come to its end."""
    state, reasons, most = KINDS[task["kind"]]
    failed = {failure["attempt"]: failure["error"] for failure in failures(task)}
    if task["state"] != state:
        yield f"it is {task['state']}"
    if not set(failed.values()) <= reasons:
        yield f"it failed by {set(failed.values()) - reasons}"
    if task["attempt"] > most or (state == "discarded" and task["attempt"] != most):
        yield f"it had {task['attempt']} attempts"
    if len(failed) != min(task["attempt"] - (state == "completed"), KEPT):
        yield f"of {task['attempt']} attempts {len(failed)} failed"
    if (state == "completed") != bool(dones):
        yield f"it was done {len(dones)} times"
    if len(set(dones)) != len(dones) or any((task["id"], attempt) not in begun for attempt in dones):
        yield "an attempt was done twice, or without a beginning"
    # Failures before those that are kept are not known any more.
    known = [attempt for attempt in dones if attempt > task["attempt"] - KEPT]
    needless = [attempt for attempt in known if attempt != task["attempt"] and failed.get(attempt) != LOST]
    if state == "completed" and (needless or task["attempt"] not in dones):
        yield f"done in attempts {dones} of {task['attempt']}, lost were {[at for at, why in failed.items() if why == LOST]}"


def failures(task: dict) -> list:
    return json.loads(task["failures"])


def arguments(task: dict) -> dict:
    return json.loads(task["arguments"])


if __name__ == "__main__":
    sys.exit(main())
