"""The judge of the soak: reads the clients' history and the SQLite file, and shares no code with either side.

Usage: check.py DATABASE HISTORY        prints a JSON verdict; exits with 1 when something was lost, doubled or wrong.
"""

import json
import sqlite3
import sys
import zlib
from collections import Counter


def main() -> int:
    database, history = sys.argv[1:]
    with open(history) as file:
        events = [json.loads(line) for line in file]
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    faults = list(damage(connection))
    # A whole scan: an index that misses a row must not hide it.
    messages = {row["id"]: unpacked(row) for row in connection.execute("SELECT * FROM messages NOT INDEXED")}
    faults += acknowledged(messages, events)
    faults += ended(messages, events)
    faults += unfinished(messages)
    counts = Counter(event["event"] for event in events)
    states = Counter(message["state"] for message in messages.values() if message["role"] == "assistant")
    print(json.dumps({"events": counts, "messages": len(messages), "answers": states, "faults": faults[:20]}))
    return 1 if faults else 0


def unpacked(row: sqlite3.Row) -> dict:
    """A message with its text, which may be stored in zlib's form."""
    message = dict(row)
    if message["packed"] is not None:
        message["content"] = zlib.decompress(message["packed"]).decode()
    return message


def damage(connection: sqlite3.Connection):
    for (word,) in connection.execute("PRAGMA integrity_check"):
        if word != "ok":
            yield f"integrity: {word}"
    for row in connection.execute("PRAGMA foreign_key_check"):
        yield f"foreign key: {tuple(row)}"


def acknowledged(messages: dict, events: list[dict]) -> list[str]:
    """Every acknowledged question is there, once, with what was asked, and its answer beside it."""
    faults = []
    prompts = {event["id"]: event["prompt"] for event in events if event["event"] == "sent"}
    named = Counter(message["client_id"] for message in messages.values() if message["client_id"])
    said = Counter(message["content"] for message in messages.values() if message["role"] == "user")
    for event in events:
        if event["event"] != "acknowledged":
            continue
        name, prompt = event["id"], prompts[event["id"]]
        question, reply = messages.get(event["message"]), messages.get(event["reply"])
        if question is None or question["content"] != prompt or question["client_id"] != name:
            faults.append(f"lost or changed: {name}")
        if named[name] != 1 or said[prompt] != 1:
            faults.append(f"{named[name]} rows named {name}, {said[prompt]} with its text")
        if reply is None or reply["parent"] != event["message"] or reply["stream"] != event["stream"]:
            faults.append(f"no answer beside {name}")
    strangers = sum(1 for message in messages.values() if message["role"] == "user" and message["client_id"] not in prompts)
    return faults + ([f"{strangers} questions that nobody asked"] if strangers else [])


def ended(messages: dict, events: list[dict]) -> list[str]:
    """What a client was told at the end of an answer is what is stored; what it saw before a cut is no other text."""
    faults = []
    by_stream = {message["stream"]: message for message in messages.values() if message["stream"]}
    for event in events:
        if event["event"] == "ended":
            reply = by_stream.get(event["stream"])
            if reply is None or reply["state"] != state_after(event) or reply["content"] != event["text"]:
                faults.append(f"told {event['type']} of {event['stream']}, stored is {reply and reply['state']}")
        elif event["event"] == "cut" and event["stream"] in by_stream:
            stored, seen = by_stream[event["stream"]]["content"], event["text"]
            if not (stored.startswith(seen) or seen.startswith(stored)):
                faults.append(f"another text than was seen of {event['stream']}")
    return faults


def state_after(event: dict) -> str:
    """The state that a stored answer has when its reader was told this end."""
    if event["type"] == "error":
        return "interrupted" if event["code"] == "interrupted" else "failed"
    return "complete" if event["type"] == "done" else event["type"]


def unfinished(messages: dict) -> list[str]:
    left = [message["id"] for message in messages.values() if message["state"] == "streaming"]
    return [f"answers without an end: {left[:5]}"] if left else []


if __name__ == "__main__":
    sys.exit(main())
