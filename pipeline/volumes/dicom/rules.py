"""A rule about DICOM series: what is asked, why, and what to do; and what it matches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pipeline.params.limits import Limits
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.findings import KINDS, REFUSED, Finding, Number, Severity, finding

Subject = TypeVar("Subject")
Slices = Sequence[Instance]
_NAMED = 3  # files that a message names


@dataclass(frozen=True)
class Evidence:
    """What a rule saw: the numbers of its finding, and the files at fault."""

    numbers: Mapping[str, Number]
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Match:
    """A finding about a series, with the files at fault and what to do about them.

    Findings may leave the raw data; ``files`` are for the user's own screen.
    """

    finding: Finding
    files: tuple[Path, ...] = ()
    remedy: str = ""

    def __str__(self) -> str:
        return str(self.finding)

    @property
    def refused(self) -> bool:
        """Whether a volume of the series would be wrong."""
        return self.finding.severity == REFUSED

    @property
    def names(self) -> str:
        """The first files' names in brackets, "" where there are none."""
        names = ", ".join(file.name for file in self.files[:_NAMED])
        return f" ({names}{', ...' if len(self.files) > _NAMED else ''})" if names else ""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """``asks``: the condition; ``tolerance``: how far it may be missed; ``reason``: what would go
    wrong; ``remedy``: what a user can do."""

    code: str
    asks: str
    reason: str
    tolerance: str = ""
    remedy: str = ""

    @property
    def severity(self) -> Severity:
        return KINDS[self.code].severity

    def match(self, evidence: Evidence) -> Match:
        """The match that ``evidence`` makes."""
        return Match(finding(self.code, **evidence.numbers), evidence.files, self.remedy)


def _nothing(_slices: Sequence[Instance], _limits: Limits) -> Mapping[str, Number]:
    return {}


@dataclass(frozen=True, kw_only=True)
class FileRule(Rule):
    """A rule about single files. ``last``: not asked of files that an earlier rule refused.

    ``numbers``: the evidence, of the files that are ``unfit``.
    """

    unfit: Callable[[Instance, Limits], object]
    numbers: Callable[[Sequence[Instance], Limits], Mapping[str, Number]] = _nothing
    last: bool = False


@dataclass(frozen=True, kw_only=True)
class SeriesRule(Rule, Generic[Subject]):
    """A rule about slices together, or about what was made of them."""

    check: Callable[[Subject], Evidence | None]


def of_files(rules: Iterable[FileRule], slices: Sequence[Instance], limits: Limits) -> list[Match]:
    """What rules about single files match, whatever the others are."""
    matches = []
    refused: set[Path] = set()
    for rule in rules:
        asked = [one for one in slices if not (rule.last and one.file in refused)]
        unfit = [one for one in asked if rule.unfit(one, limits)]
        if unfit:
            evidence = Evidence(rule.numbers(unfit, limits), files_of(unfit))
            matches.append(rule.match(evidence))
            refused.update(evidence.files)
    return matches


def every(rules: Iterable[SeriesRule[Subject]], subject: Subject) -> list[Match]:
    """What all rules match."""
    asked = ((rule, rule.check(subject)) for rule in rules)
    return [rule.match(evidence) for rule, evidence in asked if evidence is not None]


def until_refused(rules: Iterable[SeriesRule[Subject]], subject: Subject) -> list[Match]:
    """What the rules match; the first that refuses stands alone, as it explains the others."""
    matches = []
    for rule in rules:
        evidence = rule.check(subject)
        if evidence is None:
            continue
        if rule.severity == REFUSED:
            return [rule.match(evidence)]
        matches.append(rule.match(evidence))
    return matches


def files_of(slices: Iterable[Instance]) -> tuple[Path, ...]:
    """The files of slices, each once."""
    return tuple(dict.fromkeys(one.file for one in slices))
