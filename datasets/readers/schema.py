"""Lists in files of strangers, checked entry by entry against a schema before anything is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

from pydantic import AllowInfNan, StrictFloat, StrictInt, StrictStr, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from datasets.findings import refuse
from xdecoder.files import shown

if TYPE_CHECKING:
    Id = int | str
else:  # neither true nor false, and 1.0 is 1 wherever it is looked up
    Id = StrictInt | StrictStr | Annotated[StrictFloat, AllowInfNan(False)]
MEND = "mend the file, or export it again"


def rows_of(schema: TypeAdapter[Any], rows: Any, path: Path, key: str) -> list[Any]:
    """A list checked against a schema; raises ValueError for the first fault, with how many entries have one."""
    try:
        checked: list[Any] = schema.validate_python(rows)
    except ValidationError as error:
        raise refuse(f"{path}: {_explained(error, key, rows)}", MEND) from None
    return checked


def _explained(error: ValidationError, key: str, rows: Any) -> str:
    if not isinstance(rows, list):
        return f"expected {key!r} to be a list, not {shown(rows)}"
    fault = next(iter(error.errors(include_url=False, include_context=False)))
    place, *inner = fault["loc"] or (0,)
    names = [
        part
        for part in inner
        if not (isinstance(part, str) and part in ("int", "str", "float", "function-after[allow_inf_nan(), float]"))
    ]
    row = rows[place] if isinstance(place, int) and place < len(rows) else None
    called = f" (id {shown(row['id'])})" if isinstance(row, dict) and "id" in row else ""
    where = f"entry {place} of {key!r}{called}"
    if fault["type"] == "missing":
        return f"{where} lacks {names[-1]!r}"
    if not names:
        return f"{where} should be an object, not {shown(fault['input'])}"
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{where}: {'.'.join(map(str, names))!r} is {shown(fault['input'])}; {message}"


class Sentence(TypedDict):
    """An expression, as it was written or cleaned."""

    raw: NotRequired[str | None]
    sent: NotRequired[str | None]


def texts_of(sentences: Sequence[Sentence]) -> tuple[str, ...]:
    """The expressions, in small letters, without empty ones."""
    texts = ((each.get("raw") or each.get("sent") or "").strip().lower() for each in sentences)
    return tuple(text for text in texts if text)
