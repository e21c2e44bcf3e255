"""The kept reference: the very numbers, or nothing at all."""

from pathlib import Path

from core import reference_file

LOGPS = [(-12.25, -30.1), (-0.1, -1e-9), (-300.0, -7.0)]


def test_it_comes_back_to_the_bit(tmp_path: Path):
    reference_file.write(tmp_path / "r", LOGPS)
    assert reference_file.read(tmp_path / "r", 3) == LOGPS


def test_one_for_other_rows_or_none_at_all_is_none(tmp_path: Path):
    assert reference_file.read(tmp_path / "gone", 3) is None
    reference_file.write(tmp_path / "r", LOGPS)
    assert reference_file.read(tmp_path / "r", 4) is None


def test_every_flipped_bit_and_every_cut_is_seen(tmp_path: Path):
    path = tmp_path / "r"
    reference_file.write(path, LOGPS)
    whole = path.read_bytes()
    for bit in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert reference_file.read(path, 3) in (None, LOGPS), bit
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert reference_file.read(path, 3) is None
