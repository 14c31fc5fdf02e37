"""A signature holds for one artifact, one key, and every byte; openssl agrees on what it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from runtime.onnx_models import tiny_artifact
from runtime.rich_artifact import rich_artifact

from mcsd_agent.cli import main
from mcsd_agent.errors import UserError
from mcsd_agent.runtime.package import read_package
from mcsd_agent.runtime.signature import check_signature, make_keys, sign, signature_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A signed artifact, another one that is not, and a pair of keys."""
    make_keys(tmp_path / "signing.pem")
    (tmp_path / "a.mcsd").write_bytes(tiny_artifact())
    (tmp_path / "b.mcsd").write_bytes(rich_artifact())
    sign(tiny_artifact(), tmp_path / "a.mcsd", tmp_path / "signing.pem")
    return tmp_path


def refusal(artifact: Path, key: Path) -> str:
    with pytest.raises(UserError) as error:
        read_package(artifact, signed_by=key)
    message = str(error.value)
    assert message.isprintable()
    return message


def public(key: object, path: Path) -> Path:
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))  # type: ignore[attr-defined]
    return path


def test_signed_artifact_is_read(folder: Path) -> None:
    package = read_package(folder / "a.mcsd", signed_by=folder / "signing.pub.pem")
    assert package.spec.rate_hz == 10.0


def test_signing_leaves_the_artifact_as_it_was(folder: Path) -> None:
    assert (folder / "a.mcsd").read_bytes() == tiny_artifact()
    assert len(signature_path(folder / "a.mcsd").read_bytes()) == 64


def test_both_halves_have_one_fingerprint(folder: Path) -> None:
    signed = sign(tiny_artifact(), folder / "a.mcsd", folder / "signing.pem")
    assert check_signature(tiny_artifact(), folder / "a.mcsd", folder / "signing.pub.pem") == signed


def test_unsigned_artifact_is_refused(folder: Path) -> None:
    message = refusal(folder / "b.mcsd", folder / "signing.pub.pem")
    assert "is not signed" in message
    assert "mcsd-agent sign" in message


def test_signature_of_another_artifact_is_refused(folder: Path) -> None:
    shutil.copy(signature_path(folder / "a.mcsd"), signature_path(folder / "b.mcsd"))
    assert "was not signed with the key" in refusal(folder / "b.mcsd", folder / "signing.pub.pem")


def test_another_artifact_under_the_signed_name_is_refused(folder: Path) -> None:
    """A valid artifact in place of the signed one, every hash in it right."""
    (folder / "a.mcsd").write_bytes(tiny_artifact(rate_hz=20.0))
    assert "was altered since" in refusal(folder / "a.mcsd", folder / "signing.pub.pem")


@pytest.mark.parametrize("position", [0, 40, 2000, -1])
def test_altered_byte_is_refused_before_it_is_looked_at(folder: Path, position: int) -> None:
    data = bytearray(tiny_artifact())
    data[position] ^= 1
    (folder / "a.mcsd").write_bytes(data)
    assert "was altered since" in refusal(folder / "a.mcsd", folder / "signing.pub.pem")


def test_key_of_somebody_else_is_refused(folder: Path) -> None:
    other = make_keys(folder / "other.pem")
    assert "was not signed with the key" in refusal(folder / "a.mcsd", other)


@pytest.mark.parametrize("content", [b"", b"x" * 63, b"x" * 65, b"x" * (1 << 17)])
def test_file_that_is_no_signature_is_refused(folder: Path, content: bytes) -> None:
    signature_path(folder / "a.mcsd").write_bytes(content)
    message = refusal(folder / "a.mcsd", folder / "signing.pub.pem")
    assert "no ed25519 signature" in message or "larger than" in message


def test_truncated_key_is_refused(folder: Path) -> None:
    key = folder / "signing.pub.pem"
    key.write_bytes(key.read_bytes()[:60])
    assert "no readable public key" in refusal(folder / "a.mcsd", key)


def test_private_key_in_place_of_the_public_one_is_refused(folder: Path) -> None:
    assert "keep the private one off the robot" in refusal(folder / "a.mcsd", folder / "signing.pem")


def test_keys_of_other_types_are_refused(folder: Path) -> None:
    for key in (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256R1())):
        assert "not of type ed25519" in refusal(folder / "a.mcsd", public(key, folder / "k.pem"))
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "p.pem").write_bytes(private)
        with pytest.raises(UserError, match="not of type ed25519"):
            sign(tiny_artifact(), folder / "a.mcsd", folder / "p.pem")


