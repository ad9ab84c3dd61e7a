"""`cytoforge methods`: what can be trained."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from cytoforge.cli.console import Outcome


def methods() -> Outcome:
    """List the methods with their presets and settings."""
    from cytoforge.stages.methods import describe_methods, describe_shared

    described, shared = describe_methods(), describe_shared()
    pictures: list[Table | Text] = []
    for method in described:
        pictures.append(Text.assemble((method.name, "bold"), f"  {method.summary}"))
        for name, changes in method.presets.items():
            pictures.append(Text(f"  --preset {name}: {_pairs(changes) or 'the defaults below'}"))
        pictures.append(_settings(method.settings))
    for name, settings in shared.items():
        pictures += [Text.assemble((name, "bold"), "  settings of every method"), _settings(settings)]
    return Outcome({"methods": described, **shared}, Group(*pictures))


def _settings(settings: dict[str, tuple[str, object, str]]) -> Table:
    table = Table("--set", "kind", "default", "what it is", box=None, padding=(0, 2))
    for name, (kind, default, meaning) in settings.items():
        table.add_row(name, kind, str(default), meaning)
    return table


def _pairs(changes: dict[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in changes.items())
