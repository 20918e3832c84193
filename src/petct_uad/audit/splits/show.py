"""An audit of a split as text, JSON and badge."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from petct_uad.audit.leak import Leak
from petct_uad.audit.splits.findings import (
    Alike,
    Duplicate,
    Repeated,
    SetCount,
    SplitAudit,
    TornPatient,
)
from petct_uad.audit.splits.listing import terminal_text
from petct_uad.core.files import write_json, write_text

_SHOWN = 20  # lines of each kind; JSON has all
_COLOURS = {"leaks": "#c33", "clean": "#2a2", "unknown": "#888"}
_SHIELDS = {"leaks": "red", "clean": "brightgreen", "unknown": "lightgrey"}

Finding = TypeVar("Finding")


def audit_text(audit: SplitAudit, worth: Leak | None = None) -> str:
    """The audit for a person, with at most some lines of each kind.

    Args:
        audit: of somebody's split.
        worth: what a leak flatters here.
    """
    said = "\n".join(_lines(audit)) + "\n"
    return said if worth is None else f"{said}\nWhat a leak is worth here:\n\n{worth.markdown}"


def audit_json(audit: SplitAudit, worth: Leak | None = None) -> str:
    """The whole audit; its keys are the fields of :class:`SplitAudit`, and ``worth`` if given."""
    more = {} if worth is None else {"worth": [asdict(row) for row in worth.rows]}
    return json.dumps(asdict(audit) | more, indent=2, ensure_ascii=True) + "\n"


def write_badge(path: Path, audit: SplitAudit) -> None:
    """A badge: as ``.svg`` a picture, else the JSON that shields.io draws from an endpoint."""
    if path.suffix.lower() == ".svg":
        write_text(path, _svg("patient split", badge_message(audit), _COLOURS[audit.verdict]))
        return
    badge = {
        "schemaVersion": 1,
        "label": "patient split",
        "message": badge_message(audit),
        "color": _SHIELDS[audit.verdict],
    }
    write_json(path, badge)


def badge_message(audit: SplitAudit) -> str:
    """The verdict in a few words."""
    if audit.verdict == "unknown" and not audit.unknown:
        return f"unknown: {_count(len(audit.alike), 'pair')} of patients alike"
    if audit.verdict == "unknown":
        return f"unknown: {len(audit.unknown)} names without a patient"
    if audit.verdict == "clean":
        return "no leak"
    if audit.torn:
        return f"leaks {_count(audit.patients, 'patient')}"
    return f"leaks {_count(len(audit.repeated) + len(audit.copies), 'name')}"


def _lines(audit: SplitAudit) -> Iterator[str]:
    yield f"Read as {audit.layout}."
    yield from (f"  {guess}" for guess in audit.guesses)
    yield f"  patients by {terminal_text(audit.patients_by)}"
    yield ""
    yield from map(_set_line, audit.sets)
    yield ""
    yield from _section("in more than one set, patient", audit.torn, _torn_line)
    yield from _section("in more than one set, name", audit.repeated, _repeated_line)
    yield from _section("in more than one set, the bytes of", audit.copies, _repeated_line)
    yield from _section("perhaps one patient in more than one set", audit.alike, _alike_line)
    yield from _section("twice in one set, which is no leak, name", audit.duplicates, _twice)
    yield from _section("of no known patient, name", audit.unknown, terminal_text)
    yield _verdict(audit)


def _section(
    title: str, findings: Sequence[Finding], line: Callable[[Finding], str]
) -> Iterator[str]:
    if findings:
        yield f"{title}: {len(findings)}"
        yield from (f"  {line(x)}" for x in findings[:_SHOWN])
        if len(findings) > _SHOWN:
            yield f"  and {len(findings) - _SHOWN} more; --json names all"
        yield ""


def _verdict(audit: SplitAudit) -> str:
    if audit.verdict == "clean":
        return "No leak: no patient is in more than one set."
    if audit.verdict == "leaks":
        return f"This split {badge_message(audit)}."
    if all(x.patients == 0 for x in audit.sets):
        return (
            "Unknown: no name could be mapped to a patient, so of patients nothing is said. Name a "
            "column (--patient-column), a pattern (--pattern) or a cohort (--cohort)."
        )
    if not audit.unknown:
        return "Unknown: no patient is in more than one set, unless those named above are one."
    return f"No leak among the names whose patient is known; {len(audit.unknown)} are of none."


def _set_line(x: SetCount) -> str:
    where = f"{_in_fold(x.fold)}{terminal_text(x.split)}"
    return f"{where}: {_count(x.names, 'name')} of {_count(x.patients, 'patient')}"


def _torn_line(x: TornPatient) -> str:
    shares = (f"{terminal_text(y.split)} has {_some(y.studies)}" for y in x.shares)
    return f"{_in_fold(x.fold)}{terminal_text(x.patient)}: {'; '.join(shares)}"


def _repeated_line(x: Repeated) -> str:
    return f"{_in_fold(x.fold)}{_some(x.names)}: {', '.join(map(terminal_text, x.splits))}"


def _alike_line(x: Alike) -> str:
    return f"{_in_fold(x.fold)}{_some(x.patients)}: {', '.join(map(terminal_text, x.splits))}"


def _twice(x: Duplicate) -> str:
    return f"{_in_fold(x.fold)}{terminal_text(x.name)}: {x.times} times in {terminal_text(x.split)}"


def _in_fold(fold: str) -> str:
    said = terminal_text(fold)
    return f"{said if 'fold' in said.lower() else f'fold {said}'}, " if fold else ""


def _some(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(map(terminal_text, names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _svg(label: str, message: str, colour: str) -> str:
    """Two boxes with words; 6.5 units a letter, as Verdana has at this size."""
    left, right = (round(6.5 * len(words)) + 12 for words in (label, message))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img">
<title>{label}: {message}</title>
<rect width="{left}" height="20" fill="#555"/>
<rect x="{left}" width="{right}" height="20" fill="{colour}"/>
<g fill="#fff" font-family="Verdana,sans-serif" font-size="11" text-anchor="middle">
<text x="{left / 2:g}" y="14">{label}</text>
<text x="{left + right / 2:g}" y="14">{message}</text>
</g>
</svg>
"""
