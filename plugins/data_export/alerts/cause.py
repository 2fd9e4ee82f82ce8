"""What makes two failures the same to a person."""

import hashlib
import re

_TIME = r"\d{2}[:-]\d{2}[:-]\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})?"
_STAMP = rf"\d{{4}}-\d{{2}}-\d{{2}}[_T]{_TIME}"
_SUFFIXES = r"(?:\.[\w-]+)*"  # of a revision and a file's type
_ALONE, _ENDED = r"(?<![\w.:/@'\"=-])", r"(?![\w/@'\"-]|[.:]\w)"  # not within a name, an address or a quoted value
_VARYING = re.compile(
    "|".join(
        (
            # inputs and sites, and the images that are named by them
            rf"[0-9a-f]{{8}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{12}}[\w-]*{_SUFFIXES}",
            # windows, and the files that are named by them
            rf"(?<![a-z0-9]){_STAMP}(?:_{_STAMP})?{_SUFFIXES}",
            rf"{_ALONE}\d{{4}}-\d{{2}}-\d{{2}}(?: \d{{2}}:\d{{2}}(?::\d{{2}})?)?{_ENDED}",
            # digests and random names; an AWS account has 12 digits
            r"(?<![a-z0-9])[0-9a-f]{16,}(?:-[0-9a-f]{12})?(?![a-z0-9])",
            r"(?:md5|crc32c)='[^']*'|size=\d+",
            r"request ?id[:= ]+\w+",
            r"/try-\d+/",
            # counts and sizes, as in "3 of 1,204 images"; not codes, ports and lines
            rf"(?<!port )(?<!line ){_ALONE}\d[\d,]*(?:\.\d+)?(?= [a-z])|(?<=holds )\d+{_ENDED}",
        )
    ),
    re.IGNORECASE | re.ASCII,
)


def cause_of(occasion: str, error: str, message: str = "") -> str:
    """The key of a cause: 16 hexadecimal digits that do not change with sites, records, dates and counts.

    The words, names and addresses of the message count, with the digits in them, so that another bucket, host, port,
    user or field is another cause; dates, counts, uuids, digests and the names of data files and images do not, so that
    the same fault of twenty sites or of another day is one.
    """
    text = f"{occasion}\n{error}\n{_VARYING.sub('#', message)}"
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]
