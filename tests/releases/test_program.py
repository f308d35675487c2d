"""The program: options, errors in one line, the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.releases import __main__ as program
from tests.releases.groups import GROUPS
from tests.releases.junit import Count
from tests.releases.run import Plan, Result, environment
from tests.releases.table import as_json, lines
from tests.releases.test_folder import VERSION, write_release


def result(status: int = 0, narrowed: bool = False, **changed: Count) -> Result:
    counts = {name: Count(passed=3, skipped=1, seconds=2.0) for name in GROUPS}
    return Result(VERSION, counts | changed, status, 12.3, narrowed)


def test_a_release_that_passed() -> None:
    passed = result()
    assert not passed.problems()
    head, *rows, verdict = lines([passed])
    assert head.split() == ["release", "group", "passed", "failed", "skipped", "seconds"]
    assert len(rows) == len(GROUPS)
    assert rows[0].split() == [VERSION, next(iter(GROUPS)), "3", "0", "1", "2"]
    assert verdict == f"passed: transformers {VERSION}"
    assert all(len(line) <= 80 for line in (head, *rows, verdict))


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (result(1, unit=Count(failed=1, failures=["a::b: no"])), "a::b: no"),
        (result(unit=Count(skipped=9)), "no test of the group 'unit' ran"),
        (result(unit=Count()), "no test of the group 'unit' ran"),
        (result(3), "pytest broke off with exit status 3"),
        (result(1), "pytest ended with exit status 1"),
    ],
)
def test_a_release_that_did_not(broken: Result, problem: str) -> None:
    assert broken.problems() == [problem]
    *_, listed, verdict = lines([result(), broken])
    assert listed == f"{VERSION}: {problem}"
    assert verdict == f"FAILED: transformers {VERSION}"
    assert not as_json([broken])["releases"][0]["passed"]


def test_chosen_tests() -> None:
    """With -k groups may be empty, a release may not."""
    some = Result(VERSION, {"unit": Count(passed=1), "serve": Count()}, 0, 1.0, narrowed=True)
    assert not some.problems()
    assert not any("serve" in line for line in lines([some]))
    assert Result(VERSION, {"unit": Count()}, 5, 1.0, narrowed=True).problems() == ["no test ran"]


def test_many_failures_are_cut() -> None:
    many = [f"test {number}" for number in range(25)]
    found = list(lines([result(1, unit=Count(failed=25, failures=many))]))
    assert found[-2] == f"{VERSION}: 5 more"


def test_the_plan() -> None:
    found = Plan(quick=True, keyword="beam", workers=3).arguments(Path("r.xml"))
    assert found[found.index("-k") + 1] == "beam" and found[found.index("-n") + 1] == "3"
    assert set(GROUPS["families"].quick) <= set(found)
    assert "-n" not in Plan(workers=0).arguments(Path("r.xml"))
    assert set(GROUPS["families"].paths) <= set(Plan().arguments(Path("r.xml")))
    one = Plan(groups=["turns"]).arguments(Path("r.xml"))
    assert {name for name in one if name.startswith("tests/")} == set(GROUPS["turns"].paths)


def test_the_release_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", "mine")
    assert environment(tmp_path)["PYTHONPATH"] == f"{tmp_path}:mine"
    monkeypatch.delenv("PYTHONPATH")
    assert environment(tmp_path)["PYTHONPATH"] == str(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["five"], "no release number: 'five'. Example: 5.24.0"),
        (["-n", "-1"], "-n must be 0 or more, got -1"),
        (["--group", "units"], "argument --group: invalid choice: 'units' (choose from "),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_wrong_options(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(arguments)
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    # argparse goes on to list the choices, in one form or another.
    said = f"python -m tests.releases: error: {message}"
    assert shown.startswith(said) if message.endswith(" ") else shown == f"{said}\n"


def test_a_missing_dependency(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_release(tmp_path / VERSION, VERSION, "no-such-package>=1")
    assert program.main([VERSION], within=tmp_path) == 2
    shown = capsys.readouterr()
    assert not shown.out
    assert shown.err.splitlines()[-1].startswith(
        f"tests.releases: error: transformers {VERSION} needs no-such-package>=1, which is not"
    )


def test_another_release_is_noticed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The package in the folder says another version than its name."""
    write_release(tmp_path / VERSION)
    (tmp_path / VERSION / "transformers" / "__init__.py").write_text("__version__ = '4.0.0'\n")
    record = tmp_path / VERSION / f"transformers-{VERSION}.dist-info" / "RECORD"
    record.write_text(record.read_text().replace("a,6", "a,22"))
    assert program.main([VERSION], within=tmp_path) == 2
    assert f"transformers {VERSION} was wanted, but 4.0.0 is" in capsys.readouterr().err


@pytest.mark.parametrize("failed", [0, 1])
def test_the_answer(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    failed: int,
) -> None:
    write_release(tmp_path / VERSION)
    found = result(failed, unit=Count(passed=1, failed=failed, failures=["a: b"] * failed))
    monkeypatch.setattr(program, "run", lambda *given: found)
    assert program.main([VERSION], within=tmp_path) == failed
    assert capsys.readouterr().out.splitlines()[0].startswith("release")
    assert program.main([VERSION, "--json"], within=tmp_path) == failed
    (release,) = json.loads(capsys.readouterr().out)["releases"]
    assert release["version"] == VERSION and release["passed"] is not bool(failed)
    assert release["groups"]["unit"] == {
        "passed": 1,
        "failed": failed,
        "skipped": 0,
        "seconds": 0.0,
    }


def test_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        program.main(["--help"])
    shown = capsys.readouterr().out
    assert not ended.value.code and "Example: python -m tests.releases" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
