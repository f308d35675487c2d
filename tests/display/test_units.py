"""Quantities as reports, logs and commands write them."""

from fastav_plugin.display.units import flops, percent, seconds, size


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
