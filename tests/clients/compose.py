"""Reads compose files as Compose does, as far as ours go: variables, `extends`, one file over another."""

import re
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]

VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::([-?])([^}]*))?\})")


def load(files: list[str], variables: dict[str, str]) -> dict:
    """The project of these files, the later over the earlier."""
    merged: dict = {}
    for name in files:
        merged = over(merged, with_bases(read(name, variables), variables))
    return merged


def read(name: str, variables: dict[str, str]) -> dict:
    return filled_in(yaml.safe_load((REPOSITORY / name).read_text()), variables)


def filled_in(part, variables: dict[str, str]):
    """The part of a file with the variables' values in its strings, whatever stands in these."""
    if isinstance(part, dict):
        return {name: filled_in(value, variables) for name, value in part.items()}
    if isinstance(part, list):
        return [filled_in(value, variables) for value in part]
    return interpolated(part, variables) if isinstance(part, str) else part


def interpolated(text: str, variables: dict[str, str]) -> str:
    def value(found: re.Match) -> str:
        dollar, name, kind, default = found.groups()
        if dollar:
            return "$"
        given = variables.get(name, "")
        assert given or kind != "?", f"{name} has to be set"
        return given or (default if kind == "-" else "")

    return VARIABLE.sub(value, text)


def needed_variables(text: str) -> set[str]:
    """Those that a file does not do without."""
    return {found[2] for found in VARIABLE.finditer(text) if found[3] == "?"}


def with_bases(project: dict, variables: dict[str, str]) -> dict:
    for name, service in project["services"].items():
        if base := service.pop("extends", None):
            project["services"][name] = over(read(base["file"], variables)["services"][base["service"]], service)
    return project


def over(lower, upper, key: str = ""):
    """`upper` laid over `lower`: mappings member by member, files by where they are mounted, anything else as a whole."""
    if key == "volumes" and isinstance(lower, list):
        return list(({target(line): line for line in lower} | {target(line): line for line in upper}).values())
    if isinstance(lower, dict) and isinstance(upper, dict):
        return lower | {name: over(lower[name], value, name) if name in lower else value for name, value in upper.items()}
    return upper


def target(volume: str) -> str:
    return volume.split(":")[1]


def mounted(project: dict, service: str) -> dict[str, str]:
    """Each file that a service finds in its container, by its path there: those of the repository and those of `configs`."""
    part, found = project["services"][service], {}
    for volume in part.get("volumes", []):
        source, path, *_ = volume.split(":")
        if source.startswith("./"):
            place = REPOSITORY / source
            for file in [place] if place.is_file() else filter(Path.is_file, place.rglob("*")):
                found[str(Path(path) / file.relative_to(place))] = file.read_text()
    for config in part.get("configs", []):
        found[config["target"]] = project["configs"][config["source"]]["content"]
    return found
