"""The state store on Postgres: for many hosts, and wherever there is a database anyway."""

__all__ = ["is_postgres_url"]

SCHEMES = ("postgresql", "postgres")


def is_postgres_url(text: object) -> bool:
    """Whether ``text`` is the URL of a Postgres database."""
    return isinstance(text, str) and text.partition("://")[0] in SCHEMES and "://" in text
