"""What counts for a memo: keys, states, and code."""

import pathlib
import re
from dataclasses import dataclass

import cocoindex as coco

HERE = pathlib.Path(__file__).parent


# --8<-- [start:key]
class Model:
    def __init__(self, name: str, connection: object) -> None:
        self.name = name
        self.connection = connection

    def __coco_memo_key__(self) -> object:
        return self.name  # the connection says nothing about results


# --8<-- [end:key]


# --8<-- [start:register]
coco.register_memo_key_function(re.Match, lambda match: (match.string, match.span()))
# --8<-- [end:register]


# --8<-- [start:state]
class TextFile:
    """Equal as long as its content is; the time stamp says cheaply that nothing happened."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __coco_memo_key__(self) -> object:
        return str(self.path)

    def __coco_memo_state__(self, previous: list[object]) -> coco.MemoStateOutcome:
        now = self.path.stat().st_mtime_ns
        if not coco.is_non_existence(previous) and previous[0] == now:
            return coco.MemoStateOutcome(previous, memo_valid=True)
        text = self.path.read_text()
        known = not coco.is_non_existence(previous) and previous[1] == text
        return coco.MemoStateOutcome([now, text], memo_valid=known)


# --8<-- [end:state]


# --8<-- [start:options]
@dataclass(frozen=True)
class Summary:
    words: int


@coco.fn(memo=True, memo_key={"log": None, "model": lambda model: model.name.lower()})
async def summarize(file: TextFile, model: Model, log: list[str]) -> Summary:
    print("summarizing", file.path.name)
    return Summary(len(file.path.read_text().split()))


# --8<-- [end:options]


async def app_main() -> None:
    for path in sorted(HERE.glob("i*.py")):
        found = await summarize(TextFile(path), Model("Small", object()), [])
        assert isinstance(found, Summary)


app = coco.App("MemoKeys", app_main)
