"""Ids that stay: run it twice, then swap two paragraphs and run it again."""

import cocoindex as coco
from cocoindex.resources.id import IdGenerator, generate_id, generate_uuid

TEXT = "First.\n\nAgain.\n\nAgain."


# --8<-- [start:ids]
@coco.fn
async def number_paragraphs(text: str) -> None:
    print("document", generate_uuid())  # one per component, the same in every run
    print("title", await generate_id("title"))  # by what it is for
    ids = IdGenerator()
    for paragraph in text.split("\n\n"):  # equal paragraphs get ids of their own
        print(await ids.next_id(paragraph), paragraph)


# --8<-- [end:ids]


async def app_main() -> None:
    await coco.mount(number_paragraphs, TEXT)


app = coco.App("Ids", app_main)
