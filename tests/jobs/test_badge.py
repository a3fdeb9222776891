from aiia_pipelines.jobs.badge import BADGES, Badge, Colors


def _luminance(color: str) -> float:
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(colors: Colors) -> float:
    bright, dark = sorted(
        (_luminance(colors.background), _luminance(colors.foreground)), reverse=True
    )
    return (bright + 0.05) / (dark + 0.05)


def test_there_are_exactly_six_badges_in_the_documented_order() -> None:
    expected = ["Pending", "Running", "Completed", "Failed", "Error", "Cancelled"]
    assert [str(badge) for badge in Badge] == expected


def test_every_badge_has_its_facts() -> None:
    assert list(BADGES) == list(Badge)


def test_every_badge_reads_at_seven_to_one_in_both_themes() -> None:
    for facts in BADGES.values():
        assert _contrast(facts.light) >= 7
        assert _contrast(facts.dark) >= 7


def test_no_two_badges_share_an_icon_so_color_is_never_needed() -> None:
    assert len({facts.icon for facts in BADGES.values()}) == len(Badge)


def test_every_badge_says_what_it_means_and_what_to_do() -> None:
    for facts in BADGES.values():
        assert facts.meaning.endswith(".")
        assert facts.action.endswith(".")
