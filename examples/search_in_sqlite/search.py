"""``python search.py WORDS``: what the notes say about them."""

import sys

from main import database, embed

WORDS = """
    SELECT path, chunks.text FROM chunks__fts JOIN chunks ON chunks.rowid = chunks__fts.rowid
    WHERE chunks__fts MATCH ? ORDER BY rank LIMIT 3
"""
NEAREST = """
    SELECT path, text, distance FROM chunk_vectors
    WHERE embedding MATCH ? AND k = 3 ORDER BY distance
"""

if __name__ == "__main__":
    question = " ".join(sys.argv[1:])
    with database() as connection, connection.readonly() as db:
        print("With these words:")
        for path, text in db.execute(WORDS, (question,)):
            print(f"  {path}: {text}")
        print("Nearest:")
        for path, text, distance in db.execute(NEAREST, (embed(question).tobytes(),)):
            print(f"  {distance:.2f} {path}: {text}")
