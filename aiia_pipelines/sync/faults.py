"""Why the data may not be committed."""


class ContractBroken(Exception):
    """The data arrived and is not what the contract says.

    The text is one clean sentence; the report lists what is wrong, capped and masked.
    """

    def __init__(
        self,
        message: str,
        *signals: str,
        report: tuple[str, ...] = (),
        rules: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Keep the sentence, the signals, the report for the log, and the broken (column, rule) pairs."""
        super().__init__(message)
        self.signals = signals
        self.report = report
        self.rules = rules


class DestinationFault(Exception):
    """The destination refused, vanished or was changed by somebody else."""

    def __init__(self, message: str, *signals: str, place: str = "") -> None:
        """Keep the sentence, the signals of the failure catalogue, and the place."""
        super().__init__(message)
        self.signals = signals
        self.place = place


class Stopped(Exception):
    """Somebody asked this job run to stop."""

    signals = ("job:cancelled",)


class Held(Stopped):
    """This job run is to pause: what it staged is kept, so that it can go on."""
