"""What is told, of what, and how often. No server and no lake."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scrapray.alerts.messages import letter_of, new_messages
from tests.unit.alerts.nights import CREATED_UTC, clean, load_row, run_row

DOCS = Path(__file__).parents[3] / "docs"
SCHEMA = json.loads((DOCS / "alert.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
NIGHT_OF_TWO = [clean("L001", truck_id="0125"), load_row()]


def told_of(loads, before=(), **run):
    """New messages as they come back from the outbox."""
    messages = new_messages(loads, run_row(**run), before, created_utc=CREATED_UTC)
    return json.loads(json.dumps(messages))


def kinds(messages):
    return [(message["kind"], message.get("load_id")) for message in messages]


# ---- the documented form ----------------------------------------------------------------------------------------


def test_the_examples_in_the_docs_are_what_is_sent():
    page = (DOCS / "alerts.md").read_text(encoding="utf-8")
    examples = [json.loads(block) for block in re.findall(r"```json\n(.+?)```", page, flags=re.DOTALL)]
    assert examples == told_of(NIGHT_OF_TWO)
    assert [list(example) for example in examples] == [list(message) for message in told_of(NIGHT_OF_TWO)]


@pytest.mark.parametrize(
    "loads",
    [
        NIGHT_OF_TWO,
        [],
        [load_row(truck_id=None, supplier=None, from_utc=None, until_utc=None, contamination_frac=None)],
        [load_row(truck_id="\r\n\0ТРАК\u2028", contamination_low=None, contamination_high=None)],
    ],
)
def test_every_message_fits_the_schema_and_every_field_is_described(loads):
    first = told_of(loads)
    again = told_of([each | {"verdict": "accept"} for each in loads] + [clean("L9")], first)
    for message in [*first, *again]:
        VALIDATOR.validate(message)
        described = _described(SCHEMA["$defs"][message["kind"]])
        assert set(message) <= described
    assert _described(SCHEMA["$defs"]["judged"]) == set(told_of([load_row()])[-1]["loads"][0])


def _described(part):
    names = set(part.get("properties", ()))
    for other in part.get("allOf", ()):
        names |= _described(SCHEMA["$defs"][other["$ref"].rpartition("/")[2]])
    return names


@pytest.mark.parametrize("change", [{"verdict": "maybe"}, {"kind": "truck"}, {"id": "1"}, {"contamination_frac": 2}])
def test_the_schema_refuses_what_is_never_sent(change):
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(told_of(NIGHT_OF_TWO)[0] | change)


# ---- what is told -----------------------------------------------------------------------------------------------


def test_each_load_of_the_highest_severity_has_a_message_the_worst_first_and_the_night_one():
    worse = load_row("L008", contamination_frac=0.3)
    lesser = load_row("L002", worst_severity=2, verdict="review")
    messages = told_of([*NIGHT_OF_TWO, lesser, worse])
    assert kinds(messages) == [("load", "L008"), ("load", "L003"), ("night", None)]
    assert [load["load_id"] for load in messages[-1]["loads"]] == ["L008", "L003", "L002"]
    assert messages[-1]["num_by_verdict"] == {"accept": 1, "review": 1, "reject": 2}


def test_a_night_without_loads_is_told_of_too():
    (night,) = told_of([])
    assert night["text"] == "north-yard 2026-11-20: no loads"
    assert told_of([], [night]) == []


def test_the_same_night_is_told_once():
    first = told_of(NIGHT_OF_TWO)
    assert told_of(NIGHT_OF_TWO, first) == []
    assert told_of(NIGHT_OF_TWO, list(reversed(first)), run_id="another", num_used=7) == []


def test_other_numbers_behind_the_same_verdict_are_no_news():
    first = told_of(NIGHT_OF_TWO)
    assert told_of([NIGHT_OF_TWO[0], load_row(contamination_frac=0.5, verdict_reason="other")], first) == []


def test_another_model_tells_anew():
    first = told_of(NIGHT_OF_TWO)
    again = told_of(NIGHT_OF_TWO, first, weights_sha256="0" * 64)
    assert kinds(again) == [("load", "L003"), ("night", None)]
    assert not {message["id"] for message in first} & {message["id"] for message in again}
    assert told_of(NIGHT_OF_TWO, [*first, *again]) == []


def test_whoever_was_told_of_a_load_is_told_that_it_is_harmless_now():
    first = told_of(NIGHT_OF_TWO)
    load, night = told_of([NIGHT_OF_TWO[0], clean("L003")], first)
    assert load["text"] == "accept, was reject: truck 0419, load L003, north-yard 2026-11-20: nothing found"
    assert (load["previous_verdict"], load["number"]) == ("reject", 2)
    assert night["text"] == "changed: north-yard 2026-11-20: 0 reject, 0 review, 2 accept"


def test_a_late_load_is_told_of_and_those_before_are_not_repeated():
    first = told_of(NIGHT_OF_TWO)
    assert kinds(told_of([*NIGHT_OF_TWO, load_row("L004")], first)) == [("load", "L004"), ("night", None)]


def test_the_summary_comes_again_when_one_accepted_load_is_another():
    first = told_of(NIGHT_OF_TWO)
    (night,) = told_of([clean("L777", truck_id="0125"), load_row()], first)
    assert night["text"] == "changed: north-yard 2026-11-20: 1 reject, 0 review, 1 accept"


def test_loads_of_the_same_name_from_two_trucks_are_two():
    messages = told_of([load_row(), load_row(truck_id="0420"), load_row(truck_id=None)])
    assert kinds(messages) == [("load", "L003")] * 3 + [("night", None)]
    assert len({message["id"] for message in messages}) == 4


VERDICTS = st.sampled_from(["accept", "review", "reject"])
AUDITS = st.lists(st.tuples(VERDICTS, VERDICTS, st.sampled_from([0, 2, 3])), min_size=1, max_size=8)


@settings(max_examples=50)
@given(AUDITS)
def test_never_twice_the_same_and_always_when_the_verdict_has_changed(audits):
    told = []
    last = {"a": None, "b": None}
    for verdict_a, verdict_b, severity in audits:
        verdicts = {"a": verdict_a, "b": verdict_b}
        loads = [load_row(name, verdict=verdict, worst_severity=severity) for name, verdict in verdicts.items()]
        new = told_of(loads, told)
        # The obvious way: remember by name what was said last.
        expected = [name for name in verdicts if last[name] != verdicts[name] and (last[name] or severity == 3)]
        assert sorted(message["load_id"] for message in new if message["kind"] == "load") == expected
        last |= {name: verdicts[name] for name in expected}
        told += new
        assert told_of(loads, told) == [], "the same again says nothing"
    assert len({message["id"] for message in told}) == len(told)


# ---- in words ---------------------------------------------------------------------------------------------------

HOSTILE = st.text(min_size=1, max_size=20)


@settings(max_examples=50)
@given(HOSTILE, HOSTILE, HOSTILE)
def test_words_of_anybody_stay_on_their_line(truck_id, load_id, reason):
    changes = {"truck_id": truck_id, "supplier": truck_id, "verdict_reason": reason}
    plain, hostile = told_of([load_row()]), told_of([load_row(load_id, **changes)])
    for expected, message in zip(plain, hostile, strict=True):
        assert len(message["text"].splitlines()) == 1
        assert not any(ord(each) < 32 or ord(each) == 127 for each in message["text"])
        assert len(letter_of(message).splitlines()) == len(letter_of(expected).splitlines())
    assert hostile[0]["truck_id"] == truck_id, "programs get what the key has"


def test_a_letter_turns_no_text_round():
    message = told_of([load_row(truck_id="\u202e9140", supplier="Rossi\u2066")])[0]
    assert not {"\u202e", "\u2066"} & set(letter_of(message) + message["text"])


def test_a_letter_of_a_bad_night_lists_the_worst_and_counts_the_rest():
    letter = letter_of(told_of([load_row(f"L{number:03}") for number in range(70)])[-1])
    assert letter.count("\nreject  truck 0419") == 50
    assert letter.endswith("and 20 more in the table of loads\n")
