"""Published rows of a night -> messages, and messages in words. Pure; ``docs/alert.schema.json`` describes the fields.

A message is plain JSON. Its text may come from keys and gate logs of anybody, so that words for people hold no
character that could break a line or a header.
"""

import datetime as dt
import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from scrapray.labels import MAX_SEVERITY
from scrapray.statistics.verdict import SEVERITY_OF_VERDICT, worst_first
from scrapray.statistics.wording import found_in_words, share_in_words

Message = dict[str, Any]
Row = Mapping[str, Any]

SCHEMA_VERSION = 1
_ID_CHARACTERS = 32
_LONGEST_WORDS = 80
_LONGEST_REASON = 200
_LOADS_IN_A_LETTER = 50
_OF_A_RUN = ("run_id", "model_name", "model_version", "weights_sha256")
_OF_A_LOAD = ("truck_id", "load_id", "supplier", "verdict", "verdict_rule", "verdict_reason", "worst_severity")


def new_messages(loads: Sequence[Row], run: Row, told: Sequence[Message], *, created_utc: dt.datetime) -> list[Message]:
    """What is to be told of one date and site and was not told yet: loads, the worst first, and then the night.

    A load is told of when it holds a contaminant of the highest severity, and from then on whenever its verdict is
    another than what was told last. The night is told of once, and again when the verdict of a load has changed.
    What another model said, by the hash of its weights, does not count as told.

    Args:
        loads: Rows of ``schema.LOADS``.
        run: The row of ``schema.RUNS`` beside them.
        told: All messages about this date and site so far.
        created_utc: Stands in the messages.
    """
    last = {_about(message): message for message in sorted(told, key=lambda message: message["number"])}
    drafts = [_of_load(load, run) for load in sorted(loads, key=worst_first)]
    drafts.append(_of_night(drafts, run))
    return [
        _completed(draft, before, created_utc) for draft in drafts if _is_news(draft, before := last.get(_about(draft)))
    ]


def _about(message: Message) -> tuple[Any, ...]:
    """What a message speaks of: a load or a night as one model sees it."""
    names = ("kind", "site", "date", "truck_id", "load_id", "weights_sha256")
    return tuple(message.get(name) for name in names)


def _says(message: Message) -> list[Any]:
    """What makes a message another one when it changes: loads and verdicts, and nothing of the numbers behind them."""
    if message["kind"] == "load":
        return [message["verdict"]]
    return [message.get("loads_sha256")]


def _is_news(draft: Message, before: Message | None) -> bool:
    if before is not None:
        return _says(draft) != _says(before)
    return draft["kind"] == "night" or bool(draft["worst_severity"] == MAX_SEVERITY)


def _completed(draft: Message, before: Message | None, created_utc: dt.datetime) -> Message:
    """The draft with what depends on what was told before. The id is the same whenever the same is to be told again."""
    number = before["number"] + 1 if before else 1
    identity = json.dumps([_about(draft), _says(draft), number])
    head = {
        "schema_version": SCHEMA_VERSION,
        "kind": draft["kind"],
        "id": hashlib.sha256(identity.encode()).hexdigest()[:_ID_CHARACTERS],
        "number": number,
        "created_utc": _utc(created_utc),
    }
    if draft["kind"] == "night":
        return head | {"text": _text_of_night(draft, is_again=number > 1)} | draft
    previous = before["verdict"] if before else None
    return head | {"text": _text_of_load(draft, previous), "previous_verdict": previous} | draft


def _of_load(load: Row, run: Row) -> Message:
    return {
        "kind": "load",
        **_origin(run),
        **{name: load[name] for name in _OF_A_LOAD},
        "from_utc": _utc(load["from_utc"]),
        "until_utc": _utc(load["until_utc"]),
        **{name: load[name] for name in ("contamination_frac", "contamination_low", "contamination_high")},
        **{name: load[name] for name in ("num_frames", "num_used")},
        "contaminants": [_contaminant(each) for each in load["classes"] if each["max_score"] > 0],
        "evidence_frame_ids": list(load["evidence_frame_ids"]),
    }


def _contaminant(found: Row) -> Message:
    scores = {name: round(found[name], 4) for name in ("max_score", "certainty")}
    return {name: found[name] for name in ("class_name", "severity", "count")} | scores


def _of_night(loads: Sequence[Message], run: Row) -> Message:
    """The summary: counts, and all loads that were not accepted, in the order in which they are given."""
    verdicts = Counter(load["verdict"] for load in loads)
    return {
        "kind": "night",
        **_origin(run),
        **{name: run[name] for name in ("num_frames", "num_used", "num_rejected")},
        "num_loads": len(loads),
        "loads_sha256": _hash_of(loads),
        "num_by_verdict": {verdict: verdicts[verdict] for verdict in SEVERITY_OF_VERDICT},
        "loads": [{name: load[name] for name in _OF_A_LOAD} for load in loads if load["verdict"] != "accept"],
    }


