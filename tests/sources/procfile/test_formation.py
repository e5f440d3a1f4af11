"""How many of which process, and on which port, is known before anything starts."""

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logsvc.errors import ConfigError
from logsvc.sources.procfile.formation import Dyno, parse_scale, plan, port_is_free
from logsvc.sources.procfile.parse import parse_procfile

ENTRIES = parse_procfile("release: r\nweb: w\nworker: k\nclock: c")


def free(_: int) -> bool:
    return True


def test_ports_are_foremans_and_release_takes_none():
    release, dynos = plan(ENTRIES, {"web": 3, "clock": 0}, 5000, free)
    assert release == Dyno("release", 1, "r", 5000)
    assert [(dyno.name, dyno.port) for dyno in dynos] == [
        ("web.1", 5000),
        ("web.2", 5001),
        ("web.3", 5002),
        ("worker.1", 5100),
    ]


@given(st.sets(st.integers(4990, 5300), max_size=200), st.integers(0, 100), st.integers(0, 100))
def test_every_process_gets_a_free_port_of_its_own(busy, web, worker):
    _, dynos = plan(ENTRIES, {"web": web, "worker": worker}, 5000, lambda port: port not in busy)
    ports = [dyno.port for dyno in dynos]
    assert len(set(ports)) == len(ports) == web + worker + 1
    assert not busy.intersection(ports)


def test_a_port_somebody_listens_on_is_not_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not port_is_free(port)
    assert port_is_free(port)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ({"wbe": 1}, "can't scale 'wbe': the Procfile doesn't run it"),
        ({"release": 2}, "can't scale 'release': the Procfile doesn't run it"),
        ({"web": 101}, "can't scale 'web' to 101: at most 100"),
    ],
)
def test_a_scale_that_does_not_fit_the_procfile_is_refused(scale, message):
    with pytest.raises(ConfigError, match=message):
        plan(ENTRIES, scale, 5000, free)


def test_no_port_left_is_said():
    with pytest.raises(ConfigError, match=r"no port is free from 65500 on for web\.1"):
        plan(ENTRIES, {}, 65500, lambda _: False)


def test_scale_options_are_foremans():
    assert parse_scale(["web=2,worker=1", "clock=0"]) == {"web": 2, "worker": 1, "clock": 0}
    for wrong in ("web", "web=", "web=-1", "web=many", "=2", "web=2;worker=1", "web=1000"):
        with pytest.raises(ConfigError, match="a scale looks like 'web=2'"):
            parse_scale([wrong])


@given(st.from_regex(r"[A-Za-z0-9_-]{1,63}", fullmatch=True))
def test_a_pods_folder_can_be_split_again_whatever_the_process_is_called(name):
    dyno = Dyno(name, 1, "c", 5000)
    assert "_" not in dyno.pod + dyno.container
    assert Path(dyno.container).name == dyno.container
