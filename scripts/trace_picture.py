#!/usr/bin/env python3
"""Draws one trace as an SVG: a bar for each span, by when it began, below the span that it is part of.

    cargo nextest run -p ish --test it -E 'test(a_message_is_one_tree_through_cache_provider_and_postgres)'
    scripts/trace_picture.py target/tmp/trace-postgresql.json docs/trace.svg
"""

import html
import json
import sys

WIDTH, ROW, LABEL, PAD, TOP = 1000, 22, 300, 12, 62
COLOURS = {"ws": "#3b5bdb", "POST": "#3b5bdb", "cache": "#2f9e44", "embeddings": "#9c36b5", "chat": "#e8590c"}
STORE = "#868e96"


def ordered(spans):
    """Each span with its depth, parents first, then by when they began."""
    known = {span["id"] for span in spans}
    below = {}
    for span in spans:
        below.setdefault(span["parent"] if span["parent"] in known else "", []).append(span)

    def walk(parent, depth):
        for span in sorted(below.get(parent, []), key=lambda span: (span["start_ns"], -span["end_ns"])):
            yield depth, span
            yield from walk(span["id"], depth + 1)

    return list(walk("", 0))


def note(span):
    """What is worth reading beside a bar."""
    said = span["attributes"]
    if "ish.cache.status" in said:
        return " ".join(said[key] for key in ("ish.cache.status", "ish.cache.how", "ish.cache.tier") if key in said)
    if "gen_ai.usage.input_tokens" in said:
        return f"{said['gen_ai.usage.input_tokens']} tokens in, {said['gen_ai.usage.output_tokens']} out, {said['gen_ai.response.finish_reasons']}"
    return ""


def drawn(spans):
    rows = ordered(spans)
    begin, end = min(span["start_ns"] for span in spans), max(span["end_ns"] for span in spans)
    scale = (WIDTH - LABEL - 2 * PAD) / max(end - begin, 1)
    height = TOP + ROW * len(rows) + PAD
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{PAD}" y="22" font-size="15" font-weight="600" fill="#212529">One message over a WebSocket, as a trace</text>',
        f'<text x="{PAD}" y="40" fill="#495057">trace {rows[0][1]["trace"]}, {len(rows)} spans, {(end - begin) / 1e6:.1f} ms (a debug build)</text>',
    ]
    for step in range(5):
        x = LABEL + PAD + (WIDTH - LABEL - 2 * PAD) * step / 4
        anchor = "end" if step == 4 else "middle" if step else "start"
        out.append(f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - PAD}" stroke="#e9ecef"/>')
        out.append(f'<text x="{x:.1f}" y="{TOP - 8}" fill="#868e96" font-size="10" text-anchor="{anchor}">{(end - begin) / 1e6 * step / 4:.1f} ms</text>')
    for number, (depth, span) in enumerate(rows):
        y = TOP + ROW * number
        x = LABEL + PAD + (span["start_ns"] - begin) * scale
        width = max((span["end_ns"] - span["start_ns"]) * scale, 1.5)
        colour = COLOURS.get(span["name"].split()[0], STORE)
        took = (span["end_ns"] - span["start_ns"]) / 1e6
        out.append(f'<text x="{PAD + 14 * depth}" y="{y + 15}" fill="#212529">{html.escape(span["name"])}</text>')
        out.append(f'<rect x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="{ROW - 8}" rx="2" fill="{colour}"/>')
        for _, at in span["events"]:
            mark = LABEL + PAD + (at - begin) * scale
            out.append(f'<path d="M{mark:.1f} {y + 2} l4 4 l-4 4 l-4 -4 z" fill="#212529"><title>first token</title></path>')
        text = f"{took:.2f} ms  {note(span)}".strip()
        room = x + width + 6
        fits = room + 6.2 * len(text) < WIDTH
        place = f'x="{room:.1f}"' if fits else f'x="{max(x - 6, LABEL):.1f}" text-anchor="end"'
        if not fits and x - LABEL < 6.2 * len(text):
            place, colour = f'x="{x + 6:.1f}"', "#ffffff"
        else:
            colour = "#495057"
        out.append(f'<text {place} y="{y + 15}" fill="{colour}" font-size="11">{html.escape(text)}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main():
    source, target = sys.argv[1:3]
    with open(source, encoding="utf-8") as file:
        spans = json.load(file)
    with open(target, "w", encoding="utf-8") as file:
        file.write(drawn(spans))


if __name__ == "__main__":
    main()