def test_signing_with_a_public_or_an_encrypted_key_says_so(folder: Path) -> None:
    with pytest.raises(UserError, match="is a public key; signing needs the private one"):
        sign(tiny_artifact(), folder / "a.mcsd", folder / "signing.pub.pem")
    key = ed25519.Ed25519PrivateKey.generate()
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    (folder / "locked.pem").write_bytes(locked)
    with pytest.raises(UserError, match="is encrypted"):
        sign(tiny_artifact(), folder / "a.mcsd", folder / "locked.pem")


def test_missing_key_is_named(folder: Path) -> None:
    assert "'nowhere.pem': No such file" in refusal(folder / "a.mcsd", Path("nowhere.pem"))


def test_keys_are_private_and_never_overwritten(folder: Path) -> None:
    assert (folder / "signing.pem").stat().st_mode & 0o077 == 0
    before = (folder / "signing.pem").read_bytes()
    with pytest.raises(UserError, match="never overwritten"):
        make_keys(folder / "signing.pem")
    (folder / "signing.pub.pem").unlink()
    with pytest.raises(UserError, match="never overwritten"):
        make_keys(folder / "signing.pem")
    assert (folder / "signing.pem").read_bytes() == before


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_makes_and_checks_the_same_files(folder: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    both = ("-rawin", "-in", "a.mcsd")
    openssl("pkeyutl", "-verify", "-pubin", "-inkey", "signing.pub.pem", *both, "-sigfile", "a.mcsd.sig")
    openssl("genpkey", "-algorithm", "ed25519", "-out", "theirs.pem")
    openssl("pkey", "-in", "theirs.pem", "-pubout", "-out", "theirs.pub.pem")
    openssl("pkeyutl", "-sign", "-inkey", "theirs.pem", *both, "-out", "a.mcsd.sig")
    read_package(folder / "a.mcsd", signed_by=folder / "theirs.pub.pem")


def test_commands_make_keys_sign_and_verify(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact, key = str(folder / "b.mcsd"), str(folder / "mine.pem")
    shared = str(folder / "mine.pub.pem")
    assert main(["keygen", key]) == 0
    assert main(["inspect", artifact, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["signature"] == "none"
    assert main(["sign", artifact, "--key", key]) == 0
    assert main(["verify", artifact, "--key", shared, "--json"]) == 0
    fingerprint = json.loads(capsys.readouterr().out.splitlines()[-1])["key"]
    assert main(["inspect", artifact, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["signature"] == "present, not checked: give --key"
    assert main(["inspect", artifact, "--key", shared]) == 0
    assert f"signature: valid, by key {fingerprint}" in capsys.readouterr().out
    assert main(["verify", artifact, "--key", str(folder / "signing.pub.pem")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["keygen", "mine"]) == 2


def test_altered_artifact_is_not_signed(folder: Path) -> None:
    (folder / "b.mcsd").write_bytes(rich_artifact()[:-1] + b"!")
    assert main(["sign", str(folder / "b.mcsd"), "--key", str(folder / "signing.pem")]) == 2
    assert not signature_path(folder / "b.mcsd").exists()


def test_run_refuses_what_is_not_signed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    robot = Path(__file__).parent.parent.parent / "configs/robots/diffdrive.yaml"
    options = ["--robot", str(robot), "--require-signature", str(folder / "signing.pub.pem")]
    assert main(["run", str(folder / "b.mcsd"), *options]) == 2
    assert "is not signed" in capsys.readouterr().err
    shutil.copy(signature_path(folder / "a.mcsd"), signature_path(folder / "b.mcsd"))
    assert main(["run", str(folder / "b.mcsd"), *options]) == 2
    assert "was not signed with the key" in capsys.readouterr().err


def test_without_the_package_it_says_what_to_install(folder: Path) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from mcsd_agent.runtime import read_package\n"
        "read_package(sys.argv[1])\n"
        "read_package(sys.argv[1], signed_by=sys.argv[2])\n"
    )
    command = [sys.executable, "-c", code, str(folder / "a.mcsd"), str(folder / "signing.pub.pem")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert "signatures need the package cryptography; pip install 'mcsd-agent[robot]'" in result.stderr
