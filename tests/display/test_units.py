"""Quantities as reports, logs and commands write them."""

from fastav_plugin.display.units import flops, part_of_size, percent, seconds, size


def test_numbers_are_readable() -> None:
    assert percent(0.5612) == "56.1 %"
    assert (seconds(0.0321), seconds(40.6)) == ("32.1 ms", "40.60 s")
    assert [size(n) for n in (12, 3400, 5.6e6, 7.89e9)] == [
        "12 B",
        "3.4 kB",
        "5.6 MB",
        "7.89 GB",
    ]
    assert [flops(n) for n in (50, 5e8, 5e12)] == [
        "100.0 FLOP",
        "1.0 GFLOP",
        "10.00 TFLOP",
    ]


def test_a_part_has_the_unit_of_the_whole() -> None:
    assert part_of_size(923_000, 1_424_000) == "0.923 of 1.42 MB"
    assert part_of_size(227_300, 233_200) == "227 of 233 kB"
    assert part_of_size(1.7e6, 5.24e9) == "0.0017 of 5.24 GB"
    assert part_of_size(100, 200) == "100 of 200 B"
    assert part_of_size(0, 0) == "0 of 0 B"
