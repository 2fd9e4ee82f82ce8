"""Says in plain words what a YAML parser stumbled over."""

import yaml


def explain_syntax(error: yaml.YAMLError, text: str) -> tuple[int | None, str]:
    """The line and what to change there. The text of the file itself is not repeated: it may hold a secret."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return None, "is not YAML: compare it with a file from include/examples"
    line, message = _explain_marked(error, error.problem_mark, text)
    return min(line, text.rstrip().count("\n") + 1), message  # the parser may stop behind the last line


def _explain_marked(error: yaml.MarkedYAMLError, mark: yaml.Mark, text: str) -> tuple[int, str]:
    context, problem = error.context or "", error.problem or ""
    opened = error.context_mark or mark
    if "alias" in context or "anchor" in context:
        return mark.line + 1, "a value that begins with * or & must stand in quotes, e.g. '*/5 * * * *'"
    if "quoted scalar" in context and "escape" not in problem:
        return opened.line + 1, "a quotation mark opens here and is never closed: close it"
    if "flow" in context:
        return opened.line + 1, "a bracket opens here and is not closed, or lacks a comma: mend the list"
    if "cannot start any token" in problem:
        return mark.line + 1, _bad_start(_character(text, mark.line, mark.column))
    if "mapping values" in problem:
        fix = "put a value that holds ': ' in quotes, and begin the keys of one level in the same column"
        return mark.line + 1, f"a second ': ' where none may be: {fix}"
    if "too deep" in problem:
        return mark.line + 1, "is nested too deep: write the keys as in include/examples"
    if problem.startswith("did not find expected"):
        return mark.line + 1, "the indentation does not fit: begin the keys of one level in the same column"
    return mark.line + 1, f"is not YAML ({problem}): compare it with a file from include/examples"


def _character(text: str, line: int, column: int) -> str:
    rows = text.split("\n")
    return rows[line][column : column + 1] if line < len(rows) else ""


def _bad_start(character: str) -> str:
    if character == "\t":
        return "a tab where only spaces may be: indent with spaces"
    return f"a value that begins with {character or 'this character'} must stand in quotes"
