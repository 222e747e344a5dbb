"""Small words that most tests use: a question as messages, and what a stream's chunks add up to."""

from collections.abc import Iterable

from openai.types.chat import ChatCompletionChunk


def ask(text: str) -> list[dict]:
    """One user message."""
    return [{"role": "user", "content": text}]


def content(chunks: Iterable[ChatCompletionChunk], choice: int = 0) -> str:
    """The text of one choice."""
    return "".join(piece.delta.content or "" for piece in pieces(chunks, choice))


def pieces(chunks: Iterable[ChatCompletionChunk], choice: int = 0) -> list:
    """What the chunks say of one choice."""
    return [piece for chunk in chunks for piece in chunk.choices if piece.index == choice]


def finish_reasons(chunks: Iterable[ChatCompletionChunk]) -> list[str]:
    """All finish reasons that came, in order."""
    return [piece.finish_reason for chunk in chunks for piece in chunk.choices if piece.finish_reason]
