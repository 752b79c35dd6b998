"""Real NVIDIA libraries for the lab, in two versions, out of Debian's archive; no GPU is needed.

They stand in Debian's components contrib and non-free, which this machine's own sources need not
have: the same places are asked with these components, through lists of our own.
"""

from __future__ import annotations

import re
from pathlib import Path

from laboratory.images import recipes
from laboratory.images.cache import Image, ensure, key_of
from laboratory.progress import Progress
from state.command import run

PACKAGES = ("libcuda1", "libnvidia-ml1", "nvidia-smi", "libnvidia-ptxjitcompiler1")
COMPONENTS = "contrib non-free"
# apt as this machine has it, but for its lists and sources.
CONFIGURATION = """
Dir::State::Lists "{folder}/lists";
Dir::Cache "{folder}/cache";
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "-";
APT::Sandbox::User "root";
"""


def libraries(progress: Progress) -> Path:
    """A folder for each version, named by it, with its packages unpacked; kept in the cache."""
    key = key_of(recipes.own_sources(), Path(__file__))
    return ensure(Image("nvidia", key, _download), progress)


def _download(made: Path) -> None:
    apt = made / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True)
    sources = {tuple(line.split()[:2]) for line in recipes.own_sources().splitlines()[1:]}
    lines = [f"deb {site} {release} {COMPONENTS}\n" for site, release in sorted(sources)]
    (apt / "sources.list").write_text("".join(lines))
    (apt / "conf").write_text(CONFIGURATION.format(folder=apt))
    env = {"APT_CONFIG": str(apt / "conf")}
    run(["apt-get", "-q", "update"], env=env, timeout=recipes.LONG)
    policy = run(["apt-cache", "madison", PACKAGES[0]], env=env).stdout
    for package in sorted({line.split("|")[1].strip() for line in policy.splitlines()}):
        version = re.split(r"[-+~]", package)[0]
        into = made / version
        into.mkdir()
        wanted = [f"{name}={package}" for name in PACKAGES]
        run(["apt-get", "-q", "download", *wanted], env=env, cwd=into, timeout=recipes.LONG)
        for archive in into.glob("*.deb"):
            run(["dpkg-deb", "-x", archive, into])
            archive.unlink()
    run(["rm", "-rf", apt])
