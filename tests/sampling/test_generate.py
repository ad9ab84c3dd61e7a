"""One seed, one image: alone, in company, after a restart."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytoforge.core.checkpoint import load_checkpoint
from cytoforge.core.errors import CheckpointError, ConfigError, DataError
from cytoforge.core.files import write_atomic
from cytoforge.core.png import decode_png
from cytoforge.core.run import Run
from cytoforge.sampling import generate as module
from cytoforge.sampling.generate import generate
from cytoforge.sampling.generator import MICRO_BATCH, open_generator
from cytoforge.sampling.provenance import read_manifest, verify
from cytoforge.sampling.sealed import MANIFEST
from cytoforge.sampling.seeds import default_seeds, parse_seeds

WANTED = [("Dyskeratotic", seed) for seed in range(5)] + [("Koilocytotic", seed) for seed in (3, 11, 19)]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


class TestOneSeedOneImage:
    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.integers(0, 40), min_size=1, max_size=20))
    def test_alone_and_in_any_company(self, run: Run, seeds: list[int]) -> None:
        generator = open_generator(run)
        together = generator.images(1, seeds)
        position = len(seeds) // 2
        assert (generator.images(1, seeds[position : position + 1])[0] == together[position]).all()

    def test_at_every_place_of_a_batch(self, run: Run) -> None:
        generator = open_generator(run)
        seeds = list(range(MICRO_BATCH + 3))
        alone = {seed: generator.images(0, [seed])[0] for seed in seeds}
        for shift in range(len(seeds)):
            order = seeds[shift:] + seeds[:shift]
            for seed, image in zip(order, generator.images(0, order), strict=True):
                assert (image == alone[seed]).all()

    def test_classes_may_be_mixed(self, run: Run) -> None:
        generator = open_generator(run)
        mixed = generator.images([0, 1, 0], [4, 12, 20])
        assert (mixed[1] == generator.images(1, [12])[0]).all()
        assert (mixed[2] == generator.images(0, [20])[0]).all()

    def test_other_seeds_and_classes_give_other_images(self, run: Run) -> None:
        generator = open_generator(run)
        first = generator.images(0, [0])
        assert (first != generator.images(0, [1])).any()
        assert (first != generator.images(1, [0])).any()

    def test_after_a_restart(self, run: Run, tmp_path: Path) -> None:
        here = open_generator(run).images(0, [6])[0]
        program = (
            "import torch, numpy, sys; torch.set_num_threads(1)\n"
            "from pathlib import Path\n"
            "from cytoforge.core.run import Run\n"
            "from cytoforge.sampling.generator import open_generator\n"
            "images = open_generator(Run.open(Path(sys.argv[1]))).images(0, [9, 6, 1])\n"
            "numpy.save(sys.argv[2], images)"
        )
        subprocess.run(
            [sys.executable, "-c", program, str(run.path), str(tmp_path / "again.npy")],
            check=True,
            timeout=120,
        )
        assert (np.load(tmp_path / "again.npy")[1] == here).all()

    def test_no_seed_no_image(self, run: Run) -> None:
        assert open_generator(run).images(0, []).shape == (0, 32, 32, 3)


class TestExecutor:
    def test_processes_make_the_same_files(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "PART", 3)
        generate(run, tmp_path / "serial", WANTED)
        generate(run, tmp_path / "loky", WANTED[:2])
        made = generate(run, tmp_path / "loky", WANTED, executor="loky", workers=2)
        assert (made.images, made.made, made.kept) == (8, 6, 2)
        assert contents(tmp_path / "loky") == contents(tmp_path / "serial")

    def test_a_new_checkpoint_is_noticed(
        self, run: Run, make_run: Callable[..., Run], tmp_path: Path
    ) -> None:
        generate(run, tmp_path / "set", WANTED[:1])
        header = read_manifest(tmp_path / "set").header.model_dump(mode="json")
        other = make_run("other", weights=1)
        asked = {"run": str(other.path), "out": "", "folders": [None, None], "header": header, "entries": []}
        with pytest.raises(CheckpointError, match="new checkpoint"):
            module.make_part(asked, tmp_path)


class TestTruncation:
    def test_shorter_noise_gives_images_that_are_more_alike(self, run: Run) -> None:
        generator = open_generator(run)
        spread = [
            generator.images(0, range(16), truncation).astype(float).std(axis=0).mean()
            for truncation in (1.0, 0.6, 0.2)
        ]
        assert spread[0] > spread[1] > spread[2]

    @pytest.mark.parametrize("truncation", [0.0, -1.0, 1.5, float("nan")])
    def test_out_of_range(self, run: Run, tmp_path: Path, truncation: float) -> None:
        with pytest.raises(ConfigError, match="truncation"):
            generate(run, tmp_path / "set", WANTED, truncation=truncation)


class TestGenerator:
    def test_takes_the_average_where_one_is_kept(self, run: Run) -> None:
        generator = open_generator(run)
        loaded = load_checkpoint(run.checkpoints)
        for key, value in generator.method.networks["generator"].state_dict().items():
            assert torch.equal(value, loaded.tensors[f"average/generator/{key}"])
        for key, value in generator.method.networks["critic"].state_dict().items():
            assert torch.equal(value, loaded.tensors[f"network/critic/{key}"])

    def test_refuses_a_checkpoint_of_other_networks(self, run: Run) -> None:
        run.config["settings"]["generator_channels"] = 16
        with pytest.raises(CheckpointError, match="does not fit"):
            open_generator(run)

    def test_refuses_a_run_without_checkpoint(self, run: Run) -> None:
        shutil.rmtree(run.checkpoints)
        with pytest.raises(CheckpointError, match="Train first"):
            open_generator(run)

    def test_refuses_a_device_that_is_not_there(self, run: Run) -> None:
        with pytest.raises(ConfigError, match="--device"):
            open_generator(run, device="tpu")

    def test_says_when_the_network_has_diverged(self, run: Run) -> None:
        generator = open_generator(run)
        for parameter in generator.method.networks["generator"].parameters():
            parameter.data.fill_(float("nan"))
        with pytest.raises(CheckpointError, match="NaN"):
            generator.images(0, [0])


class TestSet:
    def test_is_what_it_should_be(self, run: Run, tmp_path: Path) -> None:
        made = generate(run, tmp_path / "set", WANTED)
        assert (made.images, made.made, made.kept) == (8, 8, 0)
        assert verify(tmp_path / "set") == []
        manifest = read_manifest(tmp_path / "set")
        assert [(entry.label, entry.seed) for entry in manifest.images] == WANTED
        content = (tmp_path / "set" / "Koilocytotic" / "Koilocytotic_00000011.png").read_bytes()
        image, marks = decode_png(content)
        assert (image == open_generator(run).images(1, [11])[0]).all()
        assert marks["Synthetic"] == "true"
        assert (marks["Class"], marks["Seed"], marks["Generator"]) == ("Koilocytotic", "11", "wgan-gp")

    def test_interrupted_and_run_again_is_the_same(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        generate(run, tmp_path / "whole", WANTED)
        write, left = write_atomic, [4]

        def interrupted(path: Path, content: bytes | str) -> None:
            if left[0] == 0:
                (path.parent / f".{path.name}.abcdef").write_bytes(b"half a file")
                raise KeyboardInterrupt
            left[0] -= 1
            write(path, content)

        monkeypatch.setattr(module, "write_atomic", interrupted)
        with pytest.raises(KeyboardInterrupt):
            generate(run, tmp_path / "again", WANTED)
        monkeypatch.undo()
        assert any("planned" in problem.reason for problem in verify(tmp_path / "again"))
        made = generate(run, tmp_path / "again", WANTED)
        assert (made.made, made.kept) == (4, 4)
        assert contents(tmp_path / "again") == contents(tmp_path / "whole")

    def test_run_again_changes_nothing(self, run: Run, tmp_path: Path) -> None:
        generate(run, tmp_path / "set", WANTED)
        before = contents(tmp_path / "set")
        made = generate(run, tmp_path / "set", WANTED)
        assert (made.made, made.kept) == (0, 8)
        assert contents(tmp_path / "set") == before

    def test_damaged_and_missing_images_are_made_again(self, run: Run, tmp_path: Path) -> None:
        generate(run, tmp_path / "set", WANTED)
        before = contents(tmp_path / "set")
        damaged = tmp_path / "set" / "Dyskeratotic" / "Dyskeratotic_00000001.png"
        damaged.write_bytes(damaged.read_bytes()[:-20])
        (tmp_path / "set" / "Dyskeratotic" / "Dyskeratotic_00000002.png").unlink()
        assert generate(run, tmp_path / "set", WANTED).made == 2
        assert contents(tmp_path / "set") == before

    def test_another_call_adds_and_order_does_not_matter(self, run: Run, tmp_path: Path) -> None:
        generate(run, tmp_path / "one", WANTED)
        generate(run, tmp_path / "two", WANTED[5:])
        generate(run, tmp_path / "two", WANTED[:5])
        assert contents(tmp_path / "one") == contents(tmp_path / "two")

    def test_uses_the_threads_of_the_set(self, run: Run, tmp_path: Path) -> None:
        generate(run, tmp_path / "set", WANTED[:2])
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            generate(run, tmp_path / "set", WANTED[2:4])
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(before)
        assert read_manifest(tmp_path / "set").header.threads == before
        assert verify(tmp_path / "set") == []

    def test_half_a_file_of_a_killed_call_is_no_obstacle(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / f".{MANIFEST}.x1").write_text("{")
        assert generate(run, tmp_path / "set", WANTED[:2]).made == 2
        assert verify(tmp_path / "set") == []

    def test_a_moved_run_may_go_on(self, run: Run, tmp_path: Path) -> None:
        generate(run, tmp_path / "set", WANTED[:2])
        moved = run.path.rename(tmp_path / "moved run")
        generate(Run.open(moved), tmp_path / "set", WANTED[2:4])
        assert read_manifest(tmp_path / "set").header.run == "../moved run"

    def test_names_nothing_of_the_training_data(self, run: Run, tmp_path: Path) -> None:
        generate(run, tmp_path / "set", WANTED)
        for name, content in contents(tmp_path / "set").items():
            assert b"secret" not in content, name
            assert b"somebody" not in content, name

    def test_card_escapes_class_names_and_counts(self, run: Run, tmp_path: Path) -> None:
        generate(run, tmp_path / "set", [("<script>alert(1)</script>", 0)])
        card = (tmp_path / "set" / "CARD.md").read_text()
        table = card.split("## How to make an image again")[0]
        assert "<script>" not in table
        assert "&lt;script&gt;" in table
        assert "3, from 3 photos" in card
        assert "diagnose" in card


class TestRefuses:
    def test_a_foreign_folder(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
        with pytest.raises(ConfigError, match=r"not an empty folder.*new or empty"):
            generate(run, tmp_path / "thesis", WANTED)
        assert contents(tmp_path / "thesis") == {"chapter.txt": b"years of work"}

    def test_a_file(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(ConfigError, match="not an empty folder"):
            generate(run, tmp_path / "file", WANTED)

    def test_a_set_of_another_generator(self, make_run: Callable[..., Run], run: Run, tmp_path: Path) -> None:
        generate(run, tmp_path / "set", WANTED)
        other = make_run("other", weights=1)
        with pytest.raises(ConfigError, match="checkpoint_sha256"):
            generate(other, tmp_path / "set", WANTED)
        with pytest.raises(ConfigError, match="truncation"):
            generate(run, tmp_path / "set", WANTED, truncation=0.5)

    def test_a_damaged_manifest(self, run: Run, tmp_path: Path) -> None:
        generate(run, tmp_path / "set", WANTED)
        path = tmp_path / "set" / MANIFEST
        path.write_bytes(path.read_bytes().replace(b'"seed": 3', b'"seed": 4'))
        with pytest.raises(DataError, match="changed after it was written"):
            generate(run, tmp_path / "set", WANTED)

    def test_an_unknown_class_and_an_empty_request(self, run: Run, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"'Parabasal'.*'Dyskeratotic'"):
            generate(run, tmp_path / "set", [("Parabasal", 0)])
        with pytest.raises(ConfigError, match="--per-class"):
            generate(run, tmp_path / "set", [])
        assert not (tmp_path / "set").exists()

    def test_to_write_through_links(self, run: Run, tmp_path: Path) -> None:
        generate(run, tmp_path / "set", WANTED)
        victim = tmp_path / "victim.png"
        victim.write_bytes(b"mine")
        image = tmp_path / "set" / "Dyskeratotic" / "Dyskeratotic_00000000.png"
        image.unlink()
        image.symlink_to(victim)
        with pytest.raises(DataError, match="link"):
            generate(run, tmp_path / "set", WANTED)
        assert victim.read_bytes() == b"mine"

    def test_a_full_disk_keeps_what_is_there(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        generate(run, tmp_path / "set", WANTED[:3])

        def full(path: Path, content: bytes | str) -> None:
            raise DataError(f"cannot write {path}: No space left on device.")

        monkeypatch.setattr(module, "write_atomic", full)
        with pytest.raises(DataError, match="No space"):
            generate(run, tmp_path / "set", WANTED)
        monkeypatch.undo()
        assert generate(run, tmp_path / "set", WANTED).kept == 3


class TestSeeds:
    def test_of_classes_are_apart(self) -> None:
        pairs = default_seeds(("a", "b", "c"), 50)
        assert len({seed for _, seed in pairs}) == 150

    @pytest.mark.parametrize("count", [0, -1, 1_000_001])
    def test_per_class_out_of_range(self, count: int) -> None:
        with pytest.raises(ConfigError, match="per-class"):
            default_seeds(("a",), count)

    def test_lists(self) -> None:
        assert parse_seeds(" 5, 1-3 ,2") == [5, 1, 2, 3]
        assert parse_seeds(str(2**63 - 1)) == [2**63 - 1]

    @pytest.mark.parametrize(
        "text", ["", "a", "3-1", "-1", "1-", "1,,2", "1-2-3", str(2**63), "0-99999999", "½"]
    )
    def test_bad_lists(self, text: str) -> None:
        with pytest.raises(ConfigError, match="--seeds"):
            parse_seeds(text)
