"""The fixed rules for containers' traffic, as text. Pure.

There are two filters. The table `bridge lxc-gpu` of nftables sees every frame that leaves or enters
a container's port. A container may use only its own MAC and address, only IPv4 and ARP, and may
send only to the server, never to another port. Frames that pass get MARK. Packets for other
machines, other containers or the server itself are then judged by iptables, which drops everything
from containers without MARK: if the table is missing, nothing gets out.

Containers are on one Ethernet, so each asks for the others by ARP. The server answers for them
(`proxy_arp_pvlan`, RFC 3069), so traffic between containers is routed, and filtered in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from reconciler.host.places import BRIDGE
from state.view import Resident, View

DNAT, SNAT, FORWARD, INPUT = "LXC-GPU-DNAT", "LXC-GPU-SNAT", "LXC-GPU-FORWARD", "LXC-GPU-INPUT"
HOOKS: Mapping[tuple[str, str], str] = {
    ("nat", "PREROUTING"): DNAT,
    ("nat", "OUTPUT"): DNAT,
    ("nat", "POSTROUTING"): SNAT,
    ("filter", "FORWARD"): FORWARD,
    ("filter", "INPUT"): INPUT,
}
"""Our chain that each of the kernel's chains jumps to first."""
MARK = "0x1000"
"""The bit of a packet's mark that says that the bridge's table let it pass. A container can't set
it: the kernel clears marks between network namespaces (skb_scrub_packet)."""
DNS = 53
LINK_LOCAL = "169.254.0.0/16"
"""Where clouds serve the server's own credentials (169.254.169.254), and sometimes its resolver.
Routers don't forward it (RFC 3927, 2.7)."""
MOST_SSH = 48
"""How many ssh connections a container may have at once to its server, and how many to all other
machines: fewer than the 64 that sshd lets one address begin (setup/sshd/lxc-gpu.conf)."""
MOST_SSH_TOGETHER = 150
"""How many all containers of a server may have to it: fewer than the 200 of MaxStartups at which
sshd begins to refuse, so that containers can't keep people outside from the server."""
TABLE = ("bridge", "lxc-gpu")
PORTS, IDENTITIES = "ports", "identities"
"""Sets of the table: the residents' ports; the MAC and address of each port."""


_STATE = "-m conntrack --ctstate"
_UNSEEN = f"-m mark ! --mark {MARK}/{MARK} -j DROP"
_MARKED = f"meta mark & {MARK} == {MARK}"
_PASS = f"meta mark set meta mark | {MARK} accept"
_TABLE = f"""\
table {" ".join(TABLE)} {{
    set {PORTS} {{
        type ifname
        flags interval
    }}
    set {IDENTITIES} {{
        type ifname . ether_addr . ipv4_addr
        flags interval
    }}
    chain prerouting {{
        type filter hook prerouting priority -300; policy accept;
        iifname @{PORTS} jump leaving
    }}
    chain leaving {{
        ether type != {{ ip, arp }} drop
        ether type arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 \
iifname . ether saddr . arp saddr ip @{IDENTITIES} \
iifname . arp saddr ether . arp saddr ip @{IDENTITIES} {_PASS}
        ether daddr != GATEWAY drop
        ether type ip udp sport 67 drop
        ether type ip iifname . ether saddr . ip saddr @{IDENTITIES} {_PASS}
        drop
    }}
    chain input {{
        type filter hook input priority -300; policy accept;
        iifname @{PORTS} {_MARKED} accept
        iifname @{PORTS} drop
    }}
    chain forward {{
        type filter hook forward priority 300; policy accept;
        iifname @{PORTS} jump between
        oifname @{PORTS} jump between
    }}
    chain between {{
        ether type ip {_MARKED} accept
        drop
    }}
    chain postrouting {{
        type filter hook postrouting priority -300; policy accept;
        oifname @{PORTS} jump entering
    }}
    chain entering {{
        ether type ip oifname . ether daddr . ip daddr @{IDENTITIES} accept
        ether type arp ether daddr ff:ff:ff:ff:ff:ff accept
        ether type arp oifname . ether daddr . arp daddr ip @{IDENTITIES} accept
        drop
    }}
}}
"""
"""The table with empty sets; GATEWAY is the MAC of the bridge.

Link-local multicast skips the hook prerouting (net/bridge/br_input.c), so `input` asks for the
mark once more. nft prints `ether type ip ip saddr` as `ip saddr`, and reads that as the
protocol behind a VLAN tag; hence the first rule of `leaving`. A frame for a container that
just stopped is flooded; `postrouting` keeps it from the others.
"""


