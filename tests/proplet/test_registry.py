"""Images in chunks: put together in any order, within bounds, and refused when they cannot be."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator

import pytest

from propeller_fl.errors import ImageError
from propeller_fl.manager import chunks_of
from propeller_fl.proplet import Assembly
from propeller_fl.wire import ImageChunk

NAME = "registry.example/add:v1"
DATA = bytes(range(256)) * 41


@pytest.fixture
def assembly() -> Iterator[Assembly]:
    made = Assembly(NAME, 16_384)
    yield made
    made.close()


@pytest.mark.parametrize("size", [1, 7, 256, len(DATA) - 1, len(DATA), 1 << 20])
def test_pieces_of_any_size_make_the_image(assembly: Assembly, size: int) -> None:
    took = [assembly.take(chunk) for chunk in chunks_of(NAME, DATA, max(size, 1))]

    assert took == [False] * (len(took) - 1) + [True]
    assert assembly.image() == DATA


def test_an_image_of_nothing_is_one_chunk(assembly: Assembly) -> None:
    assert [assembly.take(chunk) for chunk in chunks_of(NAME, b"", 8)] == [True]
    assert assembly.image() == b""


@pytest.mark.parametrize("seed", range(8))
def test_order_and_repetition_do_not_matter(assembly: Assembly, seed: int) -> None:
    chunks = list(chunks_of(NAME, DATA, 1000))
    some = [*chunks, *chunks[::2], chunks[-1]]
    random.Random(seed).shuffle(some)

    took = [assembly.take(chunk) for chunk in some]

    assert took.index(True) >= len(chunks) - 1
    assert assembly.image() == DATA


def test_what_is_missing_keeps_it_open(assembly: Assembly) -> None:
    chunks = list(chunks_of(NAME, DATA, 1000))

    assert not any(assembly.take(chunk) for chunk in chunks if chunk.chunk_idx != 4)
    assert str(assembly) == f"{len(chunks) - 1} of {len(chunks)} chunks"
    assert assembly.take(chunks[4])


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([(0, 2, 8), (1, 3, 8)], "has 3 chunks and had 2"),
        ([(0, 3, 8), (1, 3, 9)], "chunks of 9 and of 8"),
        ([(0, 2, 0)], "chunks of 0"),
        ([(0, 1, 16_385)], "larger than 16384"),
        ([(0, 3, 8192), (1, 3, 8192), (2, 3, 1)], "larger than 16384"),
        ([(0, 65_536, 1)], "larger than 16384"),
        ([(1, 2, 16_000), (0, 2, 500)], "larger than 16384"),
    ],
)
def test_what_is_not_of_one_image_is_refused(
    assembly: Assembly, chunks: list[tuple[int, int, int]], words: str
) -> None:
    *before, last = [ImageChunk(NAME, at, total, bytes(size)) for at, total, size in chunks]
    for chunk in before:
        assembly.take(chunk)

    with pytest.raises(ImageError, match="is one registry on this topic") as refusal:
        assembly.take(last)

    assert words in str(refusal.value)


def test_memory_does_not_grow_with_the_image() -> None:
    piece, pieces = bytes(64 * 1024), 512
    assembly = Assembly(NAME, len(piece) * pieces)
    tracemalloc.start()
    try:
        for index in range(pieces):
            assembly.take(ImageChunk(NAME, index, pieces, piece))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        assembly.close()

    assert peak < 8 * len(piece)
