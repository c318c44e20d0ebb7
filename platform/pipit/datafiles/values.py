"""Values of one line, and pieces of SQL text: quotes, comments, lists. Pure functions, one pass each.

Two readings exist. A plain value (a name, a setting) is read as a shell reads words: quotes come off, wherever they
stand. An expression (`ENGINE_TTL`, a key) keeps its quotes, they are SQL's, unless one pair encloses all of it or a
whole item of its list. `{{ ... }}` is opaque in both: a secret's placeholder is kept as written.
"""

from __future__ import annotations

_QUOTES = "'\"`"
_OPEN, _CLOSE = "([{", ")]}"


def without_comment(text: str) -> str:
    """The text up to a `#` that starts a word outside of quotes."""
    i = 0
    while i < len(text):
        char = text[i]
        if char == "#" and (i == 0 or text[i - 1].isspace()):
            return text[:i].rstrip()
        i = _after(text, i)
    return text.rstrip()


def words(text: str) -> list[tuple[str, int]] | None:
    """The words of a line with the offset each starts at, quotes taken off. None: a quote is not closed."""
    found: list[tuple[str, int]] = []
    current: list[str] = []
    start = -1
    i = 0
    while i < len(text):
        char = text[i]
        if char.isspace():
            if start >= 0:
                found.append(("".join(current), start))
                current, start = [], -1
            i += 1
            continue
        if start < 0:
            start = i
        if char in "'\"":
            end = _closing(text, i)
            if end < 0:
                return None
            current.append(_unescaped(text[i + 1 : end - 1], char))
            i = end
        elif text.startswith("{{", i):
            end = _after(text, i)
            current.append(text[i:end])
            i = end
        else:
            current.append(char)
            i += 1
    if start >= 0:
        found.append(("".join(current), start))
    return found


def unquoted(text: str) -> str | None:
    """A plain value: its words with one space between. None: a quote is not closed."""
    if text.startswith("{") and not text.startswith("{{"):
        return text  # a JSON object, whose quotes are its own
    found = words(text)
    return None if found is None else " ".join(word for word, _ in found)


def expression(text: str) -> str:
    """An expression: quotes around the whole, or around a whole item of its list, come off; others are SQL's."""
    items = split_list(text)
    if any(_whole_quoted(item) for item, _ in items):
        return ", ".join(_strip_quotes(item) for item, _ in items)
    return text


def free_text(text: str) -> str:
    """A description: one pair of quotes around the whole comes off; anything else is the writer's."""
    return _strip_quotes(text) if _whole_quoted(text) else text


def split_list(text: str, *, lines: bool = False) -> list[tuple[str, int]]:
    """The items between commas (and line ends, if asked) outside of quotes and brackets, stripped, with offsets."""
    found: list[tuple[str, int]] = []
    depth = start = i = 0
    while i <= len(text):
        char = text[i] if i < len(text) else ","
        if i == len(text) or (depth == 0 and (char == "," or (lines and char == "\n"))):
            item = text[start:i]
            if item.strip():
                found.append((item.strip(), start + len(item) - len(item.lstrip())))
            start = i + 1
            i += 1
            continue
        if char in _OPEN and not text.startswith("{{", i):
            depth += 1
        elif char in _CLOSE:
            depth = max(0, depth - 1)
        i = _after(text, i)
    return found


def skip_quoted(text: str, i: int, stop: int | None = None) -> int:
    """The offset after SQL's quoted text at `i` (`''` and `\\'` inside), or -1: not closed before `stop`."""
    quote = text[i]
    stop = len(text) if stop is None else stop
    i += 1
    while i < stop:
        char = text[i]
        if char == "\\":
            i += 2
        elif char == quote:
            if i + 1 < stop and text[i + 1] == quote:
                i += 2
            else:
                return i + 1
        else:
            i += 1
    return -1


def one_line(text: str) -> str:
    """SQL text with its runs of white space as one space, what is quoted left alone."""
    out: list[str] = []
    i = 0
    while i < len(text):
        char = text[i]
        if char.isspace():
            while i < len(text) and text[i].isspace():
                i += 1
            out.append(" ")
        elif char in _QUOTES:
            end = skip_quoted(text, i)
            end = len(text) if end < 0 else end
            out.append(text[i:end])
            i = end
        else:
            out.append(char)
            i += 1
    return "".join(out).strip()


def _after(text: str, i: int) -> int:
    """The offset after the unit at `i`: a quoted text, a `{{ }}`, or one character."""
    # What is never closed reaches to the end, so that the text is not scanned again from each such place. Only an
    # apostrophe (`it's`) is let go: with no partner it is the last one.
    if text[i] in "'\"":
        end = _closing(text, i)
        return end if end >= 0 else i + 1 if text[i] == "'" else len(text)
    if text.startswith("{{", i):
        end = text.find("}}", i + 2)
        return end + 2 if end >= 0 else len(text)
    return i + 1


def _closing(text: str, i: int) -> int:
    """The offset after the shell-quoted text that starts at `i`, or -1. Only double quotes know escapes; a `{{ }}`
    inside keeps its own quotes."""
    quote = text[i]
    i += 1
    templates = True
    while i < len(text):
        if text[i] == "\\" and quote == '"':
            i += 2
        elif text[i] == quote:
            return i + 1
        elif templates and text.startswith("{{", i):
            end = text.find("}}", i + 2)
            templates = end >= 0
            i = end + 2 if templates else i + 2
        else:
            i += 1
    return -1


def _unescaped(inner: str, quote: str) -> str:
    if quote == "'" or "\\" not in inner:
        return inner
    return inner.replace("\\\\", "\0").replace('\\"', '"').replace("\0", "\\")


def _whole_quoted(text: str) -> bool:
    return len(text) >= 2 and text[0] in "'\"" and _closing(text, 0) == len(text)


def _strip_quotes(text: str) -> str:
    return _unescaped(text[1:-1], text[0]) if _whole_quoted(text) else text
