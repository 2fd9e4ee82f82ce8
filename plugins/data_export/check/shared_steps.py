"""The steps of a check that several kinds of target share: what `check` tries, and the hand-over sheet announces."""

from typing import NamedTuple


class Step(NamedTuple):
    """A step by the name that results show, and what is tried, as a customer reads it."""

    name: str
    tries: str

    def of(self, what: str) -> str:
        """`target: replace`: the step as results name it."""
        return f"{what}: {self.name}"


OPENS = Step("name, key and login accepted", "connects, verifies the server and signs in")
FOLDER = Step("folder", "makes the folders of the export that are missing, and removes them again")
WRITE = Step("write and check", "writes a small file, `data-export-check-...json`, and confirms its size and content")
COLONS = Step("names with ':'", "gives that file a name with colons, which the data files have")
LOOK = Step("look", "finds the file")
REPLACE = Step("replace", "replaces the file by another")
REMOVE = Step("remove", "removes the file; without that right exports work, but unfinished files may stay")
#: On one small file of its own, where a server tells nobody their rights.
PROBE = (WRITE, COLONS, LOOK, REPLACE, REMOVE)

SERVER = Step("server and login accepted", "signs in to our own mail server")
RECIPIENT = Step("recipient", "offers each recipient to the mail server; no mail is sent")
MAIL = (SERVER, RECIPIENT)

WEBHOOK = Step("webhook", "connects to the webhook's host by TLS; nothing is sent")
