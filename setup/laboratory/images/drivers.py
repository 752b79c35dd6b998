"""Gets real NVIDIA libraries for the lab, in two versions, from Debian's archive. No GPU is needed.

They stand in Debian's components contrib and non-free, which this machine's own sources need not
have: the same places are asked with these components, through lists of our own. Several lines of
the driver stand there side by side: the newest of each is a candidate, and two are taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from laboratory.images import package_lists, recipes
from laboratory.images.cache import Image, ensure, key_of
from laboratory.progress import ProgressLines
from state.command import run
from state.errors import LxcGpuError

PARTS = ("lib{}cuda1", "lib{}ml1", "lib{}ptxjitcompiler1", "{}smi")
"""The packages of a line, with `{}` for the line's name: `nvidia-tesla-470-`, or `nvidia-`."""
COMPONENTS = "contrib non-free"
# apt as on this machine, but with other lists and sources
CONFIGURATION = """
Dir::State::Lists "{folder}/lists";
Dir::Cache "{folder}/cache";
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "-";
APT::Sandbox::User "root";
"""


@dataclass(frozen=True)
class Offer:
    """One version of one line of the driver, as the archive has it."""

    line: str
    """What its packages' names have in common: `nvidia-`, `nvidia-tesla-470-`."""
    package: str
    """The packages' version, e.g. 535.261.03-1."""

    @property
    def version(self) -> str:
        """The driver's version, e.g. 535.261.03."""
        return re.split(r"[-+~]", self.package)[0]

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages to download, as apt-get takes them."""
        return tuple(f"{name}={self.package}" for name in packages_of(self.line))


def packages_of(line: str) -> tuple[str, ...]:
    """The names of a line's packages. CUDA is called libcuda1 in the line without a name."""
    names = tuple(part.format(line) for part in PARTS)
    return ("libcuda1", *names[1:]) if line == "nvidia-" else names


def by_number(version: str) -> tuple[int, ...]:
    """Sorts versions of the driver by their numbers, the oldest first."""
    return tuple(int(number) for number in version.split("."))


def lines_among(names: Iterable[str]) -> tuple[str, ...]:
    """The lines all of whose packages are among these names."""
    found = set(names)
    cuda = (re.fullmatch(r"lib(nvidia-.+-)?cuda1", name) for name in found)
    lines = {match[1] or "nvidia-" for match in cuda if match}
    return tuple(sorted(line for line in lines if found.issuperset(packages_of(line))))


def offers_in(listing: str, line: str) -> tuple[Offer, ...]:
    """The offers of a line by `apt-cache madison`: the versions that all its packages have."""
    versions: dict[str, set[str]] = {name: set() for name in packages_of(line)}
    for row in listing.splitlines():
        name, package, _ = (word.strip() for word in row.split("|", 2))
        versions[name].add(package)
    offers = (Offer(line, package) for package in set.intersection(*versions.values()))
    return tuple(sorted(offers, key=lambda offer: by_number(offer.version), reverse=True))


def choose(offers: Sequence[Sequence[Offer]]) -> tuple[Offer, ...]:
    """Two offers of different versions, the newer first; only one, if all are of one version.

    `offers` are those of each line, the newest first. The newest of each line come before others,
    so that what is taken differs as much as two lines do.
    """
    newest = [of_line[0] for of_line in offers if of_line]
    others = [offer for of_line in offers for offer in of_line[1:]]
    chosen: dict[str, Offer] = {}
    for group in (newest, others):
        for offer in sorted(group, key=lambda each: by_number(each.version), reverse=True):
            if len(chosen) < 2:
                chosen.setdefault(offer.version, offer)
    return tuple(sorted(chosen.values(), key=lambda each: by_number(each.version), reverse=True))


def older(version: str) -> str:
    """An invented older version."""
    first, _, rest = version.partition(".")
    return f"{int(first) - 1}.{rest}"


def copy_as(folder: Path, version: str, other: str) -> Path:
    """Copy a version's folder, renaming it, and the files and links in it, to another version.

    What the files contain stays: they call themselves `version` still.
    """
    made = folder.with_name(other)
    made.mkdir()
    for file in folder.iterdir():
        copy = made / file.name.replace(version, other)
        if file.is_symlink():
            copy.symlink_to(str(file.readlink()).replace(version, other))
        else:
            run(["cp", "-p", file, copy])
    return made


def versions(progress: ProgressLines) -> tuple[str, ...]:
    """The two versions that `libraries` has, the older one first."""
    return tuple(sorted((each.name for each in libraries(progress).iterdir()), key=by_number))


def libraries(progress: ProgressLines) -> Path:
    """A folder for each version, named by it, with its libraries and nvidia-smi; in the cache.

    The libraries stand in the folder itself, as Debian's packages have them below
    /usr/lib/.../nvidia/LINE, links included.
    """
    package_lists.fetch(progress)
    key = key_of(recipes.own_sources(), Path(__file__))
    return ensure(Image("nvidia", key, lambda made: _download(made, progress)), progress)


def _download(made: Path, progress: ProgressLines) -> None:
    apt = made / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True)
    sources = {tuple(line.split()[:2]) for line in recipes.own_sources().splitlines()[1:]}
    lines = [f"deb {site} {release} {COMPONENTS}\n" for site, release in sorted(sources)]
    (apt / "sources.list").write_text("".join(lines))
    (apt / "conf").write_text(CONFIGURATION.format(folder=apt))
    env = {"APT_CONFIG": str(apt / "conf")}
    run(["apt-get", "-q", "update"], env=env, timeout=recipes.LONG)
    names = run(["apt-cache", "pkgnames"], env=env).stdout.split()
    offers = [
        offers_in(run(["apt-cache", "madison", *packages_of(line)], env=env).stdout, line)
        for line in lines_among(names)
    ]
    chosen = choose(offers)
    if not chosen:
        raise LxcGpuError(
            "lab-nvidia",
            "The archive has no NVIDIA libraries for the lab.",
            f"Asked were contrib and non-free of: {', '.join(' '.join(s) for s in sources)}.",
        )
    for offer in chosen:
        _unpack(made / offer.version, offer, env)
        packages = ", ".join(packages_of(offer.line))
        progress.say(f"- NVIDIA {offer.version}: {packages} {offer.package}")
    if len(chosen) == 1:
        version = chosen[0].version
        copy_as(made / version, version, older(version))
        progress.say(f"- NVIDIA {older(version)}: made of {version}, the archive's only version")
    run(["rm", "-rf", apt])


def _unpack(into: Path, offer: Offer, env: dict[str, str]) -> None:
    """The libraries and nvidia-smi of an offer, in the folder `into`."""
    unpacked = into / "unpacked"
    unpacked.mkdir(parents=True)
    download = ["apt-get", "-q", "download", *offer.packages]
    run(download, env=env, cwd=unpacked, timeout=recipes.LONG)
    for archive in unpacked.glob("*.deb"):
        run(["dpkg-deb", "-x", archive, unpacked])
    for file in unpacked.glob("usr/lib/**/nvidia/*/*"):
        if file.suffix != ".gz":
            file.rename(into / file.name)
    run(["rm", "-rf", unpacked])
