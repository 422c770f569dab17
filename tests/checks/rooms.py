"""The rooms of the package and the imports between them, for the import rule and the drawing."""

from __future__ import annotations

import ast
from pathlib import Path

from repro import runs

PACKAGE = runs.PROJECT / "repro"
# from top to bottom, each with what it is for; an import goes to the same room or to a lower one
ROOMS = {
    "cli": "the command",
    "commands": "each command: its options, then one call",
    "reports": "what people look at",
    "checks": "what is checked and measured",
    "analysis": "from records to numbers and verdicts",
    "studies": "which runs a study needs, who trains them",
    "training": "one run: the loop and its checkpoints",
    "scoring": "scores of samples, attention maps",
    "networks": "generators, discriminators, losses",
    "data": "images, shapes, sheets of pictures",
    "": "paper, claims, config, recipes, presets, runs, provenance, rng, parallel, execution, errors",
}
# the room without a name, from top to bottom
BASE = (
    "claims",
    "paper",
    "parallel",
    "runs",
    "provenance",
    "config",
    "presets",
    "recipes",
    "execution",
    "rng",
    "errors",
)


def room(module: str) -> str:
    """The room of a module: "analysis" of "analysis.plan", "cli" of "cli", "" of "config"."""
    first = module.split(".")[0]
    return first if first in ROOMS else ""


def graph() -> dict[str, set[str]]:
    """Every module of the package with the modules that it imports, also inside functions."""
    paths = [path for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): _imported(path) for path in paths}


def _imported(path: Path) -> set[str]:
    here = path.relative_to(PACKAGE).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*here[: -node.level], *(part for part in (node.module or "").split(".") if part)]
            for name in node.names:
                is_module = PACKAGE.joinpath(*base, name.name).with_suffix(".py").exists()
                found.add(".".join([*base, name.name] if is_module else base))
    return found


def upwards(arrows: dict[str, set[str]]) -> list[str]:
    """The imports that go up: to a room above, or in the room without a name against its order."""
    order, wrong = list(ROOMS), []
    for module, others in arrows.items():
        for other in others:
            in_base = room(module) == room(other) == ""
            if order.index(room(module)) > order.index(room(other)) or (
                in_base and BASE.index(module) >= BASE.index(other)
            ):
                wrong.append(f"{module} imports {other}")
    return sorted(wrong)


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """The modules that import themselves by way of others."""

    def reached(module: str) -> set[str]:
        seen, waiting = set(), [module]
        while waiting:
            new = arrows.get(waiting.pop(), set()) - seen
            seen |= new
            waiting.extend(new)
        return seen

    return sorted(module for module in arrows if module in reached(module))


def drawing() -> str:
    """The rooms and the imports between them as a Mermaid flowchart, without the room that has no name."""
    arrows = {(room(module), room(other)) for module, others in graph().items() for other in others}
    names = [name for name in ROOMS if name]
    lines = [f'    {name}["<b>{name}</b><br>{ROOMS[name]}"]' for name in names]
    lines += [f"    {a} --> {b}" for a in names for b in names if a != b and (a, b) in arrows]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```"])
