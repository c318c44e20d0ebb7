"""Parameters may be called `from`, `is` or `class`: a keyword in name position is hidden before Python parses it."""

from __future__ import annotations

import io
import keyword
import tokenize

_PREFIX = "pipit_word_"
_VALUES = frozenset({"None", "True", "False"})
_OPERATORS = frozenset({"and", "or", "not", "in", "is", "if", "else", "for"})
_KEYWORDS = frozenset(keyword.kwlist) - _VALUES
_PAIRS = frozenset({("not", "in"), ("is", "not")})
_CLOSING = frozenset({")", "]", "}"})
_AFTER_A_NAME = frozenset({")", "]", "}", ",", "==", "!=", "<", ">", "<=", ">=", "=", "*", ".", ":", ""})


def hide(text: str) -> str:
    """The expression with keywords in name position renamed. Raises SyntaxError on text that has no tokens."""
    if not any(word in text for word in _KEYWORDS):
        return text
    try:
        tokens = [
            token
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT)
        ]
    except (tokenize.TokenError, IndentationError) as error:
        raise SyntaxError(str(error.args[0])) from error
    lines = text.split("\n")  # as the tokens count them
    hidden: list[tuple[int, int]] = []
    operand_next = True
    operator = -1  # where the last keyword that joins two operands stands
    for index, token in enumerate(tokens):
        following = tokens[index + 1].string if index + 1 < len(tokens) else ""
        if token.type == tokenize.NAME and token.string in _KEYWORDS:
            second = index - 1 == operator and (tokens[operator].string, token.string) in _PAIRS
            is_name = not second and (
                token.string not in _OPERATORS
                or (operand_next and (token.string != "not" or following in _AFTER_A_NAME))
            )
            if is_name:
                hidden.append(token.start)
            elif not operand_next:
                operator = index
            operand_next = not is_name
        elif token.type == tokenize.OP:
            operand_next = token.string not in _CLOSING
        else:
            operand_next = False
    for row, column in reversed(hidden):
        line = lines[row - 1]
        lines[row - 1] = line[:column] + _PREFIX + line[column:]
    return "\n".join(lines)


def show(name: str) -> str:
    """The name as the author wrote it."""
    return name.removeprefix(_PREFIX)
