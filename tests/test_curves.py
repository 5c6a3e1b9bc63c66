"""What is drawn beside an alert is what it was judged by: the rule's settings, master data and interval of its time."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from detectors.curves.contract import (
    ALL_DAYS,
    MASTER_COLUMNS,
    Curve,
    Drawn,
    OfficeTimeline,
    curve,
)
from detectors.curves.names import CHINESE_NAMES, SAME_NAMES
from detectors.rule import ALL_RULES
from detectors.rulebook import applied, rules_of
from replay import layout
from replay.cases.case import batches
from replay.cases.judging import expected_rows
from replay.scoring import score
from replay.simulation.town import Town
from schemas.alert import Alert
from schemas.columns import AreaDays, Days, Intervals, Readings
from schemas.master import Area, Meter, Transformer
from schemas.rules import Edition, Rulebook
from schemas.units import DAY_SECONDS
from streams.local.runner import run as run_locally
from streams.report.charts import chart_of, span_of
from streams.report.demo import Watch
from streams.report.evidence import CurveChart, Evidence
from streams.report.page import Watched, pictured
from streams.report.subjects import JudgedBy
from streams.settings import Settings
from tests.casebook import casebook, run

START_TIME = 1_772_380_800  # Monday 2026-03-02 in Shanghai
RAISED_TIME = START_TIME + DAY_SECONDS
CHANGED_TIME = START_TIME + 2 * DAY_SECONDS  # of master data, after all readings
TUNING_FACTOR = 0.97  # of a tuned setting; a band still contains its nominal value
OTHER_PHASE_COLUMNS = ("u", "p", "q")
TWO_METERS = [
    Meter(meter="G", wiring="3P4W", ct=80),
    Meter(
        meter="M1",
        wiring="3P4W",
        segment="commercial",
        contract_kva=400,
        suspended_kva=100,
    ),
]
METERS_LATER = [
    Meter(meter="G", effective=CHANGED_TIME, wiring="3P4W", ct=160, un_v=380),
    Meter(
        meter="M1",
        effective=CHANGED_TIME,
        wiring="1P2W",
        segment="industrial",
        un_v=380,
        ib_a=1.5,
        ct=20,
        pt=100,
        contract_kva=800,
        interval_s=3600,
    ),
]
FIRST_TRANSFORMER = Transformer(rating_kva=400)
TRANSFORMER_LATER = Transformer(
    effective=CHANGED_TIME, rating_kva=630, vector_group="Dyn11"
)
PLAIN_AREA = Area(
    area="A1", gateway="G", meters=TWO_METERS, transformers=[FIRST_TRANSFORMER]
)
CHANGED_AREA = msgspec.structs.replace(
    PLAIN_AREA,
    meters=TWO_METERS + METERS_LATER,
    transformers=[FIRST_TRANSFORMER, TRANSFORMER_LATER],
)
SUSPENDED_AREA = msgspec.structs.replace(
    PLAIN_AREA,
    meters=[TWO_METERS[0], msgspec.structs.replace(TWO_METERS[1], suspended_kva=400)],
)
RULE_CURVES = {
    name: rule.curve
    for name, rule in ALL_RULES.items()
    if isinstance(rule.curve, Curve)
}
TIMELINE_RULES = [
    name for name, rule in ALL_RULES.items() if isinstance(rule.curve, OfficeTimeline)
]
DRAWN_SETTINGS = [
    (name, setting) for name, shown in RULE_CURVES.items() for setting in shown.settings
]


def alert_of(judged, **known):
    subject = "" if judged.kind in {Intervals, AreaDays} else "M1"
    usual = Alert(
        id="1",
        rule=judged.name,
        version=1,
        kind=judged.kind.kind,
        area="A1",
        subject=subject,
        state="raised",
        change="raised",
        revision=0,
        severity=1,
        since=RAISED_TIME - 900,
        raised=RAISED_TIME,
        at=RAISED_TIME,
        score=1.0,
        phase="A",
        evidence={},
        suppressed_by="",
        en="",
        zh="",
    )
    return msgspec.structs.replace(usual, **known)


def readings_of(area="A1", interval=900, **columns):
    """Two days of the gateway meter and of a meter."""
    times = START_TIME + np.arange(interval, 2 * DAY_SECONDS + 1, interval)
    count = 2 * len(times)
    rng = np.random.default_rng(1)
    values = {
        "i": rng.uniform(1, 5, (3, count)),
        "neutral": rng.uniform(1, 5, count),
        "kwh": np.tile([90.0, 1.0], len(times)),
        "terminal_p": rng.uniform(1, 2, count),
        "clock_offset": rng.uniform(100, 200, count),
        "register": rng.uniform(100, 200, count),
        "flags": np.ones(count),
    }
    values |= {name: rng.uniform(1, 2, (3, count)) for name in OTHER_PHASE_COLUMNS}

    return Readings.build(
        ["G", "M1"],
        np.tile([0, 1], len(times)),
        [area],
        np.zeros(count),
        np.repeat(times, 2),
        **values | columns,
    )


def picture_of(
    judged, area=PLAIN_AREA, interval=900, rows=(), *, chinese=False, **known
):
    """The picture of an alert of a rule."""
    judged_by = JudgedBy([area], [judged], "Asia/Shanghai", interval)
    alert = alert_of(judged, **known)
    evidence = Evidence([alert], judged_by)
    for batch in rows or [readings_of(interval=interval)]:
        evidence.collect(batch)
    return evidence.picture(alert, chinese=chinese)


def names_of(picture):
    """Everything that a picture names."""
    return [picture.unit, *picture.series, *picture.lines]


def test_all_that_curves_draw_has_a_name_in_both_languages():
    names = set()
    for rule in map(ALL_RULES.get, RULE_CURVES):
        english, chinese = (picture_of(rule, chinese=zh) for zh in (False, True))
        for en, zh in zip(names_of(english), names_of(chinese), strict=True):
            assert zh == en if en in SAME_NAMES else zh == CHINESE_NAMES[en]
            names.add(en)
        values = zip(english.series.values(), chinese.series.values(), strict=True)
        assert all(np.array_equal(*pair, equal_nan=True) for pair in values)
        assert [*english.lines.values()] == [*chinese.lines.values()]
    assert names == CHINESE_NAMES.keys() | SAME_NAMES  # and no other is translated
    assert not any(zh.isascii() for zh in CHINESE_NAMES.values())


def same(first, second):
    """Whether two pictures are the same."""
    return (
        first.lines == second.lines
        and first.series.keys() == second.series.keys()
        and all(
            np.array_equal(first.series[name], second.series[name], equal_nan=True)
            for name in first.series
        )
    )


def tuned_by_rulebook(name, **edition):
    """A rule as a rulebook sets it."""
    book = Rulebook({name: Edition(status="published", version=9, **edition)})
    [tuned] = [rule for rule in applied(book) if rule.name == name]
    assert tuned.version == 9
    return tuned


def draws_its_limits(judged):
    """Every limit line that is not 0 is by a setting, and every setting of the curve moves something."""
    smaller = {name: value * TUNING_FACTOR for name, value in judged.settings.items()}
    before = picture_of(judged).lines
    after = picture_of(judged.tuned(**smaller)).lines
    for line, level in before.items():
        assert level == 0 or after[line] != level, f"{line} stays where it was"

    for setting in judged.curve.settings:
        tuned = judged.tuned(**{setting: smaller[setting]})
        assert any(
            not same(picture_of(judged, area), picture_of(tuned, area))
            for area in (PLAIN_AREA, SUSPENDED_AREA)
        ), f"{setting} moves nothing"


@pytest.mark.parametrize("name", RULE_CURVES)
def test_every_rule_is_drawn_by_its_own_limits(name):
    draws_its_limits(ALL_RULES[name])


@curve(Readings, "V")
def fixed(u, un, *, lost):
    return Drawn({"A": u[0] / lost}, {"lost": 0.78 * un})


@curve(Readings, "V")
def idle(u, un, *, lost, load):
    return Drawn({"A": u[0]}, {"lost": lost * un})


@pytest.mark.parametrize(
    ("bad", "message"),
    [(fixed, "lost stays where it was"), (idle, "load moves nothing")],
)
def test_a_curve_that_draws_other_limits_fails(bad, message):
    with pytest.raises(AssertionError, match=message):
        draws_its_limits(replace(ALL_RULES["voltage_loss"], curve=bad))


@pytest.mark.parametrize(("name", "setting"), DRAWN_SETTINGS)
def test_the_rulebook_that_judged_is_drawn(name, setting):
    judged = ALL_RULES[name]
    settings = {setting: judged.settings[setting] * TUNING_FACTOR}
    by_rulebook = tuned_by_rulebook(name, settings=settings)
    for area in (PLAIN_AREA, SUSPENDED_AREA):
        drawn = picture_of(by_rulebook, area)
        assert same(drawn, picture_of(judged.tuned(**settings), area))


@pytest.mark.parametrize(("name", "setting"), DRAWN_SETTINGS)
def test_settings_of_the_segment_at_the_time_are_drawn(name, setting):
    judged = ALL_RULES[name]
    if not judged.kind.segments:
        return
    then, later = "four_wire", "single_phase"
    if "yyn0" in judged.kind.segments:
        then, later = "yyn0", "dyn11"

    settings = {setting: judged.settings[setting] * TUNING_FACTOR}
    by_segment = tuned_by_rulebook(name, segments={then: settings})
    by_another = tuned_by_rulebook(name, segments={later: settings})
    plain, tuned = picture_of(judged), picture_of(judged.tuned(**settings))
    assert same(picture_of(by_segment, CHANGED_AREA), tuned)
    assert same(picture_of(by_another, CHANGED_AREA), plain)


@pytest.mark.parametrize("name", RULE_CURVES)
def test_master_data_are_those_of_the_alert(name):
    judged = ALL_RULES[name]
    assert same(picture_of(judged), picture_of(judged, CHANGED_AREA))

    by_master_data = not MASTER_COLUMNS.isdisjoint(RULE_CURVES[name].reads)
    first, later = (
        picture_of(judged, area, raised=CHANGED_TIME + 900)
        for area in (PLAIN_AREA, CHANGED_AREA)
    )
    assert same(first, later) is not by_master_data


def lines_of(pictures):
    """The limit lines besides 0, by rule and name."""
    return {
        (alert.rule, name): level
        for alert, chart in pictures
        if isinstance(chart, CurveChart)
        for name, level in chart.lines.items()
        if level
    }


def tuned_edition(rule):
    """An edition with every setting of a rule and of its segments tuned."""

    def tuned(settings):
        return {name: TUNING_FACTOR * level for name, level in settings.items()}

    segments = {segment: tuned(settings) for segment, settings in rule.segments.items()}
    return Edition(
        status="published", version=2, settings=tuned(rule.settings), segments=segments
    )


def test_demo_draws_the_rulebook_that_it_judges_by():
    editions = {name: tuned_edition(rule) for name, rule in ALL_RULES.items()}
    watch = Watch(Town(220, 3, 4), Rulebook(editions))
    for _ in watch.steps():
        pass
    result = score(watch.town.planted, watch.alerts.values())
    pictures = watch.report(result).pictures

    alerts = [alert for alert, _ in pictures]
    by_code = JudgedBy(watch.town.areas, [*ALL_RULES.values()], watch.town.zone, 900)
    lines = lines_of(pictures)
    lines_of_code = lines_of(pictured(alerts, watch.town.batches(), by_code))
    assert lines.keys() == lines_of_code.keys() != set()
    assert not lines.items() & lines_of_code.items()


def test_run_draws_the_rulebook_that_it_judges_by(tmp_path, monkeypatch):
    layout.write(tmp_path / "town", [PLAIN_AREA], [], "csv")
    rows = [
        f"M1,A1,2026-03-02T{hour:02}:{minute:02}:00+08:00,{0 if hour > 5 else 220},220,220,1,1,1"
        for hour in range(24)
        for minute in range(0, 60, 15)
    ]
    head = "meter,area,at,ua,ub,uc,ia,ib,ic"
    (tmp_path / "town" / "reads.csv").write_text("\n".join([head, *rows]), "utf-8")
    shown: list[Watched] = []

    def page_of(watched):
        shown.append(watched)
        return ""

    monkeypatch.setattr("streams.local.runner.page", page_of)
    edition = Edition(status="published", version=2, settings={"lost": 0.7})
    run_locally(
        [str(tmp_path / "town")],
        tmp_path / "alerts.db",
        Settings(zone="Asia/Shanghai"),
        rulebook=Rulebook({"voltage_loss": edition}),
        report=tmp_path / "page.html",
    )

    lines = lines_of(shown[0].pictures)
    assert lines["voltage_loss", "lost"] == pytest.approx(0.7 * 220)
    assert lines["voltage_loss", "back"] == pytest.approx(0.85 * 220)


def test_limits_of_the_country_and_of_the_supply_are_drawn():
    [high] = [meter for meter in TWO_METERS if meter.meter == "M1"]
    supply = msgspec.structs.replace(high, un_v=20_000, pt=1)
    area = msgspec.structs.replace(PLAIN_AREA, meters=[TWO_METERS[0], supply])
    lines = picture_of(ALL_RULES["voltage_deviation"], area).lines
    assert lines == pytest.approx({"highest": 22_000, "lowest": 18_000})

    britain = rules_of("britain")["voltage_deviation"]
    lines = picture_of(britain).lines
    assert lines == pytest.approx({"highest": 242, "lowest": 206.8})


@pytest.mark.parametrize("interval", [900, 1800, 3600])
def test_energy_counted_in_an_interval_is_power(interval):
    judged = ALL_RULES["meter_stopped"]
    counted = picture_of(judged, interval=interval).series["counted"]
    assert counted == pytest.approx(np.full(len(counted), 3600 / interval))

    hourly = msgspec.structs.replace(TWO_METERS[1], interval_s=3600)
    area = msgspec.structs.replace(PLAIN_AREA, meters=[TWO_METERS[0], hourly])
    counted = picture_of(judged, area, interval).series["counted"]
    assert counted == pytest.approx(np.ones(len(counted)))


def test_meters_of_one_id_are_drawn_apart():
    own, other = readings_of(), readings_of("A2", register=np.full(384, 7.0))
    judged = ALL_RULES["register_decrease"]
    assert same(picture_of(judged, rows=[other, own]), picture_of(judged))


def test_energy_of_a_day_is_primary():
    ratio = msgspec.structs.replace(TWO_METERS[1], ct=20, pt=10)
    area = msgspec.structs.replace(PLAIN_AREA, meters=[TWO_METERS[0], ratio])
    days = picture_of(ALL_RULES["zero_usage"], area)
    assert days.series[""].tolist() == [96 * 200] * 2
    assert np.diff(days.at).tolist() == [DAY_SECONDS]


def test_lines_of_unknown_master_data_are_left_out():
    area = Area(area="A1", gateway="G", meters=[TWO_METERS[0]])
    judged = ALL_RULES["voltage_loss"]
    picture = picture_of(judged, area)
    assert not picture.lines
    assert "nan" not in chart_of(picture, span_of(alert_of(judged)), "UTC", RAISED_TIME)


def timelines_of(case, judged):
    """The timelines of a case's first alert, and of a customer or item that is not there."""
    alert = run(case, judged)[0][0]
    stranger = msgspec.structs.replace(alert, subject="another/one")
    judged_by = JudgedBy([], [judged], "Asia/Shanghai", case.interval)
    evidence = Evidence([alert], judged_by)
    for batch in batches(case):
        evidence.collect(batch)
    return evidence.picture(alert), evidence.picture(stranger)


@pytest.mark.parametrize("name", TIMELINE_RULES)
def test_alerts_of_the_office_are_shown_by_their_own_rows(name):
    cases = [case for case in casebook(name).case if expected_rows(case)]
    charts = [timelines_of(case, ALL_RULES[name]) for case in cases]
    assert any(own.spans or own.marks for own, _ in charts)
    assert not any(other.spans or other.marks for _, other in charts)


def test_a_curve_of_impossible_columns_or_settings_is_refused():
    def of_an_unknown_column(volts):
        return Drawn({})

    def with_a_limit_of_its_own(u, *, lost=0.78):
        return Drawn({})

    @curve(Days, "kWh", near=ALL_DAYS)
    def of_another_rule(kwh, *, lost):
        return Drawn({"": kwh}, {"lost": lost})

    with pytest.raises(ValueError, match="readings have no column volts"):
        curve(Readings, "V")(of_an_unknown_column)
    with pytest.raises(ValueError, match="lost is the rule's"):
        curve(Readings, "V")(with_a_limit_of_its_own)
    with pytest.raises(ValueError, match="its curve draws lost, no setting of it"):
        replace(ALL_RULES["zero_usage"], curve=of_another_rule)
