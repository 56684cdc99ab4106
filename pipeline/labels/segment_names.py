"""The names of segments (DICOM SEG) and regions (RTSTRUCT) -> class ids.

A segment is known by its SegmentLabel, a region by its ROIName. The code of a segment's type is no
name: segments of one type, such as left and right, are told apart by their labels alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from datasets_spec.contract import ANY_OTHER, LabelMap, Problem, spelled
from pipeline.volumes.findings import LABEL, Finding, finding

_MANY = 20  # names in one message


def classes_of(
    label_map: LabelMap, names: Mapping[int, str], where: object, kinds: Mapping[int, str]
) -> tuple[dict[int, int], tuple[Finding, ...]]:
    """Number of a segment -> class id, 0 for one that the adapter leaves out; with a finding.

    ``names``: those that draw something. ``kinds`` are shown beside the names in messages. Raises
    :class:`Problem` for a name that no class has.
    """
    known = {spelled(name): label.id for label in label_map for name in label.names}
    unknown = [number for number, name in names.items() if spelled(name) not in known]
    if unknown and ANY_OTHER not in known:
        here = [_shown(names[number], kinds.get(number, "")) for number in names]
        more = f", and {len(here) - _MANY} more" if len(here) > _MANY else ""
        raise Problem(
            f"expected segments or regions that a class names, got {names[unknown[0]]!r} among"
            f" {', '.join(here[:_MANY])}{more}",
            where=where,
            remedy="State the name in Label.names of its class; in those of the background, it is"
            f" left out, and {ANY_OTHER!r} there leaves out all that no class names.",
        )
    found = {number: known.get(spelled(name), 0) for number, name in names.items()}
    ignored = sum(not class_id for class_id in found.values())
    if not ignored:
        return found, ()
    return found, (finding("segments-ignored", LABEL, ignored=ignored, of=len(found)),)


def is_class(label_map: LabelMap, name: str) -> bool:
    """Whether ``name`` is one of a foreground class."""
    return spelled(name) in {spelled(one) for label in label_map.foreground for one in label.names}


def _shown(name: str, kind: str) -> str:
    return f"{name!r} ({kind})" if kind and spelled(kind) != spelled(name) else repr(name)
