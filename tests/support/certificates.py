"""Certificates for tests of TLS, made by openssl."""

import ssl
import subprocess
from pathlib import Path


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def authority(folder: Path, name: str) -> tuple[Path, Path]:
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
            "-out", certificate, "-days", "2", "-subj", f"/CN={name}",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    return key, certificate


def signed(folder: Path, name: str, ca_key: Path, ca: Path) -> Path:
    """Key and certificate in one file, for 127.0.0.1."""
    key, request, certificate, both = (folder / f"{name}.{end}" for end in ("key", "csr", "crt", "both.pem"))
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request,
            "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")  # fmt: skip
    openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-out", certificate, "-days", "2",
            "-copy_extensions", "copy")  # fmt: skip
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both


def serving(certificate: Path) -> ssl.SSLContext:
    """For a server that has this certificate, with its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
