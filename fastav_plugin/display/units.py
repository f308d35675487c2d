"""Quantities as reports, logs and commands write them."""


def size(count: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def percent(fraction: float) -> str:
    """0.561 -> '56.1 %'."""
    return f"{100 * fraction:.1f} %"


def seconds(value: float) -> str:
    """A duration with three digits or so."""
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"


def flops(macs: float) -> str:
    """Floating-point operations (two per multiply-accumulate)."""
    operations = 2 * macs
    for unit in ("", "K", "M", "G"):
        if operations < 1000:
            return f"{operations:.1f} {unit}FLOP"
        operations /= 1000
    return f"{operations:.2f} TFLOP"


def part_of_size(part: float, whole: float) -> str:
    """Two amounts of memory in the unit of the second: '0.923 of 1.42 MB'."""
    unit = size(whole).split()[1]
    scale = 1000 ** ("B", "kB", "MB", "GB").index(unit)
    figures = (f"{x:.0f}" if x >= 100 else f"{x:.3g}" for x in (part / scale, whole / scale))
    return f"{' of '.join(figures)} {unit}"
