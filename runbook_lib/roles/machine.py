"""Desired state that every machine has, whatever its role: sshd, the kernel's protections, security updates; and how services are confined."""

from __future__ import annotations

from runbook_lib.converge.edits import TextSet
from runbook_lib.converge.engine import Stage
from runbook_lib.converge.resources import Directory, Edited, Exec, File, Package, Unit

# ssh-audit's hardened profile for Debian 12. A list that begins with - is what is taken away from the release's own: a name that a release
# does not know is an error in a list of names and none there, so this holds for OpenSSH 8.4 to 10.6. Stricter than the profile: no group exchange,
# whose moduli would have to be filtered, and no RSA host key; the Ed25519 key, which the console shows, is pinned. Forwarding stays: that is
# how checks reach the database.
SSHD_FILE = "/etc/ssh/sshd_config.d/00-runbook.conf"
SSHD = """\
# Made by the runbook; changes made here by hand are shown by its plan and undone by its run.
KexAlgorithms -ecdh-sha2-*,diffie-hellman-group14-*,diffie-hellman-group-exchange-*
Ciphers chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-gcm@openssh.com,aes128-ctr
MACs hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,umac-128-etm@openssh.com
HostKeyAlgorithms -ecdsa-*,sk-ecdsa-*,webauthn-sk-ecdsa-*,rsa-*,ssh-rsa*
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxAuthTries 3
LoginGraceTime 30
X11Forwarding no
AllowAgentForwarding no
AllowTcpForwarding local
PermitUserEnvironment no
Compression no
LogLevel VERBOSE
TCPKeepAlive no
ClientAliveInterval 60
ClientAliveCountMax 2
"""
# No redirects, no source routes, no answers to forged addresses, what is strange is logged; kernel addresses and messages are root's.
# In a container, as in the lab, those of the whole kernel cannot be set: they are left as they are.
# The name comes last: systemd sets them in the order of the names, and procps has a 99-protect-links.conf that sets fs.protected_fifos to 1.
# fs.suid_dumpable is 0 by itself; Ubuntu's apport sets it whenever it starts, and lets root alone read what it keeps.
KERNEL_FILE = "/etc/sysctl.d/zz-runbook-machine.conf"
WHICH = ("all", "default")
OFF = ("accept_redirects", "secure_redirects", "send_redirects", "accept_source_route")
KERNEL = {
    **{f"net.ipv4.conf.{which}.{name}": 0 for which in WHICH for name in OFF},
    **{f"net.ipv4.conf.{which}.{name}": 1 for which in WHICH for name in ("rp_filter", "log_martians")},
    **{f"net.ipv6.conf.{which}.{name}": 0 for which in WHICH for name in ("accept_redirects", "accept_source_route")},
    "net.ipv4.tcp_syncookies": 1,
    "net.ipv4.icmp_echo_ignore_broadcasts": 1,
    "net.core.bpf_jit_harden": 2,
    "dev.tty.ldisc_autoload": 0,
    "fs.protected_fifos": 2,
    "fs.protected_regular": 2,
    "kernel.dmesg_restrict": 1,
    "kernel.kptr_restrict": 2,
    "kernel.sysrq": 0,
    "kernel.unprivileged_bpf_disabled": 1,
    "kernel.yama.ptrace_scope": 1,
}
# Protocols and buses that no server of ours uses: a process that asks for one does not get the kernel's module.
MODULES_FILE = "/etc/modprobe.d/60-runbook.conf"
MODULES = "".join(f"install {name} /bin/false\n" for name in ("dccp", "sctp", "rds", "tipc", "usb-storage", "firewire-core"))
LIMITS_FILE = "/etc/security/limits.d/60-runbook.conf"
LIMITS = "* soft core 0\n* hard core 0\n"  # what a process holds, passwords among it, does not become a file
IDLE_FILE = "/etc/profile.d/60-runbook.sh"
IDLE = "readonly TMOUT=3600\nexport TMOUT\n"  # seconds until a forgotten shell at a terminal ends
NOTICE = """\
This is a private system: access is restricted to its authorized operators.
What is done here is logged and may be monitored; any other use is prohibited.
"""
PASSWORDS = (TextSet(r"^PASS_MAX_DAYS\s+(\S+)", "365"), TextSet(r"^PASS_MIN_DAYS\s+(\S+)", "1"))  # of users that somebody adds later: ours have none
CRON = ("d", "daily", "hourly", "monthly", "weekly")
# Decision 17: what is not a service of ours is updated by itself, the rest by `patch`; no machine restarts by itself.
PATCHED = ("mariadb", "mysql", "galera", "nginx", "openjdk")  # how names of packages begin
UPDATES_FILE = "/etc/apt/apt.conf.d/60runbook-security-updates"
UPDATES = f"""\
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
Unattended-Upgrade::Automatic-Reboot "false";
Unattended-Upgrade::Package-Blacklist {{ {" ".join(f'"{name}";' for name in PATCHED)} }};
"""
# Ubuntu 24.04 restarts what uses a library that was updated, also when unattended-upgrades did it. These restart when `patch` does it, drained.
NEEDRESTART_FILE = "/etc/needrestart/conf.d/60-runbook.conf"
NEEDRESTART = "$nrconf{override_rc}{qr(^(wso2carbon|runbook-dask|mariadb|mysql|nginx)[.]service$)} = 0;\n"
# What `systemd-analyze security` asks of a network service that needs no hardware, no other user's processes and no kernel settings.
CONFINED = """\
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service"""

