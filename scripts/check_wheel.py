"""Check that a wheel holds every file of the package that the repository holds: `check_wheel.py WHEEL`."""

import subprocess
import sys
from zipfile import ZipFile


def main(wheel: str) -> int:
    listed = subprocess.run(["git", "ls-files", "logsvc"], check=True, capture_output=True, text=True).stdout
    missing = sorted(set(listed.split()) - set(ZipFile(wheel).namelist()))
    for name in missing:
        print(f"{wheel} lacks {name}: see package-data in pyproject.toml")
    print(f"{wheel}: {len(listed.split())} files, {len(missing)} missing")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
