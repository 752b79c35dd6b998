"""Names that no user may have, because systems or lxc-gpu itself use them.

From base-passwd of Debian 12 and 13 and Ubuntu 24.04 (users and groups), the accounts that
systemd and common daemons create (their packages' sysusers.d and maintainer scripts), and ours.
A user's name is also the name of a group, so groups count.
"""

from __future__ import annotations

_BASE = """
root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats _apt
nobody nogroup adm tty disk kmem dialout fax voice cdrom floppy tape sudo audio dip operator src
shadow utmp video sasl plugdev staff users input sgx kvm render crontab netdev bluetooth scanner
lpadmin wheel admin sudoers halt shutdown adm toor system administrator guest test ssl-cert
"""

_DAEMONS = """
systemd systemd-network systemd-resolve systemd-timesync systemd-journal systemd-coredump
systemd-oom systemd-bus-proxy systemd-journal-remote systemd-journal-gateway messagebus dbus
polkitd polkituser avahi avahi-autoipd sshd _ssh ssh ntp ntpd _chrony chrony chronyd statd _rpc
rpcuser rpc tss tcpdump uuidd landscape pollinate fwupd-refresh dhcpcd dhcpd _dhcpcd dnsmasq
unbound bind named postfix postdrop exim debian-exim dovecot dovenull opendkim spamd clamav mysql
mariadb postgres redis mongodb memcache memcached elasticsearch rabbitmq epmd nginx apache httpd
haproxy varnish squid tomcat jetty ftp ftpuser vsftpd proftpd rsync git gitea gitlab
gitlab-runner gogs jenkins docker dockerroot containerd podman lxd lxc lxc-dnsmasq libvirt
libvirt-qemu libvirt-dnsmasq qemu swtpm kubelet etcd consul vault nomad munge slurm slurmd
slurmdbd nvidia-persistenced nvidia nvidia-dcgm dcgm dcgm-exporter prometheus node-exporter
grafana influxdb telegraf collectd zabbix nagios nrpe munin icinga snmp debian-snmp syslog
rsyslog logcheck sssd nslcd openldap ldap slapd radvd freerad freeradius krb5kdc kerberos winbind
sambashare samba ceph gluster nfsnobody nfs iscsi multipath rtkit pulse pulse-access
pipewire geoclue colord cups saned usbmux gdm gdm3 lightdm sddm whoopsie apport speech-dispatcher
hplip kernoops gnome-initial-setup cups-pk-helper cups-browsed nm-openvpn openvpn wireguard
strongswan tor debian-tor puppet ansible ubuntu debian cloud-user vagrant ec2-user
opc azureuser pi plocate mlocate locate ssh-users _flatpak flatpak fwupd _laurel _runit-log
_lldpd lldpd _gpsd _aide _openbgpd nixbld
"""

_OURS = """
iam register lxc-gpu lxc-gpu-users lxcgpu webui reconcile gate state monitor fleet servers server
former registrations users user name port subuid subgid keys key static metrics login logout help
history api
"""

RESERVED = frozenset(f"{_BASE} {_DAEMONS} {_OURS}".split())
"""Lower-case names."""


RESERVED_BEGINNINGS = ("systemd-", "lxc-gpu")
"""What no user's name begins with: no number at its end makes such a name free."""


def is_reserved(name: str) -> bool:
    """Whether no user may be called `name`."""
    return name in RESERVED or name.startswith(RESERVED_BEGINNINGS)
