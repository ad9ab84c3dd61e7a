from __future__ import annotations

import pytest

from cytoforge.core.errors import ConfigError
from cytoforge.report.teaching import teaching


def test_every_class_of_both_public_sets_has_a_meaning(real_data):
    text = teaching()
    classes = [path.name.removeprefix("im_") for path in (real_data / "sipakmed").iterdir() if path.is_dir()]
    classes += [path.name for path in (real_data / "herlev" / "images").iterdir() if path.is_dir()]
    assert len(classes) == 12
    assert all(text.of(name) is not None for name in classes)


def test_the_text_says_that_it_is_no_guideline():
    assert "not an official guideline" in teaching().note
    assert "not medical advice" in teaching().note


def test_kinds_are_those_of_the_source():
    text = teaching()
    kinds = {name: text.of(name).kind for name in ("Superficial-Intermediate", "Parabasal", "Metaplastic")}
    assert kinds == {"Superficial-Intermediate": "normal", "Parabasal": "normal", "Metaplastic": "benign"}
    assert {text.of(name).kind for name in ("Koilocytotic", "dyskeratotic")} == {"abnormal"}
    assert text.of("something else") is None


def test_a_users_own_text_replaces_ours_and_is_checked():
    own = {
        "note": "mine",
        "classes": [{"names": ["a"], "kind": "other", "meaning": "<b>", "follow_up": "none"}],
    }
    assert teaching(own).of("A").meaning == "<b>"
    with pytest.raises(ConfigError, match="kind"):
        teaching({"note": "mine", "classes": [{**own["classes"][0], "kind": "bad"}]})
