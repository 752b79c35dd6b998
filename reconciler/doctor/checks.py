"""All checks of a GPU server, in the order in which they are shown.

A check is added by one function and one place here.
"""

from __future__ import annotations

from reconciler.doctor import (
    accounts,
    driver,
    engines,
    firewall,
    machine,
    network,
    numbers,
    resources,
    service,
    storage,
    user,
)
from reconciler.doctor.server import CheckedServer
from reconciler.doctor.sshd import in_effect, place
from state.wire.findings import Check

SERVER: tuple[Check[CheckedServer], ...] = (
    machine.release,
    machine.user_namespaces,
    machine.settings,
    machine.cgroups,
    machine.apparmor,
    engines.kernel_modules,
    machine.programs,
    machine.id_mapping,
    machine.lxc,
    machine.gpu,
    driver.in_step,
    driver.registered_gpus,
    machine.clock,
    service.newest_commit,
    storage.space,
    storage.containers_folder,
    storage.snapshots_folder,
    storage.template,
    storage.spares,
    storage.permissions,
    resources.sources,
    resources.devices,
    resources.quotas,
    resources.raw_systems,
    resources.cpu_sets,
    resources.own_snapshots,
    resources.lxcfs,
    accounts.names,
    numbers.uids,
    numbers.subordinate_ids,
    numbers.mapped,
    network.addresses,
    network.routes,
    network.forwarding,
    network.plugged_in,
    network.resolvers,
    firewall.hooks,
    firewall.frames,
    firewall.other_tables,
    firewall.legacy,
    firewall.others,
    in_effect.in_effect,
    place.listens,
    place.answers,
    service.login_shell,
    service.units,
    service.containers,
    service.state_repository,
    service.last_round,
    service.last_look,
    service.book_of_reservations,
    service.differs,
)
"""What `lxc-gpu doctor` looks at on a GPU server."""

USER: tuple[Check[user.CheckedUser], ...] = (
    user.known,
    user.keys,
    user.let_in,
    user.as_wanted,
    user.container,
    user.mapping,
    user.logins,
    user.errors,
)
"""What `lxc-gpu doctor --user NAME` looks at."""

IAM: tuple[Check[None], ...] = (
    machine.release,
    machine.clock,
    storage.space_of_iam,
    in_effect.gate,
)
"""What needs root on the web machine. `webui.doctor` checks the rest, as the web page's account."""
