"""docs/clients.md says which test shows what of which client: each of them is there, and no client lacks a cell."""

import re
from pathlib import Path

HERE = Path(__file__).parent
TABLE = HERE.parent.parent / "docs" / "clients.md"

#: Cells that no test can fill, by what they say.
UNTESTED = {"it has no retries"}


def rows() -> list[list[str]]:
    lines = [line.strip() for line in TABLE.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def is_there(name: str) -> bool:
    """Whether `module::function` or `module::function[parameter]` is a test of this folder."""
    found = re.fullmatch(r"(\w+)::(\w+)(?:\[(\w+)\])?", name)
    if not found:
        return False
    module, function, parameter = found.groups()
    path = HERE / f"{module}.py"
    source = path.read_text() if path.is_file() else ""
    defined = re.search(rf"^(?:async )?def {function}\(", source, re.MULTILINE)
    return bool(defined) and (parameter is None or f'"{parameter}"' in source)


def test_a_name_is_looked_up_to_its_parameter():
    assert is_there("test_documented::test_a_name_is_looked_up_to_its_parameter")
    assert is_there("test_javascript::test_openai[tools]")
    for missing in ["test_documented::test_nothing", "test_nowhere::test_openai", "test_javascript::test_openai[nothing]"]:
        assert not is_there(missing), missing


def test_every_cell_names_tests_that_are_there():
    head, _, *clients = rows()
    assert len(clients) >= 8 and len(head) == 7
    for client, *cells in clients:
        assert len(cells) == len(head) - 1, client
        for feature, cell in zip(head[1:], cells):
            names = re.findall(r"`([^`]+)`", cell)
            assert names or cell in UNTESTED, f"{client}, {feature}: {cell!r}"
            missing = [name for name in names if not is_there(name)]
            assert not missing, f"{client}, {feature}: no such test: {missing}"
