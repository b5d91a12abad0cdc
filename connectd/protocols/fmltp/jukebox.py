"""``handler = "jukebox"``: a list of titles that all clients share, as an example of an application."""

from __future__ import annotations

from collections import deque

from connectd.interfaces import ISession
from connectd.protocols.fmltp.application import Application, CommandError, Commands

LONGEST_QUEUE = 20


class Jukebox:
    """Who wants to hear what."""

    def __init__(self) -> None:
        self.titles: deque[tuple[str, str]] = deque()

    def queue(self, session: ISession, title: str) -> str:
        """Put a title at the end of the queue."""
        if len(self.titles) >= LONGEST_QUEUE:
            raise CommandError("The queue is full.")
        self.titles.append((title, session.account or str(session.peer)))
        return f"{title} is number {len(self.titles)} in the queue."

    def playing(self, session: ISession) -> str:
        """Tell what plays, and what comes next."""
        if not self.titles:
            return "Nothing plays."
        lines = [f"{number}. {title} (for {account})" for number, (title, account) in enumerate(self.titles, 1)]
        return "\n".join([f"{len(lines)} in the queue:", *lines])

    def skip(self, session: ISession, count: str = "1") -> str:
        """Go on to the next title, or over several."""
        if not count.isdecimal() or not 1 <= int(count) <= LONGEST_QUEUE:
            raise CommandError(f"How many to skip is a number from 1 to {LONGEST_QUEUE}.")
        skipped = [self.titles.popleft() for _ in range(min(int(count), len(self.titles)))]
        return f"{len(skipped)} skipped, {len(self.titles)} in the queue."


def make_application() -> Application:
    """A jukebox of its own."""
    jukebox, commands = Jukebox(), Commands()
    commands.add(jukebox.queue, rest=True, longest=200)
    commands.add(jukebox.playing)
    commands.add(jukebox.skip)
    return Application(commands)


application = make_application()
