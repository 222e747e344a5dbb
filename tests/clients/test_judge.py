"""The judge of the tasks' soak is shown what it is there to find: each planted violation is named, and a clean history is not blamed."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import check_tasks

JUDGE = Path(check_tasks.__file__)
LOST, NOT_YET, NEVER = {"error": check_tasks.LOST}, {"error": "not yet"}, {"error": "never"}


def task(number: int, kind: str, state: str, *failures: dict) -> dict:
    """Of so many failures, each of an attempt of its own; a completed one succeeds in the next."""
    failed = [failure | {"attempt": attempt} for attempt, failure in enumerate(failures, 1)]
    attempt = len(failed) + (state == "completed")
    arguments = json.dumps({"number": number})
    return {"id": f"t{number}", "kind": kind, "state": state, "attempt": attempt, "arguments": arguments, "failures": failed}


class History:
    """A table, what was promised, and what the jobs wrote down."""

    def __init__(self) -> None:
        rows = [
            task(1, "errand", "completed"),
            task(2, "errand", "completed", NOT_YET, NOT_YET),
            # Its worker died after the job had come to its end, and before that was stored.
            task(3, "errand", "completed", LOST),
            task(4, "hopeless", "discarded", NEVER, LOST, NEVER),
            task(5, "poison", "discarded", LOST, LOST),
        ]
        self.tasks = {row["id"]: row for row in rows}
        self.promised = [[str(number), row["kind"], row["id"]] for number, row in enumerate(rows, 1)]
        self.log = [("begun", row["id"], attempt) for row in rows for attempt in range(1, row["attempt"] + 1)]
        self.log += [("done", "t1", 1), ("done", "t2", 3), ("done", "t3", 1), ("done", "t3", 2)]

    def rows(self) -> dict:
        """As the table has them: failures are JSON in JSON."""
        return {name: row | {"failures": json.dumps(row["failures"])} for name, row in copy.deepcopy(self.tasks).items()}

    def verdict(self) -> dict:
        return check_tasks.verdict(self.rows(), self.promised, self.log)


def lose(history: History) -> None:
    del history.tasks["t1"]


def forget_it_was_promised(history: History) -> None:
    history.promised.pop(0)


def promise_twice(history: History) -> None:
    history.promised.append(["1", "errand", "t2"])


def swap(history: History) -> None:
    history.tasks["t1"]["arguments"] = json.dumps({"number": 7})


def do_again_without_a_rescue(history: History) -> None:
    # Both its attempts came to their end, and the first failed for a reason that is none of a lost worker's.
    history.log.append(("done", "t2", 2))


def do_one_attempt_twice(history: History) -> None:
    history.log.append(("done", "t1", 1))


def give_one_attempt_two_workers(history: History) -> None:
    history.log.append(("begun", "t1", 1))


def do_without_a_beginning(history: History) -> None:
    history.log.remove(("begun", "t1", 1))


def complete_what_was_not_done(history: History) -> None:
    history.log.remove(("done", "t1", 1))


def leave_waiting(history: History) -> None:
    history.tasks["t1"] |= {"state": "retryable", "attempt": 1, "failures": [NOT_YET | {"attempt": 1}]}
    history.log.remove(("done", "t1", 1))


def let_poison_live(history: History) -> None:
    history.tasks["t5"] |= {"state": "retryable"}


def let_poison_kill_once_more(history: History) -> None:
    row = history.tasks["t5"]
    row["attempt"] = 3
    row["failures"].append(LOST | {"attempt": 3})
    history.log.append(("begun", "t5", 3))


def bury_alive(history: History) -> None:
    """An errand among the dead letters."""
    history.tasks["t2"] |= {"state": "discarded", "attempt": 2}
    history.log.remove(("done", "t2", 3))


def bury_too_soon(history: History) -> None:
    row = history.tasks["t4"]
    row["attempt"] = 2
    row["failures"].pop()


def fail_of_something_else(history: History) -> None:
    history.tasks["t2"]["failures"][0]["error"] = "it took longer than its hard limit"


def drop_a_failure(history: History) -> None:
    history.tasks["t2"]["failures"].pop(0)


#: What is planted, and what the judge has to say of it, among whatever else follows from it.
PLANTED: list[tuple[Callable[[History], None], str]] = [
    (lose, "lost: errand 1"),
    (forget_it_was_promised, "1 tasks that nobody was promised"),
    (promise_twice, "number 1 was promised as two tasks"),
    (swap, "number 1 is another task"),
    (do_again_without_a_rescue, "errand t2: done in attempts [3, 2] of 3, lost were []"),
    (do_one_attempt_twice, "errand t1: an attempt was done twice, or without a beginning"),
    (give_one_attempt_two_workers, "attempt 1 of t1 had 2 workers"),
    (do_without_a_beginning, "errand t1: an attempt was done twice, or without a beginning"),
    (complete_what_was_not_done, "errand t1: it was done 0 times"),
    (leave_waiting, "errand t1: it is retryable"),
    (let_poison_live, "poison t5: it is retryable"),
    (let_poison_kill_once_more, "poison t5: it had 3 attempts"),
    (bury_alive, "errand t2: it is discarded"),
    (bury_too_soon, "hopeless t4: it had 2 attempts"),
    (fail_of_something_else, "errand t2: it failed by {'it took longer than its hard limit'}"),
    (drop_a_failure, "errand t2: of 3 attempts 1 failed"),
]


def test_a_clean_history_is_not_blamed() -> None:
    told = History().verdict()
    assert told["faults"] == []
    assert (told["promised"], told["tasks"], told["done_once"], told["done_again_after_a_rescue"]) == (5, 5, 2, 1)


@pytest.mark.parametrize(("plant", "named"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_what_is_planted_is_named(plant: Callable[[History], None], named: str) -> None:
    history = History()
    plant(history)
    assert named in history.verdict()["faults"]


def test_a_verdict_with_faults_is_a_failure_to_who_runs_it(tmp_path: Path) -> None:
    def judged(history: History) -> subprocess.CompletedProcess:
        (tmp_path / "rows").write_text("".join(json.dumps(row) + "\n" for row in history.rows().values()))
        (tmp_path / "promised").write_text("".join(" ".join(line) + "\n" for line in history.promised))
        (tmp_path / "log").write_text("".join(f"{what} {name} {attempt}\n" for what, name, attempt in history.log))
        return subprocess.run([sys.executable, JUDGE, tmp_path / "rows", tmp_path], capture_output=True, text=True)

    clean, stained = History(), History()
    lose(stained)
    assert judged(clean).returncode == 0
    found = judged(stained)
    assert found.returncode == 1
    assert "lost: errand 1" in json.loads(found.stdout)["faults"]
