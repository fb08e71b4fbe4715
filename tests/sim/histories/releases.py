"""Functions that are edited by importing another release of their module, as users do."""

from __future__ import annotations

import linecache
import sys
from types import ModuleType
from typing import Any

FORMS = {
    "bodied": ("memo=True", '"bodied{edition}"'),  # judged by its text
    "versioned": ("memo=True, version={edition}", 'program.present.edition("versioned")'),
    "depending": ("memo=True, deps=[{edition}]", 'program.present.edition("depending")'),
}
"""Options and the expression for what it says of itself; only one of them has the edition."""

TEMPLATE = """
import cocoindex as coco
from histories import program


@coco.fn({options})
async def {kind}(call):
    program.note("{kind}", call)
    code = {code} + ".-." + program.tone_of(call.tone)
    for place, source in call.rows:
        program.declare(place, source, code)
    return code
"""

_installed: dict[str, int] = {}


def install(kind: str, edition: int) -> Any:
    """Import the module of ``kind`` with this edition of its function, which is returned."""
    name = f"released_{kind}"
    if _installed.get(kind) != edition:
        options, code = (form.format(edition=edition) for form in FORMS[kind])
        text = TEMPLATE.format(kind=kind, options=options, code=code)
        filename = f"<{name} {edition}>"
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        module = sys.modules[name] = ModuleType(name)
        exec(compile(text, filename, "exec"), module.__dict__)
        _installed[kind] = edition
    return getattr(sys.modules[name], kind)
