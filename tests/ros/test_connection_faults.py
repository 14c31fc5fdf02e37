"""What a connection does when the server or the network misbehaves, against a server that does so on request."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_server import FakeServer, eventually

from mcsd_agent.errors import UserError
from ros_bridge import connection as module
from ros_bridge import transport, websocket
from ros_bridge.address import TOKEN_FILE_VARIABLE, TOKEN_VARIABLE, check_url, token_from_environment
from ros_bridge.connection import Connection
from ros_bridge.server import free_port

STRING = "std_msgs/msg/String"


@pytest.fixture
def connection(fake_server: FakeServer) -> Iterator[Connection]:
    link = Connection(fake_server.url)
    link.wait_connected()
    yield link
    link.close()


def publication(text: str, topic: str = "/t") -> dict:
    return {"op": "publish", "topic": topic, "msg": {"data": text}}


@pytest.mark.parametrize(
    ("payload", "binary", "counter"),
    [
        (b"\x00\x01\x02", True, "refused_binary"),
        (b"{not json", False, "refused_malformed"),
        (b"[1, 2]", False, "refused_malformed"),
        (b'{"op": "publish"}', False, "refused_malformed"),
        (b'{"op": ["publish"]}', False, "refused_malformed"),
        (b"[" * 200_000, False, "refused_malformed"),
        (b'{"op": "fancy"}', False, "unhandled"),
        (b'{"op": "status", "level": "error", "msg": "no such topic"}', False, "status_errors"),
    ],
)
def test_bad_frame_is_counted_and_the_link_survives(fake_server, connection, payload, binary, counter):
    got: list[dict] = []
    connection.subscribe("/t", STRING, got.append)
    fake_server.send(payload, binary=binary)
    fake_server.send(publication("after"))
    assert eventually(lambda: got == [{"data": "after"}])
    assert connection.counters[counter] == 1
    assert fake_server.connections == 1


def test_a_flood_of_bad_frames_is_no_flood_of_log_lines(fake_server, connection, caplog):
    def broken(message: dict) -> None:
        raise RuntimeError("bug")

    connection.subscribe("/t", STRING, broken)
    for _ in range(50):
        fake_server.send(b"{not json")
        fake_server.send({"op": "status", "level": "error", "msg": "no"})
        fake_server.send(publication("x"))
    assert eventually(lambda: connection.counters["handler_errors"] == 50)
    assert connection.counters["refused_malformed"] == connection.counters["status_errors"] == 50
    assert len(caplog.records) <= 9


def test_failing_handler_does_not_stop_the_others(fake_server, connection):
    got: list[dict] = []

    def broken(message: dict) -> None:
        raise RuntimeError("bug")

    connection.subscribe("/t", STRING, broken)
    connection.subscribe("/t", STRING, got.append)
    fake_server.send(publication("a"))
    assert eventually(lambda: got == [{"data": "a"}])
    assert connection.counters["handler_errors"] == 1


def said(server: FakeServer) -> list[str]:
    return [f["msg"]["data"] for _, f in list(server.frames) if f["op"] == "publish"]


def delivered(connection: Connection, server: FakeServer, text: str) -> bool:
    """Published until it arrived: on a busy machine a message may be dropped because it could not leave at once."""

    def arrives() -> bool:
        return connection.publish("/cmd", {"data": text}) and eventually(lambda: text in said(server), 0.5)

    return eventually(arrives)


def test_nothing_published_while_down_is_sent_later(fake_server, connection):
    connection.advertise("/cmd", STRING)
    assert delivered(connection, fake_server, "before")
    fake_server.drop()
    assert eventually(lambda: not connection.connected)
    assert not any(connection.publish("/cmd", {"data": "stale"}) for _ in range(50))
    assert connection.counters["dropped_disconnected"] == 50
    fake_server.listen()
    assert delivered(connection, fake_server, "fresh")
    assert list(dict.fromkeys(said(fake_server))) == ["before", "fresh"]


def test_everything_is_declared_again_in_order_before_anything_is_published(fake_server, connection):
    connection.advertise("/a", STRING)
    connection.subscribe("/b", STRING, lambda m: None)
    connection.advertise_service("/c", "std_srvs/srv/Trigger", lambda r: None)
    connection.advertise("/d", STRING)
    assert eventually(lambda: len(fake_server.frames) == 4)
    connection.unadvertise("/a")
    # Publishes at the earliest moment there is.
    connection.on_state(lambda up: connection.publish("/d", {"data": "first"}) if up else None)
    assert eventually(lambda: ("unadvertise", "/a") in fake_server.operations())
    fake_server.drop()
    assert eventually(lambda: not connection.connected)
    fake_server.frames.clear()
    fake_server.listen()
    assert eventually(lambda: len(fake_server.frames) == 4)
    assert fake_server.operations() == [
        ("subscribe", "/b"), ("advertise_service", "/c"), ("advertise", "/d"), ("publish", "/d"),
    ]  # fmt: skip


def test_retries_stay_frequent_however_long_the_server_is_away(fake_server, connection):
    fake_server.drop()
    assert eventually(lambda: not connection.connected)
    time.sleep(2.5)
    returned = time.monotonic()
    fake_server.listen()
    assert eventually(lambda: connection.connected)
    # The longest pause is 0.5 s and an attempt takes milliseconds; roslibpy's own would be at 7 s by now.
    assert time.monotonic() - returned < 5.0


def test_half_open_link_is_given_up_and_opened_afresh(fake_server, connection):
    connection.advertise("/cmd", STRING)
    fake_server.freeze(module.DEAD_S + 0.8)
    assert eventually(lambda: not connection.connected)
    # Not yet closed, but a silent server gets nothing.
    assert not any(connection.publish("/cmd", {"data": "into the void"}) for _ in range(20))
    assert connection.counters["dropped_silent"] + connection.counters["dropped_disconnected"] == 20
    assert eventually(lambda: fake_server.connections == 2)
    assert eventually(lambda: connection.connected)
    assert ("publish", "/cmd") not in fake_server.operations()


def drive(connection: Connection, messages: int = 12) -> list[str]:
    """A controller at 20 Hz: drive while the link seems fine, else stop. What was handed over."""
    said = []
    while len(said) < messages:
        command = "drive" if connection.connected else "stop"
        if connection.publish("/cmd", {"data": command}):
            said.append(command)
        elif command == "stop":
            break
        time.sleep(0.05)
    return said


def test_a_stalled_server_is_given_nothing_to_deliver_late(fake_server, connection):
    connection.advertise("/cmd", STRING)
    assert eventually(lambda: fake_server.operations() == [("advertise", "/cmd")])
    assert eventually(lambda: time.monotonic() - connection._factory.live.heard_at > 2 * websocket.ASK_S)
    fake_server.freeze(module.SILENT_S + 0.15)
    time.sleep(0.02)
    drive(connection)
    assert eventually(lambda: connection.connected)
    assert delivered(connection, fake_server, "fresh")
    # At most what was waiting for an answer when the server came back, which is `FRESH_S` old.
    assert len([text for text in said(fake_server) if text != "fresh"]) <= math.ceil(module.FRESH_S / 0.05)
    assert connection.counters["dropped_expired"] > 0
    assert fake_server.connections == 1


def test_an_answer_that_waits_keeps_no_old_command_alive(fake_server, connection):
    connection.advertise("/cmd", STRING)
    assert eventually(lambda: time.monotonic() - connection._factory.live.heard_at > 2 * websocket.ASK_S)
    fake_server.freeze(module.SILENT_S)
    time.sleep(0.02)
    assert connection.publish("/cmd", {"data": "old"})
    assert connection.respond("/s", "1", {})
    assert connection.publish("/cmd", {"data": "old as well"})
    assert eventually(lambda: ("service_response", "/s") in fake_server.operations())
    assert ("publish", "/cmd") not in fake_server.operations()
    assert connection.counters["dropped_expired"] == 2


def test_messages_that_wait_for_an_answer_leave_in_order(fake_server, connection):
    connection.advertise("/cmd", STRING)
    assert eventually(lambda: time.monotonic() - connection._factory.live.heard_at > 2 * websocket.ASK_S)
    numbers = [str(number) for number in range(20)]
    for _ in range(20):  # on a busy machine the answer may come too late for some
        fake_server.frames.clear()
        for number in numbers:
            connection.publish("/cmd", {"data": number})
        connection.unadvertise("/cmd")
        assert eventually(lambda: ("unadvertise", "/cmd") in fake_server.operations())
        heard = said(fake_server)
        assert heard == sorted(heard, key=int)
        if heard == numbers:
            return
        connection.advertise("/cmd", STRING)
    raise AssertionError(f"never all of them: {heard}")


def test_what_was_published_before_closing_is_sent(fake_server, connection):
    connection.advertise("/cmd", STRING)
    assert eventually(lambda: time.monotonic() - connection._factory.live.heard_at > 2 * websocket.ASK_S)
    connection.publish("/cmd", {"data": "stop"})
    connection.close()
    assert eventually(lambda: ("publish", "/cmd") in fake_server.operations())


def test_a_server_that_reads_nothing_bounds_what_is_kept_for_it(fake_server, connection):
    connection.advertise("/image", STRING)
    fake_server.freeze(0.6)
    link, kept = connection._factory.live, []
    for _ in range(400):
        connection.publish("/image", {"data": "x" * 50_000})
        kept.append(link._unsent() + link._handed_over)
    # On both sides of the hand-over to the network thread: the limit, and the message that reached it.
    assert max(kept) <= 2 * (websocket.MAX_UNSENT_BYTES + 51_000)
    assert connection.counters["dropped_backpressure"] > 300


def test_pending_calls_fail_when_the_link_is_lost(fake_server, connection):
    outcomes: list[tuple[bool, str]] = []
    assert connection.call("/s", "std_srvs/srv/Trigger", {}, lambda ok, values: outcomes.append((ok, values)))
    fake_server.drop()
    assert eventually(lambda: bool(outcomes))
    assert outcomes[0][0] is False
    assert "connection lost" in outcomes[0][1]
    assert not connection.call("/s", "std_srvs/srv/Trigger", {}, lambda ok, values: None)


def test_unanswered_calls_are_bounded(fake_server, connection):
    sent = [connection.call("/s", "std_srvs/srv/Trigger", {}, lambda *a: None) for _ in range(100)]
    assert sum(sent) == module.MAX_PENDING_CALLS


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, [0.0, math.nan]])
def test_nan_and_infinity_are_refused_before_sending(connection, bad):
    connection.advertise("/x", "std_msgs/msg/Float64")
    with pytest.raises(ValueError, match="/x: NaN or infinity"):
        connection.publish("/x", {"data": bad})


def test_topic_cannot_have_two_types(connection):
    connection.advertise("/x", STRING)
    with pytest.raises(ValueError, match="already used as std_msgs/msg/String"):
        connection.advertise("/x", "std_msgs/msg/Float64")


def test_leaving_one_handler_keeps_the_topic_for_the_other(fake_server, connection):
    first: list[dict] = []
    second: list[dict] = []
    connection.subscribe("/t", STRING, first.append)
    connection.subscribe("/t", STRING, second.append)
    connection.unsubscribe("/t", first.append)
    fake_server.send(publication("a"))
    assert eventually(lambda: len(second) == 1)
    assert first == []
    connection.unsubscribe("/t", second.append)
    assert eventually(lambda: fake_server.operations() == [("subscribe", "/t"), ("unsubscribe", "/t")])


def test_advertising_twice_is_withdrawn_once(fake_server, connection):
    connection.advertise("/t", STRING)
    connection.advertise("/t", STRING)
    connection.unadvertise("/t")
    assert connection.publish("/t", {"data": "still there"})
    assert eventually(lambda: fake_server.operations() == [("advertise", "/t"), ("publish", "/t")])
    connection.unadvertise("/t")
    assert eventually(lambda: fake_server.operations()[-1] == ("unadvertise", "/t"))


def test_unreachable_server_is_one_line_that_says_what_to_do():
    url = f"ws://127.0.0.1:{free_port()}"
    link = Connection(url)
    assert eventually(lambda: bool(link.last_error))
    with pytest.raises(UserError) as failure:
        link.wait_connected(0.1)
    link.close()
    text = str(failure.value)
    assert url in text
    assert "connection refused" in text
    assert "--url" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("reply", "part"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "[401].*token"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "SSH-2.0"),
    ],
)
def test_something_else_on_the_port_is_told_apart(reply, part, capfd):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                client.recv(4096)
                client.sendall(reply)
                client.close()

        threading.Thread(target=answer, daemon=True).start()
        link = Connection(f"ws://127.0.0.1:{listener.getsockname()[1]}")
        assert eventually(lambda: bool(link.last_error))
        with pytest.raises(UserError, match=part.replace("[401]", r"\[401\]")):
            link.wait_connected(0.1)
        link.close()
    assert capfd.readouterr().err == ""


def test_a_handshake_that_drips_is_given_up(monkeypatch):
    monkeypatch.setattr(transport, "CONNECT_TIMEOUT_S", 0.5)
    attempts = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                attempts.append(client)
                try:
                    for byte in b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"y" * 1000:
                        client.sendall(bytes([byte]))
                        time.sleep(0.02)
                except OSError:
                    client.close()

        threading.Thread(target=drip, daemon=True).start()
        link = Connection(f"ws://127.0.0.1:{listener.getsockname()[1]}")
        assert eventually(lambda: len(attempts) > 1)
        link.close()
    assert link.counters["connects"] == 0


def test_connection_closed_while_it_is_still_trying_does_not_come_up_later():
    with FakeServer() as server:
        server.drop()
        link = Connection(server.url)
        link.close()
        server.listen()
        time.sleep(0.7)  # longer than the longest pause between attempts
        assert link.counters["connects"] == 0
        # An attempt that was under way may get through; it leaves at once.
        assert eventually(lambda: server.clients == 0)


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("http://robot:9090", "must read like ws://robot:9090"),
        ("robot:9090", "must read like ws://robot:9090"),
        ("ws://robot:port", "must read like ws://robot:9090"),
        ("ws://", "must read like ws://robot:9090"),
        ("wss://me:secret@robot", "must not hold a secret"),
        ("wss://robot/?token=secret", "must not hold a secret"),
    ],
)
def test_bad_url_is_refused_without_repeating_a_secret(url, part):
    with pytest.raises(UserError, match=part) as failure:
        check_url(url)
    assert "secret@" not in str(failure.value)
    assert "=secret" not in str(failure.value)


def test_token_goes_into_the_header_and_never_over_clear_text(fake_server):
    link = Connection(fake_server.url, token="t0p")
    link.wait_connected()
    link.close()
    assert fake_server.headers["authorization"] == "Bearer t0p"
    with pytest.raises(UserError, match="use a wss:// URL"):
        Connection("ws://robot:9090", token="t0p")


def test_token_comes_from_file_or_environment(tmp_path: Path, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.delenv(TOKEN_FILE_VARIABLE, raising=False)
    assert token_from_environment() is None
    monkeypatch.setenv(TOKEN_VARIABLE, "from-variable")
    assert token_from_environment() == "from-variable"
    file = tmp_path / "token"
    file.write_text("from-file\n")
    monkeypatch.setenv(TOKEN_FILE_VARIABLE, str(file))
    assert token_from_environment() == "from-file"
    file.write_text("two words")
    with pytest.raises(UserError, match="must hold one token"):
        token_from_environment()