def _hash_of(loads: Sequence[Message]) -> str:
    """Another one when any load has another verdict, has come or is gone, accepted ones too, which no list names."""
    verdicts = sorted(json.dumps([load["truck_id"], load["load_id"], load["verdict"]]) for load in loads)
    return hashlib.sha256("\n".join(verdicts).encode()).hexdigest()


def _origin(run: Row) -> Message:
    return {"site": run["site"], "date": run["date"].isoformat(), **{name: run[name] for name in _OF_A_RUN}}


def _utc(moment: dt.datetime | None) -> str | None:
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if moment else None


def _clock(time: str | None) -> str:
    return time.replace("T", " ").replace("Z", " UTC") if time else "unknown"


def as_json(message: Message) -> bytes:
    """The one form in which a message leaves: one line of ASCII, the same bytes whenever it is sent again."""
    return json.dumps(message).encode()


# ---- in words ---------------------------------------------------------------------------------------------------


def letter_of(message: Message) -> str:
    """A message as the text of an e-mail, in lines of plain words."""
    lines = _lines_of_load(message) if message["kind"] == "load" else _lines_of_night(message)
    lines["Model"] = f"{_plain(message['model_name'])} {_plain(message['model_version'])}"
    lines["Run"] = message["run_id"]
    table = [f"{name:15}{words}" for name, words in lines.items()]
    loads = _list_of_loads(message["loads"]) if message["kind"] == "night" else []
    return "\n".join([message["text"], "", *table, *loads, ""])


def _text_of_load(load: Message, previous: str | None) -> str:
    verdict = f"{load['verdict']}, was {previous}" if previous else load["verdict"]
    return f"{verdict}: {_truck(load)}, load {_plain(load['load_id'])}, {_place(load)}: {_found(load)}"


def _text_of_night(night: Message, is_again: bool) -> str:
    again = "changed: " if is_again else ""
    counts = ", ".join(f"{night['num_by_verdict'][verdict]} {verdict}" for verdict in ("reject", "review", "accept"))
    return f"{again}{_place(night)}: {counts if night['num_loads'] else 'no loads'}"


def _lines_of_load(message: Message) -> dict[str, str]:
    contamination = (message[f"contamination_{name}"] for name in ("frac", "low", "high"))
    return {
        "Verdict": f"{message['verdict']}, by the rule {_plain(message['verdict_rule'])}",
        "Why": _plain(message["verdict_reason"], _LONGEST_REASON),
        "Found": _found(message),
        "Contamination": share_in_words(*contamination),
        "Supplier": _plain(message["supplier"] or "unknown"),
        "Seen": f"{_clock(message['from_utc'])} to {_clock(message['until_utc'])}",
        "Frames": f"{message['num_used']} of {message['num_frames']} used",
        "Evidence": ", ".join(message["evidence_frame_ids"]) or "-",
    }


def _lines_of_night(message: Message) -> dict[str, str]:
    return {
        "Loads": str(message["num_loads"]),
        "Frames": f"{message['num_frames']}: {message['num_used']} used, {message['num_rejected']} rejected",
    }


def _list_of_loads(loads: Sequence[Message]) -> list[str]:
    """Loads that were not accepted, one line each, with an empty one before them."""
    lines = [
        f"{load['verdict']:8}{_truck(load)}, load {_plain(load['load_id'])}, {_plain(load['supplier'] or '-')}: "
        f"{_plain(load['verdict_reason'], _LONGEST_REASON)}"
        for load in loads[:_LOADS_IN_A_LETTER]
    ]
    if len(loads) > _LOADS_IN_A_LETTER:
        lines.append(f"and {len(loads) - _LOADS_IN_A_LETTER} more in the table of loads")
    return ["", *lines] if lines else []


def _found(load: Message) -> str:
    found = found_in_words(load["contaminants"])
    return _plain(found, _LONGEST_REASON) if load["contaminants"] else "nothing found"


def _truck(message: Message) -> str:
    return f"truck {_plain(message['truck_id'])}" if message["truck_id"] else "unknown truck"


def _place(message: Message) -> str:
    return f"{_plain(message['site'])} {message['date']}"


def _plain(words: str, longest: int = _LONGEST_WORDS) -> str:
    """Words of anybody on one line, not too long; a control character, or one that turns the text round, is a space."""
    clean = "".join(" " if unicodedata.category(each)[0] in "CZ" else each for each in words)
    clean = " ".join(clean.split())
    return clean if len(clean) <= longest else f"{clean[: longest - 1]}…"
