"""YAML files from an enemy (H14)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cytoforge.cli.config_file import MOST_BYTES, read_train_file, read_yaml
from cytoforge.core.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "train.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_honest_file(tmp_path: Path) -> None:
    text = "method: wgan-gp\nresolution: 64\nimages: 400k\nsettings:\n  penalty: 10\n  betas: [0.0, 0.9]\n"
    settings = read_train_file(written(tmp_path, text))
    assert settings.method == "wgan-gp"
    assert settings.images == "400k"
    assert settings.settings == {"penalty": 10, "betas": [0.0, 0.9]}
    assert settings.seed is None


def test_aliases_in_moderation(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, "a: &x [1, 2]\nb: *x\n")) == {"a": [1, 2], "b": [1, 2]}


def bomb(levels: int, width: int) -> str:
    lines = ["a0: &a0 [lol]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]")
    return "\n".join(lines)


REFUSED = {
    "an object": "run: !!python/object/apply:os.system ['true']",
    "a name": "run: !!python/name:os.system",
    "an own tag": "run: !thing 3",
    "a billion laughs": bomb(9, 9),
    "merged laughs": "a: &a {x: 1}\n" + "\n".join(f"b{i}: {{<<: *a}}" for i in range(40)),
    "depth": "a: " + "[" * 200 + "]" * 200,
    "great depth": "a: " + "[" * 30_000,
    "size": "a: " + "x" * MOST_BYTES,
    "two documents": "a: 1\n---\nb: 2",
    "a list": "- 1\n- 2",
    "nothing": "",
    "a number as key": "1: 2",
    "a key twice": "seed: 1\nseed: 2",
    "a list as key": "? [1, 2]\n: 3",
    "a date that is none": "a: 2020-99-99",
    "a very long number": "a: " + "9" * 10_000,
    "an undefined alias": "a: *b",
    "an alias of itself": "a: &a [*a]",
    "a tabulator": "a:\n\t- b",
    "not text": "a: \x00",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_refused_at_once(text: str, tmp_path: Path) -> None:
    start = time.perf_counter()
    with pytest.raises(ConfigError, match=r"train\.yaml"):
        read_train_file(written(tmp_path, text))
    assert time.perf_counter() - start < 2


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_bytes(b"\xff\xfe\x00\xd8 a: 1")
    with pytest.raises(ConfigError, match="not plain YAML"):
        read_train_file(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot read"):
            read_train_file(path)


def test_all_errors_at_once_with_path_and_suggestion(tmp_path: Path) -> None:
    text = "resolutoin: 64\nseed: soon\nsettings:\n  penalty: {a: 1}\n"
    with pytest.raises(ConfigError) as caught:
        read_train_file(written(tmp_path, text))
    message = str(caught.value)
    assert 'resolutoin is not a setting. Did you mean "resolution"?' in message
    assert "seed: " in message
    assert "settings.penalty" in message
