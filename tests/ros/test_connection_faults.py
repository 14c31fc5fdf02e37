"""What a connection does when the server or the network misbehaves, against a server that does so on request."""

from __future__ import annotations

import datetime
import math
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_server import FakeServer, eventually

from mcsd_agent.errors import UserError
from ros_bridge import connection as module
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


def test_failing_handler_does_not_stop_the_others(fake_server, connection):
    got: list[dict] = []

    def broken(message: dict) -> None:
        raise RuntimeError("bug")

    connection.subscribe("/t", STRING, broken)
    connection.subscribe("/t", STRING, got.append)
    fake_server.send(publication("a"))
    assert eventually(lambda: got == [{"data": "a"}])
    assert connection.counters["handler_errors"] == 1


def test_nothing_published_while_down_is_sent_later(fake_server, connection):
    connection.advertise("/cmd", STRING)
    assert connection.publish("/cmd", {"data": "before"})
    assert eventually(lambda: ("publish", "/cmd") in fake_server.operations())
    fake_server.drop()
    assert eventually(lambda: not connection.connected)
    assert not any(connection.publish("/cmd", {"data": "stale"}) for _ in range(50))
    assert connection.counters["dropped_disconnected"] == 50
    fake_server.listen()
    assert eventually(lambda: connection.connected)
    assert connection.publish("/cmd", {"data": "fresh"})
    assert eventually(lambda: fake_server.frames[-1][1].get("msg") == {"data": "fresh"})
    said = [f["msg"]["data"] for _, f in fake_server.frames if f["op"] == "publish"]
    assert said == ["before", "fresh"]


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
    assert time.monotonic() - returned < 2.0


def test_half_open_link_is_given_up_and_opened_afresh(fake_server, connection):
    connection.advertise("/cmd", STRING)
    fake_server.freeze(module.DEAD_S + 0.8)
    assert eventually(lambda: not connection.connected, 2.0)
    # Not yet closed, but a silent server gets no more than the last words: a stop.
    sent = [connection.publish("/cmd", {"data": "into the void"}) for _ in range(20)]
    assert sum(sent) <= module.LAST_WORDS
    assert connection.counters["dropped_silent"] + connection.counters["dropped_disconnected"] == 20 - sum(sent)
    assert eventually(lambda: fake_server.connections == 2)
    assert eventually(lambda: connection.connected)
    assert len([f for _, f in fake_server.frames if f["op"] == "publish"]) <= sum(sent)


def test_commands_that_a_stalled_server_holds_end_with_the_stop(fake_server, connection):
    connection.advertise("/cmd", STRING)
    assert eventually(lambda: fake_server.operations() == [("advertise", "/cmd")])
    fake_server.freeze(module.DEAD_S - 0.3)
    time.sleep(0.05)
    said = []
    while len(said) < 12:  # a controller: drive while the link seems fine, else stop
        command = "drive" if connection.connected else "stop"
        if connection.publish("/cmd", {"data": command}):
            said.append(command)
        elif command == "stop":
            break
        time.sleep(0.05)
    assert eventually(lambda: len(fake_server.frames) == 1 + len(said))
    received = [f["msg"]["data"] for _, f in fake_server.frames if f["op"] == "publish"]
    assert received == said
    assert received[0] == "drive"
    assert received[-1] == "stop"
    assert fake_server.connections == 1


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
    with pytest.raises(UserError) as failure:
        link.wait_connected(0.5)
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
        with pytest.raises(UserError, match=part.replace("[401]", r"\[401\]")):
            link.wait_connected(0.4)
        link.close()
    assert capfd.readouterr().err == ""


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


def test_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_self_signed(tmp_path))
    with FakeServer(tls=context) as server:
        link = Connection(server.url)
        with pytest.raises(UserError, match="certificate is not trusted"):
            link.wait_connected(1.0)
        link.close()
        assert server.connections == 0


def test_certificate_that_is_vouched_for_is_accepted(tmp_path: Path, monkeypatch):
    certificate = _self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with FakeServer(tls=context) as server:
        link = Connection(server.url)
        link.wait_connected()
        link.close()


def _self_signed(folder: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "server.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
