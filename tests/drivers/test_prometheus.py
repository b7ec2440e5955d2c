"""Prometheus text over HTTP: gauges, rates, quantiles, and what a hostile target sends."""

import asyncio
import math
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from config.addresses import MetricAddress
from config.links import TlsSection
from config.secrets import SecretRef
from config.site import Device, Point
from control.types import Quality, Reading
from drivers.contract import Permanent, Refused, Transient
from drivers.prometheus import MAX_BYTES, Metric, PrometheusDriver
from drivers.prometheus_text import TextReader
from drivers.prometheus_window import NoValue, Quantile, Rate, edge_problem, quantile_of
from tests.certs import Certificates
from tests.drivers import make

EDGES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)


@asynccontextmanager
async def serve(
    answer: list[bytes], context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A raw TCP server: sends `answer[0]` to each request and closes. Yields URL and requests."""
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer[0])
            await writer.drain()
            if answer[0].endswith(b"HANG"):
                await asyncio.sleep(5)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client hung up, as it may
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http{'s' if context else ''}://127.0.0.1:{port}/metrics", asked
    finally:
        server.close()


def http(body: str | bytes, status: str = "200 OK", **headers: str) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    headers.setdefault("Content-Length", str(len(data)))
    lines = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items() if v)
    return f"HTTP/1.1 {status}\r\n{lines}Connection: close\r\n\r\n".encode() + data


def gauge(name: str = "watts", quantity: str = "gpu_power_kw", **more: object) -> Point:
    about = {k: more.pop(k) for k in ("labels", "aggregate", "kind", "window_s") if k in more}
    return make.point(name, MetricAddress((name,), **about), quantity, **more)  # type: ignore[arg-type]


def device(url: str, points: list[Point], **more: object) -> Device:
    return make.device(points, "prometheus", url=url, host="", timeout_s=0.4, **more)


async def scrape(answer: bytes, *points: Point) -> list[Reading]:
    async with serve([answer]) as (url, _):
        driver = PrometheusDriver(device(url, list(points)), {})
        try:
            return await driver.read(1.0)
        finally:
            await driver.close()


GPUS = """# HELP watts Power
# TYPE watts gauge
watts{gpu="0",Hostname="n1",modelName="a \\"b\\" \\\\ c\\nd"} 100.5
watts{gpu="1",Hostname="n1",} 2e2 1700000000000
watts{gpu="0",Hostname="n2"} 50
watts_limit{gpu="0"} nonsense
"""


@pytest.mark.parametrize(
    ("aggregate", "labels", "wanted"),
    [("sum", (), 350.5), ("max", (), 200), ("min", (), 50), ("mean", (), 350.5 / 3),
     ("sum", (("Hostname", ("n1",)),), 300.5), ("sum", (("Hostname", ("n1", "n2")), ("gpu", ("0",))), 150.5)],
)  # fmt: skip
async def test_gauges_by_label_and_aggregate(
    aggregate: str, labels: tuple[object, ...], wanted: float
) -> None:
    point = gauge(aggregate=aggregate, labels=labels, scale=0.001)
    (reading,) = await scrape(http(GPUS), point)
    assert reading.value == pytest.approx(wanted / 1000)


async def test_the_newest_name_that_is_there_is_used() -> None:
    point = make.point("p", MetricAddress(("new", "old")), "queue_depth")
    assert (await scrape(http("old 3\n"), point))[0].value == 3
    assert (await scrape(http("old 3\nnew 4\n"), point))[0].value == 4
    (reading,) = await scrape(http("other 3\n"), point)
    assert (reading.value, reading.quality) == (None, Quality.MISSING)
    assert "new or old" in reading.reason


# Bodies of which the gauge `watts` must not become a number.
HOSTILE_BODIES = {
    "empty": "", "html": "<html>watts 5</html>\n", "json": '{"watts": 5}\n',
    "NaN": "watts NaN\n", "+Inf": "watts +Inf\n", "a huge exponent": "watts 1e9999\n",
    "implausible": "watts -7\n", "text for a number": "watts five\n", "hex": "watts 0x10\n",
    "underscores": "watts 1_000\n", "other digits": "watts ٣\n", "no value": "watts\n",
    "two values": "watts 1 2 3\n", "a bare brace": "watts{ 5\n", "an open quote": 'watts{a="b} 5\n',
    "a bad escape": 'watts{a="\\x"} 5\n', "a label twice": 'watts{a="1",a="2"} 5\n',
    "a series twice": "watts 5\nwatts 6\n", "the same series in another order":
        'watts{a="1",b="2"} 5\nwatts{b="2",a="1"} 6\n',
    "one good, one broken": 'watts{a="1"} 5\nwatts{a="2"} oops\n',
    "cut in a value": "watts 5", "cut in a name": "watts 5\nwat\nwatts", "a long line":
        'watts{a="' + "x" * 9000 + '"} 5\n', "a line of blanks": "watts" + " " * 8000 + "\n",
    "nothing but NUL": "\0" * 100, "a line separator in a label": "other{a=\"\u2028watts 5\u2028\"} 1\n",
    "carriage returns": "other 1\rwatts 5\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_BODIES)
async def test_a_hostile_body_never_becomes_a_reading(name: str) -> None:
    answer = [http(HOSTILE_BODIES[name])]
    async with serve(answer) as (url, _):
        driver = PrometheusDriver(device(url, [gauge()]), {})
        (reading,) = await driver.read(1.0)
        assert reading.value is None
        assert reading.quality in (Quality.BAD, Quality.MISSING)
        assert reading.reason
        answer[0] = http("watts 5\n")
        assert (await driver.read(2.0))[0].value == 5
        await driver.close()


GOOD = "watts 5\n"
FAULTS = {
    "HTTP 500": (http(GOOD, "500 Oops"), Transient), "HTTP 503": (http(GOOD, "503 Busy"), Transient),
    "HTTP 404": (http(GOOD, "404 No"), Permanent), "HTTP 401": (http(GOOD, "401 No"), Permanent),
    "HTTP 204": (http("", "204 Nothing"), Transient),
    "a redirect": (http(GOOD, "302 Found", Location="http://127.0.0.1:1/"), Permanent),
    "cut short": (http(GOOD, Content_Length="500"), Transient),
    "a compressed body": (http(GOOD, Content_Encoding="gzip"), Permanent),
    "a bad chunk": (http("zz\r\nwatts 5\n", Content_Length="", Transfer_Encoding="chunked"), Transient),
    "an unfinished chunk": (http("8\r\nwatts 5\n", Content_Length="", Transfer_Encoding="chunked"), Transient),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", Transient), "nothing": (b"", Transient),
    "headers without end": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, Transient),
    "a body that never comes": (http("HANG", Content_Length="500"), Transient),
    "too large": (http(b"x" * (MAX_BYTES + 1_000)), Permanent),
    "two lengths": (http(GOOD, Content_Length="8\r\nContent-Length: 9"), Transient),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
async def test_a_faulty_transfer_is_an_error_and_the_next_read_is_right(name: str) -> None:
    data, error = FAULTS[name]
    answer = [data]
    async with serve(answer) as (url, _):
        driver = PrometheusDriver(device(url, [gauge()]), {})
        with pytest.raises(error) as caught:
            await driver.read(1.0)
        assert url in str(caught.value)
        answer[0] = http(GOOD)
        assert (await driver.read(2.0))[0].value == 5
        await driver.close()


async def test_nothing_listens() -> None:
    async with serve([b""]) as (url, _):
        pass
    driver = PrometheusDriver(device(url, [gauge()]), {})
    with pytest.raises(Transient):
        await driver.read(1.0)
    await driver.close()


async def test_the_token_goes_out_and_never_into_messages() -> None:
    answer = [http(GOOD)]
    async with serve(answer) as (url, asked):
        with_token = device(url, [gauge()], token=SecretRef(env="TOKEN"))
        driver = PrometheusDriver(with_token, {"TOKEN": "s3cret"})
        await driver.read(1.0)
        assert b"Authorization: Bearer s3cret\r\n" in asked[0]
        answer[0] = http("", "403 No")
        with pytest.raises(Permanent) as caught:
            await driver.read(2.0)
        assert "s3cret" not in str(caught.value)
        await driver.close()
    with pytest.raises(Permanent, match="TOKEN"):
        await PrometheusDriver(with_token, {}).connect()


async def test_https_is_believed_only_where_its_authority_is_named(tmp_path: Path) -> None:
    certs = Certificates(tmp_path)
    server, client = certs.issue("exporter", "127.0.0.1"), certs.issue("agent", "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certs.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(server, certs.key_of(server))
    tls = TlsSection(ca_file=certs.ca, cert_file=client, key_file=certs.key_of(client))
    async with serve([http(GOOD)], context) as (url, asked):
        driver = PrometheusDriver(device(url, [gauge()], tls=tls), {})
        (reading,) = await driver.read(1.0)
        assert reading.quality is Quality.GOOD
        await driver.close()
        stranger = PrometheusDriver(device(url, [gauge()]), {})
        with pytest.raises(Transient):
            await stranger.read(1.0)
        await stranger.close()
        assert len(asked) == 1
    nowhere = device(url, [gauge()], tls=TlsSection(ca_file=str(tmp_path / "no.pem")))
    with pytest.raises(Permanent, match="tls"):
        await PrometheusDriver(nowhere, {}).connect()


async def test_metrics_are_read_only() -> None:
    driver = PrometheusDriver(device("http://127.0.0.1:9/", [gauge()]), {})
    with pytest.raises(Refused):
        await driver.write_raw({"d/watts": 1.0})
    with pytest.raises(Permanent):
        await driver.present([])


async def test_against_the_reference_client_library() -> None:
    registry = CollectorRegistry()
    watts = Gauge("watts", "Power", ["gpu"], registry=registry)
    done = Counter("done", "Requests", ["reason"], registry=registry)
    wait = Histogram("wait_seconds", "Latency", ["engine"], buckets=EDGES, registry=registry)
    points = [
        gauge(scale=0.001),
        make.point("done", MetricAddress(("done_total",), (("reason", ("stop",)),), "rate"), "prompts_ps"),
        make.point("p95", MetricAddress(("wait_seconds",), (), "quantile"), "latency_p95_ms", scale=1000),
    ]  # fmt: skip
    answer = [b""]
    async with serve(answer) as (url, _):
        driver = PrometheusDriver(device(url, points), {})

        async def read(now_s: float) -> list[Reading]:
            answer[0] = http(generate_latest(registry))
            return await driver.read(now_s)

        watts.labels("0").set(400)
        watts.labels("1").set(250)
        done.labels("stop").inc(10)
        done.labels("abort").inc(10)
        wait.labels("0").observe(0.02)
        first = await read(0.0)
        assert [r.value for r in first] == [0.65, None, None]
        assert [r.quality for r in first] == [Quality.GOOD, Quality.UNKNOWN, Quality.UNKNOWN]
        assert "two scrapes" in first[1].reason
        done.labels("stop").inc(30)
        for _ in range(19):
            wait.labels("0").observe(0.2)
        second = await read(10.0)
        assert second[1].value == 3.0
        assert second[2].quality is Quality.UNKNOWN  # 19 requests are too few
        for _ in range(81):
            wait.labels("0").observe(0.04)
        third = await read(20.0)
        assert third[2].value is not None
        assert 100 < third[2].value <= 250  # 19 % were 0.2 s: p95 lies in that bucket
        assert driver.edges == {"d/p95": tuple(e * 1000 for e in EDGES)}
        for _ in range(100):
            wait.labels("0").observe(0.04)
        later = await read(75.0)  # the slow ones have left the window
        assert later[2].value is not None
        assert later[2].value <= 50
        await driver.close()


def test_rates_survive_restarts_and_refuse_what_is_no_counter() -> None:
    rate = Rate(10.0, 100.0)
    one = (("i", "1"),)
    two = (("i", "2"),)
    assert isinstance(rate.take({one: 100.0}, 0.0), NoValue)
    assert rate.take({one: 150.0}, 10.0) == 5.0
    assert rate.take({one: 20.0}, 20.0) == 2.0  # restarted: 20 since then
    assert rate.take({one: 30.0, two: 1e9}, 30.0) == 1.0  # a new series says nothing yet
    assert rate.take({one: 30.0, two: 1e9 + 10}, 40.0) == 1.0
    assert isinstance(rate.take({one: math.nan}, 50.0), NoValue)
    assert rate.take({one: 40.0}, 60.0) == 0.5
    assert isinstance(rate.take({one: 50.0}, 60.0), NoValue)  # the clock stands
    assert isinstance(rate.take({one: 50.0}, 1_000.0), NoValue)  # too long ago
    assert rate.take({one: 60.0}, 1_010.0) == 1.0


def test_a_rate_is_steady_though_scrapes_and_counts_are_not() -> None:
    """An exporter that counts in steps of 5 s, scraped a little early and late: the window holds."""
    rate, series = Rate(60.0, 100.0), (("i", "1"),)
    values = [
        rate.take({series: 500.0 * (at // 5.0)}, at)
        for at in (5.0 * i + (0.4 if i % 3 else -0.4) for i in range(40))
    ]
    settled = [v for v in values[15:] if not isinstance(v, NoValue)]
    assert len(settled) == 25
    assert all(abs(v - 100.0) < 10.0 for v in settled)


def histogram(counts: list[float], engine: str = "0") -> dict[tuple[tuple[str, str], ...], float]:
    edges = [*map(str, EDGES), "+Inf"]
    return {(("engine", engine), ("le", e)): c for e, c in zip(edges, counts, strict=True)}


def test_quantiles_survive_restarts_and_count_every_engine() -> None:
    window = Quantile(0.95, 60.0, 20)
    assert isinstance(window.take(histogram([0, 0, 0, 0, 0, 0, 0]), 0.0), NoValue)
    both = {**histogram([10, 10, 10, 10, 10, 10, 10]), **histogram([0] * 7, "1")}
    assert isinstance(window.take(both, 10.0), NoValue)
    both = {**histogram([3] * 7), **histogram([0, 0, 0, 20, 20, 20, 20], "1")}  # 0 restarted
    value = window.take(both, 20.0)
    assert not isinstance(value, NoValue)
    assert 0.1 < value <= 0.25


@pytest.mark.parametrize(
    "counts", [[5, 4, 5, 5, 5, 5, 5], [1, 1, 1, 1, 1, 1, math.nan], [-1, 0, 0, 0, 0, 0, 0]]
)
def test_buckets_that_can_not_be_are_bad(counts: list[float]) -> None:
    value = Quantile(0.95, 60.0, 1).take(histogram(counts), 0.0)
    assert isinstance(value, NoValue)
    assert not value.unknown
    unbounded = {k: v for k, v in histogram([1.0] * 7).items() if k[1][1] != "+Inf"}
    value = Quantile(0.95, 60.0, 1).take(unbounded, 0.0)
    assert isinstance(value, NoValue)
    assert not value.unknown


def test_above_the_last_edge_a_limit_on_that_edge_is_crossed() -> None:
    assert quantile_of({0.1: 0.0, 0.25: 0.0, math.inf: 50.0}, 0.95) > 0.25


@given(
    st.lists(st.integers(0, 200), min_size=7, max_size=7).filter(lambda c: sum(c) > 0),
    st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
def test_a_quantile_is_on_the_right_side_of_every_edge(counts: list[int], q: float) -> None:
    cumulative, total = {}, 0
    for edge, count in zip((*EDGES, math.inf), counts, strict=True):
        total += count
        cumulative[edge] = float(total)
    value = quantile_of(cumulative, q)
    for edge in EDGES:
        assert (value <= edge) == (cumulative[edge] >= q * total)


def test_a_limit_off_the_edges_is_refused() -> None:
    assert edge_problem(250.0, (100.0, 250.0, 500.0)) is None
    assert "250 or 500" in str(edge_problem(300.0, (100.0, 250.0, 500.0)))
    assert "use 300" in str(edge_problem(250.0, (300.0, 500.0)))
    assert edge_problem(250.0, ()) is not None


@given(st.text(max_size=300) | st.from_regex(r"(watts(\{[a-z\"=,\\]*\})? [0-9eE.+-]*\n){0,5}"))
def test_any_text_is_read_without_an_exception(text: str) -> None:
    for samples in TextReader(["watts"]).read(text).values():
        assert samples.fault or all(isinstance(v, float) for v in samples.series.values())


@pytest.mark.parametrize(("limit", "good"), [(None, True), (0.25, True), (0.2, False)])
def test_a_limit_off_every_bucket_edge_is_refused(limit: float | None, good: bool) -> None:
    """Whether p95 is over a limit between two edges can't be told: no value, no wrong verdict."""
    address = MetricAddress(("wait_seconds",), (), "quantile", min_count=1, limit=limit)
    metric = Metric(make.point("p95", address, "latency_p95_ms", scale=1000))
    metric.of_series(histogram([0.0] * 7), 0.0)
    told = metric.of_series(histogram([0, 0, 0, 9, 9, 9, 9]), 10.0)
    assert (told.value is not None) is good
    assert good or "use 0.1 or 0.25" in told.reason
