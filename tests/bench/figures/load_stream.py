"""What the load stream costs its server: CPU time in 100 s, which is percent of one core."""

from __future__ import annotations

from collections.abc import Iterator

from laboratory.hosts import Host, Lab

from tests.bench.measure import Figure

SECONDS = 60
MORE = 2000
MEASURE = f"""
import os, pathlib, subprocess, sys, time
def cpu(root):
    parents, spent = dict(), dict()
    for each in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (each / "stat").read_text("latin-1").rpartition(")")[2].split()
            parents[int(each.name)] = int(fields[1])
            spent[int(each.name)] = int((each / "schedstat").read_text().split()[0]) / 1e9
        except OSError:
            continue
    family = {{root}}
    while found := {{pid for pid, parent in parents.items() if parent in family}} - family:
        family |= found
    return sum(spent.get(pid, 0) for pid in family)
stream = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
time.sleep(8)  # it has begun
before, begun = cpu(stream.pid), time.monotonic()
time.sleep({SECONDS})
assert stream.poll() is None
print((cpu(stream.pid) - before) / (time.monotonic() - begun) * 100)
stream.kill()
"""
"""The program, and all that it started."""
FLOOR = """
import sys, time
sys.path.insert(0, "/opt/lxc-gpu/packages")
import psutil
while True:
    print(psutil.cpu_percent(), flush=True)
    time.sleep(5)
"""
AS_IAM = ["setpriv", "--reuid=iam", "--regid=iam", "--clear-groups"]
OURS = ["env", "SSH_ORIGINAL_COMMAND=load", *AS_IAM, "/usr/local/lib/lxc-gpu/iam"]


def figures(lab: Lab) -> Iterator[Figure]:
    """With the processes that are there, and with 2,000 that sleep."""
    host = lab.host("gpu17")
    yield _figure(host, "as it is")
    yield _crowded(host)


def _crowded(host: Host) -> Figure:
    sleepers = f"for i in $(seq {MORE}); do sleep 3600 & done; wait"
    limits = ["-p", "TasksMax=infinity", "-p", "LimitNOFILE=1024:524288"]
    host.run(["systemd-run", "-q", "--unit=sleepers", *limits, "bash", "-c", sleepers])
    try:
        host.sh(f"until [ $(pgrep -xc sleep) -ge {MORE} ]; do /bin/sleep 0.5; done")
        return _figure(host, f"{MORE:,} idle processes more")
    finally:
        host.run(["systemctl", "stop", "sleepers"])


def _figure(host: Host, what: str) -> Figure:
    count = host.sh("ls -d /proc/[0-9]* | wc -l").stdout.strip()
    return Figure(
        f"load stream, {what}",
        _share(host, OURS),
        _share(host, ["python3", "-IS", "-c", FLOOR]),
        f"a stream of psutil.cpu_percent alone; {count} processes; "
        "both: CPU time in 100 s, so % of one core",
        "under 1 % of one core",
    )


def _share(host: Host, argv: list[str]) -> float:
    words = ["python3", "-IS", "-c", MEASURE, *argv]
    return float(host.run(words, timeout=SECONDS + 60).stdout)
