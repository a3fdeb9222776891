"""`aiia explain`: the failure catalogue, and the failure of a job run."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from aiia_pipelines.cli.exits import Exit, Stop
from aiia_pipelines.cli.main import Command
from aiia_pipelines.cli.output import Shown
from aiia_pipelines.cli.session import opened, output, reading
from aiia_pipelines.jobs.catalogue import LANGUAGES, Language
from aiia_pipelines.jobs.log import escape

if TYPE_CHECKING:
    from aiia_pipelines.jobs.failures import Failure, FailureClass

_NUMBER = re.compile(r"#?([0-9]{1,18})")
# Left-to-right text that stands in Arabic is set apart, or its signs would be shown elsewhere.
_CODE = r"`[^`]+`"
_APART = "\u2066{}\u2069"


@click.command(cls=Command)
@click.argument("code", required=False, metavar="[CODE|NUMBER]")
@click.option(
    "--language",
    type=click.Choice(LANGUAGES),
    default="en",
    show_default=True,
    envvar="AIIA_LANGUAGE",
    help="Language of title, cause and remedy.",
)
def explain(code: str | None, *, language: Language) -> None:
    """Explain a failure code or what happened to a job run, or list all codes."""
    from aiia_pipelines.config.faults import nearest
    from aiia_pipelines.jobs.failures import CATALOGUE, Failure

    out = output()
    if code is None:
        _list(language)
        return
    if number := _NUMBER.fullmatch(code):
        told = _of_job_run(int(number[1]), language)
    elif code in CATALOGUE:
        told = _Told(Failure(CATALOGUE[code], ""), language)
    else:
        raise Stop(
            Exit.NOT_FOUND,
            f"There is no failure code '{code}'{nearest(code, CATALOGUE) or '.'}",
            code="unknown-code",
            remedy="Run `aiia explain` to see all.",
        )
    out.one(told.facts(), told.page)


def _list(language: Language) -> None:
    from aiia_pipelines.jobs.failures import CATALOGUE, Failure

    output().rows(
        (_Told(Failure(row, ""), language) for row in CATALOGUE.values()),
        lambda told: told.facts(),
        Shown("Code", lambda told: told.row.code),
        Shown("Badge", lambda told: told.row.badge.value),
        Shown("Origin", lambda told: told.row.origin),
        Shown("Retried", lambda told: str(told.row.most_retries or "no")),
        Shown("Cause", lambda told: told.failure.texts(language).cause, yields=True),
    )


def _of_job_run(number: int, language: Language) -> "_Told":
    from aiia_pipelines.config.settings import destination_urls
    from aiia_pipelines.jobs import details, history

    with reading(opened()) as db:
        run = history.run(db, number)
        known = details.explained(db, run, destination_urls(os.environ))
    if known is None:
        raise Stop(
            Exit.NOT_FOUND,
            f"Job run #{number} is {run.state} and has no failure to explain.",
            code="no-failure",
            remedy=f"Run `aiia jobs show {number}`.",
        )
    return _Told(known.failure, language, known.family, number)


@dataclass(frozen=True, slots=True)
class _Told:
    """A failure as it is explained; `number` is its job run, if it is that of one."""

    failure: "Failure"
    language: Language
    family: str = ""
    number: int | None = None

    @property
    def row(self) -> "FailureClass":
        """The row of the catalogue."""
        return self.failure.kind

    def facts(self) -> dict[str, Any]:
        """Return the record; its keys are stable."""
        row, texts = self.row, self.failure.texts(self.language)
        found: dict[str, Any] = {
            "code": row.code,
            "title": texts.title,
            "badge": row.badge.value,
            "origin": row.origin,
            "retryable": row.transient,
            "cause": texts.cause,
            "remedy": texts.remedy,
            "verify": self.failure.verify(family=self.family),
            "signals": sorted(row.signals),
            "category": row.category,
            "most_retries": row.most_retries,
            "checks": self._checks(),
            "docs": row.docs,
            "language": self.language,
        }
        if self.number is None:
            return found
        about = {"message": self.failure.headline, "place": self.failure.place}
        return found | {"number": self.number, **about, "family": self.family}

    def page(self) -> Iterable[str]:
        """Write the page that people read."""
        row, words = self.row, WORDS[self.language]
        texts = self.failure.texts(self.language)
        yield f"{self._shown(texts.title)} ({row.code})"
        if self.number is not None:
            yield self._line("message", f"#{self.number} {escape(self.failure.headline)}")
        badge = words.get(row.badge.value, row.badge.value)
        yield self._line("badge", f"{badge}{words['from']}{words.get(row.origin, row.origin)}")
        yield self._line("cause", self._shown(texts.cause))
        yield self._line("remedy", self._shown(texts.remedy))
        yield self._line("verify", self._ltr(self.failure.verify(family=self.family)))
        if not self.family:
            yield from self._others()
        yield self._line("retried", _retried(row.most_retries, words))
        yield self._line("docs", row.docs)

    def _checks(self) -> dict[str, str]:
        from aiia_pipelines.jobs.families import FAMILIES

        return {family: self.failure.verify(family=family) for family in FAMILIES}

    def _others(self) -> Iterable[str]:
        from aiia_pipelines.jobs.families import FAMILIES, checks_by_family

        for families in checks_by_family(self.row).values():
            names = ", ".join(FAMILIES[family] for family in families)
            yield f"    {names}: {self._ltr(self.failure.verify(family=families[0]))}"

    def _line(self, word: str, text: str) -> str:
        return f"{WORDS[self.language][word] + ':':<12} {text}"

    def _shown(self, text: str) -> str:
        place = escape(self.failure.place)
        latin = f"{_CODE}|{re.escape(place)}" if place else _CODE
        if self.language != "ar":
            return escape(text)
        return re.sub(latin, lambda found: _APART.format(found[0]), escape(text))

    def _ltr(self, text: str) -> str:
        safe = escape(text)
        return _APART.format(safe) if self.language == "ar" else safe


def _retried(times: int, words: Mapping[str, str]) -> str:
    if times <= 1:
        return words["once" if times else "by hand"]
    return words["times"].format(times)


WORDS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "message": "Message",
        "badge": "Badge",
        "from": ", origin: ",
        "cause": "Cause",
        "remedy": "What to do",
        "verify": "Verify",
        "retried": "Retried",
        "times": "automatically, up to {} times",
        "once": "automatically, once",
        "by hand": "only by hand",
        "docs": "Read more",
    },
    "ar": {
        "message": "الرسالة",
        "badge": "الشارة",
        "from": "، المنشأ: ",
        "cause": "السبب",
        "remedy": "ما العمل",
        "verify": "للتحقق",
        "retried": "الإعادة",
        "times": "تلقائيًا، بحد أقصى {} مرات",
        "once": "تلقائيًا، مرة واحدة",
        "by hand": "يدويًا فقط",
        "docs": "للمزيد",
        "Failed": "فشل",
        "Error": "خطأ",
        "Cancelled": "أُلغي",
        "source": "المصدر",
        "destination": "الوجهة",
        "data": "البيانات",
        "configuration": "الإعدادات",
        "platform": "المنصة",
        "user": "المستخدم",
    },
}
