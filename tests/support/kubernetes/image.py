"""Make a container image of a few static programs, as an archive that containerd imports.

    image.py OUT REFERENCE ENTRYPOINT SOURCE:TARGET[:LINK,…]…

An empty ENTRYPOINT is none. LINKs are symbolic links beside TARGET. The format is that of `docker save`.
"""

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

FOLDERS = {"bin": 0o755, "etc": 0o755, "proc": 0o755, "sys": 0o755, "dev": 0o755, "var": 0o755, "tmp": 0o1777}
PASSWD = b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", mode: int = 0o644, **fields: object) -> None:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.mode, entry.size = mode, len(data)
    for field, value in fields.items():
        setattr(entry, field, value)
    archive.addfile(entry, io.BytesIO(data))


def layer_of(files: list[str]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as layer:
        for folder, mode in FOLDERS.items():
            add(layer, folder, mode=mode, type=tarfile.DIRTYPE)
        add(layer, "etc/passwd", PASSWD)
        for file in files:
            source, target, *links = file.split(":")
            add(layer, target, Path(source).read_bytes(), 0o755)
            for link in filter(None, ",".join(links).split(",")):
                name = str(Path(target).with_name(link))
                add(layer, name, mode=0o777, type=tarfile.SYMTYPE, linkname=Path(target).name)
    return written.getvalue()


def main(out: str, reference: str, entrypoint: str, *files: str) -> None:
    layer = layer_of([*files])
    digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": [entrypoint] if entrypoint else None, "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    name = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{name}.json", "RepoTags": [reference], "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(out, "w") as archive:
        add(archive, f"{name}.json", config)
        add(archive, f"{digest}/layer.tar", layer)
        add(archive, "manifest.json", json.dumps(manifest).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
