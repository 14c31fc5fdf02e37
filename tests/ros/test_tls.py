"""wss:// against real TLS servers, with an authority made here; and the token, which nobody may find in a log."""

from __future__ import annotations

import datetime
import ipaddress
import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import txaio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fake_server import FakeServer, eventually

from mcsd_agent.errors import UserError
from ros_bridge.connection import Connection
from ros_bridge.tls import CA_FILE_VARIABLE, CERTIFICATE_VARIABLE, KEY_VARIABLE, VERIFY_VARIABLE, Tls

TOKEN = "t0p-s3cret-t0ken"


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._build(self._name, self._key.public_key(), is_authority=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, days: int = 1, password: bytes | None = None) -> tuple[Path, Path]:
        """The PEM files of a certificate for the host or client `name`, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._build(subject, key.public_key(), host=name, days=days)
        files = self._folder / f"{name}-{days}.crt", self._folder / f"{name}-{days}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
        files[1].write_bytes(private)
        return files

    def _build(
        self, subject: x509.Name, key: Any, *, host: str = "", days: int = 1, is_authority: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=10))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if host:
            names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.2"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (CA_FILE_VARIABLE, CERTIFICATE_VARIABLE, KEY_VARIABLE, VERIFY_VARIABLE, "SSL_CERT_FILE"):
        monkeypatch.delenv(variable, raising=False)


def server_with(certificate: tuple[Path, Path], clients: Path | None = None) -> FakeServer:
    """A TLS server; with `clients`, it wants a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return FakeServer(tls=context)


def connects(server: FakeServer, tls: Tls | None = None) -> str:
    """ "" when the link came up and stayed for a moment, else why not."""
    link = Connection(server.url, tls=tls)
    try:
        assert eventually(lambda: link.connected or bool(link.last_error))
        link.wait_connected(0.0)
        # TLS 1.3 tells a client that its certificate is refused after the handshake.
        time.sleep(0.05)
        return "" if link.connected else link.last_error
    except UserError as error:
        return str(error)
    finally:
        link.close()


@pytest.mark.parametrize(
    ("host", "days", "own_authority", "reason"),
    [
        ("localhost", 1, True, ""),
        ("localhost", 1, False, "not trusted"),
        ("localhost", -1, True, "expired"),
        ("elsewhere", 1, True, "not valid for 'localhost'"),
    ],
)
def test_server_is_checked(authority, host, days, own_authority, reason, monkeypatch):
    with server_with(authority.issue(host, days=days)) as server:
        if own_authority:
            monkeypatch.setenv(CA_FILE_VARIABLE, str(authority.file))
        said = connects(server)
        assert reason in said
        assert bool(said) == bool(reason)
        assert server.connections == (0 if reason else 1)


def test_certificate_of_the_system_is_accepted(authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with server_with(authority.issue("localhost")) as server:
        assert connects(server) == ""


def test_client_shows_its_certificate(authority, monkeypatch):
    certificate, key = authority.issue("edge")
    with server_with(authority.issue("localhost"), clients=authority.file) as server:
        assert connects(server, Tls(ca_file=str(authority.file))) != ""
        assert connects(server, Tls(ca_file=str(authority.file), certificate=str(certificate), key=str(key))) == ""
        monkeypatch.setenv(CA_FILE_VARIABLE, str(authority.file))
        monkeypatch.setenv(CERTIFICATE_VARIABLE, str(certificate))
        monkeypatch.setenv(KEY_VARIABLE, str(key))
        assert connects(server) == ""


def test_client_of_another_authority_is_refused(authority, tmp_path):
    certificate, key = Authority(tmp_path, "somebody else").issue("edge")
    with server_with(authority.issue("localhost"), clients=authority.file) as server:
        tls = Tls(ca_file=str(authority.file), certificate=str(certificate), key=str(key))
        assert connects(server, tls) != ""


def test_checks_can_be_switched_off_and_every_connection_says_so(authority, monkeypatch, caplog):
    with server_with(authority.issue("elsewhere")) as server:
        monkeypatch.setenv(VERIFY_VARIABLE, "off")
        assert connects(server) == ""
        assert connects(server) == ""
    assert [r.levelname for r in caplog.records if "TLS verification is off" in r.message] == ["WARNING"] * 2


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        (lambda a: Tls(ca_file="/nowhere.pem"), "CA file '/nowhere.pem' does not exist"),
        (lambda a: Tls(certificate="/nowhere.pem"), "client certificate file '/nowhere.pem' does not exist"),
        (lambda a: Tls(key=str(a.issue("c")[1])), "is without a certificate"),
        (lambda a: Tls(ca_file=str(a.issue("c")[1])), "no PEM file of certificates"),
        (lambda a: Tls(certificate=str(a.issue("c")[0])), "cannot be used"),
        (lambda a: Tls(certificate=str(a.issue("c")[0]), key=str(a.issue("d")[1])), "cannot be used"),
        (
            lambda a: Tls(certificate=str(a.issue("c")[0]), key=str(a.issue("c", days=2, password=b"x")[1])),
            "without a password",
        ),
    ],
)
def test_files_that_cannot_be_used_are_named(authority, tls: Callable[[Authority], Tls], reason):
    with pytest.raises(UserError, match=reason) as failure:
        Connection("wss://robot.example", tls=tls(authority))
    assert "\n" not in str(failure.value)


def test_switch_knows_two_words(monkeypatch):
    monkeypatch.setenv(VERIFY_VARIABLE, "false")
    with pytest.raises(UserError, match="must be on or off"):
        Connection("wss://robot.example")


def test_token_is_in_no_log_error_or_representation(authority, caplog):
    caplog.set_level(logging.NOTSET)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.NOTSET, logger=name)
    before = txaio.get_global_log_level()
    txaio.set_global_log_level("trace")
    try:
        with server_with(authority.issue("localhost")) as server:
            good = Connection(server.url, token=TOKEN, tls=Tls(ca_file=str(authority.file)))
            good.wait_connected()
            assert server.headers["authorization"] == f"Bearer {TOKEN}"
            good.advertise("/t", "std_msgs/msg/String")
            server.send(b"{nonsense")
            server.send({"op": "status", "level": "error", "msg": "no"})
            assert eventually(lambda: good.counters["status_errors"] == 1)
            server.drop()
            assert eventually(lambda: not good.connected)
            bad = Connection(server.url, token=TOKEN)
            with pytest.raises(UserError) as failure:
                bad.wait_connected(0.3)
            shown = [repr(good), str(good), str(good.counts()), good.last_error, bad.last_error, str(failure.value)]
            shown += [repr(vars(link)) for link in (good, bad)]
            for link in (good, bad):
                link.close()
    finally:
        txaio.set_global_log_level(before)
    with pytest.raises(UserError) as failure:
        Connection("ws://robot.example", token=TOKEN)
    ours = [record for record in caplog.records if "ServerProtocol" not in record.name]
    shown += [repr(failure.value), *(record.getMessage() for record in ours)]
    assert len(ours) > 3
    assert not [text for text in shown if TOKEN in text]
