import pathlib
from collections.abc import Iterator

import cocoindex as coco
from cocoindex.connectors import localfs
from cocoindex.resources.file import FileLike, PatternFilePathMatcher

HERE = pathlib.Path(__file__).parent


@coco.lifespan
def lifespan(builder: coco.EnvironmentBuilder) -> Iterator[None]:
    builder.settings.db_path = HERE / ".state"
    yield


@coco.fn(memo=True)
async def publish(file: FileLike, pages: localfs.DirTarget) -> None:
    text = await file.read_text()
    pages.declare_file(f"{file.file_path.stem}.txt", f"{len(text.split())} words\n\n{text}")


async def app_main() -> None:
    pages = await localfs.mount_dir_target(HERE / "pages")
    markdown = PatternFilePathMatcher(included_patterns=["**/*.md"])
    notes = localfs.walk_dir(HERE / "notes", path_matcher=markdown)
    await coco.mount_each(publish, notes.items(), pages)


app = coco.App("Hello", app_main)
