from __future__ import annotations

import pytest

from tests.canary.checks import ROOT
from tests.canary.readme import LAB, NotFound, first_example, install_line

PAGE = """
## Use

```sh
pip install .[wrong]
```

## Install

Some words.

```sh
pip install -c constraints.txt -e '.[dev]'
{line}
pip install .
```

```python
first
```

## Develop

```python
second
```
"""


def test_the_real_one() -> None:
    text = (ROOT / "README.md").read_text()
    assert install_line(text)[0] == "install"
    example = first_example((ROOT / LAB).read_text())
    assert "MODEL_PATH" in example
    compile(example, LAB, "exec")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pip install .            # core", ["install", "."]),
        ("pip install '.[media]'   # files", ["install", ".[media]"]),
        ("pip install --upgrade .", ["install", "--upgrade", "."]),
        ("python -m pip install .[media]", ["install", ".[dev]"]),
    ],
)
def test_the_first_line_that_installs_the_checkout(line: str, found: list[str]) -> None:
    text = PAGE.replace("{line}", line)
    if found[-1] == ".[dev]":  # the line before it
        found = ["install", "-c", "constraints.txt", "-e", ".[dev]"]
        assert install_line(text) == found
    else:
        text = text.replace("pip install -c constraints.txt -e '.[dev]'\n", "")
        assert install_line(text) == found


def test_the_first_example() -> None:
    assert first_example(PAGE) == "first\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("## Use\n", "README.md has no section '## Install'"),
        ("## Install\n\n## Use\n```sh\npip install .\n```\n", "no 'pip install .' below"),
        ("## Install\n```sh\npip install fastav-plugin\n```\n", "no 'pip install .' below"),
    ],
)
def test_no_line(text: str, message: str) -> None:
    with pytest.raises(NotFound, match=message):
        install_line(text)
    with pytest.raises(NotFound, match="no Python example"):
        first_example(text)
