"""The results of `rules test`: every case of a utility's own files, judged by a rulebook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
from rich.console import Console

from detectors.rule import Rule
from replay.cases.case import Case, CaseFile, load_cases
from replay.cases.judging import faults, judged
from replay.cases.tables import CaseError, unknown

CASE_FILES_PATTERN = "*.toml"


class CaseResult(msgspec.Struct):
    """How a case ended."""

    file: str
    rule: str
    case: str
    faults: list[str]  # none if the alerts are as expected

    @property
    def passed(self) -> bool:
        """Whether the alerts are as expected."""
        return not self.faults


def case_files(paths: Iterable[Path]) -> Iterator[tuple[Path, CaseFile]]:
    """The case files of paths, of a folder all that it holds, by name. Raises CaseError."""
    for path in paths:
        files = sorted(path.glob(CASE_FILES_PATTERN)) if path.is_dir() else [path]
        if not files:
            raise CaseError(f"{path}: there is no case file {CASE_FILES_PATTERN}")
        for file in files:
            yield file, load_cases(file)


def case_results(
    files: Iterable[tuple[Path, CaseFile]], rules: Mapping[str, Rule]
) -> Iterator[CaseResult]:
    """The result of every case. Raises CaseError, which names the file and the case."""
    for path, loaded in files:
        if loaded.rule not in rules:
            raise CaseError(
                f"{path}: {unknown('rule', loaded.rule, rules)} "
                '(a file has the name of its rule, or says rule = "NAME")'
            )
        rule = rules[loaded.rule]
        for case in loaded.case:
            yield CaseResult(
                file=str(path),
                rule=rule.name,
                case=case.name,
                faults=_faults(path, loaded, case, rule),
            )


def _faults(path: Path, loaded: CaseFile, case: Case, rule: Rule) -> list[str]:
    try:
        alerts, recording = judged(case, rule, loaded.model)
        return list(faults(case, alerts, recording))
    except CaseError as error:
        raise CaseError(f"{path}: case {case.name!r}: {error}") from None


def show_results(results: Iterable[CaseResult], out: Console) -> bool:
    """Print the results as they come, and their count. True if every case passed."""
    counts = {True: 0, False: 0}
    file = ""
    for result in results:
        counts[result.passed] += 1
        if result.file != file:
            file = result.file
            out.print(f"{file} ({result.rule})")

        out.print(f"  {'passed' if result.passed else 'FAILED'}  {result.case}")
        for fault in result.faults:
            for line in fault.splitlines():
                out.print(f"          {line}")
    out.print(f"{counts[True]} passed, {counts[False]} failed")
    return not counts[False]