def mac_of(address: str) -> str:
    """The MAC that belongs to `address` on the bridge: locally administered (IEEE 802, 8.4)."""
    return ":".join(f"{byte:02x}" for byte in (2, 0, *IPv4Address(address).packed))


def port_of(resident: Resident) -> str:
    """The names of the resident's ports on the bridge, as an nftables wildcard.

    lxc-user-nic(1) makes them, and names them `veth<uid>_XXXX`; its caller has no say in it.
    """
    return f"veth{resident.uid}_*"


def table(gateway: str) -> str:
    """The table with empty sets, for nft(8), on a bridge that has the address `gateway`."""
    return _TABLE.replace("GATEWAY", mac_of(gateway))


def rules(view: View, resolvers: Sequence[str]) -> dict[tuple[str, str], tuple[str, ...]]:
    """The fixed rules of iptables, as iptables-save prints them, by table and chain.

    `resolvers` are the containers' name servers; one of them may be the server itself.
    """
    network = view.network
    return {
        ("nat", SNAT): (
            f"-s {network} ! -d {network} -j MASQUERADE",
            # from a container to another one through the server's address: the answer has to
            # come back through the server
            f"-s {network} -d {network} {_STATE} DNAT -j MASQUERADE",
        ),
        ("filter", FORWARD): _forwarded(view),
        ("filter", INPUT): _for_the_server(view, resolvers),
    }


def _forwarded(view: View) -> tuple[str, ...]:
    """Rules for packets from containers to other machines and each other, and to containers."""
    return (
        f"-i {BRIDGE} {_UNSEEN}",
        f"-o {BRIDGE} {_STATE} RELATED,ESTABLISHED -j ACCEPT",
        f"-o {BRIDGE} {_STATE} DNAT -j ACCEPT",
        *((f"-i {BRIDGE} -o {BRIDGE} -j ACCEPT",) if view.reach_containers else ()),
        *_refused(f"-o {BRIDGE} "),
        *(f"-d {LINK_LOCAL} -i {BRIDGE} {_asks_names(p)} -j ACCEPT" for p in ("udp", "tcp")),
        *_refused(f"-d {LINK_LOCAL} -i {BRIDGE} "),
        *(_at_most(MOST_SSH, 32, port, f"-i {BRIDGE} ") for port in _ssh_ports(view)),
        f"-s {view.network} -i {BRIDGE} -j ACCEPT",
    )


def _for_the_server(view: View, resolvers: Sequence[str]) -> tuple[str, ...]:
    """Rules for packets to the server itself. RETURN: its own firewall judges as well."""
    ssh_port = view.servers[view.server].ssh_port
    return (
        f"! -i {BRIDGE} -j RETURN",
        _UNSEEN,
        f"{_STATE} RELATED,ESTABLISHED -j RETURN",
        "-p icmp -m icmp --icmp-type 8 -j RETURN",
        _at_most(MOST_SSH, 32, ssh_port),
        _at_most(MOST_SSH_TOGETHER, 0, ssh_port),
        *(f"-p tcp -m tcp --dport {port} -j RETURN" for port in view.reach_server),
        *(
            f"-d {resolver}/32 {_asks_names(protocol)} -j RETURN"
            for resolver in resolvers
            for protocol in ("udp", "tcp")
        ),
        *_refused(),
    )


def _refused(which: str = "") -> tuple[str, str]:
    """Refuse connections at once, so that nobody waits in vain.

    TCP gets a reset, as ICMP is limited to one a second for each receiver (icmp_ratelimit).
    """
    return (
        f"{which}-p tcp -j REJECT --reject-with tcp-reset",
        f"{which}-j REJECT --reject-with icmp-port-unreachable",
    )


def _ssh_ports(view: View) -> list[int]:
    """The ssh ports of the fleet's machines; the web machine's is 22."""
    return sorted({22, *(server.ssh_port for server in view.servers.values())})


def _at_most(count: int, prefix: int, port: int, which: str = "") -> str:
    """Refuse connections to `port` beyond `count` of a container, or of all (`prefix` 0).

    Connections count until they end, also once sshd let them in (iptables-extensions(8),
    connlimit).
    """
    opens = f"-p tcp -m tcp --dport {port} --tcp-flags FIN,SYN,RST,ACK SYN"
    return (
        f"{which}{opens} -m connlimit --connlimit-above {count} --connlimit-mask {prefix} "
        "--connlimit-saddr -j REJECT --reject-with tcp-reset"
    )


def _asks_names(protocol: str) -> str:
    return f"-p {protocol} -m {protocol} --dport {DNS}"
