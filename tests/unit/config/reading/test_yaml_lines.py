"""What plain values mean by the core schema of YAML 1.2: the cases of its section 10.3.2, and traps of YAML 1.1."""

import math

import pytest

from data_export.config.reading.yaml_lines import core_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(text, None) for text in ("", "~", "null", "Null", "NULL")],
        *[(text, True) for text in ("true", "True", "TRUE")],
        *[(text, False) for text in ("false", "False", "FALSE")],
        ("0", 0),
        ("-19", -19),
        ("+12", 12),
        ("010", 10),
        ("0o7", 7),
        ("0x3A", 58),
        ("0.", 0.0),
        ("-0.0", -0.0),
        (".5", 0.5),
        ("+12e03", 12000.0),
        ("-2E+05", -200000.0),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("+.INF", math.inf),
        *[(text, text) for text in ("no", "Yes", "on", "nULL", "tRUE", "1_0", "22:22", "2025-03-16", "0b1", "-0x1")],
        *[
            (text, text)
            for text in ("1e", ".", "-", "+", "--1", "1.2.3", "\u0661", "inf", "nan", ".", "e5", "9" * 5000)
        ],
    ],
)
def test_a_plain_value_has_the_type_of_the_core_schema(text: str, value: object) -> None:
    found = core_value(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_what_is_no_number_is_a_float(text: str) -> None:
    assert math.isnan(float(str(core_value(text))))
