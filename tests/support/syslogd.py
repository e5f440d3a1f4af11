"""rsyslog and syslog-ng as they come from Debian, each a process of a test that writes what it gets to a file.

Both are unpacked, not installed: see scripts/receivers.sh.
"""

import os
import platform
from pathlib import Path

from tests.support.ports import free_port
from tests.support.program import Program
from tests.support.tcp import listens
from tests.support.wait import until

_MACHINE = f"{platform.machine()}-linux-gnu"


def _installed() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "logsvc" / "receivers"
    assert (folder / ".complete").exists(), f"no rsyslog in {folder}: scripts/receivers.sh gets it"
    return folder


class Syslogd(Program):
    """A syslog server on a TCP port that it keeps, with TLS where there is a certificate (key and certificate)."""

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.certificate = certificate
        self.root = _installed()
        self.file = folder / "received"
        (folder / "config").write_text(self.configuration())

    def configuration(self) -> str:
        raise NotImplementedError

    @property
    def environment(self) -> dict[str, str]:
        libraries = [f"usr/lib/{_MACHINE}", f"lib/{_MACHINE}", "usr/lib/syslog-ng"]
        return {**super().environment, "LD_LIBRARY_PATH": ":".join(str(self.root / name) for name in libraries)}

    @property
    def url(self) -> str:
        return f"syslog{'+tls' if self.certificate else ''}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until it listens."""
        self.launch()
        await until(self._listens, what=f"{self.command[0]} listens")

    def _listens(self) -> bool:
        assert self.running, self.stderr
        return listens(self.port)

    def received(self) -> list[list[bytes]]:
        """Host, source, dyno, message id and text of each message."""
        if not self.file.exists():
            return []
        return [line.split(b"\x1f") for line in self.file.read_bytes().split(b"\n")[:-1]]


class Rsyslog(Syslogd):
    """rsyslogd with imtcp."""

    @property
    def command(self) -> list[str]:
        modules = str(self.root / "usr/lib" / _MACHINE / "rsyslog")
        names = {"-f": "config", "-i": "pid"}
        own = [part for flag, name in names.items() for part in (flag, str(self.folder / name))]
        return [str(self.root / "usr/sbin/rsyslogd"), "-n", "-M", modules, *own]

    def configuration(self) -> str:
        tls = ""
        files = ""
        if self.certificate is not None:
            files = (
                f'defaultNetstreamDriverCertFile="{self.certificate}" '
                f'defaultNetstreamDriverKeyFile="{self.certificate}"'
            )
            tls = ' StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="anon"'
        fields = "hostname%\x1f%app-name%\x1f%procid%\x1f%msgid%\x1f%msg"
        return f"""
global(workDirectory="{self.folder}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off" {files})
module(load="imtcp"{tls})
input(type="imtcp" address="127.0.0.1" port="{self.port}" ruleset="all")
template(name="row" type="string" string="%{fields}%\\n")
ruleset(name="all") {{ action(type="omfile" file="{self.file}" template="row") }}
"""


class SyslogNg(Syslogd):
    """syslog-ng with the driver for RFC 5424."""

    @property
    def command(self) -> list[str]:
        names = {"-f": "config", "-R": "persist", "-p": "pid", "-c": "control"}
        own = [part for flag, name in names.items() for part in (flag, str(self.folder / name))]
        modules = self.root / "usr/lib/syslog-ng/3.38"
        return [str(self.root / "usr/sbin/syslog-ng"), "-F", "--no-caps", f"--module-path={modules}", *own]

    def configuration(self) -> str:
        transport = 'transport("tcp")'
        if self.certificate is not None:
            files = f'key-file("{self.certificate}") cert-file("{self.certificate}")'
            transport = f'transport("tls") tls({files} peer-verify(optional-untrusted))'
        fields = "${HOST}\x1f${PROGRAM}\x1f${PID}\x1f${MSGID}\x1f${MSG}"
        return f"""@version: 3.38
options {{ keep-hostname(yes); use-dns(no); log-msg-size(65536); }};
source in {{ syslog(ip("127.0.0.1") port({self.port}) {transport}); }};
destination out {{ file("{self.file}" template("{fields}\\n") flush-lines(0)); }};
log {{ source(in); destination(out); }};
"""