# Java, sudo and the mail of cron ask for both names; cloud-init writes the file at boot only. What else stands there is kept.
NAMES = Exec(
    "names of this machine in /etc/hosts",
    unless='[ "$(getent ahostsv4 localhost | awk \'NR == 1 {print $1}\')" = 127.0.0.1 ] && getent ahostsv4 "$(hostname)" >/dev/null',
    run="""\
found=$(sed -E '/^127[.]0[.][01][.]1[[:space:]]/d' /etc/hosts 2>/dev/null || true)
printf '127.0.0.1 localhost\\n127.0.1.1 %s\\n%s\\n' "$(hostname)" "$found" >/etc/hosts
chmod 644 /etc/hosts""",
)


def kernel_settings(path: str, settings: dict[str, int]) -> tuple[File, Exec]:
    """Return the file of /etc/sysctl.d that sets the kernel's parameters at each boot, and the command that sets those now that can be set."""
    text = "".join(f"{name} = {value}\n" for name, value in settings.items())
    wanted = " ".join(f"{name.replace('.', '/')}={value}" for name, value in settings.items())
    unless = f'cd /proc/sys; for one in {wanted}; do f=${{one%=*}}; [ ! -w $f ] || [ "$(cat $f)" = ${{one#*=}} ] || exit 1; done'
    return File(path, text.encode()), Exec(f"kernel settings of {path}", unless=unless, run=f"sysctl -q -e -p {path} 2>/dev/null || true")


def desired() -> tuple[Stage, ...]:
    """Return the stages of what is the same on every machine."""
    texts = {SSHD_FILE: SSHD, MODULES_FILE: MODULES, LIMITS_FILE: LIMITS, UPDATES_FILE: UPDATES, NEEDRESTART_FILE: NEEDRESTART, IDLE_FILE: IDLE}
    files = [File(path, text.encode()) for path, text in (texts | dict.fromkeys(("/etc/issue", "/etc/issue.net"), NOTICE)).items()]
    folders = [Directory(f"/etc/cron.{name}", 0o700) for name in CRON] + [Directory(path) for path in ("/etc/needrestart", "/etc/needrestart/conf.d")]
    return (
        Stage(
            "machine", (Package("unattended-upgrades"), *folders, *files, Edited("/etc/login.defs", PASSWORDS), NAMES, *kernel_settings(KERNEL_FILE, KERNEL))
        ),
        Stage("sshd", (Unit("ssh.service", watches=(SSHD_FILE,), reload=True),)),
    )
