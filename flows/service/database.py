"""PostgreSQL database of a permanent Prefect server: its address, and a check that it answers.

Like `nmcl.flows.service.server` this never imports Prefect.
"""

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from nmcl.flows.service.server import ServerError

ANSWERS_WITHIN_S = 15.0


@dataclass(frozen=True)
class Database:
    """Address of a PostgreSQL database."""

    url: str
    """`postgresql://user:password@host:port/database`."""

    @classmethod
    def parse(cls, url: str) -> "Database":
        """Parse an address. Accepts `postgres://`, and the name of a driver, which is removed.

        Raises:
            ServerError: If it is not the address of a PostgreSQL database.
        """
        scheme, _, rest = url.partition("://")
        if scheme.split("+")[0] not in ("postgres", "postgresql") or not urlsplit(f"//{rest}").hostname:
            raise ServerError(
                f"The database is {scheme}://...; expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE. "
                "Omit it to use SQLite."
            )
        return cls(f"postgresql://{rest}")

    @property
    def for_prefect(self) -> str:
        """The address for Prefect, which connects to PostgreSQL through asyncpg."""
        return self.url.replace("://", "+asyncpg://", 1)

    @property
    def shown(self) -> str:
        """The address without password and options."""
        parts = urlsplit(self.url)
        user, at, host = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user.split(':')[0]}{at}{host}", query="").geturl()

    def require_answer(self) -> None:
        """Raise ServerError, with the database's own message, unless a connection succeeds."""
        import asyncpg  # SQLite does not need it

        async def connect() -> None:
            await (await asyncpg.connect(self.url, timeout=ANSWERS_WITHIN_S)).close()

        try:
            asyncio.run(connect())
        except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            reason = str(error) or f"no answer within {ANSWERS_WITHIN_S:g} s"
            raise ServerError(f"The database {self.shown} cannot be used: {reason}. Check --database-url.") from error
