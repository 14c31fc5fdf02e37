"""How a `wss://` server is checked, and how we show who we are."""

from __future__ import annotations

import logging
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from mcsd_agent.errors import UserError

LOGGER = logging.getLogger("ros_bridge")

CA_FILE_VARIABLE = "MCSD_ROSBRIDGE_CA_FILE"
CERTIFICATE_VARIABLE = "MCSD_ROSBRIDGE_CLIENT_CERTIFICATE"
KEY_VARIABLE = "MCSD_ROSBRIDGE_CLIENT_KEY"
VERIFY_VARIABLE = "MCSD_ROSBRIDGE_TLS_VERIFY"


@dataclass(frozen=True)
class Tls:
    """Settings of the encrypted link.

    Attributes:
        verify: False accepts any server, also one that only says it is the robot; every connection then warns.
        ca_file: PEM file of the authorities that may vouch for the server; None: those of the system.
        certificate: PEM file of the client's certificate, for servers that ask for one; may hold the key as well.
        key: PEM file of the client's private key, without a password; None: in `certificate`.
    """

    verify: bool = True
    ca_file: str | None = None
    certificate: str | None = None
    key: str | None = None

    @classmethod
    def from_environment(cls) -> Tls:
        """From `MCSD_ROSBRIDGE_CA_FILE`, `..._CLIENT_CERTIFICATE`, `..._CLIENT_KEY` and `..._TLS_VERIFY` (on, off)."""
        verify = os.environ.get(VERIFY_VARIABLE, "on")
        if verify not in ("on", "off"):
            raise UserError(f"{VERIFY_VARIABLE}={verify!r} must be on or off")
        files = (os.environ.get(v) or None for v in (CA_FILE_VARIABLE, CERTIFICATE_VARIABLE, KEY_VARIABLE))
        return cls(verify == "on", *files)

    def context(self) -> ssl.SSLContext:
        """A client's context, TLS 1.2 or newer; `UserError` for a file that cannot be used."""
        for what, path in (("CA", self.ca_file), ("client certificate", self.certificate), ("client key", self.key)):
            if path is not None and not Path(path).is_file():
                raise UserError(f"{what} file {path!r} does not exist; give the path of a PEM file")
        if self.key is not None and self.certificate is None:
            raise UserError(f"client key {self.key!r} is without a certificate; name one in {CERTIFICATE_VARIABLE}")
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (ssl.SSLError, OSError) as error:
            raise UserError(f"CA file {self.ca_file!r} is no PEM file of certificates: {error}") from None
        if self.certificate is not None:
            try:
                # Never ask at the terminal: a robot has none.
                context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
            except (ssl.SSLError, OSError, ValueError) as error:
                hint = "give a PEM file with the certificate and, here or in a second file, its key without a password"
                raise UserError(f"client certificate {self.certificate!r} cannot be used ({error}); {hint}") from None
        if not self.verify:
            LOGGER.warning(
                "TLS verification is off: whoever answers is taken for the robot's server, and can read the token;"
                " name your authority in %s instead",
                CA_FILE_VARIABLE,
            )
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
