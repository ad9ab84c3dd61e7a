"""The command `cytoforge`: one word, one function.

To add a verb: write `cli/<verb>.py` with a typed function that imports its stage inside the body and returns
an `Outcome`, then import it here and put it into `VERBS`. Nothing here or at the top of a verb's file may
import torch, matplotlib or scikit-learn: help comes in less than 0.3 s.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from cytoforge import __version__
from cytoforge.cli import classify
from cytoforge.cli.agreement import agreement
from cytoforge.cli.audit import audit
from cytoforge.cli.bench import bench
from cytoforge.cli.console import (
    BAD_INPUT,
    DONE,
    INTERRUPTED,
    Outcome,
    complain,
    exit_code,
    show,
)
from cytoforge.cli.demo import demo
from cytoforge.cli.doctor import doctor
from cytoforge.cli.evaluate import evaluate
from cytoforge.cli.experiment import experiment
from cytoforge.cli.export import export
from cytoforge.cli.forgetting import forgetting
from cytoforge.cli.generate import generate
from cytoforge.cli.mask import mask
from cytoforge.cli.methods import methods
from cytoforge.cli.phantom import phantom
from cytoforge.cli.reconstruct import reconstruct
from cytoforge.cli.select import select
from cytoforge.cli.split import split
from cytoforge.cli.study import study
from cytoforge.cli.text_to_image import text_to_image
from cytoforge.cli.train import train
from cytoforge.cli.translate import translate
from cytoforge.cli.verify import verify
from cytoforge.core.errors import CytoforgeError
from cytoforge.core.files import environment_fault

# In the order of the work, which is the order of the help page.
VERBS: tuple[Callable[..., Outcome], ...] = (
    demo,
    phantom,
    audit,
    split,
    mask,
    train,
    generate,
    verify,
    reconstruct,
    translate,
    text_to_image,
    evaluate,
    agreement,
    select,
    study,
    forgetting,
    export,
    experiment,
    methods,
    bench,
    doctor,
)

# Verbs that are themselves a group of verbs: name -> (help, verbs).
GROUPS: dict[str, tuple[str, tuple[Callable[..., Outcome], ...]]] = {
    "classify": ("Train a classifier of cells, judge it honestly, and use it.", classify.VERBS),
}

_KEPT = "run the same command again; what is finished is kept"
_ANEW = "it cannot go on: run the same command again with --out empty or another"
_GO_ON = {
    "train": "the run is saved; run the same command with --resume to go on",
    "classify": "run the same command again (train: with --resume); what is finished is kept",
    **dict.fromkeys(("demo", "generate", "study", "experiment"), _KEPT),
    **dict.fromkeys(("mask", "select", "forgetting", "export"), _ANEW),
}
"""Verb -> what to do after an interruption; the others begin anew."""


def build_app() -> App:
    """The parser of the command line with every verb in `VERBS`."""
    app = App(
        name="cytoforge",
        help="Synthetic cytology: audit, train, generate, and say honestly how good the cells are.",
        help_epilogue="Exit codes: 0 done, 2 usage or bad input, 3 a check failed, 130 interrupted.",
        help_format="plaintext",
        default_parameter=Parameter(negative_iterable=(), show_default=_default),
        version=__version__,
        result_action="return_value",
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
        print_error=False,
    )
    app.meta.suppress_keyboard_interrupt = False
    for position, verb in enumerate(VERBS):
        app.command(verb, sort_key=position)
    for name, (text, verbs) in GROUPS.items():
        group = App(name=name, help=text, sort_key=len(VERBS))
        for position, verb in enumerate(verbs):
            group.command(verb, sort_key=position)
        app.command(group)

    @app.meta.default
    def launch(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    ) -> Any:
        """Run one verb.

        Args:
            tokens: the verb and its arguments.
            json: print exactly one JSON object; progress and messages go to standard error.
        """
        return app(tokens)

    return app


def run(arguments: Sequence[str]) -> int:
    """Do what the command line says; returns the exit code and raises only for our own mistakes."""
    as_json = "--json" in arguments
    try:
        outcome = _dispatch(arguments, as_json)
        return show(outcome, as_json) if isinstance(outcome, Outcome) else DONE
    except CycloptsError as error:
        complain("UsageError", f"{error} See `cytoforge --help`.", as_json)
        return BAD_INPUT
    except CytoforgeError as error:
        complain(type(error).__name__, str(error), as_json)
        return exit_code(error)
    except KeyboardInterrupt:
        complain("Interrupted", f"interrupted; {_go_on(arguments)}.", as_json)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        message = environment_fault(error)
        if message is None:
            raise
        complain("DataError", message, as_json)
        return BAD_INPUT


def main() -> None:
    """Entry point of the console script; SIGTERM is treated like Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)
    logging.getLogger("matplotlib").setLevel(
        logging.ERROR
    )  # it complains about a home that cannot be written
    sys.exit(run(sys.argv[1:]))


def _dispatch(arguments: Sequence[str], as_json: bool) -> Any:
    wants_help = not arguments or {"--help", "-h", "--version"} & set(arguments)
    elsewhere = (
        contextlib.redirect_stdout(sys.stderr) if as_json and not wants_help else contextlib.nullcontext()
    )
    with elsewhere:
        return app.meta(arguments, result_action="return_value", exit_on_error=False, print_error=False)


def _default(value: Any) -> str | None:
    """How the help page shows a default; nothing where an option is simply off."""
    if value is None or value is False or value == ():
        return None
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _go_on(arguments: Sequence[str]) -> str:
    verb = next((word for word in arguments if not word.startswith("-")), "")
    return _GO_ON.get(verb, "run the same command again")


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


app = build_app()
