"""Failures of background components, collected."""

import cocoindex as coco

failed: list[str] = []


@coco.fn
async def import_row(row: str) -> None:
    print(int(row))


# --8<-- [start:handlers]
def note(error: BaseException, where: coco.ExceptionContext) -> None:
    failed.append(f"{where.stable_path} ({where.processor_name}): {error}")


async def app_main() -> None:
    async with coco.exception_handler(note):
        handle = await coco.mount_each(import_row, [(row, row) for row in ("1", "two", "3")])
    await handle.ready()
    print("failed:", failed)


# --8<-- [end:handlers]

app = coco.App("Handlers", app_main)
