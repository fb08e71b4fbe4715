"""``python search.py WORDS``: what the notes say about them."""

import asyncio
import os
import sys

import asyncpg

from main import embed

WORDS = """
    SELECT path, text FROM kb.chunks, websearch_to_tsquery('english', $1) AS words
    WHERE text__fts @@ words ORDER BY ts_rank(text__fts, words) DESC LIMIT 3
"""
NEAREST = """
    SELECT path, text, embedding <=> $1::text::vector AS distance FROM kb.chunks
    ORDER BY distance LIMIT 3
"""


async def search(question: str) -> None:
    connection = await asyncpg.connect(os.environ["POSTGRES_URL"])
    print("With these words:")
    for path, text in await connection.fetch(WORDS, question):
        print(f"  {path}: {text}")
    print("Nearest:")
    vector = str(embed(question).tolist())  # "[0.1, 0.2, …]", as pgvector reads it
    for path, text, distance in await connection.fetch(NEAREST, vector):
        print(f"  {distance:.2f} {path}: {text}")
    await connection.close()


if __name__ == "__main__":
    asyncio.run(search(" ".join(sys.argv[1:])))
