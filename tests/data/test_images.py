from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytoforge.core.errors import DataError
from cytoforge.data.images import MIN_SIDE, decode, decode_bytes, quiet_decoders, size_of

PICTURE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def bomb() -> bytes:
    """A PNG of 9000x9000 px in 74 bytes."""
    content = png(9000, 9000, b"", depth=1, colour=0)
    padding = 74 - len(content)
    return content + b"\0" * padding if padding >= 0 else content


@pytest.mark.parametrize("name", ["a.bmp", "a.png", "a.tif", "a.webp"])
def test_lossless_formats_come_back_exactly(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(PICTURE).save(path, lossless=True)
    np.testing.assert_array_equal(decode(path), PICTURE)
    assert size_of(path) == (24, 32)


def test_content_counts_not_the_extension(tmp_path: Path) -> None:
    path = tmp_path / "really a png.jpg"
    Image.fromarray(PICTURE).save(path, "PNG")
    np.testing.assert_array_equal(decode(path), PICTURE)


def damaged() -> dict[str, tuple[bytes, str]]:
    """Content of broken files, and a word of the reason."""
    jpeg, bmp, animated, tiff, tiny = (io.BytesIO() for _ in range(5))
    Image.fromarray(PICTURE).resize((200, 200)).save(jpeg, "JPEG")
    Image.fromarray(PICTURE).save(bmp, "BMP")
    frames = [Image.fromarray(PICTURE), Image.fromarray(255 - PICTURE)]
    frames[0].save(animated, "PNG", save_all=True, append_images=frames[1:])
    frames[0].save(tiff, "TIFF", save_all=True, append_images=frames[1:])
    Image.new("RGB", (1, 1)).save(tiny, "PNG")
    whole_png = png(24, 24, b"\0" * 24 * 73)
    bad_crc = bytearray(whole_png)
    bad_crc[whole_png.index(b"IDAT") + 8] ^= 0xFF
    float_tiff = io.BytesIO()
    Image.fromarray(np.ones((16, 16), np.float32)).save(float_tiff, "TIFF")
    gif = io.BytesIO()
    Image.fromarray(PICTURE).save(gif, "GIF")
    return {
        "truncated.jpg": (jpeg.getvalue()[: len(jpeg.getvalue()) // 2], "damaged or cut off"),
        "truncated.bmp": (bmp.getvalue()[:900], "damaged or cut off"),
        "truncated.png": (encoded(Image.fromarray(PICTURE))[:900], "damaged or cut off"),
        "flipped_bits.png": (bytes(bad_crc), "damaged or cut off"),
        "zero.png": (b"", "empty"),
        "text.png": (b"not an image", "not a BMP"),
        "animated.png": (animated.getvalue(), "animated"),
        "pages.tif": (tiff.getvalue(), "several pages"),
        "tiny.png": (tiny.getvalue(), f"at least {MIN_SIDE} px"),
        "bomb.png": (bomb(), "megapixels"),
        "float.tif": (float_tiff.getvalue(), "32 bits"),
        "gif.png": (gif.getvalue(), "not a BMP"),
        "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a BMP"),
    }


@pytest.mark.parametrize("name", damaged())
def test_damaged_files_are_refused_with_path_and_reason(tmp_path: Path, name: str) -> None:
    content, reason = damaged()[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as error:
        decode(path)
    assert str(path) in str(error.value)


def test_bomb_is_as_small_as_said() -> None:
    assert len(bomb()) <= 74


def test_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        decode(tmp_path / "none.png")


def notes_of(content: bytes) -> tuple[np.ndarray, str]:
    with quiet_decoders():
        picture, notes = decode_bytes(content, Path("x"))
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    return picture, "; ".join(notes)


def test_plain_rgb_has_no_notes() -> None:
    assert notes_of(encoded(Image.fromarray(PICTURE))) == (pytest.approx(PICTURE), "")


def test_cmyk_is_converted_and_noted() -> None:
    picture, notes = notes_of(encoded(Image.new("CMYK", (16, 16), (0, 255, 0, 0)), "JPEG"))
    assert "CMYK" in notes
    assert picture[8, 8, 1] < 60 < picture[8, 8, 0]


def test_sixteen_bits_are_reduced_and_noted() -> None:
    grey = Image.fromarray(np.full((16, 16), 0x8080, np.uint16))
    for kind in ("PNG", "TIFF"):
        picture, notes = notes_of(encoded(grey, kind))
        assert "16 bits" in notes
        assert (picture == 128).all()
    colour = png(16, 16, (b"\0" + b"\x80\x80\x10\x10\x20\x20" * 16) * 16, depth=16)
    picture, notes = notes_of(colour)
    assert "16 bits" in notes
    assert picture[0, 0].tolist() == [0x80, 0x10, 0x20]


def test_palette_is_converted_and_noted() -> None:
    picture, notes = notes_of(encoded(Image.fromarray(PICTURE).quantize(8)))
    assert "palette" in notes
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 8


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_laid_on_white_and_noted(mode: str) -> None:
    image = Image.new("RGBA", (16, 16), (200, 0, 0, 0)).convert(mode if mode != "PA" else "RGBA")
    if mode == "PA":
        image = image.quantize(4)
    picture, notes = notes_of(encoded(image))
    assert "alpha" in notes
    assert (picture == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation_is_turned_upright_and_noted(tmp_path: Path, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(PICTURE), kind, exif=exif)
    picture, notes = notes_of(content)
    assert f"orientation {orientation}" in notes or kind == "TIFF", "Pillow turns these by itself"
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert size_of(path) == picture.shape[:2] == ((32, 24) if orientation >= 5 else (24, 32))
    if orientation == 6:
        np.testing.assert_array_equal(picture, np.rot90(PICTURE, -1))


def test_grey_and_one_bit_images_become_rgb() -> None:
    for image in (Image.fromarray(PICTURE[..., 0]), Image.new("1", (16, 16), 1)):
        picture, notes = notes_of(encoded(image))
        assert (picture == picture[..., :1]).all()
        assert notes == ""


def test_warnings_of_the_decoder_stay_inside_even_with_threads(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(PICTURE)))
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [decode(path) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before
